//! The name of a solver, as files and the command line have it.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{SCHEDULERS, SchedulerEntry};
use crate::error::{nearest, usage};

/// A row of [`SCHEDULERS`], by its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SchedulerName(usize);

const ALL: [SchedulerName; SCHEDULERS.len()] = {
    let mut all = [SchedulerName(0); SCHEDULERS.len()];
    let mut place = 0;
    while place < all.len() {
        all[place] = SchedulerName(place);
        place += 1;
    }
    all
};

const NAMES: [&str; SCHEDULERS.len()] = {
    let mut names = [""; SCHEDULERS.len()];
    let mut place = 0;
    while place < names.len() {
        names[place] = SCHEDULERS[place].name;
        place += 1;
    }
    names
};

impl SchedulerName {
    /// Its row.
    pub fn entry(self) -> &'static SchedulerEntry {
        &SCHEDULERS[self.0]
    }

    /// The name in files and on the command line.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The name of the solver that diffusers has in this class.
    pub(super) fn of_class(class: &str) -> anyhow::Result<Self> {
        ALL.into_iter().find(|name| name.entry().class == class).ok_or_else(|| {
            let known: Vec<&str> = SCHEDULERS.iter().map(|entry| entry.class).collect();
            usage(format!("scheduler {class} is not known here: {}", known.join(", ")))
        })
    }
}

impl FromStr for SchedulerName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        ALL.into_iter().find(|name| name.name() == text).ok_or_else(|| {
            let hint = nearest(text, NAMES);
            usage(format!("no scheduler is called {text:?}{hint}: {}", NAMES.join(", ")))
        })
    }
}

impl fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl ValueEnum for SchedulerName {
    fn value_variants<'a>() -> &'a [Self] {
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.entry().about))
    }
}

impl Serialize for SchedulerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for SchedulerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = SchedulerName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a scheduler")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<SchedulerName, E> {
                text.parse().map_err(|_| E::unknown_variant(text, &NAMES))
            }
        }
        deserializer.deserialize_str(Name)
    }
}
