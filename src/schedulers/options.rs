//! What a solver is told of one drawing beside its configuration.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::ValueEnum;

use super::name::SchedulerName;
use crate::error::usage;

/// Numbers by name, as the further arguments of `step` in diffusers. An option of 0 is as good as none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SolverOptions(BTreeMap<&'static str, f64>);

impl SolverOptions {
    /// With one more option.
    pub fn with(mut self, name: &'static str, value: f64) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &'static str, value: f64) {
        self.0.insert(name, value);
    }

    /// 0 where it was not given.
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// Refuses options that `who` does not take: diffusers leaves them out without a word, and pictures that should
    /// differ would be the same.
    pub fn check(&self, taken: &[&str], who: &str) -> Result<()> {
        let strange = self.0.iter().find(|(name, value)| **value != 0.0 && !taken.contains(name));
        let Some((name, value)) = strange else { return Ok(()) };
        let knows = |scheduler: &&SchedulerName| scheduler.entry().options.contains(name);
        let known: Vec<&str> = SchedulerName::value_variants().iter().filter(knows).map(|name| name.name()).collect();
        let remedy = match known.as_slice() {
            [] => "leave it out".to_string(),
            known => format!("leave it out, or choose scheduler {}", known.join(" or ")),
        };
        Err(usage(format!("{who} takes no {name} (it is {value}): {remedy}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_solver_does_not_take_is_refused_unless_it_is_0() {
        let options = SolverOptions::default().with("spin", 0.5).with("rest", 0.0);
        assert!(options.check(&["spin"], "it").is_ok());
        let error = options.check(&["rest"], "scheduler slow").unwrap_err();
        assert_eq!(error.to_string(), "scheduler slow takes no spin (it is 0.5): leave it out");
        assert!(error.downcast_ref::<crate::error::UsageError>().is_some());
        assert_eq!((options.get("spin"), options.get("other")), (0.5, 0.0));
    }
}
