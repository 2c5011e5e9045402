//! Schedulers against diffusers (`tests/reference/schedulers.py`).

use serde::Deserialize;
use tch::{Kind, Tensor};
use toolkit::error::UsageError;
use toolkit::schedulers::{FlowMatchEuler, FlowMatchEulerConfig};

#[derive(Deserialize)]
struct Row {
    name: String,
    config: serde_json::Value,
    steps: usize,
    tokens: i64,
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
    start: Vec<f32>,
    end: Vec<f32>,
}

/// Sigmas are the same float32 numbers but for the last bit of a power or an exponential.
fn close(a: &[f32], b: &[f32], relative: f32) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(x, y)| (x - y).abs() <= relative * y.abs().max(1e-3))
}

#[test]
fn flow_match_euler_as_diffusers() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/schedulers/flow_match_euler.json");
    let rows: Vec<Row> = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert!(rows.len() > 30);
    for row in rows {
        let label = format!("{} with {} steps", row.name, row.steps);
        let config: FlowMatchEulerConfig = serde_json::from_value(row.config).unwrap();
        let schedule = FlowMatchEuler::new(config).unwrap().schedule(row.steps, row.tokens).unwrap();
        assert!(close(&schedule.sigmas, &row.sigmas, 3e-7), "{label}: {:?} {:?}", schedule.sigmas, row.sigmas);
        assert!(close(&schedule.timesteps, &row.timesteps, 3e-7), "{label}");
        let mut sample = Tensor::from_slice(&row.start);
        for (i, t) in schedule.timesteps.iter().enumerate() {
            let velocity = (&sample * 3.0 + i as f64).sin() + 0.1 * f64::from(*t) / 1000.0;
            sample = schedule.step(i, &sample, &velocity);
        }
        // Errors of the last bit, added up over at most 50 steps.
        assert!(close(&Vec::<f32>::try_from(&sample).unwrap(), &row.end, 1e-5), "{label}");
    }
}

#[test]
fn the_step_keeps_the_number_type() {
    let schedule = FlowMatchEuler::new(FlowMatchEulerConfig::default()).unwrap().schedule(4, 0).unwrap();
    let latents = Tensor::ones([2, 3], (Kind::BFloat16, tch::Device::Cpu));
    assert_eq!(schedule.step(0, &latents, &latents).kind(), Kind::BFloat16);
}

#[test]
fn options_that_are_not_built_are_wrong_configuration() {
    for option in ["invert_sigmas", "use_beta_sigmas", "stochastic_sampling", "some_new_option"] {
        let config: FlowMatchEulerConfig = serde_json::from_value(serde_json::json!({ option: true })).unwrap();
        let error = FlowMatchEuler::new(config).unwrap_err();
        assert!(error.downcast_ref::<UsageError>().is_some());
        assert!(error.to_string().contains(option), "{error}");
    }
    let other = serde_json::json!({"_class_name": "PNDMScheduler"});
    assert!(FlowMatchEuler::new(serde_json::from_value(other).unwrap()).is_err());
    assert!(FlowMatchEuler::new(FlowMatchEulerConfig::default()).unwrap().schedule(0, 0).is_err());
}

#[test]
fn strength_takes_the_last_steps() {
    let schedule = FlowMatchEuler::new(FlowMatchEulerConfig::default()).unwrap().schedule(10, 0).unwrap();
    assert_eq!(schedule.from_strength(1.0), schedule);
    assert_eq!(schedule.from_strength(0.0).steps(), 0);
    let part = schedule.from_strength(0.35);
    assert_eq!(part.timesteps, schedule.timesteps[6..]);
    assert_eq!(part.sigmas, schedule.sigmas[6..]);
}
