//! The axis `seed`.

use super::{Axis, COMMON, Form};

pub static AXIS: Axis = Axis {
    key: "seed",
    heading: "Seed",
    prefix: "seed",
    help: "seed of the experiment; each picture's own follows from it and the photo",
    example: "[0, 1]",
    form: Form::Whole,
    required: true,
    always_a_column: true,
    ..COMMON
};
