//! Everything that only a GPU can show, in one program that can be carried to a machine with one. Where there is none
//! each test says so.

mod attention;
mod blip;
#[path = "../common/gpu.rs"]
mod common;
mod float8;
mod fused;
mod memory_limit;
mod metric_nets;
mod pictures;
mod skinny_gemm;
mod two_gpus;
