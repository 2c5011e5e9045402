//! NumPy's legacy global generator: the Mersenne Twister after `numpy.random.seed(seed)`, as far as drawing indices goes.
//!
//! Source: Matsumoto and Nishimura 1998; `numpy/random/src/mt19937` and `distributions.c` of NumPy.

const LENGTH: usize = 624;
const SHIFT: usize = 397;

/// The state after `numpy.random.seed(seed)`.
pub struct RandomState {
    words: [u32; LENGTH],
    next: usize,
}

impl RandomState {
    pub fn new(seed: u32) -> RandomState {
        let mut words = [seed; LENGTH];
        for at in 1..LENGTH {
            let last = words[at - 1];
            words[at] = (last ^ last >> 30).wrapping_mul(1_812_433_253).wrapping_add(at as u32);
        }
        RandomState { words, next: LENGTH }
    }

    fn word(&mut self) -> u32 {
        if self.next == LENGTH {
            for at in 0..LENGTH {
                let mixed = self.words[at] & 1 << 31 | self.words[(at + 1) % LENGTH] & !(1 << 31);
                let odd = if mixed & 1 == 1 { 0x9908_b0df } else { 0 };
                self.words[at] = self.words[(at + SHIFT) % LENGTH] ^ mixed >> 1 ^ odd;
            }
            self.next = 0;
        }
        let mut word = self.words[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= word << 7 & 0x9d2c_5680;
        word ^= word << 15 & 0xefc6_0000;
        word ^ word >> 18
    }

    /// One of 0 to `number` − 1, as `numpy.random.choice(number)` draws it: masked words until one is small enough.
    pub fn below(&mut self, number: u32) -> u32 {
        let largest = number.saturating_sub(1);
        if largest == 0 {
            return 0;
        }
        let mask = u32::MAX >> largest.leading_zeros();
        loop {
            let word = self.word() & mask;
            if word <= largest {
                return word;
            }
        }
    }
}
