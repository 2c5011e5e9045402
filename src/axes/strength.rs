//! The axis `strength`: how far a picture leaves its photo.
//!
//! ```toml
//! strength = ["none", 0.4, 0.8]     # strategies …__t2i, …__i2i0.4 and …__i2i0.8
//! strength = { text_only = "none", half = 0.5 }
//! ```
//! `"none"` is text-to-image: the photo reaches the picture through its description alone. A number is image-to-image:
//! drawing starts from the photo with this share of the noise.

use super::{Axis, AxisValue, COMMON, Form, NONE, Reach};

pub static AXIS: Axis = Axis {
    key: "strength",
    heading: "Drawn from",
    help: "how far image-to-image leaves the photo, above 0 and up to 1, or \"none\" for text-to-image",
    example: r#"["none", 0.4, 0.8]"#,
    form: Form::Number,
    names: || vec![NONE],
    always_a_column: true,
    read: |_, value| read(&value),
    // Ways that differ should not look alike.
    name: |value| value.number().map_or("t2i".to_string(), |strength| format!("i2i{strength}")),
    show: |value| value.number().map_or("text".to_string(), |strength| format!("photo, strength {strength}")),
    reach: Reach::Batch(|request, value| request.strength = value.number()),
    ..COMMON
};

fn read(value: &toml::Value) -> Result<AxisValue, String> {
    let number = match value {
        toml::Value::Float(number) => *number,
        toml::Value::Integer(number) => *number as f64,
        toml::Value::String(word) if word == NONE => return Ok(AxisValue::None),
        toml::Value::String(word) => {
            let near = crate::error::nearest(word, [NONE]);
            return Err(format!(
                "strength = {word:?} is not known{near} (a number above 0 and up to 1, or \"none\" for text-to-image)"
            ));
        }
        other => {
            return Err(format!(
                "invalid type: {}, expected a strength above 0 and up to 1, or \"none\" for text-to-image",
                other.type_str()
            ));
        }
    };
    if number > 0.0 && number <= 1.0 {
        return Ok(AxisValue::Number(number));
    }
    Err(format!("strength = {number} is not above 0 and up to 1 (text-to-image, without the photo, is \"none\")"))
}
