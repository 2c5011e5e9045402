//! Norms and sums of feature maps [batch, channels, height, width] with the channels last in memory.

use tch::{Kind, Tensor};

use super::launch::{Ready, Source};
use super::{THREADS, VECTOR, blocks};
use crate::runtime::kernel::Argument;
use crate::runtime::kernel::Argument::{Float, Int, Long, Tensor as Data};

/// Blocks that measure the groups of a batch of maps which are read twice: a few for each multiprocessor.
const MOMENT_BLOCKS: i64 = 512;
/// Threads of a block of the norms at most.
const NORM_THREADS: i64 = 512;
/// Blocks that keep a batch of maps, where that many can: as many as a GPU has multiprocessors, nearly.
const KEEPING_BLOCKS: i64 = 128;
/// Blocks that keep a part of a map together: their number is in the name of the kernel.
const CLUSTERS: [(i64, &str); 2] = [(2, "group_norm_2"), (8, "group_norm_8")];
/// Places of a map that a block should have at least.
const LEAST_PLACES: i64 = 16;
/// Bytes of a map's row that are worth fetching from memory by themselves.
const LEAST_ROW: i64 = 64;
/// Shared memory of a block that keeps its part of a map.
pub(super) const MOST_KEPT: i64 = 200 << 10;

/// A group norm's own numbers.
pub struct Affine<'a> {
    /// [channels] each
    pub weight: &'a Tensor,
    pub bias: &'a Tensor,
    pub groups: i64,
    pub eps: f64,
}

/// Size of a map with its channels last.
struct Map {
    pictures: i64,
    channels: i64,
    places: i64,
}

impl Map {
    fn of(x: &Tensor) -> Option<Self> {
        let (pictures, channels, height, width) = x.size4().ok()?;
        let places = height * width;
        let fits = pictures > 0 && places > 0 && channels > 0 && channels % VECTOR == 0;
        (fits && x.stride() == [channels * places, 1, width * channels, channels]).then_some(Self {
            pictures,
            channels,
            places,
        })
    }

    /// One number for each channel, of the same type.
    fn is_summand(&self, x: &Tensor, summand: &Tensor) -> bool {
        let alike = summand.kind() == x.kind() && summand.device() == x.device();
        alike && summand.size() == [self.channels] && summand.is_contiguous()
    }
}

/// Group norm of x, to whose channels `raised` [channels] is added first where it is there; with SiLU after
/// it where asked for.
pub fn group_norm(x: &Tensor, raised: Option<&Tensor>, affine: &Affine, silu: bool) -> Option<Tensor> {
    if !super::fits(x) {
        return None;
    }
    let map = Map::of(x)?;
    let of_channels = [Some(affine.weight), Some(affine.bias), raised];
    if map.channels % affine.groups != 0 || of_channels.iter().flatten().any(|t| !map.is_summand(x, t)) {
        return None;
    }
    let case = Case { x, map, raised, affine, silu };
    case.at_once().or_else(|| case.in_three())
}

/// A group norm whose arguments were checked.
struct Case<'a> {
    x: &'a Tensor,
    map: Map,
    raised: Option<&'a Tensor>,
    affine: &'a Affine<'a>,
    silu: bool,
}

