//! Schedulers against diffusers (`tests/reference/schedulers.py`).

use std::collections::HashSet;
use std::path::Path;

use clap::ValueEnum;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use toolkit::error::UsageError;
use toolkit::runtime::NoiseGenerator;
use toolkit::schedulers::{
    FlowMatchEuler, FlowMatchEulerConfig, Scheduler, SchedulerName, Solver, SolverOptions, first_step,
    flow_match_first_step,
};

#[derive(Deserialize)]
struct Row {
    name: String,
    config: serde_json::Value,
    steps: usize,
    tokens: i64,
    sigmas: Vec<f32>,
    timesteps: Vec<f64>,
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
        let mut schedule = FlowMatchEuler::new(config).unwrap().schedule(row.steps, row.tokens).unwrap();
        assert!(close(&schedule.sigmas, &row.sigmas, 3e-7), "{label}: {:?} {:?}", schedule.sigmas, row.sigmas);
        let timesteps = |times: &[f64]| times.iter().map(|&time| time as f32).collect::<Vec<_>>();
        assert!(close(&timesteps(&schedule.timesteps), &timesteps(&row.timesteps), 3e-7), "{label}");
        let mut sample = Tensor::from_slice(&row.start);
        for (i, t) in schedule.timesteps.clone().into_iter().enumerate() {
            let velocity = (&sample * 3.0 + i as f64).sin() + 0.1 * t / 1000.0;
            sample = schedule.step(&velocity, i, &sample, &mut no_noise).unwrap();
        }
        // Errors of the last bit, added up over at most 50 steps.
        assert!(close(&Vec::<f32>::try_from(&sample).unwrap(), &row.end, 1e-5), "{label}");
    }
}

