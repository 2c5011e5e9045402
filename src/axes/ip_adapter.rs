//! The axis `ip_adapter`: pictures that are drawn after, through an IP-Adapter.
//!
//! ```toml
//! ip_images = "my/ink"                                       # what adapters are shown that name no picture themselves
//! ip_adapter = { none = "none", ink = "ip-adapter_sd15.safetensors:0.6" }
//! ip_adapter = ["none", ["ip-adapter_sd15.safetensors:0.6", "brush.png", "wash.png"]]
//! ```
//! A number behind the last colon is the scale. Of a folder each picture is shown.

use super::value::read_texts;
use super::{Axis, AxisValue, COMMON, NONE, Reach};
use crate::models::IpAdapterChoice;

pub static AXIS: Axis = Axis {
    key: "ip_adapter",
    heading: "IP-Adapter",
    prefix: "ip-",
    help: "pictures that are drawn after: an IP-Adapter, FILE or FILE:SCALE, alone (then it is shown ip_images) or in a list \
           with its pictures, or \"none\"",
    example: r#"["none", ["ip-adapter_sd15.safetensors:0.6", "ink.png"]]"#,
    is_list: true,
    read: |_, value| read_texts(value, "an IP-Adapter (FILE or FILE:SCALE), a list of it and its pictures"),
    check: |value| {
        let Some(choice) = IpAdapterChoice::read(value.text()) else { return Ok(()) };
        if choice.pictures.is_empty() {
            return Err(format!(
                "ip_adapter = {choice} is shown no picture: give ip_images = FOLDER, or the pictures behind it \
                 ([\"FILE:SCALE\", \"PICTURE\"])"
            ));
        }
        choice.check().map_err(|error| format!("ip_adapter = {choice}: {error}"))
    },
    name,
    show: name,
    reach: Reach::Batch(|request, value| request.ip_adapter = IpAdapterChoice::read(value.text())),
    ..COMMON
};

fn name(value: &AxisValue) -> String {
    IpAdapterChoice::read(value.text()).map_or(NONE.to_string(), |choice| choice.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_none_an_adapter_or_one_with_its_pictures() {
        let value = |text: &str| (AXIS.read)(&AXIS, text.parse::<toml::Table>().unwrap().remove("a").unwrap());
        assert_eq!(value("a = 'none'"), Ok(AxisValue::None));
        assert_eq!(value("a = ''"), Ok(AxisValue::None));
        let both = value("a = ['b/ip.bin:0.6', 'c/ink.png', 'wash.png']").unwrap();
        assert_eq!(both, "b/ip.bin:0.6 + c/ink.png + wash.png".into());
        assert_eq!((name(&both), name(&AxisValue::None)), ("ip-0.6 + ink + wash".to_string(), "none".to_string()));
        assert_eq!((AXIS.check)(&both), Ok(()));
        let alone = value("a = 'ip.bin'").unwrap();
        assert!((AXIS.check)(&alone).unwrap_err().contains("give ip_images = FOLDER"));
        assert!((AXIS.check)(&"ip.bin:inf + ink.png".into()).unwrap_err().contains("not a number to work with"));
        assert!(value("a = 0.8").unwrap_err().contains("FILE:SCALE"));
    }
}
