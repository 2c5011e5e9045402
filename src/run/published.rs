//! Results published elsewhere, shown beside the measured ones.

use anyhow::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::{nearest, usage};
use crate::metrics::About;

/// A line of a published table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Published {
    /// The data set, of a caption experiment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dataset: String,
    /// The model's name in `models`, of a caption experiment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// The strategy's name, of a style experiment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub strategy: String,
    /// A metric's value, under its name.
    #[serde(flatten)]
    #[schemars(with = "std::collections::BTreeMap<String, f64>")]
    values: toml::Table,
}

impl Published {
    /// The published value of a metric.
    pub fn value(&self, metric: &str) -> Option<f64> {
        let value = self.values.get(metric)?;
        value.as_float().or_else(|| Some(value.as_integer()? as f64))
    }

    /// Whether `name`, a strategy or a model with what it was asked, is what `published` names.
    pub fn is_of(published: &str, name: &str) -> bool {
        name == published || name.strip_prefix(published).is_some_and(|rest| rest.starts_with("__"))
    }

    /// Checks that the line says of what it is (`key`, whose value is `of`), and names metrics of `known` with numbers.
    ///
    /// # Errors
    /// Wrong usage, with the nearest right name.
    pub fn check<'a>(&self, of: &[(&str, &str)], known: impl Iterator<Item = &'a About> + Clone) -> Result<()> {
        if let Some((key, _)) = of.iter().find(|(_, value)| value.is_empty()) {
            return Err(usage(format!("published: a line without {key}")));
        }
        let shown: Vec<&str> = of.iter().map(|(_, value)| *value).collect();
        let shown = shown.join(", ");
        for metric in self.values.keys() {
            if !known.clone().any(|about| about.name == metric) {
                let near = nearest(metric, known.clone().map(|about| about.name));
                return Err(usage(format!("published of {shown}: {metric:?} is no metric here{near}")));
            }
            if self.value(metric).is_none_or(|value| !value.is_finite()) {
                return Err(usage(format!("published of {shown}: {metric} is no number")));
            }
        }
        if self.values.is_empty() {
            return Err(usage(format!("published of {shown}: no metric has a value")));
        }
        Ok(())
    }
}
