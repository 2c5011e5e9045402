//! What is done before the loader sets libtorch up, which takes a fifth of a second, on one core, before `main`.
//!
//! The driver of a GPU needs nothing of libtorch and takes as long to start, and half as long again for each GPU, one after
//! the other. Both can be done at once.

use std::ffi::{CStr, c_char, c_int};
use std::thread::Builder;

use super::gpus::foreseen_devices;
use super::threads::STACK;
use super::wake::Driver;

/// Commands that compute in their own process, on a GPU where there is one.
const COMMANDS: [&str; 5] = ["caption", "evaluate", "experiment", "stylize", "worker"];
/// Of these the ones that take several GPUs in it; the others give each a worker process.
const TOGETHER: [&str; 2] = ["evaluate", "stylize"];
/// With one of these nothing is computed.
const ONLY_SAY: [&str; 5] = ["--help", "-h", "--version", "-V", "--dry-run"];

unsafe extern "C" {
    /// libc's list of variables.
    static mut environ: *const *const c_char;
}

/// What the OpenMP library reads before `main`, as the system hands it over.
const SHORT_SPIN: &CStr = c"GOMP_SPINCOUNT=3000";

/// Lets threads that wait spin for some microseconds and then sleep, by starting the program again in its place with
/// `GOMP_SPINCOUNT`. A thread that spins for long keeps the core from whoever has work: pictures that are decoded and encoded
/// meanwhile, other programs; on a busy machine with two cores a small model is ten times slower with it. Threads that sleep
/// at once are woken for each of its small layers, which takes longer than these. Does nothing where the user has chosen.
///
/// The program has this among its `.preinit_array`: the loader calls it before any library sets itself up, which takes
/// libtorch a quarter of a second, so that the second start costs a few milliseconds.
///
/// # Safety
/// Both lists must be null, or lists of C strings that end in null.
pub unsafe extern "C" fn spin_briefly(_count: c_int, arguments: *const *const c_char, variables: *const *const c_char) {
    if arguments.is_null() || variables.is_null() {
        return;
    }
    // SAFETY: as the caller says, which is the loader. Only system calls, malloc and a thread are used, which need nothing
    // that is not set up yet.
    unsafe {
        let mut count = 0;
        while let Some(variable) = variables.add(count).read().as_ref() {
            if [c"OMP_WAIT_POLICY=", c"GOMP_SPINCOUNT="].iter().any(|name| starts_with(variable, name)) {
                return wake_gpus(arguments, variables);
            }
            count += 1;
        }
        let more: *mut *const c_char = libc::malloc((count + 2) * size_of::<*const c_char>()).cast();
        if more.is_null() {
            return;
        }
        more.copy_from_nonoverlapping(variables, count);
        more.add(count).write(SHORT_SPIN.as_ptr());
        more.add(count + 1).write(std::ptr::null());
        libc::execve(c"/proc/self/exe".as_ptr(), arguments, more);
        // It goes on with threads that spin.
        libc::free(more.cast());
    }
}

/// # Safety
/// `text` must begin a C string.
unsafe fn starts_with(text: &c_char, start: &CStr) -> bool {
    // SAFETY: no further than both go.
    unsafe { libc::strncmp(text, start.as_ptr(), start.count_bytes()) == 0 }
}

/// Lets the driver set up the GPUs that these arguments will ask for, in the background. What fails is told when they are
/// asked for.
///
/// # Safety
/// Both must be lists of C strings that end in null and stay, as the loader gives them. No other thread may run.
unsafe fn wake_gpus(arguments: *const *const c_char, variables: *const *const c_char) {
    let mut words = Vec::new();
    // SAFETY: as the caller says.
    unsafe {
        while let Some(word) = arguments.add(words.len()).read().as_ref() {
            words.push(CStr::from_ptr(word).to_str().unwrap_or_default());
        }
    }
    // SAFETY: libc itself sets this a moment later, but the driver may look for variables before.
    unsafe {
        if environ.is_null() {
            environ = variables;
        }
    }
    let gpus = gpus_of(&words);
    if gpus.is_empty() {
        return;
    }
    let wake = move || {
        if let Some(driver) = Driver::find() {
            gpus.into_iter().for_each(|gpu| driver.wake(gpu));
        }
    };
    // Without it the driver is woken later.
    let _ = Builder::new().name("driver".to_string()).stack_size(STACK).spawn(wake);
}

/// The GPUs that a command line will most likely use in this process.
fn gpus_of(words: &[&str]) -> Vec<c_int> {
    let words = words.get(1..).unwrap_or_default();
    let Some(at) = words.iter().position(|word| COMMANDS.contains(word)) else { return Vec::new() };
    if words.iter().any(|word| ONLY_SAY.contains(word)) || words[at..].starts_with(&["evaluate", "captions"]) {
        return Vec::new();
    }
    let given = |(at, word): (usize, &&'_ str)| -> Option<String> {
        if *word == "--device" {
            words.get(at + 1).map(|word| word.to_string())
        } else {
            Some(word.strip_prefix("--device=")?.to_string())
        }
    };
    let device = words.iter().enumerate().filter_map(given).next_back().unwrap_or_else(|| "auto".to_string());
    let number = |name: &str| name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
    match foreseen_devices(&device) {
        Some(names) if TOGETHER.contains(&words[at]) => names.iter().filter_map(|name| number(name)).collect(),
        Some(_) => Vec::new(),
        None if ["auto", "cuda"].contains(&device.as_str()) => vec![0],
        None => number(&device).into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gpus_of_a_command_line() {
        for (line, expected) in [
            ("toolkit evaluate artfid --content a", &[0][..]),
            ("toolkit -v --device cuda:1 evaluate artfid", &[1]),
            ("toolkit evaluate artfid --device=cuda:1,0", &[1, 0]),
            ("toolkit stylize --device cuda:0,1 --prompt x", &[0, 1]),
            ("toolkit caption --device cuda a.png", &[0]),
            ("toolkit caption --device cuda:0,1 a.png", &[]),
            ("toolkit worker --device cuda:1 --dtype auto", &[1]),
            ("toolkit experiment style_ablation --device cpu", &[]),
            ("toolkit experiment style_ablation --device cuda:0 --device cuda:2", &[2]),
            ("toolkit experiment style_ablation --dry-run", &[]),
            ("toolkit evaluate captions --predictions p.json", &[]),
            ("toolkit evaluate artfid --help", &[]),
            ("toolkit evaluate artfid --device", &[0]),
            ("toolkit evaluate artfid --device cuda:x", &[]),
            ("toolkit models list", &[]),
            ("toolkit", &[]),
            ("", &[]),
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(gpus_of(&words), expected, "{line}");
        }
    }
}
