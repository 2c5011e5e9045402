//! Random changes of sound files. No coverage leads them: that is libFuzzer's part (`fuzz/`).

use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use rand_chacha::ChaCha8Rng;

/// What parsers of texts and of lengths stumble over.
const WORDS: [&[u8]; 22] = [
    b"0",
    b"-1",
    b"2147483648",
    b"18446744073709551615",
    b"1e308",
    b"NaN",
    b"null",
    b"true",
    b"\"\"",
    b"[]",
    b"{}",
    b"[[[[[[[[",
    b"{\"a\":",
    b"\"",
    b"\\u0000",
    b"\xff\xfe",
    b"\n",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x80",
    b"../",
    b",",
];

/// One to eight changes of `input` from byte `start` on; `other` is where pieces are taken from.
pub fn mutated(input: &[u8], other: &[u8], start: usize, rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = input[start..].to_vec();
    for _ in 0..rng.random_range(1..=8) {
        change(&mut bytes, other, rng);
    }
    bytes.truncate(1 << 16);
    [&input[..start], &bytes].concat()
}

fn change(bytes: &mut Vec<u8>, other: &[u8], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..=bytes.len());
    let end = (at + rng.random_range(1..=16)).min(bytes.len());
    match rng.random_range(0..10) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if at < bytes.len() => bytes[at] = rng.next_u32() as u8,
        2 => drop(bytes.drain(at..end)),
        3 => bytes.truncate(at),
        4 => {
            let piece = bytes[at..end].to_vec();
            for _ in 0..1 << rng.random_range(0..8) {
                bytes.splice(at..at, piece.iter().copied());
            }
        }
        5 if !other.is_empty() => {
            let from = rng.random_range(0..other.len());
            let to = (from + rng.random_range(1..=64)).min(other.len());
            bytes.splice(at..end, other[from..to].iter().copied());
        }
        6 => number(bytes, at, rng),
        _ => {
            let word = WORDS.choose(rng).copied().unwrap_or_default();
            let end = if rng.random() { at } else { end };
            bytes.splice(at..end, word.iter().copied());
        }
    }
}

/// Another number in the place of the next one in decimal digits.
fn number(bytes: &mut Vec<u8>, at: usize, rng: &mut ChaCha8Rng) {
    let Some(from) = bytes[at..].iter().position(u8::is_ascii_digit).map(|found| at + found) else { return };
    let to = bytes[from..].iter().position(|byte| !byte.is_ascii_digit()).map_or(bytes.len(), |found| from + found);
    let number = match rng.random_range(0..4) {
        0 => u64::from(rng.random::<u8>()),
        1 => 1u64 << rng.random_range(0..64),
        2 => rng.random(),
        _ => 0,
    };
    bytes.splice(from..to, number.to_string().into_bytes());
}
