//! The plots of a style experiment. A strategy has one colour and one mark in all of them; where
//! strategies form lines along strength, a line has one hue, paler towards the photo.

mod bars;
mod frontier;
mod interaction;
mod labels;
pub(super) mod lines;
mod spread;
mod tradeoff;
mod ways;

use plotters::style::RGBColor;

use super::{DECIDING, StyleRun};
use crate::metrics::{About, Show};
use crate::report::figure::Figure;
use crate::report::plots::{Sheet, color, mixed};
use crate::run::shown;

/// The plots, in the order in which the page shows them: file stem and figure.
pub(super) fn all(run: &StyleRun, sheet: Sheet) -> Vec<(&'static str, Figure)> {
    let compared = shown(&run.results, Show::Compared);
    let (first, others): (Vec<&About>, Vec<&About>) =
        compared.into_iter().partition(|about| about.name == DECIDING.name);
    let bars = |about: &'static About| (about.name, bars::figure(run, about, sheet));
    let mut figures: Vec<(&'static str, Figure)> = first.into_iter().map(bars).collect();
    let frontier = frontier::figure(run, sheet).or_else(|| ways::figure(run, sheet));
    figures.extend(frontier.map(|figure| ("frontier", figure)));
    figures.extend(interaction::figure(run, sheet).map(|figure| ("interaction", figure)));
    figures.push(("fid_lpips", tradeoff::figure(run, sheet)));
    let of_items = shown(&run.results, Show::File).into_iter().filter(|about| about.item.is_some());
    figures.extend(of_items.map(|about| (about.name, spread::figure(run, about, sheet))));
    figures.extend(others.into_iter().filter(|about| about.item.is_none()).map(bars));
    figures
}

/// The colours of the strategies, in the order of results.csv.
pub(super) fn strategy_colors(run: &StyleRun) -> Vec<RGBColor> {
    let mut colors: Vec<RGBColor> = (0..run.results.len()).map(color).collect();
    for (at, line) in lines::lines(run).into_iter().enumerate() {
        for (rank, member) in line.members.iter().enumerate() {
            // From pale, near the photo, to dark, far from it.
            let place = (rank + 1) as f64 / line.members.len() as f64;
            colors[*member] = if place > 0.75 {
                mixed(color(at), 0.0, place - 0.75)
            } else {
                mixed(color(at), 255.0, 0.7 * (0.75 - place))
            };
        }
    }
    colors
}

/// Which marks the strategies have, in the order of results.csv: those of a line share one.
fn strategy_shapes(run: &StyleRun) -> Vec<usize> {
    let mut shapes: Vec<usize> = (0..run.results.len()).collect();
    for (at, line) in lines::lines(run).into_iter().enumerate() {
        line.members.iter().for_each(|member| shapes[*member] = at);
    }
    shapes
}

#[cfg(test)]
mod tests {
    use super::{all, labels::meet};
    use crate::axes::{instruction, strength, style_text};
    use crate::metrics::{Value, Values};
    use crate::report::figure::{MUTED, PAPER, Shape};
    use crate::report::plots::Sheet;
    use crate::report::style::StyleRun;
    use crate::run::style::{ItemRow, ResultRow};

    fn values(v: f64) -> Values {
        let mut values = Values::default();
        let value = Some((1.5 + v / 100.0) * (300.0 + v));
        values.set("artfid", Value { value, low: Some(400.0), high: Some(1234.5 + v) });
        values.set("fid", Value { value: Some(299.0 + v), low: Some(290.0 + v), high: Some(320.0 + v) });
        values.set_value("lpips", Some(0.5 + v / 100.0));
        values
    }

    /// Strategies whose values crowd: `spread` small puts all marks almost on one another.
    fn run(strategies: usize, spread: f64) -> StyleRun {
        let mut run = StyleRun::default();
        for s in 0..strategies {
            let v = spread * ((s * 7) % 5) as f64;
            let strategy = format!("strategy number {s} {}", "x".repeat(s * 5));
            let mut row = ResultRow { strategy, values: values(v), ..Default::default() };
            row.axes.set(&style_text::AXIS, "a style text of some length ".repeat(s / 4).as_str());
            // Lines of four, the last of each from text alone.
            row.axes.set(&instruction::AXIS, format!("{}", s / 4).as_str());
            row.axes.set(&strength::AXIS, (s % 4 < 3 && s > 0).then(|| 0.25 * (s % 4 + 1) as f64));
            run.results.push(row);
            for k in 0..s * 3 {
                let values = [("lpips", Some(0.5 + 0.01 * ((k * k) % 17) as f64))].into_iter().collect();
                run.items.push(ItemRow { strategy: run.results[s].strategy.clone(), values, ..Default::default() });
            }
        }
        run
    }

    #[test]
    fn no_text_meets_another_or_leaves_its_figure() {
        for (strategies, spread) in [(1, 0.0), (3, 10.0), (12, 10.0), (12, 0.0), (20, 2.0)] {
            let run = run(strategies, spread);
            for (name, figure) in [Sheet::Wide, Sheet::Narrow].into_iter().flat_map(|sheet| all(&run, sheet)) {
                let boxes = figure.text_boxes();
                for (at, (text, b)) in boxes.iter().enumerate() {
                    let inside = b[0] >= 0.0 && b[1] >= 0.0 && b[2] <= figure.width && b[3] <= figure.height;
                    assert!(inside, "{name} of {strategies}: {text:?} at {b:?}");
                    for (other, o) in &boxes[..at] {
                        // `meet` wants a gap; lines of one paragraph may be closer.
                        let o = [o[0] + 3.0, o[1] + 3.0, o[2] - 3.0, o[3] - 3.0];
                        assert!(!meet(b, &o), "{name} of {strategies}: {text:?} on {other:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_two_strategies_look_alike_even_on_one_another() {
        for strategies in [3, 12, 20] {
            let run = run(strategies, 0.0);
            let colors = super::strategy_colors(&run);
            let marks: Vec<_> =
                colors.iter().map(|color| (color.0, color.1, color.2)).zip(super::strategy_shapes(&run)).collect();
            let all: std::collections::BTreeSet<_> = marks.iter().collect();
            assert_eq!(all.len(), strategies, "{marks:?}");
        }
        // All values are the same: each mark shows around the one above it.
        let (_, figure) = all(&run(3, 0.0), Sheet::Wide).into_iter().find(|(name, _)| *name == "fid_lpips").unwrap();
        let discs = figure.shapes.iter().filter_map(|shape| match shape {
            Shape::Disc { radius, color, .. } if *color != PAPER => Some(*radius),
            _ => None,
        });
        let radii: Vec<f64> = discs.collect();
        assert!(radii.len() == 3 && radii.windows(2).all(|pair| pair[0] > pair[1] + 2.0), "{radii:?}");
    }

    /// Zero may lie in the middle, and on a narrow sheet names stand over the bars.
    #[test]
    fn no_axis_runs_through_a_text() {
        let mut run = run(5, 10.0);
        for row in &mut run.results {
            row.axes.set(&style_text::AXIS, "flat colors, thick outlines, simple shapes, cute and minimalist");
            row.values.set("kid", Value { value: Some(0.01), low: Some(-0.25), high: Some(0.3) });
        }
        for (name, figure) in [Sheet::Wide, Sheet::Narrow].into_iter().flat_map(|sheet| all(&run, sheet)) {
            let lines = figure.shapes.iter().filter_map(|shape| match shape {
                Shape::Line { points, color, width, .. } if *color == MUTED && *width == 1.0 => Some(points),
                _ => None,
            });
            let upright = lines.flat_map(|points| points.windows(2)).filter(|ends| ends[0].0 == ends[1].0);
            for ends in upright {
                let (x, top, bottom) = (ends[0].0, ends[0].1.min(ends[1].1), ends[0].1.max(ends[1].1));
                for (text, b) in figure.text_boxes() {
                    let through = b[0] - 2.0 < x && x < b[2] + 2.0 && b[1] < bottom && top < b[3];
                    assert!(!through, "{name}: a line at {x} runs through {text:?} at {b:?}");
                }
            }
        }
    }

    #[test]
    fn names_and_style_texts_are_whole_where_there_is_room() {
        let mut run = run(3, 10.0);
        let style = "a cartoon character in Peanuts comic style, flat colors, thick outlines, simple shapes, cute and minimalist";
        for (row, name) in run.results.iter_mut().zip(["peanuts", "peanuts_detailed", "wrong_style"]) {
            row.strategy = name.to_string();
            row.axes.set(&style_text::AXIS, style);
        }
        for sheet in [Sheet::Wide, Sheet::Narrow] {
            for (name, figure) in all(&run, sheet) {
                let texts: Vec<String> = figure.text_boxes().into_iter().map(|(text, _)| text).collect();
                let has = |whole: &str| texts.iter().any(|text| text.contains(whole));
                assert!(!["artfid", "fid_lpips"].contains(&name) || has("peanuts_detailed"), "{name}: {texts:?}");
                assert!(name != "artfid" || texts.join(" ").contains(style), "{name}: {texts:?}");
            }
        }
    }

    /// Whoever rests a pointer on a mark or a bar reads whose it is, its value and its interval.
    #[test]
    fn every_mark_and_bar_says_what_it_is() {
        let run = run(3, 10.0);
        for sheet in [Sheet::Wide, Sheet::Narrow] {
            for (name, figure) in all(&run, sheet) {
                let of = |shape| match shape {
                    &Shape::Tip { ref text, .. } | &Shape::Spot { ref text, .. } => Some(text.as_str()),
                    _ => None,
                };
                let told: Vec<&str> = figure.shapes.iter().filter_map(of).collect();
                let marks = if name == "lpips" { run.items.len() } else { 3 };
                assert_eq!(told.len(), marks, "{name}: {told:?}");
                assert!(told.iter().all(|text| text.contains("strategy number") && text.contains(": ")), "{told:?}");
                if name != "lpips" {
                    assert!(told.iter().all(|text| text.contains('[')), "{name}: intervals in {told:?}");
                }
            }
        }
    }

    /// A mean of pictures is shown with its interval where the run knows it.
    #[test]
    fn the_spread_of_pictures_has_the_mean_with_its_interval() {
        let mut run = run(3, 10.0);
        for row in &mut run.results {
            row.values.set("lpips", Value { value: Some(0.55), low: Some(0.53), high: Some(0.58) });
        }
        let (_, figure) = all(&run, Sheet::Wide).into_iter().find(|(name, _)| *name == "lpips").unwrap();
        let mean = |shape: &&Shape| matches!(shape, Shape::Tip { text, .. } if text.ends_with("mean LPIPS 0.550 [0.530, 0.580]"));
        assert_eq!(figure.shapes.iter().filter(mean).count(), 3);
        let texts: Vec<String> = figure.text_boxes().into_iter().map(|(text, _)| text).collect();
        assert!(texts.join(" ").contains("mean with its 95 % interval"), "{texts:?}");
    }

    /// A cosine may be negative: its mark is not left of the axis, among the names.
    #[test]
    fn negative_values_of_pictures_are_drawn_inside() {
        let mut run = run(3, 10.0);
        run.results.iter_mut().for_each(|row| row.values.set_value("csd", Some(0.1)));
        for (at, item) in run.items.iter_mut().enumerate() {
            item.values.set_value("csd", Some(0.9 - at as f64 / 6.0));
        }
        let (_, figure) = all(&run, Sheet::Wide).into_iter().find(|(name, _)| *name == "csd").unwrap();
        let names = figure.text_boxes().into_iter().filter(|(text, _)| text.starts_with("strategy"));
        let right = names.map(|(_, bounds)| bounds[2]).fold(0.0, f64::max);
        let spots = figure.shapes.iter().filter_map(|shape| match shape {
            Shape::Spot { at, .. } => Some(at.0),
            _ => None,
        });
        let left = spots.fold(f64::INFINITY, f64::min);
        assert!(right > 50.0 && left > right + 10.0, "{left} beside {right}");
    }

    #[test]
    fn what_was_not_measured_is_said_and_not_drawn() {
        let mut run = run(3, 10.0);
        run.results[1].values.set_value("artfid", Some(f64::NAN));
        run.results[1].values.set("fid", Value::default());
        run.items.clear();
        let texts = |name: &str| {
            let figures = all(&run, Sheet::Wide);
            let boxes = figures.iter().find(|figure| figure.0 == name).unwrap().1.text_boxes();
            boxes.into_iter().map(|(text, _)| text).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(texts("artfid").matches("not measured").count(), 1);
        assert!(texts("fid_lpips").contains("Without FID or LPIPS, not drawn: strategy number 1"));
        assert!(texts("frontier").contains("Without FID or LPIPS, not drawn: strategy number 1"));
        assert!(texts("lpips").contains("No picture has an LPIPS."));
        let bare = StyleRun { results: vec![ResultRow::default()], ..StyleRun::default() };
        for (_, figure) in [Sheet::Wide, Sheet::Narrow].into_iter().flat_map(|sheet| all(&bare, sheet)) {
            assert!(figure.text_boxes().len() >= 2 && figure.png().is_ok());
        }
    }
}
