//! The people of the embedded default, their photos, and how they are asked for.
#![allow(dead_code)] // not every file needs all of it

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde::Deserialize;
use tch::Device;
use toolkit::images;
use toolkit::runtime::{DtypeChoice, Runtime};

/// An attribute of a person → its value; None where there is nothing to be seen of it.
pub type Attributes = BTreeMap<String, Option<String>>;

#[derive(Deserialize)]
pub struct Person {
    pub file: String,
    pub attributes: Attributes,
}

pub fn mini(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/mini").join(path)
}

pub fn json<T: serde::de::DeserializeOwned>(path: &str) -> T {
    serde_json::from_str(&std::fs::read_to_string(mini(path)).unwrap()).unwrap()
}

pub fn cpu() -> Runtime {
    Runtime { device: Device::Cpu, dtype: DtypeChoice::Auto, offline: true }
}

/// The first `count` people of the photos; `MINI_WORLD_PEOPLE` asks for more, as for the table in
/// experiments/mini/README.md.
pub fn people(count: usize) -> Vec<Person> {
    let wanted = std::env::var("MINI_WORLD_PEOPLE").ok().map(|number| number.parse().unwrap());
    let mut people: Vec<Person> = json("photos/attributes.json");
    people.truncate(wanted.unwrap_or(count));
    people
}

pub fn photo(person: &Person) -> RgbImage {
    images::load(mini("photos").join(&person.file)).unwrap()
}

pub fn value<'a>(attributes: &'a Attributes, name: &str) -> &'a str {
    attributes[name].as_deref().unwrap_or("none")
}

/// The words that a right description of hair, facial hair, glasses and clothing has.
pub fn hair(attributes: &Attributes) -> String {
    let color = value(attributes, "hair_color");
    match value(attributes, "hair") {
        "bald" => "a bald head".into(),
        "hat" => "a hat".into(),
        "bob" => format!("a {color} bob"),
        "bun" => format!("{color} hair in a bun"),
        form => format!("{form} {color} hair"),
    }
}

/// What a captioner would say of the person, and a style text.
pub fn prompt(person: &Person, style: &str) -> String {
    let a = &person.attributes;
    let mut features = vec![hair(a)];
    for name in ["facial_hair", "glasses"] {
        match value(a, name) {
            "none" => {}
            "glasses" | "sunglasses" => features.push(value(a, name).into()),
            other => features.push(format!("a {other}")),
        }
    }
    let listed = match features.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => features.concat(),
    };
    let clothes = format!("{} {}", value(a, "clothing_color"), value(a, "clothing"));
    let clothes = if clothes.ends_with('s') { clothes } else { format!("a {clothes}") };
    format!("A {} person with {} skin, {listed}, wearing {clothes}, {style}", value(a, "expression"), value(a, "skin"))
}
