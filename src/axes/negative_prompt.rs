//! The axis `negative_prompt`.

use super::{Axis, AxisValue, COMMON, Reach};

pub static AXIS: Axis = Axis {
    key: "negative_prompt",
    heading: "Negative prompt",
    prefix: "without-",
    help: "what not to draw",
    example: r#"["text", "blurry, photograph"]"#,
    always_a_column: true,
    reach: Reach::Batch(|request, value| match value {
        AxisValue::Text(text) => request.negative_prompt = Some(text.clone()),
        _ => request.negative_prompt = None,
    }),
    ..COMMON
};
