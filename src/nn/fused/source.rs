//! The sources of kernels, and what they are compiled with.

use tch::Kind;

use super::LONGEST_ROW;

/// Outputs of few rows that are computed together.
pub(super) const TILE: i64 = 16;
/// Warps of a block of few rows. They share the inputs.
pub(super) const WARPS: i64 = 8;
/// Bytes of a weight's row that are fetched at once.
const LINE: i64 = 128;
/// Threads of a block that attends with one query.
pub(super) const ATTEND_THREADS: i64 = 128;
/// Shared memory of a block that keeps its part of a map.
pub(super) const MOST_KEPT: i64 = 200 << 10;

/// Groups of four warps of a block that attends in float8, and its tiles of keys and values, with their bytes in shared
/// memory.
pub(super) const ATTEND_GROUPS: i64 = 2;
pub(super) const GROUP_THREADS: i64 = 128;
const ATTEND_STAGES: i64 = 4;
const STAGE_BYTES: i64 = 18 << 10;
/// Bytes of a thread's sums.
const SUM_BYTES: i64 = 36 * 4;

/// Shared memory of a block that attends in float8.
pub(super) fn attend_shared_bytes() -> i64 {
    ATTEND_STAGES * STAGE_BYTES + ATTEND_GROUPS * GROUP_THREADS * SUM_BYTES
}

/// How many fetches of a warp are on the way at once, and one that is used.
fn stages(tiles: i64) -> i64 {
    if tiles == 1 { 4 } else { 3 }
}

/// Shared memory of a block of few rows: for the weight, and for the norm's factors.
pub(super) fn shared_bytes(tiles: i64, factors: i64) -> i64 {
    WARPS * stages(tiles) * tiles * TILE * LINE + (factors * 2 + LINE - 1) / LINE * LINE
}

/// The files of kernels beside this one, with what they are compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Norms,
    /// The same, for chains of kernels that start early.
    ChainedNorms,
    /// Rows quantised to float8.
    Float8,
    /// Attention in float8; width of a head.
    Float8Attention(i64),
    Pictures,
    GroupNorm,
    /// Width of a head, and queries that share a key head.
    Decoding(i64, i64),
    /// Width of a head.
    SingleQueryAttention(i64),
    /// Groups of 16 outputs that a block computes.
    SkinnyGemm(i64),
}

impl Source {
    pub fn text(self) -> &'static str {
        match self {
            Self::Norms | Self::ChainedNorms => {
                concat!(include_str!("numbers.cuh"), include_str!("modulated_norm.cuh"), include_str!("norms.cu"))
            }
            Self::Float8 => {
                concat!(include_str!("numbers.cuh"), include_str!("modulated_norm.cuh"), include_str!("float8.cu"))
            }
            Self::Float8Attention(_) => {
                concat!(
                    include_str!("numbers.cuh"),
                    include_str!("warp_groups.cuh"),
                    include_str!("float8_attention.cu")
                )
            }
            Self::Pictures => {
                concat!(include_str!("numbers.cuh"), include_str!("moments.cuh"), include_str!("pictures.cu"))
            }
            Self::GroupNorm => {
                concat!(include_str!("numbers.cuh"), include_str!("clusters.cuh"), include_str!("group_norm.cu"))
            }
            Self::Decoding(..) => {
                concat!(include_str!("numbers.cuh"), include_str!("tensor_cores.cuh"), include_str!("decoding.cu"))
            }
            Self::SingleQueryAttention(_) => {
                concat!(
                    include_str!("numbers.cuh"),
                    include_str!("clusters.cuh"),
                    include_str!("single_query_attention.cu")
                )
            }
            Self::SkinnyGemm(_) => {
                concat!(include_str!("numbers.cuh"), include_str!("tensor_cores.cuh"), include_str!("skinny_gemm.cu"))
            }
        }
    }

    pub fn options(self, kind: Kind) -> Vec<String> {
        let number = if kind == Kind::BFloat16 { "-DBF16" } else { "-DF16" };
        let mut options = vec!["--std=c++17".to_string(), number.to_string()];
        match self {
            Self::Norms | Self::ChainedNorms | Self::Float8 | Self::Pictures | Self::GroupNorm => {}
            Self::Float8Attention(width) => {
                let head = format!("-DHEAD={width}");
                options.extend([head, format!("-DGROUPS={ATTEND_GROUPS}"), format!("-DSTAGES={ATTEND_STAGES}")])
            }
            Self::Decoding(width, groups) => options.extend([format!("-DWIDTH={width}"), format!("-DGROUPS={groups}")]),
            Self::SingleQueryAttention(width) => {
                options.extend([format!("-DWIDTH={width}"), format!("-DTHREADS={}", ATTEND_THREADS)]);
            }
            Self::SkinnyGemm(tiles) => {
                let stages = stages(tiles);
                options.extend([format!("-DTILES={tiles}"), format!("-DSTAGES={stages}"), format!("-DWARPS={WARPS}")])
            }
        }
        options
    }

    /// Dynamic shared memory of a block at most, for kernels that want as much of it on a
    /// multiprocessor as there is. Where that is the same for all kernels of a chain, one can start
    /// beside the other.
    pub fn shared_bytes(self) -> Option<i64> {
        match self {
            Self::Norms | Self::Float8 | Self::Pictures => None,
            Self::ChainedNorms | Self::Decoding(..) | Self::SingleQueryAttention(_) => Some(0),
            Self::Float8Attention(_) => Some(attend_shared_bytes()),
            Self::GroupNorm => Some(MOST_KEPT),
            Self::SkinnyGemm(tiles) => Some(shared_bytes(tiles, LONGEST_ROW)),
        }
    }
}
