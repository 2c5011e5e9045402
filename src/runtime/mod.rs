//! libtorch as the rest of the program sees it: devices, number types, seeds, and failures in one line.

use std::io::IsTerminal;

mod busy;
mod captured;
mod clock;
mod coming;
mod crash;
mod cuda;
mod cuda_shim;
mod device;
mod early;
mod failure;
mod files;
mod gpus;
mod home;
pub mod kernel;
mod kernel_cache;
pub mod machine;
mod mapped;
mod memory;
pub mod onednn;
mod precision;
mod profile;
mod shell;
pub mod shim;
mod signals;
mod threads;
mod timeline;
pub mod upload;
mod wake;

pub use busy::{BusyMeter, Look, mean_busy};
pub use captured::{Captured, CapturedFunction, CapturedGraph, captures_are_enabled, may_capture, without_capture};
pub use clock::{log_moment, now, utc};
pub use coming::Coming;
pub use crash::{note_stage, report_crashes};
pub use cuda::{Cuda, libtorch_folder, libtorch_version_in_use, load_cuda};
pub use device::{DtypeChoice, FP8, Precision, Runtime, RuntimeOptions};
pub use early::spin_briefly;
pub use failure::{catch_panics, one_line, panic_line, without_panics};
pub use files::{UNFINISHED, check_writable, files_below, is_hidden, sha256_of, write_new, write_whole};
pub use gpus::{
    check_float8, device_named, foreseen_devices, gpu_memory, multiplies_by_groups_of_warps, several_devices,
};
pub use home::{cache_folder, home};
pub use kernel::{eager, set_eager};
pub use mapped::MappedFile;
#[cfg(test)]
pub use memory::acted_free;
pub use memory::{
    free_memory, keep_freed_memory, limit_memory, log_peak_memory, peak_memory, reset_peak_memory, total_memory,
};
pub use precision::{choose_tf32, tf32_is_chosen, with_chosen_tf32};
pub use profile::profiled;
pub use shell::shell_word;
pub use shim::NoiseGenerator;
pub use signals::{conventional_signals, end_at_once, ignore_interrupts, say_on_stop};
pub use threads::{Background, enter_pool_thread};
pub use timeline::{Stretch, during, note_times, noted_times};
pub use upload::{Delivered, upload};

/// The client of the hub's Xet storage warns of what is then done in another way, and logs addresses
/// that are signed. Connections say nothing of use.
const UNHEARD: &str = "xet=off,xet_client=off,xet_data=off,xet_runtime=off,xet_core_structures=off,\
                       hyper_util=error,hyper=error,reqwest=error,rustls=error,rustls_platform_verifier=error";

/// Sends the log to stderr, coloured on a terminal: what happens by default, warnings and
/// errors only with `-q`, more with each `-v`. `RUST_LOG` wins where it is set, and `NO_COLOR` is obeyed.
pub fn start_logging(quiet: bool, verbose: u8) {
    let level = match (quiet, verbose) {
        (true, _) => "warn",
        (_, 0) => "toolkit=info,warn",
        (_, 1) => "toolkit=debug,info",
        // Other crates trace each of their calls.
        _ => "toolkit=trace,debug",
    };
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| format!("{level},{UNHEARD}").into());
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color)
        .with_target(false)
        .without_time()
        // Its own complaint that stderr is full would be a panic.
        .log_internal_errors(false)
        .try_init();
}
