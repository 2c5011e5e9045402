//! The axis `generator`.

use super::{Axis, COMMON, Reach};

pub static AXIS: Axis = Axis {
    key: "generator",
    heading: "Generator",
    help: "the model that draws",
    example: r#"["sd-v1-5", "sd3-medium"]"#,
    required: true,
    always_a_column: true,
    reach: Reach::Model,
    ..COMMON
};
