//! `toolkit evaluate` on several devices: workers look at the pictures, a batch at a time; the parent scores.
//!
//! Nothing waits that need not: workers start together and decode their first batches while CUDA and the networks are
//! loaded, the parent loads what it scores with meanwhile, and a result is fetched while the next batch is computed.

use std::cell::{OnceCell, RefCell};
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::team::Foreseen;
use crate::images;
use crate::metrics::image::Embedder;
use crate::metrics::image::artfid::ArtFidNets;
use crate::metrics::image::features::{self, FeatureNet};
use crate::metrics::image::frechet;
use crate::metrics::image::lpips::LpipsNet;
use crate::metrics::image::networks::Network;
use crate::metrics::image::pictures::{Batches, Decoding, Pair, Square, rows};
use crate::models::LpipsFiles;
use crate::runtime::upload::{Reached, Uploads};
use crate::runtime::{Background, Runtime, RuntimeOptions, device_named, log_moment};
use crate::workers::{Desk, Ledger, Packed, Parcel, Paths, Stage, Team, from_le_bytes, to_le_bytes};

/// The part of a worker's task that this command is.
pub const TASK: &str = "pictures";

/// Pictures, and what looks at them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Look {
    nets: Nets,
    sets: Vec<Set>,
    /// Pictures at a time, where that was asked for.
    most: Option<usize>,
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

    /// The size of pictures as the network sees them; none: their own.
    fn sees(&self) -> Option<(u32, u32)> {
        let Self::Features(network, _) = self else { return None };
        Network::named(network).filter(|network| !network.takes_own_size()).map(Network::usual_size)
    }
}

/// Pictures of one folder, or of pairs; or texts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Set {
    files: Paths,
    /// What `files` are compared with, one each; none where they stand alone.
    content: Paths,
    texts: Vec<String>,
    /// What pictures become first.
    square: Option<Square>,
}

impl Set {
    pub fn files(files: &[PathBuf]) -> Self {
        Self { files: Paths(files.to_vec()), ..Self::default() }
    }

    pub fn pairs(pairs: &[Pair]) -> Self {
        let (files, content) = pairs.iter().map(|pair| (pair.stylized.clone(), pair.content.clone())).unzip();
        Self { files: Paths(files), content: Paths(content), ..Self::default() }
    }

    /// With all pictures made squares, where these are asked for.
    pub fn with_squares(self, square: Option<&Square>) -> Self {
        Self { square: square.cloned(), ..self }
    }

    pub fn texts(texts: Vec<String>) -> Self {
        Self { texts, ..Self::default() }
    }

    fn len(&self) -> usize {
        self.files.0.len() + self.texts.len()
    }

    fn is_paired(&self) -> bool {
        !self.content.0.is_empty()
    }
}

/// What the networks say of a set: float32 [pictures, features] and [pictures], where they say it, on the CPU.
#[derive(Debug)]
pub struct Seen {
    pub features: Option<Tensor>,
    pub lpips: Option<Tensor>,
}

/// Has workers look at all sets, while what scores them is loaded on the first device: with that device.
pub fn look(
    (team, options): (&Team, RuntimeOptions),
    foreseen: &mut Foreseen,
    nets: Nets,
    sets: Vec<Set>,
    most: Option<usize>,
) -> Result<(Runtime, Vec<Seen>)> {
    let device = device_named(&options.device);
    let look = Look { nets, sets, most };
    let mut crew = foreseen.crew(team, &json!({ TASK: look }))?;
    log_moment("workers have their task");
    let own = RuntimeOptions { memory_limit: None, ..options.clone() };
    // What goes wrong here goes wrong again below.
    let loading = Background::start(move || {
        if let Ok(rt) = Runtime::new(own) {
            drop(frechet::warm_up(rt.device));
        }
    });
    let mut batches = Vec::new();
    for (set, of_set) in look.sets.iter().enumerate() {
        let (count, rows) = (of_set.len(), look.rows(of_set, device)?);
        let ranges = (0..count).step_by(rows).map(|start| start..count.min(start + rows));
        batches.extend(ranges.map(|places| Batch { set, places }));
    }
    let seen = look.sets.iter().map(|set| std::iter::repeat_with(Made::default).take(set.len()).collect()).collect();
    let mut ledger = Table { stage: Measure::new(&look, None), seen };
    crew.pass(&mut ledger, &batches, None, |_| ())?;
    foreseen.let_go(crew);
    log_moment("all pictures are measured");
    drop(loading);
    // A limit is for those who measure.
    let rt = Runtime::new(RuntimeOptions { memory_limit: None, ..options })?;
    Ok((rt, ledger.seen.into_iter().map(joined).collect::<Result<_>>()?))
}

impl Look {
    /// Pictures or texts of a batch. Where a device has less memory than they need, its worker takes them in parts.
    fn rows(&self, set: &Set, device: Device) -> Result<usize> {
        let Some(first) = set.files.0.first() else { return Ok(features::TEXTS) };
        let square = set.square.as_ref().map(|square| (square.side, square.side));
        let size = self.nets.sees().or(square).map_or_else(|| images::size(first), Ok)?;
        Ok(rows(self.most, set.len(), size, device, None))
    }
}