impl Case<'_> {
    /// Small maps stay on the multiprocessors between being measured and being written.
    fn at_once(&self) -> Option<Tensor> {
        let (Map { pictures, channels, places }, group) = (&self.map, self.map.channels / self.affine.groups);
        // Whole groups and whole vectors.
        let unit = group * VECTOR / common_divisor(group, VECTOR);
        let part = (1..=channels / unit)
            .map(|many| many * unit)
            .find(|part| channels % part == 0 && (part * 2 >= LEAST_ROW || *part == *channels))?;
        let (vectors, parts) = (part / VECTOR, channels / part * pictures);
        if vectors > NORM_THREADS {
            return None;
        }
        let threads_for = |share: i64| {
            let rows = (NORM_THREADS / vectors).min(share).max(1);
            (rows, (rows * vectors + 31) / 32 * 32)
        };
        // The map's part, a number for each channel and row of threads, and four lists of groups.
        let bytes = |share: i64| share * part * 2 + (threads_for(share).0 * part + 4 * (part / group)) * 4;
        let share = |cluster: i64| (places + cluster - 1) / cluster;
        let enough = |cluster: i64| parts * cluster >= KEEPING_BLOCKS || share(cluster) < 2 * LEAST_PLACES;
        let keeps = |cluster: i64| bytes(share(cluster)) <= MOST_KEPT;
        let mut able = CLUSTERS.iter().filter(|(cluster, _)| keeps(*cluster));
        let (cluster, name) = able.clone().find(|(cluster, _)| enough(*cluster)).or(able.next_back())?;
        let ready = Ready::find(self.x, Source::GroupNorm, name)?;
        let out = self.x.empty_like();
        let tensors = [Some(self.x), self.raised, Some(self.affine.weight), Some(self.affine.bias), Some(&out)];
        let sizes = [*places, *channels, part, group, threads_for(share(*cluster)).0].map(|size| Int(size as i32));
        let last = [Float(self.affine.eps as f32), Int(i32::from(self.silu))];
        let arguments: Vec<Argument> = tensors.map(Data).into_iter().chain(sizes).chain(last).collect();
        let grid = [channels / part * cluster, *pictures, 1];
        let (_, threads) = threads_for(share(*cluster));
        // SAFETY: x and what is written have their channels last and are of the size said; all lists have a
        // number for each channel; shared memory is as large as the kernel shares it out.
        unsafe { ready.launch(grid, threads, bytes(share(*cluster)), &arguments) }?;
        Some(out)
    }

    /// Large maps are measured, and read again to be written.
    fn in_three(&self) -> Option<Tensor> {
        let (x, Map { pictures, channels, places }) = (self.x, &self.map);
        let (groups, vectors) = (self.affine.groups, channels / VECTOR);
        if vectors > NORM_THREADS {
            return None;
        }
        let per_share = (places * pictures / MOMENT_BLOCKS).max(LEAST_PLACES);
        let shares = (places + per_share - 1) / per_share;
        let float = (Kind::Float, x.device());
        let partial = Tensor::empty([*pictures, shares, groups, 2], float);
        let tensors = [Some(x), self.raised, Some(&partial)].map(Data);
        let sizes = [*channels, groups, per_share].map(|size| Int(size as i32));
        let arguments: Vec<Argument> = tensors.into_iter().chain([Long(*places)]).chain(sizes).collect();
        let threads = vectors * (NORM_THREADS / vectors);
        let find = |name| Ready::find(x, Source::Pictures, name);
        // SAFETY: x has its channels last, of the size said; `partial` has a place for each block.
        unsafe { find("group_moments")?.launch([shares, *pictures, 1], threads, channels * 3 * 4, &arguments) }?;

        let affine = Tensor::empty([*pictures, *channels, 2], float);
        let tensors =
            [Some(&partial), self.raised, Some(self.affine.weight), Some(self.affine.bias), Some(&affine)].map(Data);
        let sizes = [*channels, groups, shares, per_share].map(|size| Int(size as i32));
        let eps = [Float(self.affine.eps as f32)];
        let arguments: Vec<Argument> = tensors.into_iter().chain([Long(*places)]).chain(sizes).chain(eps).collect();
        // SAFETY: as above; a warp takes a group at a time.
        unsafe { find("group_affine")?.launch([*pictures, 1, 1], groups.min(32) * 32, 0, &arguments) }?;

        let out = x.empty_like();
        let count = pictures * places * vectors;
        let tensors = [x, &affine, &out].map(|tensor| Data(Some(tensor)));
        let sizes = [Long(*places), Int(*channels as i32), Long(count), Int(i32::from(self.silu))];
        let arguments: Vec<Argument> = tensors.into_iter().chain(sizes).collect();
        // SAFETY: as above; `out` is laid out like x.
        unsafe { find("apply_affine")?.launch([blocks(count), 1, 1], THREADS, 0, &arguments) }?;
        Some(out)
    }
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// x + map + raised, where `raised` [channels] is one number for each channel.
pub fn add_raised(x: &Tensor, map: &Tensor, raised: &Tensor) -> Option<Tensor> {
    let ready = Ready::find(x, Source::Pictures, "add_raised")?;
    let size = Map::of(x)?;
    if map.kind() != x.kind() || map.size() != x.size() || map.stride() != x.stride() || !size.is_summand(x, raised) {
        return None;
    }
    let out = x.empty_like();
    let vectors = size.channels / VECTOR;
    let count = size.pictures * size.places * vectors;
    let tensors = [x, map, raised, &out].map(|tensor| Data(Some(tensor)));
    let arguments: Vec<Argument> = tensors.into_iter().chain([Int(vectors as i32), Long(count)]).collect();
    // SAFETY: both maps and the sum have their channels last and one size; there is a summand for each channel.
    unsafe { ready.launch([blocks(count), 1, 1], THREADS, 0, &arguments) }?;
    Some(out)
}
