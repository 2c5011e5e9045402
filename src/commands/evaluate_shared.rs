//! `toolkit evaluate` on several devices: workers look at the pictures, a batch at a time; the parent scores.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::images;
use crate::metrics::image::artfid::ArtFidNets;
use crate::metrics::image::features::FeatureNet;
use crate::metrics::image::lpips::LpipsNet;
use crate::metrics::image::networks::Network;
use crate::metrics::image::pictures::{Batches, Decoding, Pair, rows};
use crate::models::LpipsFiles;
use crate::runtime::Runtime;
use crate::workers::{Crew, Desk, Hint, Ledger, Packed, Parcel, Paths, Stage, Team, from_le_bytes, to_le_bytes};

/// The part of a worker's task that this command is.
pub const TASK: &str = "pictures";

/// Pictures, and what looks at them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Look {
    nets: Nets,
    sets: Vec<Set>,
}

/// Networks by their files or names.
#[derive(Debug, Serialize, Deserialize)]
pub enum Nets {
    /// art-Inception and LPIPS' two files.
    ArtFid(Paths),
    Lpips(Paths),
    /// A network by the name that it is chosen by, and that of its weights.
    Features(String, Option<String>),
}

impl Nets {
    pub fn art_fid(inception: PathBuf, lpips: LpipsFiles) -> Self {
        Self::ArtFid(Paths(vec![inception, lpips.backbone, lpips.linear]))
    }

    pub fn lpips(lpips: LpipsFiles) -> Self {
        Self::Lpips(Paths(vec![lpips.backbone, lpips.linear]))
    }
}

/// Pictures of one folder, or of pairs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Set {
    files: Paths,
    /// What `files` are compared with, one each; none where they stand alone.
    content: Paths,
}

impl Set {
    pub fn files(files: &[PathBuf]) -> Self {
        Self { files: Paths(files.to_vec()), content: Paths::default() }
    }

    pub fn pairs(pairs: &[Pair]) -> Self {
        let (files, content) = pairs.iter().map(|pair| (pair.stylized.clone(), pair.content.clone())).unzip();
        Self { files: Paths(files), content: Paths(content) }
    }
}

/// What the networks say of a set: float32 [pictures, features] and [pictures], where they say it, on the CPU.
#[derive(Debug)]
pub struct Seen {
    pub features: Option<Tensor>,
    pub lpips: Option<Tensor>,
}

/// Has workers look at all sets. `device` is of the kind that they use; `meanwhile` is done while they start.
pub fn look(
    team: &Team,
    nets: Nets,
    sets: Vec<Set>,
    (most, device): (Option<usize>, Device),
    meanwhile: impl FnOnce() -> Result<()>,
) -> Result<Vec<Seen>> {
    let look = Look { nets, sets };
    let mut crew = Crew::new(team, &json!({ TASK: look }))?;
    crew.begin()?;
    meanwhile()?;
    let free = crew.load(&Hint { stage: Measure::LABEL, model: String::new() })?;
    let mut batches = Vec::new();
    for (set, Set { files, .. }) in look.sets.iter().enumerate() {
        let first = files.0.first().context("no pictures to measure")?;
        let (count, rows) = (files.0.len(), rows(most, files.0.len(), images::size(first)?, device, free));
        let ranges = (0..count).step_by(rows).map(|start| start..count.min(start + rows));
        batches.extend(ranges.map(|places| Batch { set, places, rows }));
    }
    let seen = look.sets.iter().map(|set| vec![Made::default(); set.files.0.len()]).collect();
    let mut ledger = Table { stage: Measure { look: &look, nets: None }, seen };
    crew.pass(&mut ledger, &batches, None, |_| ())?;
    ledger.seen.into_iter().map(joined).collect()
}

/// The batches of a set, at the places of their first pictures.
fn joined(parts: Vec<Made>) -> Result<Seen> {
    let count = parts.len() as i64;
    let tensor = |part: fn(&Made) -> &Vec<f32>| {
        let values: Vec<f32> = parts.iter().flat_map(part).copied().collect();
        (!values.is_empty()).then(|| Tensor::from_slice(&values))
    };
    let features = tensor(|made| &made.features).map(|all| all.view([count, -1]));
    Ok(Seen { features, lpips: tensor(|made| &made.lpips) })
}

/// Looks, as a worker, at what the command asks for.
pub fn serve(look: Look, rt: Runtime, desk: &mut Desk) -> Result<()> {
    let stage = Measure { nets: Some((Open::new(&look.nets, &rt)?, rt)), look: &look };
    while desk.stage().is_some() {
        desk.run(&stage)?;
    }
    Ok(())
}

/// Networks that are loaded.
enum Open {
    ArtFid(ArtFidNets),
    Lpips(LpipsNet),
    Features(FeatureNet),
}