/// The batches of a set, in the order of their pictures.
fn joined(parts: Vec<Made>) -> Result<Seen> {
    let tensor = |part: fn(&Made) -> &Option<Tensor>| -> Result<Option<Tensor>> {
        let parts: Vec<&Tensor> = parts.iter().filter_map(|made| part(made).as_ref()).collect();
        Ok(if parts.is_empty() { None } else { Some(Tensor::f_cat(&parts, 0)?) })
    };
    Ok(Seen { features: tensor(|made| &made.features)?, lpips: tensor(|made| &made.lpips)? })
}

/// Looks, as a worker, at what the command asks for. Takes orders before its device is ready.
pub fn serve(look: Look, options: RuntimeOptions, desk: &mut Desk) -> Result<()> {
    desk.is_on(device_named(&options.device));
    let stage = Measure::new(&look, Some(options));
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

/// Pictures or texts that are looked at together.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    set: usize,
    places: Range<usize>,
}

/// The pictures of a batch on their way to the device.
enum Waiting {
    /// Only the network knows how it wants them.
    Files(Vec<PathBuf>, Option<Square>),
    Decoding(Decoding),
    LaidOut(Batches),
    Nothing,
}

/// With the pictures in the set that the batch is of.
type Ready = Rc<RefCell<(Waiting, usize)>>;

struct Measure<'a> {
    look: &'a Look,
    /// None in the parent.
    options: Option<RuntimeOptions>,
    open: OnceCell<(Open, Option<Background>)>,
    /// Batches that came before the device was there.
    early: RefCell<Vec<Ready>>,
}

impl<'a> Measure<'a> {
    fn new(look: &'a Look, options: Option<RuntimeOptions>) -> Self {
        Self { look, options, open: OnceCell::new(), early: RefCell::default() }
    }

    /// The device and number type of this worker, whether they are ready or not.
    fn place(&self) -> Result<Runtime> {
        let options = self.options.as_ref().context("the parent measures nothing")?;
        Ok(Runtime { device: device_named(&options.device), dtype: options.dtype, offline: options.offline })
    }

    /// Lays decoded pictures out for the device, which must be ready, as if the whole set were.
    fn lay_out(&self, ready: &Ready, rt: &Runtime) {
        let (waiting, all) = &mut *ready.borrow_mut();
        let mut kind = rt.kind(Kind::Float);
        *waiting = match (std::mem::replace(waiting, Waiting::Nothing), self.open.get()) {
            (Waiting::Files(files, square), Some((Open::Features(net), _))) => {
                kind = net.pixel_kind();
                Waiting::LaidOut(net.decoding(files, square.as_ref()).batches_of(*all, self.look.most, rt.device, kind))
            }
            (Waiting::Decoding(decoding), _) => {
                Waiting::LaidOut(decoding.batches_of(*all, self.look.most, rt.device, kind))
            }
            (other, _) => other,
        };
    }
}

/// Features [pictures, width] and LPIPS [pictures] of a batch, where they are asked for: in the parent as they came, in a
/// worker on their way from the device.
#[derive(Default)]
struct Made {
    features: Option<Tensor>,
    lpips: Option<Tensor>,
    /// Where the device has finished them.
    reached: Option<Reached>,
    /// Pictures in which a face was looked for in vain since the batch before.
    without_face: usize,
}

impl Made {
    /// Starts to fetch them.
    fn fetch(features: Option<Tensor>, lpips: Option<Tensor>, device: Device) -> Result<Self> {
        let home = |tensor: Option<Tensor>| -> Result<Option<Tensor>> {
            let fetch =
                |tensor: Tensor| tensor.to_kind(Kind::Float).f_internal_to_copy((Kind::Float, Device::Cpu), true);
            Ok(tensor.map(fetch).transpose()?)
        };
        let (features, lpips) = (home(features)?, home(lpips)?);
        let reached = match device {
            Device::Cuda(gpu) => match Uploads::to(gpu) {
                Some(uploads) => Some(uploads.reached()?),
                None => {
                    tch::Cuda::synchronize(gpu as i64);
                    None
                }
            },
            _ => None,
        };
        Ok(Self { features, lpips, reached, without_face: 0 })
    }
}

impl Parcel for Made {
    fn pack(self) -> Result<Packed> {
        self.reached.map_or(Ok(()), Reached::wait)?;
        let width = self.features.as_ref().and_then(|features| features.size().last().copied());
        let bytes = |tensor: Option<Tensor>| -> Result<Vec<u8>> {
            let Some(tensor) = tensor else { return Ok(Vec::new()) };
            Ok(to_le_bytes(&Vec::<f32>::try_from(tensor.contiguous().view([-1]))?))
        };
        Ok(Packed { value: json!([width, self.without_face]), blobs: vec![bytes(self.features)?, bytes(self.lpips)?] })
    }

