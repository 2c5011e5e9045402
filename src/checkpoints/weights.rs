//! A place in a checkpoint from which a model is built: the path passed down *is* the key.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, anyhow, bail};
use tch::{Device, Kind, Tensor};

use super::finite::{NotFinite, extremes, first_not_finite, is_finite, may_overflow, scan};
use super::misfits::{Misfit, Misfits, misshapen};
use super::places::{Place, Places};
use super::staging::Sent;
use super::{Checkpoint, Entry, read};
use crate::runtime::catch_panics;

/// Keys that public checkpoints carry and no model needs.
const EXCUSED_SUFFIXES: [&str; 2] = [".position_ids", ".num_batches_tracked"];

/// A path inside a checkpoint, with the device and number type to load to. Cheap to clone.
///
/// ```text
/// let attn = weights.at("layers").at(3).at("self_attn");   // layers.3.self_attn
/// let q = attn.get("q_proj.weight", &[768, 768])?;         // layers.3.self_attn.q_proj.weight
/// ```
#[derive(Clone)]
pub struct Weights {
    source: Arc<Source>,
    prefix: String,
    device: Device,
    kind: Kind,
    /// Whether layers that can keep their weights in float8.
    float8: bool,
    /// Where the weights of the model are noted, if anybody asks.
    places: Option<Places>,
}

struct Source {
    tensors: Tensors,
    used: Mutex<BTreeSet<String>>,
    /// What may still be read of each tensor asked for so far: waited for at the end.
    coming: Mutex<Vec<(String, Sent)>>,
    /// The least and the greatest number of each tensor read so far, on the device: looked at once, at the end.
    extremes: Mutex<Vec<(String, [Tensor; 2])>>,
    /// While a model is built for nothing but to learn what does not fit: what was found so far.
    survey: Mutex<Option<Misfits>>,
}

enum Tensors {
    Files(Checkpoint),
    /// Every tensor that is asked for exists, normally distributed with this deviation: for
    /// measuring speed at real sizes without the real files.
    Random(f64),
    /// Every tensor that is asked for exists, and nothing was written into it.
    Blank,
}

impl Weights {
    pub(super) fn from_checkpoint(checkpoint: Checkpoint, device: Device, kind: Kind) -> Self {
        Self::new(Tensors::Files(checkpoint), device, kind)
    }

    /// Weights that are drawn on the device as they are asked for. Optional tensors are absent.
    pub fn random(device: Device, kind: Kind) -> Self {
        Self::new(Tensors::Random(0.02), device, kind)
    }

    /// Weights that mean nothing, and cost nothing but their memory: to have a network compute once.
    pub fn blank(device: Device, kind: Kind) -> Self {
        Self::new(Tensors::Blank, device, kind)
    }

    fn new(tensors: Tensors, device: Device, kind: Kind) -> Self {
        let (used, coming, extremes, survey) = Default::default();
        let source = Source { tensors, used, coming, extremes, survey };
        Self { source: Arc::new(source), prefix: String::new(), device, kind, float8: false, places: None }
    }

    /// The place one step further down.
    pub fn at(&self, part: impl Display) -> Self {
        Self { prefix: self.key(part), ..self.clone() }
    }

    /// The same place, loading to another number type.
    pub fn with_kind(&self, kind: Kind) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The same place; layers that can keep their weights in float8, quantised from the place's number type.
    pub fn in_float8(&self, float8: bool) -> Self {
        Self { float8, ..self.clone() }
    }

    /// Whether layers that can keep their weights in float8.
    pub fn wants_float8(&self) -> bool {
        self.float8
    }

    /// The same place; where the weights of what is built from it are in memory, is noted.
    pub fn noted_in(&self, places: &Places) -> Self {
        Self { places: Some(places.clone()), ..self.clone() }
    }

    /// Says that a tensor from here was laid out anew: `tensor` is the part of what is computed with that has its numbers
    /// and its shape.
    pub fn laid_out(&self, name: &str, tensor: &Tensor) {
        if let Some(places) = &self.places {
            places.note(self.key(name), tensor);
        }
    }

    /// The same of a tensor that was quantised: e4m3 of its shape, and a float32 scale for each row, [rows, 1].
    pub fn laid_out_in_float8(&self, name: &str, values: &Tensor, scales: &Tensor) {
        if let Some(places) = &self.places {
            places.put(self.key(name), Place::Float8(values.shallow_clone(), scales.shallow_clone()));
        }
    }

