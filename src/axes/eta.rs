//! The axis `eta`: how much noise DDIM adds at each step (η of Song et al. 2021, <https://arxiv.org/abs/2010.02502>).

use super::{Axis, COMMON, Form, Reach};

pub static AXIS: Axis = Axis {
    key: "eta",
    heading: "Eta",
    prefix: "eta",
    help: "noise that scheduler ddim adds at each step, 0 (none) to 1; not given: 0",
    example: "[0.0, 0.5, 1.0]",
    form: Form::Number,
    check: |value| match value.number() {
        Some(eta) if !(0.0..=1.0).contains(&eta) => Err(format!("eta = {eta} is not between 0 and 1")),
        _ => Ok(()),
    },
    reach: Reach::Batch(|request, value| {
        if let Some(eta) = value.number() {
            request.solver_options.set("eta", eta);
        }
    }),
    ..COMMON
};
