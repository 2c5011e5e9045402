//! How libtorch's threads wait for one another.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Lets threads that wait sleep instead of spin, by starting the program again in its place with
/// `OMP_WAIT_POLICY=passive` (the OpenMP library reads it before `main`). A spinning thread keeps the
/// core from whoever has work: pictures that are decoded and encoded meanwhile, other programs. On a
/// busy machine with two cores a small model is ten times slower with it. Does nothing where the
/// user has chosen.
pub fn wait_asleep() {
    if ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT"].iter().any(|name| env::var_os(name).is_some()) {
        return;
    }
    let mut arguments = env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let error = again.args(arguments).env("OMP_WAIT_POLICY", "passive").exec();
    tracing::debug!("threads go on spinning: {error}");
}