    fn unpack(packed: Packed) -> Result<Self> {
        let tensor = |bytes: &[u8]| (!bytes.is_empty()).then(|| Tensor::from_slice(&from_le_bytes(bytes)));
        let [features, lpips] = packed.blobs.as_slice() else { bail!("a worker's message is damaged") };
        let (features, lpips) = (tensor(features), tensor(lpips));
        let number = |at: usize| packed.value[at].as_i64().ok_or_else(|| anyhow!("a worker's message is damaged"));
        let features = features.map(|all| Ok::<_, anyhow::Error>(all.f_view([-1, number(0)?])?)).transpose()?;
        Ok(Self { features, lpips, reached: None, without_face: number(1)? as usize })
    }
}

impl Stage for Measure<'_> {
    const LABEL: &'static str = "measuring";
    /// So many are decoded while CUDA is loaded.
    const DEPTH: usize = 7;
    const IS_DEFERRED: bool = true;
    type Batch = Batch;
    type Ready = Result<Ready>;
    type Model = ();
    type Made = Made;

    /// All networks together.
    fn model(&self, _batch: &Batch) -> String {
        String::new()
    }

    fn load(&self, _name: &str) -> Result<()> {
        if self.open.get().is_some() {
            return Ok(());
        }
        let rt = Runtime::new(self.options.clone().context("the parent measures nothing")?)?;
        log_moment("the device is ready");
        let libraries = features::warm_up(rt.device, rt.kind(Kind::Float));
        let early = self.early.take();
        early.iter().for_each(|ready| self.lay_out(ready, &rt));
        let open = Open::new(&self.look.nets, &rt)?;
        log_moment("the networks are loaded");
        let _ = self.open.set((open, libraries));
        early.iter().for_each(|ready| self.lay_out(ready, &rt));
        Ok(())
    }

    /// Decodes, and lays out for the device where that is ready.
    fn prepare(&self, batch: &Batch) -> Result<Ready> {
        let (rt, set) = (self.place()?, &self.look.sets[batch.set]);
        let (square, for_gpu) = (set.square.as_ref(), rt.device.is_cuda());
        let waiting = if !set.texts.is_empty() {
            Waiting::Nothing
        } else if set.is_paired() {
            let content = set.content.0[batch.places.clone()].iter().cloned();
            let pair = |(content, stylized)| Pair { content, stylized, id: String::new() };
            let pairs: Vec<Pair> = content.zip(set.files.0[batch.places.clone()].to_vec()).map(pair).collect();
            Waiting::Decoding(Decoding::pairs(&pairs, 1, square, for_gpu))
        } else if self.look.nets.sees().is_some() {
            Waiting::Files(set.files.0[batch.places.clone()].to_vec(), square.cloned())
        } else {
            Waiting::Decoding(Decoding::files(set.files.0[batch.places.clone()].to_vec(), 1, square, for_gpu))
        };
        let ready = Rc::new(RefCell::new((waiting, set.len())));
        if self.open.get().is_some() {
            self.lay_out(&ready, &rt);
        } else {
            self.early.borrow_mut().push(ready.clone());
        }
        Ok(ready)
    }

    fn work(&self, batch: &Batch, ready: Result<Ready>, (): &()) -> Result<Made> {
        let (nets, _) = self.open.get().context("no network is loaded")?;
        let (set, device) = (&self.look.sets[batch.set], self.place()?.device);
        if let (Open::Features(net), false) = (nets, set.texts.is_empty()) {
            let rows = Embedder::texts(net, &set.texts[batch.places.clone()])?;
            let features = Tensor::from_slice(&rows.concat()).view([rows.len() as i64, -1]);
            return Ok(Made { features: Some(features), ..Made::default() });
        }
        let waiting = std::mem::replace(&mut ready?.borrow_mut().0, Waiting::Nothing);
        let Waiting::LaidOut(pictures) = waiting else { bail!("a batch was not prepared") };
        let (features, lpips) = match nets {
            Open::ArtFid(nets) if set.is_paired() => {
                let (features, lpips) = nets.measure_files(pictures)?;
                (Some(features), Some(lpips))
            }
            Open::ArtFid(nets) => (Some(nets.inception.features_of_files(pictures)?), None),
            Open::Lpips(net) => (None, Some(net.distances_of_batches(pictures)?)),
            Open::Features(net) => (Some(net.features_of_files(pictures)?), None),
        };
        let without_face = set.square.as_ref().map_or(0, Square::take_without_face);
        Ok(Made { without_face, ..Made::fetch(features, lpips, device)? })
    }

    fn lost(&self, batch: &Batch, reason: &str) -> Result<Made> {
        let set = &self.look.sets[batch.set];
        let name = |at: usize| match set.files.0.get(at) {
            Some(file) => images::path_text(file),
            None => format!("text {at}"),
        };
        let (first, last) = (batch.places.start, batch.places.end.saturating_sub(1));
        bail!("the pictures from {} to {} cannot be measured: {reason}", name(first), name(last))
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
        if let Some(square) = &self.stage.look.sets[batch.set].square {
            square.add_without_face(made.without_face);
        }
        self.seen[batch.set][batch.places.start] = made;
        Ok(batch.places.len())
    }
}
