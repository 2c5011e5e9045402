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
/// Of one that others run beside on a multiprocessor, so that some read while others write.
const SHARING_THREADS: i64 = 256;
/// Blocks that keep a batch of maps, where that many can: as many as a GPU has multiprocessors, nearly.
const KEEPING_BLOCKS: i64 = 128;
/// Blocks that keep a part of a map together: their number is in the name of the kernel.
const CLUSTERS: [(i64, &str); 4] = [(1, "group_norm_1"), (2, "group_norm_2"), (4, "group_norm_4"), (8, "group_norm_8")];
/// Shared memory of a block that leaves room for three more on a multiprocessor.
const QUARTER_KEPT: i64 = 56 << 10;
/// Shared memory of a block that leaves room for another one.
const HALF_KEPT: i64 = 100 << 10;
/// Places of a map that a block should have at least.
const LEAST_PLACES: i64 = 16;
/// Bytes of a map's row that are worth fetching from memory by themselves.
const LEAST_ROW: i64 = 64;
/// Bytes that memory is read and written by.
const SECTOR: i64 = 32;
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
        let Map { pictures, channels, places } = self.map;
        let Keeping { part, cluster, name, rows, threads, bytes } = Keeping::of(&self.map, self.affine.groups)?;
        let ready = Ready::find(self.x, Source::GroupNorm, name)?;
        let out = self.x.empty_like();
        let tensors = [Some(self.x), self.deferred_bias, Some(self.affine.weight), Some(self.affine.bias), Some(&out)];
        let sizes = [places, channels, part, channels / self.affine.groups, rows].map(|size| Int(size as i32));
        let last = [Float(self.affine.eps as f32), Int(i32::from(self.silu))];
        let arguments: Vec<Argument> = tensors.map(Data).into_iter().chain(sizes).chain(last).collect();
        let grid = [channels / part * cluster, pictures, 1];
        // SAFETY: x and what is written have their channels last and are of the size said; all lists have a
        // number for each channel; shared memory is as large as the kernel shares it out. Ahead of its turn it reads
        // weight and bias.
        unsafe { ready.launch_dependent(grid, threads, bytes, &arguments) }?;
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

/// How blocks share maps that they keep.
struct Keeping {
    /// Channels of a block: whole groups and whole vectors.
    part: i64,
    /// Blocks that share the places of a part, and the kernel for so many.
    cluster: i64,
    name: &'static str,
    /// Places that a block takes in hand at once.
    rows: i64,
    threads: i64,
    /// Shared memory of a block.
    bytes: i64,
}

impl Keeping {
    /// None where the maps are too large, or the groups not of eight channels or more, or of four.
    fn of(map: &Map, groups: i64) -> Option<Self> {
        let (channels, group) = (map.channels, map.channels / groups);
        if group < VECTOR && group != VECTOR / 2 {
            return None;
        }
        let unit = group * VECTOR / gcd(group, VECTOR);
        let parts = || {
            let is_row = |part: &i64| channels % part == 0 && (part * 2 >= LEAST_ROW || *part == channels);
            (1..=channels / unit).map(|many| many * unit).filter(is_row)
        };
        // Rows of whole sectors, where there are blocks enough nevertheless.
        let most = CLUSTERS[CLUSTERS.len() - 1];
        let is_aligned = |part: &i64| {
            let blocks = channels / part * map.pictures * most.0;
            part * 2 % SECTOR == 0
                && blocks >= 4 * KEEPING_BLOCKS
                && Self::new(map, group, *part, most, NORM_THREADS).bytes <= HALF_KEPT
        };
        let part = parts().find(is_aligned).or_else(|| parts().next())?;
        if part / VECTOR > SHARING_THREADS {
            return None;
        }
        let able = CLUSTERS.map(|cluster| Self::sized(map, group, part, cluster));
        let mut able: Vec<Self> = able.into_iter().filter(|keeping| keeping.bytes <= MOST_KEPT).collect();
        let at = able.iter().position(|keeping| keeping.is_enough(map)).or(able.len().checked_sub(1))?;
        Some(able.swap_remove(at))
    }

    /// With threads that suit the number of blocks.
    fn sized(map: &Map, group: i64, part: i64, cluster: (i64, &'static str)) -> Self {
        let small = Self::new(map, group, part, cluster, SHARING_THREADS);
        let has_company = small.blocks(map) > 2 * KEEPING_BLOCKS && small.bytes <= QUARTER_KEPT;
        if has_company { small } else { Self::new(map, group, part, cluster, NORM_THREADS) }
    }

    fn new(map: &Map, group: i64, part: i64, (cluster, name): (i64, &'static str), most_threads: i64) -> Self {
        let (vectors, share) = (part / VECTOR, (map.places + cluster - 1) / cluster);
        let rows = (most_threads / vectors).min(share).max(1);
        // The map's part, four sums of each thread, and two of each block and group.
        let bytes = share * part * 2 + rows * vectors * 16 + cluster * (part / group) * 8;
        Self { part, cluster, name, rows, threads: (rows * vectors + 31) / 32 * 32, bytes }
    }

    fn blocks(&self, map: &Map) -> i64 {
        map.channels / self.part * self.cluster * map.pictures
    }

    /// Whether more blocks would gain nothing.
    fn is_enough(&self, map: &Map) -> bool {
        let has_one_each = (map.places + self.cluster - 1) / self.cluster <= self.rows;
        self.bytes <= QUARTER_KEPT && (self.blocks(map) >= KEEPING_BLOCKS || has_one_each)
    }
}

/// The greatest common divisor.
fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
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
    // SAFETY: the maps and the sum have their channels last and one size; there is a summand for each channel. Ahead of its
    // turn it reads nothing.
    unsafe { ready.launch_dependent([blocks(count), 1, 1], THREADS, 0, &arguments) }
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
    // SAFETY: both have their channels last; out has four places for each of x. Ahead of its turn it reads nothing.
    unsafe { ready.launch_dependent([blocks(count), 1, 1], THREADS, 0, &arguments) }?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks have whole groups and whole vectors, fit on a multiprocessor, and take all of a map between them.
    #[test]
    fn blocks_share_maps_whole() {
        for (pictures, channels, side) in [
            (2, 320, 64),
            (16, 320, 64),
            (16, 960, 64),
            (2, 640, 32),
            (16, 1920, 32),
            (2, 1280, 16),
            (2, 2560, 8),
            (32, 2560, 8),
            (1, 128, 64),
            (1, 512, 128),
        ] {
            let (map, group) = (Map { pictures, channels, places: side * side }, channels / 32);
            let own = Keeping::of(&map, 32).unwrap();
            let vectors = own.part / VECTOR;
            assert!(own.part % group == 0 && own.part % VECTOR == 0 && channels % own.part == 0, "{channels}");
            assert!(own.bytes <= MOST_KEPT && own.threads <= NORM_THREADS && own.threads % 32 == 0);
            assert!((1..=own.threads).contains(&(own.rows * vectors)));
            assert_eq!(own.name, format!("group_norm_{}", own.cluster));
            // A block for nearly each multiprocessor, or a place for each thread.
            assert!(own.is_enough(&map) || own.cluster == 8, "{pictures} x {channels}, {side}");
        }
        let of = |channels, groups, places| Keeping::of(&Map { pictures: 2, channels, places }, groups);
        assert!(of(24, 8, 64).is_none() && of(48, 8, 64).is_none(), "eight channels of three groups");
        assert!(of(256, 32, 512 * 512).is_none(), "too large");
    }
}
