//! Norms and sums of feature maps [batch, channels, height, width] with the channels last in memory.

use tch::{Kind, Tensor};

use super::launch::Ready;
use super::source::{MOST_KEPT, Source};
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
/// Warps of a block that puts together what was measured.
const AFFINE_WARPS: i64 = 4;
/// Places of a map that a thread writes, so that it reads its channels' numbers once for them.
const PLACES_OF_THREAD: i64 = 8;
/// Places of a map that are counted in 32 bits.
const MOST_PLACES: i64 = 1 << 30;

/// A group norm's own numbers.
pub struct Affine<'a> {
    /// `[channels]` each
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

/// Group norm of x, to whose channels `deferred_bias` `[channels]` is added first where it is there; with SiLU after
/// it where asked for.
pub fn group_norm(x: &Tensor, deferred_bias: Option<&Tensor>, affine: &Affine, silu: bool) -> Option<Tensor> {
    if !super::fits(x) {
        return None;
    }
    let map = Map::of(x)?;
    let of_channels = [Some(affine.weight), Some(affine.bias), deferred_bias];
    if map.channels % affine.groups != 0 || of_channels.iter().flatten().any(|t| !map.is_summand(x, t)) {
        return None;
    }
    let case = Case { x, map, deferred_bias, affine, silu };
    case.at_once().or_else(|| case.in_three())
}

/// A group norm whose arguments were checked.
struct Case<'a> {
    x: &'a Tensor,
    map: Map,
    deferred_bias: Option<&'a Tensor>,
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
        // The map's part, two numbers for each channel and row of threads, one for each channel, and four lists of
        // groups.
        let numbers = |share: i64| (2 * threads_for(share).0 + 1) * part + 4 * (part / group);
        let bytes = |share: i64| share * part * 2 + numbers(share) * 4;
        let share = |cluster: i64| (places + cluster - 1) / cluster;
        let enough = |cluster: i64| parts * cluster >= KEEPING_BLOCKS || share(cluster) < 2 * LEAST_PLACES;
        let keeps = |cluster: i64| bytes(share(cluster)) <= MOST_KEPT;
        let mut able = CLUSTERS.iter().filter(|(cluster, _)| keeps(*cluster));
        let (cluster, name) = able.clone().find(|(cluster, _)| enough(*cluster)).or(able.next_back())?;
        let ready = Ready::find(self.x, Source::GroupNorm, name)?;
        let out = self.x.empty_like();
        let tensors = [Some(self.x), self.deferred_bias, Some(self.affine.weight), Some(self.affine.bias), Some(&out)];
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
        if vectors > NORM_THREADS || *places > MOST_PLACES {
            return None;
        }
        let int = |number: i64| Int(number as i32);
        let find = |name| Ready::find(x, Source::Pictures, name);
        let per_share = (places * pictures / MOMENT_BLOCKS).max(LEAST_PLACES);
        let shares = (places + per_share - 1) / per_share;
        let float = (Kind::Float, x.device());
        let partial = Tensor::empty([*pictures, shares, groups, 2], float);
        let sizes = || [int(*places), int(*channels), int(groups)];
        let tensors = [Some(x), self.deferred_bias, Some(&partial)].map(Data);
        let arguments: Vec<Argument> = tensors.into_iter().chain(sizes()).chain([int(per_share)]).collect();
        let rows = NORM_THREADS / vectors;
        // Two numbers for each channel and row of threads, and one for each channel.
        let bytes = (2 * rows + 1) * channels * 4;
        // SAFETY: x has its channels last, of the size said; `partial` has a place for each block.
        unsafe { find("group_moments")?.launch([shares, *pictures, 1], rows * vectors, bytes, &arguments) }?;

        let affine = Tensor::empty([*pictures, 2, *channels], float);
        let of_channels = [self.deferred_bias, Some(self.affine.weight), Some(self.affine.bias)];
        let tensors = std::iter::once(Some(&partial)).chain(of_channels).chain([Some(&affine)]).map(Data);
        let last = [int(shares), int(per_share), Float(self.affine.eps as f32)];
        let arguments: Vec<Argument> = tensors.chain(sizes()).chain(last).collect();
        let grid = [*pictures, (groups + AFFINE_WARPS - 1) / AFFINE_WARPS, 1];
        // SAFETY: as above; a warp takes a group.
        unsafe { find("group_affine")?.launch(grid, AFFINE_WARPS * 32, 0, &arguments) }?;

        let out = x.empty_like();
        let rows = (THREADS / vectors).max(1);
        let per_share = rows * PLACES_OF_THREAD;
        let tensors = [x, &affine, &out].map(|tensor| Data(Some(tensor)));
        let numbers = [int(*places), int(*channels), int(per_share), Int(i32::from(self.silu))];
        let arguments: Vec<Argument> = tensors.into_iter().chain(numbers).collect();
        let grid = [(places + per_share - 1) / per_share, *pictures, 1];
        // SAFETY: as above; `out` is laid out like x.
        unsafe { find("apply_affine")?.launch(grid, rows * vectors, 0, &arguments) }?;
        Some(out)
    }
}

fn common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// x + map + deferred_bias, where `deferred_bias` `[channels]` is one number for each channel.
pub fn add_deferred_bias(x: &Tensor, map: &Tensor, deferred_bias: &Tensor) -> Option<Tensor> {
    let alike = map.kind() == x.kind() && map.device() == x.device();
    let alike = alike && map.size() == x.size() && map.stride() == x.stride();
    let out = alike.then(|| x.empty_like())?;
    sum(Some(x), map, deferred_bias, &out).map(|()| out)
}

/// Adds `deferred_bias` `[channels]` to each place of the map, where it stands.
pub fn add_channel_bias(map: &Tensor, deferred_bias: &Tensor) -> Option<()> {
    sum(None, map, deferred_bias, map)
}

fn sum(x: Option<&Tensor>, map: &Tensor, deferred_bias: &Tensor, out: &Tensor) -> Option<()> {
    let ready = Ready::find(map, Source::Pictures, "add_deferred_bias")?;
    let size = Map::of(map)?;
    if !size.is_summand(map, deferred_bias) {
        return None;
    }
    let vectors = size.channels / VECTOR;
    let count = size.pictures * size.places * vectors;
    let tensors = [x, Some(map), Some(deferred_bias), Some(out)].map(Data);
    let arguments: Vec<Argument> = tensors.into_iter().chain([Int(vectors as i32), Long(count)]).collect();
    // SAFETY: the maps and the sum have their channels last and one size; there is a summand for each channel.
    unsafe { ready.launch([blocks(count), 1, 1], THREADS, 0, &arguments) }
}

/// Each place becomes four: twice the height, twice the width.
pub fn upsample_nearest_2x(x: &Tensor) -> Option<Tensor> {
    let ready = Ready::find(x, Source::Pictures, "upsample_nearest_2x")?;
    let Map { pictures, channels, places } = Map::of(x)?;
    let (width, vectors) = (x.size()[3], channels / VECTOR);
    let count = pictures * places * vectors;
    if count > MOST_PLACES {
        return None;
    }
    let size = [pictures, 2 * places / width, 2 * width, channels];
    let out = Tensor::empty(size, (x.kind(), x.device())).permute([0, 3, 1, 2]);
    let sizes = [width, vectors, count].map(|size| Int(size as i32));
    let arguments: Vec<Argument> = [x, &out].map(|tensor| Data(Some(tensor))).into_iter().chain(sizes).collect();
    // SAFETY: both have their channels last; out has four places for each of x.
    unsafe { ready.launch([blocks(count), 1, 1], THREADS, 0, &arguments) }?;
    Some(out)
}
