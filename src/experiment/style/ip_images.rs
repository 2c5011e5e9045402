//! The pictures that strategies with an IP-Adapter draw after.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use toml::{Table, Value};

use crate::axes::{NONE, ip_adapter};
use crate::models::{AND, IpAdapterChoice};

/// The key of the pictures that adapters are shown which name none themselves.
pub const KEY: &str = "ip_images";

/// Gives the pictures of the key to the values of the axis that name none, so that each value says all of itself.
pub fn give(table: &mut Table) {
    let Some(Value::String(pictures)) = table.get(KEY).filter(|pictures| **pictures != Value::String(String::new()))
    else {
        return;
    };
    let pictures = pictures.clone();
    let Some(values) = table.get_mut("axes").and_then(|axes| axes.get_mut(ip_adapter::AXIS.key)) else { return };
    match values {
        Value::Array(values) => values.iter_mut().for_each(|value| give_to(value, &pictures)),
        Value::Table(values) => values.iter_mut().for_each(|(_, value)| give_to(value, &pictures)),
        value => give_to(value, &pictures),
    }
}

fn give_to(value: &mut Value, pictures: &str) {
    let text = match value {
        Value::String(text) => text.as_str(),
        Value::Array(parts) => match parts.as_slice() {
            [Value::String(text)] => text.as_str(),
            _ => return,
        },
        _ => return,
    };
    let without = IpAdapterChoice::read(text).filter(|choice| text != NONE && choice.pictures.is_empty());
    if without.is_some() {
        *value = Value::String(format!("{}{AND}{}", text.trim(), pictures.trim()));
    }
}

/// Says so where pictures that are drawn after are among those that all pictures are measured against: such a strategy
/// was shown the answer. `values` are those of the axis.
pub fn warn_of_shown<'a>(values: impl Iterator<Item = &'a str>, style_pictures: &[PathBuf]) -> Result<()> {
    let mut shown = BTreeSet::new();
    for choice in values.filter_map(IpAdapterChoice::read) {
        choice.check_pictures()?;
        shown.extend(choice.picture_files()?);
    }
    if shown.is_empty() {
        return Ok(());
    }
    let mut sizes = Vec::new();
    for file in style_pictures {
        sizes.push((size(file)?, file));
    }
    let mut among = Vec::new();
    for file in &shown {
        let own = size(file)?;
        let mut alike = sizes.iter().filter(|(size, _)| *size == own).map(|(_, other)| *other);
        if alike.try_fold(false, |found, other| anyhow::Ok(found || is_same(file, other)?))? {
            among.push(file);
        }
    }
    if let Some(first) = among.first() {
        let more = match among.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        tracing::warn!(
            "{} of the {} pictures that IP-Adapters are shown are among style_pictures ({}{more}): fid, artfid and what else \
             compares with those looks better for these strategies than it is: give other pictures as {KEY}",
            among.len(),
            shown.len(),
            first.display()
        );
    }
    Ok(())
}

fn size(file: &Path) -> Result<u64> {
    Ok(fs::metadata(file).with_context(|| format!("cannot read {}", file.display()))?.len())
}

/// Whether two files of one size are one, or hold the same.
fn is_same(a: &Path, b: &Path) -> Result<bool> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("cannot read {}", file.display()));
    Ok(a == b || read(a)? == read(b)?)
}
