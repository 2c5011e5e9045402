//! The values of metrics, by name.

use std::collections::BTreeMap;

use super::stats::Interval;

/// What a metric came to: of an item its value, of a set the value with its 95 % interval.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Value {
    pub value: Option<f64>,
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Value {
    /// A score with its interval; what is not finite stays empty.
    pub fn new(value: f64, interval: Option<Interval>) -> Self {
        let known = |value: f64| value.is_finite().then_some(value);
        Self {
            value: known(value),
            low: interval.and_then(|interval| known(interval.low)),
            high: interval.and_then(|interval| known(interval.high)),
        }
    }
}

/// The values of a row; a metric that is not there has none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Values(BTreeMap<String, Value>);

impl Values {
    /// As it was recorded: it may be no finite number, where a file says so.
    pub fn get(&self, name: &str) -> Value {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub fn set(&mut self, name: &str, value: Value) {
        if value == Value::default() {
            self.0.remove(name);
        } else {
            self.0.insert(name.to_string(), value);
        }
    }

    /// Sets the value alone and leaves the interval.
    pub fn set_value(&mut self, name: &str, value: Option<f64>) {
        self.set(name, Value { value, ..self.get(name) });
    }

    /// The value; what is not finite means "not measured".
    pub fn value(&self, name: &str) -> Option<f64> {
        self.get(name).value.filter(|value| value.is_finite())
    }

    /// The interval, where both ends are known.
    pub fn interval(&self, name: &str) -> Option<Interval> {
        let Value { low, high, .. } = self.get(name);
        let (low, high) = (low.filter(|low| low.is_finite())?, high.filter(|high| high.is_finite())?);
        Some(Interval { low, high })
    }

    /// Whether anything is known of a metric.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

impl<'a> FromIterator<(&'a str, Option<f64>)> for Values {
    fn from_iter<T: IntoIterator<Item = (&'a str, Option<f64>)>>(values: T) -> Self {
        let mut all = Self::default();
        values.into_iter().for_each(|(name, value)| all.set_value(name, value));
        all
    }
}
