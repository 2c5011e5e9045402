//! How the commands that use several devices start their workers.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cli::Global;
use crate::runtime::{RuntimeOptions, several_devices};
use crate::workers::Team;

/// The workers that `--device` asks for, and the choices for what this process does on the first device; none where it
/// names one device.
pub fn team(global: &Global) -> Result<Option<(Team, RuntimeOptions)>> {
    let Some(devices) = several_devices(&global.device)? else { return Ok(None) };
    let program = std::env::current_exe().context("where is this program?")?;
    let dtype = global.dtype.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
    let mut arguments = vec!["--dtype".to_string(), dtype];
    let number = |name: &str, value: Option<String>| value.map(|value| [name.to_string(), value]);
    arguments.extend(number("--threads", global.threads.map(|n| n.to_string())).into_iter().flatten());
    arguments.extend(number("--memory-limit", global.memory_limit.map(|n| n.to_string())).into_iter().flatten());
    arguments.extend(global.offline.then(|| "--offline".to_string()));
    arguments.extend(global.quiet.then(|| "--quiet".to_string()));
    arguments.extend((0..global.verbose).map(|_| "--verbose".to_string()));
    let options = RuntimeOptions { device: devices[0].clone(), ..global.into() };
    let command = move |device: &str| {
        let mut command = Command::new(&program);
        command.args(["worker", "--device", device]).args(&arguments);
        command
    };
    Ok(Some((Team { devices, command: Arc::new(command) }, options)))
}
