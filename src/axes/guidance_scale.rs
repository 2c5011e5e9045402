//! The axis `guidance_scale`.

use super::{Axis, COMMON, Form, Reach};

pub static AXIS: Axis = Axis {
    key: "guidance_scale",
    heading: "Guidance",
    prefix: "cfg",
    help: "classifier-free guidance; not given: the generator's default",
    example: "[1.0, 7.5]",
    form: Form::Number,
    always_a_column: true,
    check: |value| match value.number() {
        Some(guidance) if !guidance.is_finite() => {
            Err(format!("guidance_scale = {guidance} is not a number to work with"))
        }
        _ => Ok(()),
    },
    reach: Reach::Batch(|request, value| request.guidance_scale = value.number()),
    ..COMMON
};
