//! The axis `control`: what of a photo steers the drawing, through a ControlNet.
//!
//! ```toml
//! control = ["none", "canny:0.8"]              # strategies …__control-none and …__control-canny-0.8
//! control = { words = "none", lines = "lineart" }
//! controlnet = "models/sd-controlnet-canny"    # or a table: { canny = …, lineart = … }
//! ```
//! A number behind the colon is how much it counts. Without a strength pictures are drawn from text, with one from the photo.

use super::{Axis, AxisValue, COMMON, NONE, Reach};
use crate::models::{ControlMap, ControlRequest, join_weight, show_weight, split_weight};

pub static AXIS: Axis = Axis {
    key: "control",
    heading: "Control",
    prefix: "control-",
    help: "what of the photo steers the drawing through the ControlNet of the key controlnet: canny (edges) or lineart (lines), \
           MAP or MAP:SCALE, or \"none\"",
    example: r#"["none", "canny:0.8"]"#,
    read: |_, value| read(&value),
    name,
    show: name,
    reach: Reach::Batch(|request, value| {
        request.control =
            choice(value).map(|(map, scale)| ControlRequest { map: Some(map), scale, ..ControlRequest::default() });
    }),
    ..COMMON
};

/// What is computed of photos, and how much it counts.
fn choice(value: &AxisValue) -> Option<(ControlMap, f64)> {
    let (map, scale) = split_weight(value.text());
    Some((map.parse().ok()?, scale))
}

/// What a value computes of photos; none for none.
pub fn map(value: &AxisValue) -> Option<ControlMap> {
    choice(value).map(|(map, _)| map)
}

fn name(value: &AxisValue) -> String {
    choice(value).map_or(NONE.to_string(), |(map, scale)| show_weight(map.name(), scale))
}

fn read(value: &toml::Value) -> Result<AxisValue, String> {
    let toml::Value::String(text) = value else {
        let found = value.type_str();
        return Err(format!("invalid type: {found}, expected what steers the drawing (MAP or MAP:SCALE), or \"none\""));
    };
    if text.is_empty() || text == NONE {
        return Ok(AxisValue::None);
    }
    let (map, scale) = split_weight(text);
    let map: ControlMap = map.parse().map_err(|wrong| format!("control = {wrong}, or \"none\""))?;
    if !scale.is_finite() {
        return Err(format!("control = {text} has no scale to work with"));
    }
    Ok(AxisValue::Text(join_weight(map.name(), scale)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_none_or_a_map_with_its_scale() {
        let value = |text: &str| read(&text.into());
        assert_eq!((value(""), value("none")), (Ok(AxisValue::None), Ok(AxisValue::None)));
        let canny = value("canny: 0.80").unwrap();
        assert_eq!(
            (&canny, name(&canny), map(&canny)),
            (&"canny:0.8".into(), "canny-0.8".into(), Some(ControlMap::Canny))
        );
        assert_eq!(value("lineart:1"), Ok("lineart".into()));
        let wrong = value("line:0.5").unwrap_err();
        assert!(
            wrong.starts_with("control = \"line\" is not known") && wrong.contains("known: canny, lineart"),
            "{wrong}"
        );
        assert!(value("canny:nan").unwrap_err().contains("no scale to work with"));
        assert!(read(&0.5.into()).unwrap_err().contains("MAP:SCALE"));
    }
}
