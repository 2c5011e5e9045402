//! `toolkit worker`: a process of the commands that use several devices, started by them.

use anyhow::{Context, Result, bail};

use super::{caption, evaluate_shared};
use crate::cli::Global;
use crate::error::Outcome;
use crate::experiment;
use crate::experiment::models::OnThisMachine;
use crate::experiment::serve::{Run, TASK};
use crate::runtime::{Background, Runtime};
use crate::workers::Desk;

pub fn run(global: &Global) -> Result<Outcome> {
    // CUDA is loaded while the task comes; what goes wrong is said when it is needed.
    let loading = Runtime::begin(global);
    let mut desk = Desk::open()?;
    let ended = serve(global, loading, &mut desk);
    desk.close(ended)?;
    Ok(Outcome::Done)
}

fn serve(global: &Global, loading: Option<Background>, desk: &mut Desk) -> Result<()> {
    if let Some(look) = desk.task(evaluate_shared::TASK) {
        // Decodes before its device is there.
        return evaluate_shared::serve(look?, global.into(), loading, desk);
    }
    // One thread after the other makes the device its own.
    drop(loading);
    let rt = Runtime::new(global)?;
    desk.is_on(rt.device);
    if let Some(run) = desk.task::<Run>(TASK) {
        let run = run?;
        let kind = experiment::named(&run.kind).context("no such kind")?;
        if run.random_weights {
            let nowhere = tempfile::tempdir()?;
            let models = OnThisMachine::new(rt).with_random_weights(nowhere.path().to_path_buf());
            return kind.serve(&run, &models, desk);
        }
        return kind.serve(&run, &OnThisMachine::new(rt), desk);
    }
    if let Some(task) = desk.task(caption::TASK) {
        return caption::serve(task?, rt, desk);
    }
    bail!("the task of a worker is not known")
}
