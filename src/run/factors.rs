//! Which axes vary in a style run, and which value each strategy has of them: the rows of `results.csv` say the values, the
//! configuration their names.

use super::style::ResultRow;
use crate::axes::{AXES, Axis};

/// An axis with several values.
#[derive(Debug, Clone, PartialEq)]
pub struct Factor {
    pub axis: &'static Axis,
    /// The names of its values, in the order of the configuration.
    pub values: Vec<String>,
    /// Which value each row has.
    pub of_rows: Vec<usize>,
}

impl Factor {
    /// What it is called in sentences: its key with blanks.
    pub fn label(&self) -> String {
        self.axis.key.replace('_', " ")
    }
}

/// The axes that vary between these rows, in the table's order. A value that the configuration does not name has its own
/// text as a name.
pub fn factors(config: &toml::Table, rows: &[ResultRow]) -> Vec<Factor> {
    AXES.iter().filter_map(|axis| factor(axis, config, rows)).collect()
}

fn factor(axis: &'static Axis, config: &toml::Table, rows: &[ResultRow]) -> Option<Factor> {
    let given = config.get("axes").and_then(|axes| axes.get(axis.key)).and_then(|values| values.as_table());
    let named = given.into_iter().flatten().filter_map(|(name, value)| {
        let value = (axis.read)(axis, value.clone()).ok()?;
        Some((name.clone(), value))
    });
    let used = |value: &_| rows.iter().any(|row| row.axes.get(axis) == value);
    let mut values: Vec<_> = named.filter(|(_, value)| used(value)).collect();
    for row in rows {
        let own = row.axes.get(axis);
        if !values.iter().any(|(_, value)| value == own) {
            values.push(((axis.show)(own), own.clone()));
        }
    }
    if values.len() < 2 {
        return None;
    }
    let place = |row: &ResultRow| values.iter().position(|(_, value)| value == row.axes.get(axis));
    let of_rows = rows.iter().map(place).collect::<Option<_>>()?;
    Some(Factor { axis, values: values.into_iter().map(|(name, _)| name).collect(), of_rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axes::{captioner, seed, strength, style_text};

    #[test]
    fn what_varies_has_the_names_of_the_configuration() {
        let config: toml::Table =
            "[axes.style_text]\nplain = 'in ink'\nlong = 'a drawing, in ink'\nunused = 'in oil'\n\
                                   [axes.strength]\nnone = 'none'\n'i2i0.5' = 0.5\n[axes.seed]\n0 = 0\n"
                .parse()
                .unwrap();
        let row = |text: &str, of_photo: Option<f64>, model: &str| {
            let mut row = ResultRow::default();
            row.axes.set(&style_text::AXIS, text);
            row.axes.set(&strength::AXIS, of_photo);
            row.axes.set(&seed::AXIS, 0u64);
            row.axes.set(&captioner::AXIS, model);
            row
        };
        let long = "a drawing, in ink";
        let rows =
            [row("in ink", None, "x"), row("in ink", Some(0.5), "y"), row(long, None, "x"), row(long, Some(0.5), "y")];
        let found = factors(&config, &rows);
        let keys: Vec<&str> = found.iter().map(|factor| factor.axis.key).collect();
        assert_eq!(keys, ["style_text", "captioner", "strength"], "what does not vary is no factor");
        assert_eq!(
            (found[0].values.as_slice(), found[0].of_rows.as_slice()),
            (["plain", "long"].map(String::from).as_slice(), [0, 0, 1, 1].as_slice())
        );
        assert_eq!(found[1].values, ["x", "y"], "the configuration does not name them");
        assert_eq!((found[2].values[1].as_str(), found[2].of_rows.as_slice()), ("i2i0.5", [0, 1, 0, 1].as_slice()));
        assert!(factors(&config, &rows[..1]).is_empty());
    }
}
