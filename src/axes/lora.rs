//! The axis `lora`: low-rank adapters that change the generator's weights.
//!
//! ```toml
//! lora = ["none", "ink.safetensors:0.8"]                       # strategies …__lora-none and …__lora-ink-0.8
//! lora = { none = "none", both = ["ink.safetensors:0.8", "wash.safetensors:0.5"] }
//! ```
//! A number behind the last colon is the weight. Trigger words belong into the style text.

use super::value::read_texts;
use super::{Axis, AxisValue, COMMON, NONE, Reach};
use crate::models::{AND, LoraChoice};

pub static AXIS: Axis = Axis {
    key: "lora",
    heading: "LoRA",
    prefix: "lora-",
    help: "files of low-rank adapters, FILE or FILE:WEIGHT, several of a strategy in a list of their own, or \"none\"",
    example: r#"["none", "ink.safetensors:0.8"]"#,
    is_list: true,
    read: |_, value| {
        let read = read_texts(value, "a file of low-rank adapters (FILE or FILE:WEIGHT)")?;
        Ok(if read.is_none() { read } else { AxisValue::Text(LoraChoice::join(&LoraChoice::list(read.text()))) })
    },
    check: |value| match LoraChoice::list(value.text()).iter().find(|choice| !choice.weight.is_finite()) {
        Some(choice) => Err(format!("lora = {choice} has no weight to work with")),
        None => Ok(()),
    },
    name,
    show: name,
    reach: Reach::Batch(|request, value| request.loras = LoraChoice::list(value.text())),
    ..COMMON
};

fn name(value: &AxisValue) -> String {
    let names: Vec<String> = LoraChoice::list(value.text()).iter().map(LoraChoice::name).collect();
    if names.is_empty() { NONE.to_string() } else { names.join(AND) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_none_a_file_or_several() {
        let value = |text: &str| (AXIS.read)(&AXIS, text.parse::<toml::Table>().unwrap().remove("a").unwrap());
        assert_eq!(value("a = 'none'"), Ok(AxisValue::None));
        assert_eq!(value("a = ''"), Ok(AxisValue::None));
        let both = value("a = ['b/ink.safetensors:0.8', 'wash.pt']").unwrap();
        assert_eq!(both, "b/ink.safetensors:0.8 + wash.pt".into());
        assert_eq!((name(&both), name(&AxisValue::None)), ("ink-0.8 + wash".to_string(), "none".to_string()));
        assert!(value("a = 0.8").unwrap_err().contains("FILE:WEIGHT"));
    }
}
