//! The axis `style_text`.

use super::{Axis, COMMON};

pub static AXIS: Axis = Axis {
    key: "style_text",
    heading: "Style text",
    help: "text that names the style; always kept whole in the prompt",
    example: r#"["Peanuts comic style", "in ink"]"#,
    required: true,
    always_named: true,
    always_a_column: true,
    ..COMMON
};