impl Open {
    fn new(nets: &Nets, rt: &Runtime) -> Result<Self> {
        let (device, kind) = (rt.device, rt.kind(Kind::Float));
        match nets {
            Nets::ArtFid(Paths(files)) => match files.as_slice() {
                [inception, backbone, linear] => {
                    ArtFidNets::load(inception, backbone, linear, device, kind).map(Self::ArtFid)
                }
                _ => bail!("ArtFID needs three files"),
            },
            Nets::Lpips(Paths(files)) => match files.as_slice() {
                [backbone, linear] => LpipsNet::load(backbone, linear, device, kind).map(Self::Lpips),
                _ => bail!("LPIPS needs two files"),
            },
            Nets::Features(network, name) => {
                let network = Network::named(network).context("no such network")?;
                FeatureNet::open(network, name.as_deref(), rt).map(Self::Features)
            }
        }
    }
}

/// Pictures that are looked at together.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    set: usize,
    places: Range<usize>,
    /// Pictures of a whole batch.
    rows: usize,
}

struct Measure<'a> {
    look: &'a Look,
    /// None in the parent.
    nets: Option<(Open, Runtime)>,
}

/// Features row by row, and LPIPS, of the pictures of a batch.
#[derive(Debug, Clone, Default)]
struct Made {
    features: Vec<f32>,
    lpips: Vec<f32>,
}

impl Parcel for Made {
    fn pack(self) -> Result<Packed> {
        Ok(Packed { blobs: vec![to_le_bytes(&self.features), to_le_bytes(&self.lpips)], ..Packed::default() })
    }

    fn unpack(packed: Packed) -> Result<Self> {
        match packed.blobs.as_slice() {
            [features, lpips] => Ok(Self { features: from_le_bytes(features), lpips: from_le_bytes(lpips) }),
            _ => bail!("a worker's message is damaged"),
        }
    }
}

impl Stage for Measure<'_> {
    const LABEL: &'static str = "measuring";
    type Batch = Batch;
    type Ready = Result<Batches>;
    type Model = ();
    type Made = Made;

    /// They are there from the start.
    fn model(&self, _batch: &Batch) -> String {
        String::new()
    }

    fn load(&self, _name: &str) -> Result<()> {
        Ok(())
    }

    /// Decodes, and lays out for the device.
    fn prepare(&self, batch: &Batch) -> Result<Batches> {
        let (nets, rt) = self.nets.as_ref().context("no network is loaded")?;
        let set = &self.look.sets[batch.set];
        let files = set.files.0[batch.places.clone()].to_vec();
        let for_gpu = rt.device.is_cuda();
        let kind = rt.kind(Kind::Float);
        let (decoding, kind) = match nets {
            _ if !set.content.0.is_empty() => {
                let content = set.content.0[batch.places.clone()].iter().cloned();
                let pair = |(content, stylized)| Pair { content, stylized, id: String::new() };
                let pairs: Vec<Pair> = content.zip(files).map(pair).collect();
                (Decoding::pairs(&pairs, 1, for_gpu), kind)
            }
            Open::Features(net) => (net.decoding(files), net.pixel_kind()),
            Open::ArtFid(_) | Open::Lpips(_) => (Decoding::files(files, 1, for_gpu), kind),
        };
        Ok(decoding.batches_of(batch.rows, rt.device, kind))
    }

    fn work(&self, batch: &Batch, ready: Result<Batches>, (): &()) -> Result<Made> {
        let (nets, _) = self.nets.as_ref().context("no network is loaded")?;
        let ready = ready?;
        let paired = !self.look.sets[batch.set].content.0.is_empty();
        let (features, lpips) = match nets {
            Open::ArtFid(nets) if paired => {
                let (features, lpips) = nets.measure_files(ready)?;
                (Some(features), Some(lpips))
            }
            Open::ArtFid(nets) => (Some(nets.inception.features_of_files(ready)?), None),
            Open::Lpips(net) => (None, Some(net.distances_of_batches(ready)?)),
            Open::Features(net) => (Some(net.features_of_files(ready)?), None),
        };
        let numbers = |tensor: Option<Tensor>| -> Result<Vec<f32>> {
            let Some(tensor) = tensor else { return Ok(Vec::new()) };
            Ok(Vec::try_from(tensor.to_device(Device::Cpu).to_kind(Kind::Float).contiguous().view([-1]))?)
        };
        Ok(Made { features: numbers(features)?, lpips: numbers(lpips)? })
    }

    fn lost(&self, batch: &Batch, reason: &str) -> Result<Made> {
        let files = &self.look.sets[batch.set].files.0[batch.places.clone()];
        let names =
            [files.first(), files.last()].map(|file| file.map_or(String::new(), |file| images::path_text(file)));
        bail!("the pictures from {} to {} cannot be measured: {reason}", names[0], names[1])
    }
}

/// What was seen of each set, a batch at the place of its first picture.
struct Table<'a> {
    stage: Measure<'a>,
    seen: Vec<Vec<Made>>,
}

impl<'a> Ledger for Table<'a> {
    type Stage = Measure<'a>;

    fn stage(&self) -> &Measure<'a> {
        &self.stage
    }

    fn record(&mut self, batch: &Batch, made: Made) -> Result<usize> {
        self.seen[batch.set][batch.places.start] = made;
        Ok(batch.places.len())
    }
}
