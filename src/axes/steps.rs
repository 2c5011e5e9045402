//! The axis `steps`.

use super::{Axis, AxisValue, COMMON, Form, Reach};

pub static AXIS: Axis = Axis {
    key: "steps",
    heading: "Steps",
    prefix: "steps",
    help: "denoising steps; not given: the generator's default",
    example: "[10, 50]",
    form: Form::Whole,
    always_a_column: true,
    check: |value| match value {
        AxisValue::Whole(0) => Err("steps must be at least 1".to_string()),
        _ => Ok(()),
    },
    reach: Reach::Batch(|request, value| request.steps = value.whole().map(|steps| steps as usize)),
    ..COMMON
};