#[test]
fn the_step_keeps_the_number_type() {
    let mut schedule = FlowMatchEuler::new(FlowMatchEulerConfig::default()).unwrap().schedule(4, 0).unwrap();
    let latents = Tensor::ones([2, 3], (Kind::BFloat16, tch::Device::Cpu));
    assert_eq!(schedule.step(&latents, 0, &latents, &mut no_noise).unwrap().kind(), Kind::BFloat16);
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

/// Of a broken number of steps flow matching keeps one more than the solvers of noise.
#[test]
fn strength_takes_the_last_steps() {
    for (strength, flow, noise) in [(1.0, 0, 0), (0.0, 10, 10), (0.35, 6, 7), (0.6, 4, 4)] {
        assert_eq!((flow_match_first_step(10, strength), first_step(10, strength)), (flow, noise), "{strength}");
    }
    let schedule = FlowMatchEuler::new(FlowMatchEulerConfig::default()).unwrap().schedule(10, 0).unwrap();
    let ones = Tensor::ones([2], (Kind::Float, Device::Cpu));
    let noisy = schedule.add_noise(&ones, &(&ones * 3.0), 6);
    let expected = 1.0 + 2.0 * f64::from(schedule.sigmas[6]);
    assert!((noisy.double_value(&[0]) - expected).abs() < 1e-6, "{noisy:?} {expected}");
}

/// For solvers that add none.
fn no_noise() -> anyhow::Result<Tensor> {
    anyhow::bail!("no noise is asked for")
}

/// One drawing by a solver over a noise schedule.
#[derive(Deserialize)]
struct Drawing {
    name: String,
    solver: SchedulerName,
    config: serde_json::Value,
    steps: usize,
    strength: f64,
    #[serde(default)]
    eta: f64,
    start: usize,
    timesteps: Vec<f64>,
    init_noise_sigma: f64,
    first: Vec<f32>,
    end: Vec<f32>,
}

/// The largest difference, as a share of the largest number.
fn difference(a: &Tensor, b: &[f32]) -> f64 {
    let b = Tensor::from_slice(b);
    ((a.flatten(0, -1) - &b).abs().max() / b.abs().max()).double_value(&[])
}

fn denoiser(sample: &Tensor, t: f64, i: usize) -> Tensor {
    (sample * 0.7 + t / 900.0).tanh() * 0.6 + (sample + i as f64).cos() * 0.3
}

/// Every solver × steps × strengths × options. Tables are diffusers' to the last bit; the numbers of
/// one step are float64 here and float32 there, which adds up to some last bits over 50 steps.
#[test]
fn solvers_as_diffusers() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/schedulers");
    let read =
        |file: &str| -> Vec<Drawing> { serde_json::from_slice(&std::fs::read(golden.join(file)).unwrap()).unwrap() };
    let rows: Vec<Drawing> = [read("solvers.json"), read("noisy_ddim.json")].into_iter().flatten().collect();
    let mut worst = (0.0, String::new());
    for row in &rows {
        let label =
            format!("{} {} with {} steps, strength {}, eta {}", row.solver, row.name, row.steps, row.strength, row.eta);
        let scheduler = Scheduler::new(&row.config, Some(row.solver)).unwrap();
        assert_eq!(scheduler.name(), row.solver);
        let options = SolverOptions::default().with("eta", row.eta);
        let mut solver =
            scheduler.schedule_with(row.steps, &options).unwrap_or_else(|error| panic!("{label}: {error:#}"));
        assert_eq!(solver.timesteps().len(), row.timesteps.len(), "{label}");
        let same = solver.timesteps().iter().zip(&row.timesteps).all(|(a, b)| (a - b).abs() <= 1e-6 * b.abs().max(1.0));
        assert!(same, "{label}: {:?} {:?}", solver.timesteps(), row.timesteps);
        let sigma = solver.init_noise_sigma();
        assert!((sigma - row.init_noise_sigma).abs() <= 1e-6 * sigma, "{label}: {sigma}");
        assert_eq!(first_step(row.steps, row.strength), row.start, "{label}");
        let first = row.start * solver.order();

        let mut generator = NoiseGenerator::new(row.steps as u64).unwrap();
        let mut draw = || generator.normal(&[2, 4, 3], Kind::Float);
        let noise = draw().unwrap();
        let mut sample = if row.strength == 1.0 {
            noise * sigma
        } else {
            solver.skip(first);
            let original = Tensor::linspace(-1.5, 1.5, 24, (Kind::Float, Device::Cpu)).view([2, 4, 3]);
            solver.add_noise(&original, &noise, first)
        };
        assert!(difference(&sample, &row.first) < 1e-6, "{label}: the start");
        for index in first..solver.timesteps().len() {
            let input = solver.scale_model_input(&sample, index);
            let output = denoiser(&input, solver.timesteps()[index], index - first);
            sample = solver.step(&output, index, &sample, &mut draw).unwrap();
        }
        let error = difference(&sample, &row.end);
        // Without any picture left at the start, Euler's sample begins thousands of times larger than it
        // ends: what float32 loses there is lost in diffusers, too.
        let allowed = if sigma > 100.0 { 1e-4 } else { 1e-5 };
        assert!(error < allowed, "{label}: {error:.1e}");
        if error > worst.0 && sigma < 100.0 {
            worst = (error, label);
        }
    }
    println!("{} drawings, largest difference {:.1e}: {}", rows.len(), worst.0, worst.1);
    let solvers: HashSet<_> = rows.iter().map(|row| row.solver).collect();
    assert_eq!(solvers.len(), SchedulerName::value_variants().len(), "every solver has golden values");
}

