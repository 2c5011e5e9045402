//! What may have made a picture fail, as far as it was measured: each with its measure.
//!
//! A finding is a hint, no proof. What holds for most pictures of a strategy tells its failures from
//! its successes not at all, so it is counted under the strategy and not named as a cause.

use super::gallery::Choice;
use crate::report::number::{finite, short};
use crate::run::style::ItemRow;

/// Photos with a mean luma below this are dark: less than a quarter of the range, where a mid-grey
/// exposure gives about 118.
pub const DARK: f64 = 60.0;
/// Photos with less sharpness are blurred: a Gaussian blur of 1.5 pixels leaves this of sharp portraits (0.15 to
/// 0.2 before, 0.003 to 0.004 after; at 512 pixels, see [`crate::metrics::image::photo`]).
pub const BLURRED: f64 = 0.004;
/// A largest face below this share of the photo is very small: of 512 × 512 pixels it covers 72 × 72, of which the
/// autoencoders of Stable Diffusion keep 9 × 9 places.
pub const SMALL_FACE: f64 = 0.02;

/// What can be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    PromptCut,
    DarkPhoto,
    BlurredPhoto,
    NoFace,
    SmallFace,
    Remark,
}

pub const CAUSES: [Cause; 6] =
    [Cause::PromptCut, Cause::DarkPhoto, Cause::BlurredPhoto, Cause::NoFace, Cause::SmallFace, Cause::Remark];

impl Cause {
    pub fn title(self) -> &'static str {
        match self {
            Self::PromptCut => "Prompt cut",
            Self::DarkPhoto => "Dark photo",
            Self::BlurredPhoto => "Blurred photo",
            Self::NoFace => "No face found",
            Self::SmallFace => "Very small face",
            Self::Remark => "Trouble while drawing",
        }
    }

    /// What it is found by.
    pub fn meaning(self) -> String {
        match self {
            Self::PromptCut => "words of the description did not fit the text encoder".to_string(),
            Self::DarkPhoto => format!("mean luma below {DARK} of 255"),
            Self::BlurredPhoto => {
                format!("variance of the Laplacian over that of the luma below {BLURRED}, at 512 pixels")
            }
            Self::NoFace => "SeetaFace's detector sees none: turned far to the side, hidden, drawn or tiny".to_string(),
            Self::SmallFace => format!("the largest face covers less than {} % of the photo", SMALL_FACE * 100.0),
            Self::Remark => "the generator had something to say of it".to_string(),
        }
    }

    /// The measure of this picture, where the cause holds.
    pub fn found(self, item: &ItemRow) -> Option<String> {
        let face = finite(item.face_share);
        match self {
            Self::PromptCut => {
                let (dropped, all) = (words(&item.dropped), words(&item.caption));
                (dropped > 0).then(|| format!("{dropped} of {} words dropped", all.max(dropped)))
            }
            Self::DarkPhoto => {
                finite(item.photo_luma).filter(|v| *v < DARK).map(|v| format!("mean luma {} of 255", short(Some(v))))
            }
            Self::BlurredPhoto => finite(item.photo_sharpness)
                .filter(|v| *v < BLURRED)
                .map(|v| format!("sharpness {v:.4}, below {BLURRED}")),
            Self::NoFace => face.filter(|v| *v <= 0.0).map(|_| "SeetaFace sees none".to_string()),
            Self::SmallFace => {
                face.filter(|v| *v > 0.0 && *v < SMALL_FACE).map(|v| format!("{:.1} % of the photo", 100.0 * v))
            }
            Self::Remark => (!item.remark.is_empty()).then(|| item.remark.clone()),
        }
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// How often a cause holds in a strategy.
#[derive(Debug, Clone, PartialEq)]
pub struct Count {
    pub cause: Cause,
    pub failures: usize,
    pub successes: usize,
    /// Of all its pictures.
    pub pictures: usize,
    pub of: usize,
}

impl Count {
    /// Whether it holds for so many pictures that it explains none.
    pub fn is_common(&self) -> bool {
        2 * self.pictures > self.of
    }
}

/// The causes that hold for some failure of a strategy, or for most of its pictures.
pub fn count<'a>(items: impl Iterator<Item = &'a ItemRow>, choice: &Choice) -> Vec<Count> {
    let drawn: Vec<&ItemRow> = items.filter(|item| item.status != "failed" && !item.image.is_empty()).collect();
    let among = |items: &[&ItemRow], cause: Cause| items.iter().filter(|item| cause.found(item).is_some()).count();
    let count = |cause: Cause| Count {
        cause,
        failures: among(&choice.failures, cause),
        successes: among(&choice.successes, cause),
        pictures: among(&drawn, cause),
        of: drawn.len(),
    };
    CAUSES
        .into_iter()
        .map(count)
        .filter(|count| count.failures > 0 || (count.pictures > 0 && count.is_common()))
        .collect()
}

