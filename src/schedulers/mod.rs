//! Noise schedules and solver steps of diffusion models: pure, no weights.

mod flow_match_euler;

pub use flow_match_euler::{FlowMatchEuler, FlowMatchEulerConfig, Schedule};