#[test]
fn configurations_of_solvers_are_read_as_diffusers_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scheduler_config.json");
    let read = |text: &str, name| {
        std::fs::write(&file, text).unwrap();
        Scheduler::from_config(&file, name)
    };
    let pndm = r#"{"_class_name": "PNDMScheduler", "skip_prk_steps": true, "steps_offset": 0, "trained_betas": null}"#;
    let scheduler = read(pndm, None).unwrap();
    assert_eq!(scheduler.name(), "pndm".parse().unwrap());
    // An outdated offset is taken for 1, as the pipelines do; another solver has its own default.
    assert_eq!(scheduler.schedule(4).unwrap().timesteps(), [751.0, 501.0, 501.0, 251.0, 1.0]);
    assert_eq!(read(pndm, Some("ddim".parse().unwrap())).unwrap().schedule(2).unwrap().timesteps(), [501.0, 1.0]);
    let absent = r#"{"_class_name": "PNDMScheduler", "timestep_spacing": "leading"}"#;
    assert_eq!(read(absent, Some("euler".parse().unwrap())).unwrap().schedule(2).unwrap().timesteps(), [500.0, 0.0]);
    // What Python writes for an infinite number.
    let infinite = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity}"#;
    assert_eq!(read(infinite, None).unwrap().schedule(3).unwrap().timesteps(), [999.0, 666.0, 333.0]);
    for (text, expected) in [
        (r#"{"_class_name": "UniPCMultistepScheduler"}"#, "DPMSolverMultistepScheduler"),
        (r#"{"beta_start": 0.1}"#, "no _class_name"),
        (r#"{"_class_name": "PNDMScheduler", "beta_schedule": "sigmoid"}"#, "scaled_linear"),
        (r#"{"_class_name": "PNDMScheduler", "prediction_type": "sample"}"#, "prediction_type"),
        (r#"{"_class_name": "DDIMScheduler", "thresholding": true}"#, "option thresholding"),
        (r#"{"_class_name": "EulerDiscreteScheduler", "use_beta_sigmas": true}"#, "option use_beta_sigmas"),
        (r#"{"_class_name": "EulerAncestralDiscreteScheduler", "prediction_type": "sample"}"#, "prediction_type"),
        (r#"{"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver++"}"#, "algorithm_type"),
        (r#"{"_class_name": "HeunDiscreteScheduler", "use_beta_sigmas": true}"#, "option use_beta_sigmas"),
        (r#"{"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}"#, "solver_order"),
        (r#"{"_class_name": "DDIMScheduler", "num_train_timesteps": 0}"#, "num_train_timesteps"),
    ] {
        let error = read(text, None).unwrap_err();
        assert!(error.chain().any(|cause| cause.is::<UsageError>()), "{error:#}");
        let line = format!("{error:#}");
        assert!(line.contains(expected) && line.contains("scheduler_config.json"), "{line}");
    }
    assert!(read("no JSON", None).is_err());
}

/// DDIM alone takes eta, and only what is a share of its noise.
#[test]
fn an_option_is_refused_where_it_would_do_nothing() {
    let config = serde_json::json!({"_class_name": "DDIMScheduler"});
    let eta = |eta| SolverOptions::default().with("eta", eta);
    for &name in SchedulerName::value_variants() {
        let scheduler = Scheduler::new(&config, Some(name)).unwrap();
        assert!(scheduler.schedule_with(5, &eta(0.0)).is_ok(), "{name}");
        let error = scheduler.schedule_with(5, &eta(0.5)).err().map(|error| error.to_string());
        let refused = format!("scheduler {name} takes no eta (it is 0.5): leave it out, or choose scheduler ddim");
        assert_eq!(error, (name.name() != "ddim").then_some(refused));
        for wrong in [-0.1, 1.1, f64::NAN] {
            let error = scheduler.schedule_with(5, &eta(wrong)).err().unwrap();
            assert!(error.downcast_ref::<UsageError>().is_some(), "{error:#}");
        }
    }
}

#[test]
fn solvers_refuse_what_cannot_be_drawn_and_keep_the_number_type() {
    let config = serde_json::json!({"_class_name": "PNDMScheduler"});
    for &name in SchedulerName::value_variants() {
        let scheduler = Scheduler::new(&config, Some(name)).unwrap();
        for steps in [0, 1001] {
            assert!(scheduler.schedule(steps).is_err(), "{name}");
        }
        let mut solver = scheduler.schedule(5).unwrap();
        let latents = Tensor::ones([2, 3], (Kind::BFloat16, Device::Cpu));
        let next = solver.step(&latents, 0, &latents, &mut || Ok(latents.shallow_clone())).unwrap();
        assert_eq!(next.kind(), Kind::BFloat16, "{name}");
        assert_eq!(solver.scale_model_input(&latents, 0).kind(), Kind::BFloat16, "{name}");
        assert_eq!(solver.add_noise(&latents, &latents, 0).kind(), Kind::BFloat16, "{name}");
    }
    // Runge-Kutta steps at the start need four times.
    assert!(Scheduler::new(&config, None).unwrap().schedule(3).is_err());
}

/// Files, the command line and classes find each row of the table, and a wrong name is told the right ones.
#[test]
fn names_stand_for_one_row_each() {
    for &name in SchedulerName::value_variants() {
        assert_eq!(name.name().parse::<SchedulerName>().unwrap(), name);
        let json = serde_json::to_string(&name).unwrap();
        assert_eq!(json, format!("\"{name}\""));
        assert_eq!(serde_json::from_str::<SchedulerName>(&json).unwrap(), name);
        let class = serde_json::json!({"_class_name": name.entry().class});
        assert_eq!(Scheduler::new(&class, None).unwrap().name(), name);
    }
    let error = "eular".parse::<SchedulerName>().unwrap_err();
    assert!(error.is::<UsageError>() && error.to_string().contains("euler"), "{error}");
    let error = serde_json::from_str::<SchedulerName>("\"eular\"").unwrap_err().to_string();
    assert!(error.contains("unknown variant `eular`, expected one of `pndm`, `ddim`"), "{error}");
}