    pub fn device(&self) -> Device {
        self.device
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The whole key of `name` here.
    pub fn key(&self, name: impl Display) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }

    /// Whether the tensor is in the files (never so for random weights).
    pub fn contains(&self, name: &str) -> bool {
        self.shape(name).is_some()
    }

    /// The shape in the files (none for random weights).
    pub fn shape(&self, name: &str) -> Option<Vec<i64>> {
        match &self.source.tensors {
            Tensors::Files(checkpoint) => checkpoint.entry(&self.key(name)).map(|entry| entry.shape.clone()),
            Tensors::Random(_) | Tensors::Blank => None,
        }
    }

    /// The tensor of this name, which must be there and of this shape.
    pub fn get(&self, name: &str, shape: &[i64]) -> Result<Tensor> {
        let key = self.key(name);
        match &self.source.tensors {
            Tensors::Blank => Ok(Tensor::f_empty(shape, (self.kind, self.device))?),
            Tensors::Random(deviation) => {
                let options = (self.kind, self.device);
                if shape.len() < 2 {
                    return Ok(Tensor::full(shape, 0.5, options));
                }
                let tensor = Tensor::randn(shape, options) * *deviation;
                self.laid_out(name, &tensor);
                Ok(tensor)
            }
            Tensors::Files(checkpoint) => {
                if let Some(misfits) = &mut *lock(&self.source.survey) {
                    misfits.compare(&key, checkpoint.entry(&key), shape);
                    self.mark(key);
                    // Nothing is computed with it, and it takes no memory.
                    return Ok(Tensor::ones([0i64; 0], (self.kind, self.device)).f_expand(shape, false)?);
                }
                let Some(entry) = checkpoint.entry(&key) else {
                    let wrapped = checkpoint.wrapped(&key).map(|text| format!(": {text}")).unwrap_or_default();
                    bail!(Misfit(format!("{}: tensor {key} is missing{wrapped}", self.files())));
                };
                if entry.shape != shape {
                    bail!(Misfit(format!("{}: {}", entry.file.display(), misshapen(&key, &entry.shape, shape))));
                }
                self.mark(key.clone());
                self.read(checkpoint, key, entry).inspect(|tensor| self.laid_out(name, tensor))
            }
        }
    }

    /// The tensor if the files have it; then it must be of this shape.
    pub fn get_if_present(&self, name: &str, shape: &[i64]) -> Result<Option<Tensor>> {
        if self.contains(name) { self.get(name, shape).map(Some) } else { Ok(None) }
    }

    /// Accepts every tensor under this place without reading it (parts that the model has no use for).
    pub fn ignore(&self) {
        if let Tensors::Files(checkpoint) = &self.source.tensors {
            let below = format!("{}.", self.prefix);
            for name in checkpoint.names().filter(|name| **name == self.prefix || name.starts_with(&below)) {
                self.mark(name.to_string());
            }
        }
    }

    /// The tensor, of which a NaN or infinity is an error: at once on the CPU, at the end on a device. Those who read the
    /// file for a device look for them, where casting makes no others and what is read is the tensor alone.
    fn read(&self, checkpoint: &Checkpoint, key: String, entry: &Entry) -> Result<Tensor> {
        let says_all = entry.strides.is_none() && !may_overflow(entry.kind, self.kind);
        let scan = scan(entry.kind).filter(|_| says_all);
        let begun = checkpoint.begin(&key, self.device, self.kind, scan);
        let (tensor, sent) = begun.map_err(|error| self.explained(checkpoint, &key, error))?;
        if self.device == Device::Cpu {
            return if is_finite(&tensor) { Ok(tensor) } else { Err(not_finite(checkpoint, &key, self.kind)) };
        }
        if !sent.is_scanned
            && let Some(extremes) = extremes(&tensor)?
        {
            lock(&self.source.extremes).push((key.clone(), extremes));
        }
        lock(&self.source.coming).push((key, sent));
        Ok(tensor)
    }

    /// What is said of a tensor that those who read it found not to be finite.
    fn explained(&self, checkpoint: &Checkpoint, key: &str, error: anyhow::Error) -> anyhow::Error {
        if error.is::<NotFinite>() { not_finite(checkpoint, key, self.kind) } else { error }
    }

