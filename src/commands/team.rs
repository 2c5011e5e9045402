//! How the commands that use several devices start their workers.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;
use tch::Device;

use crate::cli::Global;
use crate::models::Generator;
use crate::runtime::{
    DtypeChoice, Runtime, RuntimeOptions, check_float8, device_named, foreseen_devices, several_devices,
};
use crate::workers::{Crew, Team};

/// The first device that `--device` names, and the second one, which can take half of the guidance; none where it names
/// one.
pub fn first_and_second(global: &Global) -> Result<(Runtime, Option<Device>)> {
    let Some(devices) = several_devices(&global.device)? else { return Ok((Runtime::new(global)?, None)) };
    let second = devices.get(1).map(|name| device_named(name));
    if devices.len() > 2 {
        tracing::info!("two devices are used here: {} and {}", devices[0], devices[1]);
    }
    Ok((Runtime::new(RuntimeOptions { device: devices[0].clone(), ..global.into() })?, second))
}

/// Has the second device, where there is one, take half of the guidance of these requests.
pub fn share_guidance(generator: &mut dyn Generator, second: Option<Device>, scale: f64) -> Result<()> {
    match second {
        Some(device) if scale > 1.0 => {
            generator.share_guidance(device)?;
            tracing::debug!("{device:?} computes the unwanted half of the guidance");
        }
        Some(device) => tracing::debug!("without guidance one device draws: {device:?} is not used"),
        None => {}
    }
    Ok(())
}

/// The workers that `--device` asks for, and the choices for what this process does on the first device; none where it
/// names one device.
pub fn team(global: &Global) -> Result<Option<(Team, RuntimeOptions)>> {
    let Some(devices) = several_devices(&global.device)? else { return Ok(None) };
    let options = RuntimeOptions { device: devices[0].clone(), ..global.into() };
    if options.dtype == DtypeChoice::Float8 {
        let gpus = devices.iter().filter_map(|name| name.strip_prefix("cuda:")?.parse().ok());
        gpus.into_iter().try_for_each(check_float8)?;
    }
    Ok(Some((team_of(devices, global)?, options)))
}

/// Workers that start before it is known what they will do, on the devices that `--device` will most likely name; none
/// where it names one device. What is wrong with the devices, or with a program that cannot be started, is said where they
/// are asked for: see [`crew`].
pub fn early_crew(global: &Global) -> Option<Crew> {
    let devices = foreseen_devices(&global.device)?;
    team_of(devices, global).and_then(|team| Crew::early(&team)).ok()
}

/// The workers of a team with their task: those that were started early, where they are the right ones.
pub fn crew(early: Option<Crew>, team: &Team, task: &impl Serialize) -> Result<Crew> {
    let mut crew = match early.filter(|crew| crew.is_of(team)) {
        Some(crew) => crew,
        None => Crew::early(team)?,
    };
    crew.give(task)?;
    crew.begin()?;
    Ok(crew)
}

/// Workers on these devices.
fn team_of(devices: Vec<String>, global: &Global) -> Result<Team> {
    let program = std::env::current_exe().context("where is this program?")?;
    let dtype = global.dtype.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default();
    let mut arguments = vec!["--dtype".to_string(), dtype];
    let precision = global.precision.and_then(|precision| precision.to_possible_value());
    arguments.extend(precision.map(|value| format!("--precision={}", value.get_name())));
    let number = |name: &str, value: Option<String>| value.map(|value| [name.to_string(), value]);
    arguments.extend(number("--threads", global.threads.map(|n| n.to_string())).into_iter().flatten());
    arguments.extend(number("--memory-limit", global.memory_limit.map(|n| n.to_string())).into_iter().flatten());
    arguments.extend(global.offline.then(|| "--offline".to_string()));
    arguments.extend(global.quiet.then(|| "--quiet".to_string()));
    arguments.extend((0..global.verbose).map(|_| "--verbose".to_string()));
    let command = move |device: &str| {
        let mut command = Command::new(&program);
        command.args(["worker", "--device", device]).args(&arguments);
        command
    };
    Ok(Team { devices, command: Arc::new(command) })
}
