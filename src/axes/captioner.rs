//! The axis `captioner`.

use super::{Axis, COMMON};

pub static AXIS: Axis = Axis {
    key: "captioner",
    heading: "Captioner",
    help: "the model that describes the photos",
    example: r#"["blip-base", "phi-4-multimodal"]"#,
    required: true,
    always_a_column: true,
    ..COMMON
};
