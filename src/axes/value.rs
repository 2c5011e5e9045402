//! A value of an axis, and how it is read and written.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::{Serialize, Serializer};

use super::Axis;
use crate::models::{AND, parts};

/// The texts of a value that may be a list, joined; [`NONE`] and empty ones are left out. `expected`: what each is.
pub fn read_texts(value: toml::Value, expected: &str) -> Result<AxisValue, String> {
    let mut texts = Vec::new();
    for one in if let toml::Value::Array(several) = value { several } else { vec![value] } {
        match one {
            toml::Value::String(text) if text != NONE => texts.extend(parts(&text).map(str::to_string)),
            toml::Value::String(_) => {}
            other => return Err(format!("invalid type: {}, expected {expected}, or \"none\"", other.type_str())),
        }
    }
    Ok(if texts.is_empty() { AxisValue::None } else { AxisValue::Text(texts.join(AND)) })
}

/// How an experiment file says [`AxisValue::None`] of an axis that has it as a value.
pub const NONE: &str = "none";

/// One value of an axis.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum AxisValue {
    /// The axis is not given, or leaves out what it names: the model's own way.
    #[default]
    None,
    Text(String),
    Whole(u64),
    Number(f64),
}

impl AxisValue {
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }

    /// The text; of anything else "".
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    pub fn whole(&self) -> Option<u64> {
        match self {
            Self::Whole(number) => Some(*number),
            _ => None,
        }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

impl Display for AxisValue {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Text(text) => f.write_str(text),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

/// As a field of a table; None is an empty one.
impl Serialize for AxisValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_none(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Whole(number) => serializer.serialize_u64(*number),
            Self::Number(number) => serializer.serialize_f64(*number),
        }
    }
}

impl From<&str> for AxisValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_string())
    }
}

impl From<u64> for AxisValue {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<f64> for AxisValue {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl<T: Into<AxisValue>> From<Option<T>> for AxisValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// What the values of an axis are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Text,
    Whole,
    Number,
}

impl Form {
    /// A value of an experiment file.
    pub fn read(self, value: toml::Value) -> Result<AxisValue, String> {
        let read = match self {
            Self::Text => value.try_into().map(AxisValue::Text),
            Self::Whole => value.try_into().map(AxisValue::Whole),
            Self::Number => value.try_into().map(AxisValue::Number),
        };
        read.map_err(|error| error.message().to_string())
    }

    /// A field of a table; says what it is not.
    pub fn parse(self, field: &str) -> Result<AxisValue, &'static str> {
        match self {
            _ if field.is_empty() => Ok(AxisValue::None),
            Self::Text => Ok(field.into()),
            Self::Whole => field.parse().map(AxisValue::Whole).map_err(|_| "is not a whole number"),
            Self::Number => field.parse().map(AxisValue::Number).map_err(|_| "is not a number"),
        }
    }
}

/// A strategy's values by axis; those that are not there are None.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AxisValues(BTreeMap<&'static str, AxisValue>);

impl AxisValues {
    pub fn get(&self, axis: &Axis) -> &AxisValue {
        static NONE: AxisValue = AxisValue::None;
        self.0.get(axis.key).unwrap_or(&NONE)
    }

    /// None takes the value away: what a table has no column for and what was never given are the same.
    pub fn set(&mut self, axis: &Axis, value: impl Into<AxisValue>) {
        match value.into() {
            AxisValue::None => self.0.remove(axis.key),
            value => self.0.insert(axis.key, value),
        };
    }
}