/// The causes that hold for most pictures of every one of several strategies: said once, they explain nothing.
pub fn common(strategies: &[Vec<Count>]) -> Vec<Cause> {
    let everywhere = |cause: &Cause| {
        strategies.iter().all(|counts| counts.iter().any(|count| count.cause == *cause && count.is_common()))
    };
    CAUSES.into_iter().filter(|cause| strategies.len() > 1 && everywhere(cause)).collect()
}

/// The likely causes of one failure, each with its measure: those that hold for few pictures of its strategy.
pub fn likely(item: &ItemRow, counts: &[Count]) -> Vec<(Cause, String)> {
    let named = counts.iter().filter(|count| !count.is_common());
    named.filter_map(|count| Some((count.cause, count.cause.found(item)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::style::gallery::choose;
    use crate::run::gallery_score::score;

    fn items() -> Vec<ItemRow> {
        let item = |at: usize| ItemRow {
            id: format!("p{at:02}"),
            status: "done".into(),
            image: "x.png".into(),
            caption: "one two three four".into(),
            values: [("lpips", Some(at as f64))].into_iter().collect(),
            style_distance: Some(1.0),
            photo_luma: Some(120.0),
            photo_sharpness: Some(0.15),
            face_share: Some(0.2),
            ..Default::default()
        };
        (0..20).map(item).collect()
    }

    #[test]
    fn each_cause_has_its_measure() {
        let mut item = items().remove(0);
        assert!(CAUSES.iter().all(|cause| cause.found(&item).is_none()));
        item.dropped = "three four".into();
        item.photo_luma = Some(38.25);
        item.photo_sharpness = Some(0.00123);
        item.face_share = Some(0.0091);
        item.remark = "drawn again".into();
        let found: Vec<String> = CAUSES.iter().filter_map(|cause| cause.found(&item)).collect();
        let expected = [
            "2 of 4 words dropped",
            "mean luma 38.25 of 255",
            "sharpness 0.0012, below 0.004",
            "0.9 % of the photo",
            "drawn again",
        ];
        assert_eq!(found, expected);
        item.face_share = Some(0.0);
        assert_eq!(Cause::NoFace.found(&item).as_deref(), Some("SeetaFace sees none"));
        assert_eq!(Cause::SmallFace.found(&item), None);
        // What was not measured is no finding.
        (item.face_share, item.photo_luma, item.photo_sharpness) = (None, None, Some(f64::NAN));
        assert_eq!(CAUSES.iter().filter(|cause| cause.found(&item).is_some()).count(), 2);
    }

    #[test]
    fn what_holds_for_most_pictures_is_counted_and_no_cause() {
        let mut items = items();
        items.iter_mut().for_each(|item| item.face_share = Some(0.0));
        items[19].photo_luma = Some(20.0);
        items[18].photo_luma = Some(20.0);
        items[0].photo_luma = Some(20.0);
        score(&mut items);
        let choice = choose(items.iter());
        let counts = count(items.iter(), &choice);
        let of = |cause, failures, successes, pictures| Count { cause, failures, successes, pictures, of: 20 };
        assert_eq!(counts, [of(Cause::DarkPhoto, 2, 1, 3), of(Cause::NoFace, 5, 5, 20)]);
        let named = likely(choice.failures[0], &counts);
        assert_eq!(named, [(Cause::DarkPhoto, "mean luma 20.00 of 255".to_string())]);
        assert!(likely(choice.failures[4], &counts).is_empty());
    }
}
