//! Fuzzing on a stable compiler: every reader of foreign files is given changed sound files for some seconds each.
//!
//! `FUZZ_SECONDS` is the time for each target, `FUZZ_EXECUTIONS` a number of inputs in its place, `FUZZ_SEED` the start of
//! the random numbers, `FUZZ_FILE` one input to be read alone. An input that ends in a panic, takes over 10 s or over 1 GB
//! of memory fails the test and is kept.

mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

use targets::{TARGETS, Target};

const MOST_SECONDS: u64 = 10;
const MOST_MEMORY: u64 = 1 << 30;

/// Milliseconds since [`CLOCK`] at which the input that is read now began; 0: none is read.
static BEGAN: AtomicU64 = AtomicU64::new(0);

/// The one clock of all targets: the thread of an earlier target must not count by another.
static CLOCK: LazyLock<Instant> = LazyLock::new(Instant::now);

fn now() -> u64 {
    CLOCK.elapsed().as_millis() as u64 + 1
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// The most memory that the process has held since [`forget_peak`], in bytes.
fn peak_memory() -> u64 {
    // SAFETY: all zeros is a value of this plain struct.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the struct outlives the call, which fills it.
    let done = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(done, 0);
    (usage.ru_maxrss as u64) << 10
}

fn forget_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Where the input lies that is read now, so that it is there after an abort.
fn kept(target: &Target) -> PathBuf {
    targets::memory().join(format!("fuzz-{}-{}", target.name, std::process::id()))
}

/// Ends the process when an input takes too long or, while it is read, too much memory; its file stays.
///
/// One thread for each target, until `over` says that its time is over.
fn watch(target: &'static Target, before: u64, over: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        while !over.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
            let began = BEGAN.load(Ordering::Relaxed);
            if began == 0 || over.load(Ordering::Relaxed) {
                continue;
            }
            let file = kept(target);
            if now() > began + MOST_SECONDS * 1000 {
                eprintln!("{}: {} takes over {MOST_SECONDS} s", target.name, file.display());
                std::process::abort();
            }
            let memory = peak_memory().saturating_sub(before);
            if memory >= MOST_MEMORY {
                eprintln!("{}: {} takes {memory} bytes and more", target.name, file.display());
                std::process::abort();
            }
        }
    });
}

/// Ends the watch of a target however its run ends.
#[derive(Default)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run(name: &str) {
    // One at a time: memory is the whole process's.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    let (mut corpus, mut read, file) = (targets::corpus(target), (target.reader)(), kept(target));
    let mut executions = setting("FUZZ_EXECUTIONS");
    if let Some(one) = std::env::var_os("FUZZ_FILE") {
        (corpus, executions) = (vec![std::fs::read(one).unwrap()], Some(1));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(setting("FUZZ_SEED").unwrap_or(0));
    let limit = Duration::from_secs(executions.map_or_else(|| setting("FUZZ_SECONDS").unwrap_or(2), |_| u64::MAX));
    forget_peak();
    let (start, before) = (Instant::now(), peak_memory());
    let over = Over::default();
    watch(target, before, over.0.clone());
    let mut done = 0;
    while done < corpus.len() as u64 || (start.elapsed() < limit && executions.is_none_or(|most| done < most)) {
        let input = match corpus.get(done as usize) {
            Some(sound) => sound.clone(),
            None => changed(target, &corpus, &mut rng),
        };
        std::fs::write(&file, &input).unwrap();
        BEGAN.store(now(), Ordering::Relaxed);
        let result = catch_unwind(AssertUnwindSafe(|| read(&input)));
        BEGAN.store(0, Ordering::Relaxed);
        let memory = peak_memory().saturating_sub(before);
        assert!(result.is_ok(), "{name}: {} panics (input {done})", file.display());
        assert!(memory < MOST_MEMORY, "{name}: {} takes {memory} bytes (input {done})", file.display());
        done += 1;
    }
    let _ = std::fs::remove_file(file);
    println!(
        "{name}: {done} executions in {:.1} s, at most {} MB",
        start.elapsed().as_secs_f64(),
        (peak_memory() - before) >> 20
    );
}

/// A changed file of the corpus; the line that says what it is stays.
fn changed(target: &Target, corpus: &[Vec<u8>], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let (Some(input), Some(other)) = (corpus.choose(rng), corpus.choose(rng)) else { return Vec::new() };
    // The options of an experiment stand in its first line.
    let whole = !target.head || (target.name == "experiments" && rng.next_u32().is_multiple_of(2));
    let start = if whole { 0 } else { input.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1) };
    mutate::mutated(input, other, start, rng)
}

macro_rules! targets {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn every_target_has_its_test() {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

targets!(safetensors pickle pickle_zip pickle_legacy configs models adapters tokenizers experiments tables run_folders datasets pictures);

/// Writes the corpora as files for libFuzzer, into `fuzz/corpus`.
#[test]
#[ignore = "a tool: CONTRIBUTING.md says when it is used"]
fn write_corpora() {
    for target in TARGETS {
        let dir = targets::repository("fuzz/corpus").join(target.name);
        std::fs::create_dir_all(&dir).unwrap();
        for (i, input) in targets::corpus(target).iter().enumerate() {
            std::fs::write(dir.join(format!("{i:03}")), input).unwrap();
        }
    }
}
