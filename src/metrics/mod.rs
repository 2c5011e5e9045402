//! Metrics of pictures and captions.
//!
//! A metric is a file in [`image`] or [`text`] and a row in [`METRICS`]. Its values travel by name ([`Values`]): the
//! tables of a run folder, pages, notebooks, plots and the terminal go through the table.

pub mod image;
pub mod people;
pub mod stats;
pub mod text;
mod values;

use std::fmt::Debug;

pub use values::{Value, Values};

use self::image::PictureMetric;
use self::text::CaptionMetric;
use crate::error::{nearest, usage};

/// All metrics, in the order in which they are printed and shown.
pub static METRICS: &[&dyn Metric] = &[
    &image::artfid::ArtFid,
    &image::fid::Fid,
    &image::lpips::PhotoDistance,
    &image::kid::Kid,
    &image::coverage::PRECISION,
    &image::coverage::RECALL,
    &image::embedded::CLIP_TEXT,
    &image::embedded::CLIP_IMAGE,
    &image::embedded::CSD,
    &image::embedded::DINO,
    &image::cmmd::Cmmd,
    &image::fd_dinov2::FdDinov2,
    &text::bleu::Bleu,
    &text::rouge::ROUGE[0],
    &text::rouge::ROUGE[1],
    &text::rouge::ROUGE[2],
    &text::rouge::ROUGE[3],
    &text::meteor::Meteor,
    &text::bleu::COCO_BLEU[0],
    &text::bleu::COCO_BLEU[1],
    &text::bleu::COCO_BLEU[2],
    &text::bleu::COCO_BLEU[3],
    &text::rouge::CocoRouge,
    &text::cider::Cider,
    &text::clip_score::CLIP_SCORE,
    &text::clip_score::REF_CLIP_SCORE,
];

/// A score of pictures or of captions.
pub trait Metric: Debug + Sync {
    fn about(&self) -> &About;

    /// Itself, where it scores the pictures of a strategy.
    fn of_pictures(&self) -> Option<&dyn PictureMetric> {
        None
    }

    /// Itself, where it scores captions.
    fn of_captions(&self) -> Option<&dyn CaptionMetric> {
        None
    }
}

/// What a metric says of itself.
#[derive(Debug, Clone)]
pub struct About {
    /// Its column, its key, and its name in `metrics`.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What it is, where a table explains its columns.
    pub help: &'static str,
    /// Its name along an axis; empty: the label.
    pub axis: &'static str,
    /// What it compares with what.
    pub compares: &'static str,
    pub higher_is_better: bool,
    /// The networks it needs, by the names of their models.
    pub needs: &'static [&'static str],
    /// What the value of one item is; None where it scores sets only.
    pub item: Option<&'static str>,
    /// Whether its 95 % interval is recorded, in `NAME_low` and `NAME_high`.
    pub interval: bool,
    pub show: Show,
    /// Whether a run computes it without being asked.
    pub by_default: bool,
    /// Width of its column on the terminal.
    pub width: usize,
}

/// Where a metric is shown: each place has those of the next, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Show {
    /// In results.csv alone.
    File,
    /// In the tables, and beside single items where it has values of them.
    Table,
    /// With its interval; between models; on the terminal.
    Compared,
    /// In the plots, and beside published values.
    Headline,
}

impl About {
    /// Its name along an axis.
    pub fn axis(&self) -> &'static str {
        if self.axis.is_empty() { self.label } else { self.axis }
    }

    /// The label with its article.
    pub fn one(&self) -> String {
        // Labels are mostly spelt: an LPIPS, an FID.
        let article = if self.label.starts_with(['A', 'E', 'F', 'I', 'L', 'O']) { "an" } else { "a" };
        format!("{article} {}", self.label)
    }

    /// The better of two values.
    pub fn better(&self, a: f64, b: f64) -> f64 {
        if self.higher_is_better { a.max(b) } else { a.min(b) }
    }

    /// The column of one end of the interval.
    pub fn low(&self) -> String {
        format!("{}_low", self.name)
    }

    pub fn high(&self) -> String {
        format!("{}_high", self.name)
    }
}

/// A metric by its name.
pub fn find(name: &str) -> Option<&'static dyn Metric> {
    METRICS.iter().copied().find(|metric| metric.about().name == name)
}

/// Its name for people; an unknown name as it is.
pub fn label(name: &str) -> &str {
    find(name).map_or(name, |metric| metric.about().label)
}

/// The metrics of the pictures of a strategy.
pub fn of_pictures() -> impl Iterator<Item = &'static dyn PictureMetric> + Clone {
    METRICS.iter().filter_map(|metric| metric.of_pictures())
}

/// The metrics of captions.
pub fn of_captions() -> impl Iterator<Item = &'static dyn CaptionMetric> + Clone {
    METRICS.iter().filter_map(|metric| metric.of_captions())
}

/// Checks names against those of `known`: an unknown or repeated one is wrong usage and names the nearest.
pub fn check_names<'a>(names: &[String], known: impl Iterator<Item = &'a About> + Clone) -> anyhow::Result<()> {
    for (at, name) in names.iter().enumerate() {
        if !known.clone().any(|about| about.name == name) {
            let near = nearest(name, known.clone().map(|about| about.name));
            let known: Vec<&str> = known.clone().map(|about| about.name).collect();
            return Err(usage(format!("metrics: {name:?} is not known here{near} (known: {})", known.join(", "))));
        }
        if names[..at].contains(name) {
            return Err(usage(format!("metrics: {name:?} is there twice")));
        }
    }
    Ok(())
}

/// Whether a run that was asked for these metrics (none: the usual ones) computes this one.
pub fn is_asked(names: &[String], about: &About) -> bool {
    if names.is_empty() { about.by_default } else { names.iter().any(|name| name == about.name) }
}

/// The names of those of `known` that [`is_asked`] says are computed.
pub fn asked_names(names: &[String], known: impl Iterator<Item = &'static About>) -> Vec<&'static str> {
    known.filter(|about| is_asked(names, about)).map(|about| about.name).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::models::MODELS;

    #[test]
    fn every_row_says_what_it_is() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.about().name).collect();
        assert_eq!(names.len(), METRICS.len(), "names are unique");
        for metric in METRICS {
            let about = metric.about();
            assert!(metric.of_pictures().is_some() != metric.of_captions().is_some(), "{}", about.name);
            for text in [about.name, about.label, about.help, about.compares] {
                assert!(!text.is_empty() && !text.contains('\n'), "{}", about.name);
            }
            assert!(about.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{}", about.name);
            assert!(about.interval || about.show < Show::Compared, "{} is shown with its interval", about.name);
            for network in about.needs {
                assert!(MODELS.iter().any(|model| model.name == *network), "{} needs {network}", about.name);
            }
        }
    }

    #[test]
    fn a_name_that_is_not_known_has_its_nearest() {
        let check = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
            check_names(&names, of_captions().map(|metric| metric.about())).map_err(|error| error.to_string())
        };
        assert!(check(&["meteor", "cider"]).is_ok() && check(&[]).is_ok());
        let error = check(&["metor"]).unwrap_err();
        assert!(error.contains("\"metor\" is not known here, did you mean \"meteor\"? (known: bleu,"), "{error}");
        assert!(check(&["lpips"]).unwrap_err().contains("not known here"));
        assert!(check(&["bleu", "bleu"]).unwrap_err().contains("twice"));
    }
}
