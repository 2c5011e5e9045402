//! The axis `scheduler`.

use super::{Axis, COMMON, Reach};
use crate::schedulers::{SCHEDULERS, SchedulerName};

pub static AXIS: Axis = Axis {
    key: "scheduler",
    heading: "Scheduler",
    help: "the solver of the denoising steps, where the generator knows several; not given: its checkpoint's own",
    example: r#"["pndm", "ddim"]"#,
    names: || SCHEDULERS.iter().map(|entry| entry.name).collect(),
    always_a_column: true,
    read: |_, value| match value.try_into::<SchedulerName>() {
        Ok(name) => Ok(name.name().into()),
        Err(error) => Err(error.message().to_string()),
    },
    // What is read is the name of one; none leaves it to the checkpoint.
    reach: Reach::Batch(|request, value| request.scheduler = value.text().parse().ok()),
    ..COMMON
};
