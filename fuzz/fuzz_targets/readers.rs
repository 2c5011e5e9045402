//! The target of `tests/fuzz` that FUZZ_TARGET names, under libFuzzer.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
#[path = "../../tests/fuzz/targets/mod.rs"]
mod targets;

use targets::{Reader, TARGETS};

thread_local! {
    static READER: RefCell<Reader> = RefCell::new(reader());
}

fn reader() -> Reader {
    // libFuzzer's hook ends the process at a panic that the readers catch and turn into an error; one that they do not
    // catch still does.
    let _ = std::panic::take_hook();
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => (target.reader)(),
        None => {
            let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            eprintln!("set FUZZ_TARGET to one of: {}", names.join(", "));
            std::process::exit(2);
        }
    }
}

fuzz_target!(|input: &[u8]| {
    READER.with_borrow_mut(|read| read(input));
});
