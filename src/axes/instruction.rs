//! The axis `instruction`.

use super::{Axis, COMMON};

pub static AXIS: Axis = Axis {
    key: "instruction",
    heading: "Instruction",
    help: "what the captioner is asked; not given: its own default",
    example: r#"["Describe the person.", "Describe the background."]"#,
    always_a_column: true,
    ..COMMON
};
