//! The table of axes: what the strategies of a style experiment can differ in.
//!
//! An axis is a file and a row. From the row follow its key in experiment files, the names of strategies, which
//! pictures share a batch, what the generator is asked for, its column in `results.csv`, and its place on the page and
//! in the plots. What several values do to a picture is the axis's own matter; that pictures of several values are
//! never drawn in one batch by mistake is not: an axis reaches the request of a batch through [`Reach::Batch`] alone,
//! and what does is part of the batch's key.

pub mod captioner;
pub mod control;
pub mod eta;
pub mod generator;
pub mod guidance_scale;
pub mod instruction;
pub mod ip_adapter;
pub mod lora;
pub mod negative_prompt;
pub mod scheduler;
pub mod seed;
pub mod steps;
pub mod strength;
pub mod style_text;
mod value;

pub use value::{AxisValue, AxisValues, Form, NONE};

use crate::models::GenerateRequest;

/// Every axis, in the order in which they multiply and in which their values stand in the names of strategies.
pub static AXES: &[&Axis] = &[
    &style_text::AXIS,
    &instruction::AXIS,
    &captioner::AXIS,
    &generator::AXIS,
    &lora::AXIS,
    &control::AXIS,
    &ip_adapter::AXIS,
    &strength::AXIS,
    &scheduler::AXIS,
    &eta::AXIS,
    &steps::AXIS,
    &guidance_scale::AXIS,
    &negative_prompt::AXIS,
    &seed::AXIS,
];

/// What the values of an axis change.
#[derive(Debug, Clone, Copy)]
pub enum Reach {
    /// Single pictures: their prompts or seeds. Pictures of different values share a batch.
    Picture,
    /// Whole batches: this puts the value into their request.
    Batch(fn(&mut GenerateRequest, &AxisValue)),
    /// The generator that is loaded.
    Model,
}

/// One axis.
#[derive(Debug)]
pub struct Axis {
    /// The key in experiment files, and the column of `results.csv`.
    pub key: &'static str,
    /// What it is called on the page.
    pub heading: &'static str,
    /// What stands in the names of strategies before the names of its values.
    pub prefix: &'static str,
    /// What it is, in a line, for those who write experiments.
    pub help: &'static str,
    /// Several values, as an experiment file has them.
    pub example: &'static str,
    pub form: Form,
    /// Whether one value may be a list: several texts of one strategy.
    pub is_list: bool,
    /// The words that a value may be: of texts the only ones, beside numbers as well; none: any text.
    pub names: fn() -> Vec<&'static str>,
    /// Whether every experiment gives it; else it is left to the model where it is not given.
    pub required: bool,
    /// Whether the names of its values show in those of strategies where there is one value alone.
    pub always_named: bool,
    /// Whether `results.csv` has its column in runs that do not give it. An axis that comes new does not change the
    /// tables of other experiments.
    pub always_a_column: bool,
    /// One value of an experiment file, or what is wrong with it.
    pub read: fn(&Axis, toml::Value) -> Result<AxisValue, String>,
    /// What is wrong with a value beyond its form, said once the whole file is read.
    pub check: fn(&AxisValue) -> Result<(), String>,
    /// What a value is called that was given no name.
    pub name: fn(&AxisValue) -> String,
    /// A value on the page.
    pub show: fn(&AxisValue) -> String,
    pub reach: Reach,
}

/// What most axes have in common.
const COMMON: Axis = Axis {
    key: "",
    heading: "",
    prefix: "",
    help: "",
    example: "",
    form: Form::Text,
    is_list: false,
    names: Vec::new,
    required: false,
    always_named: false,
    always_a_column: false,
    read: |axis, value| axis.form.read(value),
    check: |_| Ok(()),
    name: AxisValue::to_string,
    show: AxisValue::to_string,
    reach: Reach::Picture,
};

impl Axis {
    /// Whether pictures of two values can be drawn in one batch.
    pub fn shares_a_batch(&self, a: &AxisValue, b: &AxisValue) -> bool {
        matches!(self.reach, Reach::Picture) || a == b
    }
}

/// Two names of the table are one axis where their keys are one.
impl PartialEq for Axis {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

/// The axes whose columns stand together in `results.csv`, in their order there, which scripts rely on: the table's,
/// but for the two models, which come first. [`style_text`] stands beside the strategy.
pub fn columns() -> Vec<&'static Axis> {
    let models = [&captioner::AXIS, &generator::AXIS];
    let others = AXES.iter().copied().filter(|axis| !models.contains(axis) && **axis != style_text::AXIS);
    models.into_iter().chain(others).collect()
}

/// The axis of this key.
pub fn find(key: &str) -> Option<&'static Axis> {
    AXES.iter().copied().find(|axis| axis.key == key)
}

/// The keys, in the table's order.
pub fn keys() -> Vec<&'static str> {
    AXES.iter().map(|axis| axis.key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The values of the example in an axis's row.
    fn examples(axis: &Axis) -> Vec<AxisValue> {
        let table: toml::Table = format!("values = {}", axis.example).parse().unwrap();
        let values = table["values"].as_array().unwrap().clone();
        values.into_iter().map(|value| (axis.read)(axis, value).unwrap()).collect()
    }

    #[test]
    fn every_row_is_whole_and_its_example_can_be_given() {
        assert_eq!(keys().iter().collect::<BTreeSet<_>>().len(), AXES.len(), "a key is there twice");
        for axis in AXES {
            assert!(!axis.key.is_empty() && !axis.heading.is_empty() && !axis.help.is_empty(), "{axis:?}");
            let values = examples(axis);
            assert!(values.len() >= 2 && values[0] != values[1], "{}: its example has several values", axis.key);
            let named: BTreeSet<String> = values.iter().map(axis.name).collect();
            assert_eq!(named.len(), values.len(), "{}: values that differ are called alike", axis.key);
            for name in (axis.names)() {
                (axis.read)(axis, name.into()).unwrap();
            }
            for value in &values {
                (axis.check)(value).unwrap();
                // As results.csv holds it.
                let field = value.to_string();
                assert_eq!(axis.form.parse(&field).as_ref(), Ok(value), "{}", axis.key);
            }
        }
    }

    /// A batch is drawn with one request: what differs there must part batches, and what parts batches must differ.
    #[test]
    fn what_reaches_the_request_parts_batches() {
        for axis in AXES {
            let values = examples(axis);
            for (at, a) in values.iter().enumerate() {
                for b in &values[..at] {
                    let asked = |value: &AxisValue| {
                        let mut request = GenerateRequest::default();
                        if let Reach::Batch(set) = axis.reach {
                            set(&mut request, value);
                        }
                        request
                    };
                    let parts = !axis.shares_a_batch(a, b);
                    assert_eq!(parts, !matches!(axis.reach, Reach::Picture), "{}", axis.key);
                    let differs = asked(a) != asked(b);
                    assert_eq!(differs, matches!(axis.reach, Reach::Batch(_)), "{}: {a:?} and {b:?}", axis.key);
                }
            }
        }
    }

    #[test]
    fn what_is_read_from_a_table_is_what_was_written() {
        assert_eq!(Form::Whole.parse("x"), Err("is not a whole number"));
        assert_eq!(Form::Whole.parse("-1"), Err("is not a whole number"));
        assert_eq!(Form::Number.parse("half"), Err("is not a number"));
        assert_eq!(Form::Number.parse(""), Ok(AxisValue::None));
        assert_eq!(Form::Text.parse("a, b"), Ok("a, b".into()));
    }
}
