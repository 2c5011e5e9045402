//! The devices of a command: which there are, and how they share its work.

use anyhow::{Context, Result};
use serde_json::json;
use tch::Device;

use super::task::{Look, Seen, TASK};
use super::{processes, threads};
use crate::cli::Global;
use crate::commands::team::{crew, early_crew, team};
use crate::metrics::image::frechet;
use crate::runtime::{
    Background, DtypeChoice, Runtime, RuntimeOptions, choose_tf32, device_named, foreseen_devices, log_moment,
    several_devices,
};
use crate::workers::Crew;

/// So many pictures, at most, are measured by one process, with a thread for each GPU. Worker processes start later by
/// half a second or more, and of more pictures a crash should cost no more than a batch.
const MOST_TOGETHER: usize = 100_000;
/// Names the other way, `processes` or `threads`.
const CHOICE: &str = "TOOLKIT_EVALUATE_BY";

/// The devices of a command, which get ready before it is known what they will do.
pub struct Devices<'a> {
    global: &'a Global,
    for_gpu: bool,
    /// Those that `--device` will most likely name, where it names several.
    foreseen: Option<Vec<String>>,
    /// Workers that were started early.
    crew: Option<Crew>,
    /// CUDA and GPUs that are being loaded.
    _loading: Vec<Background>,
    /// Workers that are done: giving a GPU back takes a moment, in which the scores wait for the driver.
    done: Option<Crew>,
}

impl<'a> Devices<'a> {
    /// Lets the first device get ready.
    pub fn foresee(global: &'a Global) -> Result<Self> {
        let for_gpu = Runtime::foresee(global)?;
        let foreseen = foreseen_devices(&global.device);
        let first = foreseen.as_ref().and_then(|names| names.first()).map_or(global.device.as_str(), String::as_str);
        let mut loading = Vec::new();
        if first != "cuda:all" {
            loading.extend(Runtime::begin(RuntimeOptions { device: first.to_string(), ..global.into() }));
        }
        Ok(Self { global, for_gpu, foreseen, crew: None, _loading: loading, done: None })
    }

    /// Whether networks will round to TensorFloat-32, where that is chosen; says where it has no effect.
    pub fn tf32(&self, is_chosen: bool) -> bool {
        let is_float32 = !matches!(self.global.dtype, DtypeChoice::Float16 | DtypeChoice::Bfloat16);
        if is_chosen && !(self.for_gpu && is_float32) {
            let why = if self.for_gpu { "numbers of 16 bits are no float32" } else { "a CPU has none" };
            tracing::warn!("--tf32 has no effect here: {why}");
        }
        is_chosen && self.for_gpu && is_float32
    }

    /// It will be about so many pictures: the other devices get ready too, or workers on all of them.
    pub fn expect(&mut self, pictures: usize) {
        let Some(names) = self.foreseen.clone() else { return };
        if is_apart(&names, pictures) {
            self.crew = early_crew(self.global);
        } else {
            let options = |device| RuntimeOptions { device, ..self.global.into() };
            self._loading.extend(names.into_iter().skip(1).filter_map(|name| Runtime::begin(options(name))));
        }
    }

    /// Looks at all sets; `whole` hears of each when the last of it was seen, on the first device, which is given.
    pub fn look(&mut self, look: &Look, whole: &mut dyn FnMut(usize, Seen) -> Result<()>) -> Result<Runtime> {
        choose_tf32(look.tf32);
        let pictures = look.sets.iter().map(|set| set.files.0.len() + set.content.0.len()).sum();
        let names = several_devices(&self.global.device)?;
        let rt = match names {
            Some(names) if is_apart(&names, pictures) => self.apart(look, whole)?,
            names => {
                let names = names.unwrap_or_else(|| vec![self.global.device.clone()]);
                let options = |device| RuntimeOptions { device, ..self.global.into() };
                let devices: Vec<RuntimeOptions> = names.into_iter().map(options).collect();
                let batches = look.batches(if self.for_gpu { Device::Cuda(0) } else { Device::Cpu })?;
                threads::look(&devices, (look, &batches, self.for_gpu), whole)?
            }
        };
        log_moment("all pictures are measured");
        Ok(rt)
    }

    /// By worker processes.
    fn apart(&mut self, look: &Look, whole: &mut dyn FnMut(usize, Seen) -> Result<()>) -> Result<Runtime> {
        let (team, options) = team(self.global)?.context("there are several devices")?;
        let mut crew = crew(self.crew.take(), &team, &json!({ TASK: look }))?;
        log_moment("workers have their task");
        // A limit is for those who measure.
        let own = RuntimeOptions { memory_limit: None, ..options };
        let device = device_named(&own.device);
        let batches = look.batches(device)?;
        let scoring = Background::start(move || {
            // What goes wrong here goes wrong again below.
            if let Ok(rt) = Runtime::new(own.clone()) {
                drop(frechet::warm_up(rt.device));
            }
        });
        let options = RuntimeOptions { memory_limit: None, device: team.devices[0].clone(), ..self.global.into() };
        let mut rt = None;
        let mut on_the_first = |set: usize, seen: Seen| -> Result<()> {
            let rt = match &rt {
                Some(rt) => rt,
                None => rt.insert(Runtime::new(options.clone())?),
            };
            whole(set, seen.on(rt.device)?)
        };
        processes::look(&mut crew, look, &batches, Device::Cpu, &mut on_the_first)?;
        self.done = Some(crew);
        drop(scoring);
        rt.context("nothing was measured")
    }
}

impl Drop for Devices<'_> {
    fn drop(&mut self) {
        self.done.take().into_iter().for_each(Crew::leave);
    }
}

/// Whether devices have a worker process each for so many pictures. Without a GPU there is little to load.
fn is_apart(devices: &[String], pictures: usize) -> bool {
    match std::env::var(CHOICE).as_deref() {
        Ok("processes") => true,
        Ok("threads") => false,
        _ => devices.iter().all(|name| name == "cpu") || pictures > MOST_TOGETHER,
    }
}