    /// Ends the loading: a tensor that nothing asked for is an error, and so is one that could not be read or is not finite.
    pub fn finish(&self) -> Result<()> {
        let Tensors::Files(checkpoint) = &self.source.tensors else { return Ok(()) };
        let coming = std::mem::take(&mut *lock(&self.source.coming));
        for (key, sent) in coming {
            checkpoint.end(&key, sent).map_err(|error| self.explained(checkpoint, &key, error))?;
        }
        let extremes = std::mem::take(&mut *lock(&self.source.extremes));
        if let Some(key) = first_not_finite(&extremes)? {
            return Err(not_finite(checkpoint, key, self.kind));
        }
        match (Misfits { extra: self.extra(checkpoint), ..Misfits::default() }).describe(&self.files(), checkpoint) {
            None => Ok(()),
            Some(text) => Err(Misfit(text).into()),
        }
    }

    /// The tensors that nothing has asked for.
    fn extra(&self, checkpoint: &Checkpoint) -> BTreeSet<String> {
        let used = lock(&self.source.used);
        let is_extra =
            |name: &&str| !used.contains(*name) && !EXCUSED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
        checkpoint.names().filter(is_extra).map(str::to_string).collect()
    }

    /// Builds a model of all the tensors here: none missing, none too many. Where they do not fit, the error
    /// lists all that do not, in the order of their names.
    pub fn build<T>(&self, new: impl Fn(&Self) -> Result<T>) -> Result<T> {
        Self::build_of(&[self], || new(self))
    }

    /// The same of several checkpoints, in which `new` builds one model.
    pub fn build_of<T>(places: &[&Self], new: impl Fn() -> Result<T>) -> Result<T> {
        let finish = |model| places.iter().try_for_each(|place| place.finish()).map(|()| model);
        new().and_then(finish).map_err(|error| {
            if error.downcast_ref::<Misfit>().is_none() {
                return error;
            }
            let texts = Self::survey(places, || new().map(drop));
            if texts.is_empty() { error } else { Misfit(texts.join("; ")).into() }
        })
    }

    /// Builds the model once more, of placeholders, to learn all that does not fit.
    fn survey(places: &[&Self], new: impl Fn() -> Result<()>) -> Vec<String> {
        for place in places {
            lock(&place.source.used).clear();
            *lock(&place.source.survey) = Some(Misfits::default());
        }
        // Sizes that do not fit may be too much for what is done with them; what was found until then is told.
        let whole = catch_panics(&new).is_ok();
        let mut texts = Vec::new();
        for place in places {
            let Tensors::Files(checkpoint) = &place.source.tensors else { continue };
            // Two places may be in one checkpoint.
            let Some(mut misfits) = lock(&place.source.survey).take() else { continue };
            if whole {
                misfits.extra = place.extra(checkpoint);
            }
            texts.extend(misfits.describe(&place.files(), checkpoint));
        }
        texts
    }

    /// The files, for error messages.
    pub fn files(&self) -> String {
        match &self.source.tensors {
            Tensors::Files(checkpoint) => {
                let files: Vec<String> = checkpoint.maps.keys().map(|path| path.display().to_string()).collect();
                match files.as_slice() {
                    [first, _, ..] => format!("{first} and {} more", files.len() - 1),
                    _ => files.concat(),
                }
            }
            Tensors::Random(_) | Tensors::Blank => "random weights".to_string(),
        }
    }

    fn mark(&self, key: String) {
        lock(&self.source.used).insert(key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_finite(checkpoint: &Checkpoint, key: &str, kind: Kind) -> anyhow::Error {
    let Some(entry) = checkpoint.entry(key) else { return anyhow!("tensor {key} is not finite") };
    let file = entry.file.display();
    let narrowed = read::is_float(entry.kind) && entry.kind != kind;
    match checkpoint.read(key, Device::Cpu, entry.kind) {
        Ok(stored) if narrowed && is_finite(&stored) => {
            anyhow!("{file}: tensor {key} overflows in {kind:?}: choose another --dtype")
        }
        _ => anyhow!("{file}: tensor {key} holds NaN or infinity: a damaged file?"),
    }
}
