//! The frontier of a run that compares ways to a style (LoRA, ControlNet, IP-Adapter) at no strength: all of them as
//! points, those joined that no other beats in both what is kept of the photo and what is reached of the style.

use super::frontier::padded;
use super::labels;
use super::lines::lines;
use super::tradeoff::{Field, Strategy, absent, axes, measured, told_both};
use super::{strategy_colors, strategy_shapes};
use crate::axes::{Axis as Factor, control, ip_adapter, lora};
use crate::metrics::Value;
use crate::report::figure::{Align, Figure, INK, MUTED, PAPER, Point, shorten_middle, text_width};
use crate::report::number::{finite, short};
use crate::report::plots::{Axis, MARGIN, NAME, Sheet, shape, titled};
use crate::report::style::{PHOTO, STYLE, StyleRun};

const RADIUS: f64 = 6.0;
const LEGEND_LINE: f64 = 19.0;
/// Wider names than this part of the field push their labels away from the marks.
const WIDEST_NAME: f64 = 0.7;
/// What makes a strategy another way to the style than words.
static WAYS: [&Factor; 3] = [&lora::AXIS, &control::AXIS, &ip_adapter::AXIS];

/// The plot; None where the measured strategies all go the same way, or lie along strength.
pub fn figure(run: &StyleRun, sheet: Sheet) -> Option<Figure> {
    let known = measured(run);
    let first = &run.results[known.first()?.at];
    let differ = |s: &Strategy| WAYS.iter().any(|axis| run.results[s.at].axes.get(axis) != first.axes.get(axis));
    if !lines(run).is_empty() || !known.iter().any(differ) {
        return None;
    }
    let reading = "Left: more of the photo is kept; lower: the style is reached better. Filled and joined: no other strategy \
                   is better in both. Hollow: another is. Thin: 95 % intervals.";
    let (mut figure, drop) = titled(sheet, "Photo kept against style reached, all ways", reading);
    let field = Field::new(sheet, drop);
    figure.height = field.bottom + 50.0;
    let x = Axis { values: padded(known.iter().flat_map(|s| ends(run, s).0)), pixels: (field.left, field.right) };
    let y = Axis { values: padded(known.iter().flat_map(|s| ends(run, s).1)), pixels: (field.bottom, field.top) };
    axes(&mut figure, &x, &y);
    let best = front(&known);
    let places: Vec<Point> = known.iter().map(|s| (x.at(s.lpips), y.at(s.fid))).collect();
    intervals(&mut figure, run, &known, (&x, &y));
    best.windows(2).for_each(|pair| figure.line([places[pair[0]], places[pair[1]]], INK, 1.5));
    let (labels, whole) = labels(&known, &places, field);
    leaders(&mut figure, &labels, &places);
    marks(&mut figure, run, (&known, &best), &places);
    for (text, place) in &labels {
        if let Some([left, top, right, bottom]) = *place {
            figure.rect((left - 1.0, top), (right + 1.0, bottom), PAPER, 0.8); // no line through a name
            figure.text((left, (top + bottom) / 2.0), text, NAME, INK, Align::Left);
        }
    }
    if !whole {
        legend(&mut figure, &known);
    }
    absent(&mut figure, run, &known);
    figure.alt = alt(&known, &best);
    Some(figure)
}

/// LPIPS and FID of a strategy: the value and both ends of its interval, or the value again.
fn ends(run: &StyleRun, s: &Strategy) -> ([f64; 3], [f64; 3]) {
    let of = |value: f64, Value { low, high, .. }: Value| {
        [value, finite(low).unwrap_or(value), finite(high).unwrap_or(value)]
    };
    let values = &run.results[s.at].values;
    (of(s.lpips, values.get(PHOTO.name)), of(s.fid, values.get(STYLE.name)))
}

fn intervals(figure: &mut Figure, run: &StyleRun, known: &[Strategy], (x, y): (&Axis, &Axis)) {
    let colors = strategy_colors(run);
    for s in known {
        let ([lpips, left, right], [fid, low, high]) = ends(run, s);
        figure.thin([(x.at(left), y.at(fid)), (x.at(right), y.at(fid))], colors[s.at]);
        figure.thin([(x.at(lpips), y.at(low)), (x.at(lpips), y.at(high))], colors[s.at]);
    }
}

/// Marks: hollow where another strategy is better in both.
fn marks(figure: &mut Figure, run: &StyleRun, (known, best): (&[Strategy], &[usize]), places: &[Point]) {
    let (colors, shapes) = (strategy_colors(run), strategy_shapes(run));
    for (k, (s, place)) in known.iter().zip(places).enumerate() {
        shape(figure, shapes[s.at], *place, RADIUS, colors[s.at]);
        if !best.contains(&k) {
            shape(figure, shapes[s.at], *place, RADIUS - 2.0, PAPER);
        }
        let reach = RADIUS + 1.0;
        let (from, to) = ((place.0 - reach, place.1 - reach), (place.0 + reach, place.1 + reach));
        figure.tip(from, to, told_both(&run.results[s.at]));
    }
}

/// Positions of the strategies that no other beats: by rising LPIPS, and so by falling FID.
fn front(known: &[Strategy]) -> Vec<usize> {
    let beats =
        |a: &Strategy, b: &Strategy| a.lpips <= b.lpips && a.fid <= b.fid && (a.lpips < b.lpips || a.fid < b.fid);
    let mut best: Vec<usize> = (0..known.len()).filter(|k| !known.iter().any(|a| beats(a, &known[*k]))).collect();
    best.sort_by(|a, b| known[*a].lpips.total_cmp(&known[*b].lpips));
    best
}

/// What stands beside each mark, and where: whole names if there is room for all, else their numbers in the legend.
fn labels(known: &[Strategy], places: &[Point], field: Field) -> (Vec<(String, Option<labels::Box4>)>, bool) {
    let placed = |texts: Vec<String>| {
        let sizes: Vec<_> = texts.iter().map(|text| (text_width(text, NAME, false), NAME)).collect();
        let boxes = labels::place(places, &sizes, RADIUS, field.bounds(), &[]);
        texts.into_iter().zip(boxes).collect::<Vec<_>>()
    };
    let widest = (field.right - field.left) * WIDEST_NAME;
    if known.iter().all(|s| text_width(&s.name, NAME, false) <= widest) {
        let names = placed(known.iter().map(|s| s.name.clone()).collect());
        if names.iter().all(|(_, place)| place.is_some()) {
            return (names, true);
        }
    }
    (placed((1..=known.len()).map(|number| number.to_string()).collect()), false)
}

/// A line to each label that had to go away from its mark.
fn leaders(figure: &mut Figure, labels: &[(String, Option<labels::Box4>)], places: &[Point]) {
    for ((_, place), at) in labels.iter().zip(places) {
        let Some([left, top, right, bottom]) = *place else { continue };
        let near = (at.0.clamp(left, right), at.1.clamp(top, bottom));
        if (near.0 - at.0).hypot(near.1 - at.1) > RADIUS * 2.5 {
            figure.line([*at, near], MUTED, 0.75);
        }
    }
}

/// The strategies by number, under the plot.
fn legend(figure: &mut Figure, known: &[Strategy]) {
    let top = figure.height + 8.0;
    for (k, s) in known.iter().enumerate() {
        let y = top + LEGEND_LINE * k as f64;
        figure.text((MARGIN + 22.0, y), (k + 1).to_string(), NAME, INK, Align::Right);
        let name = shorten_middle(&s.name, NAME, figure.width - 2.0 * MARGIN - 34.0);
        figure.text((MARGIN + 34.0, y), name, NAME, INK, Align::Left);
    }
    figure.height = top + LEGEND_LINE * known.len() as f64;
}

fn alt(known: &[Strategy], best: &[usize]) -> String {
    let spot = |s: &Strategy| format!("{}: LPIPS {} FID {}", s.name, short(Some(s.lpips)), short(Some(s.fid)));
    let of = |chosen: Vec<&Strategy>| chosen.into_iter().map(spot).collect::<Vec<_>>().join("; ");
    let behind: Vec<&Strategy> = (0..known.len()).filter(|k| !best.contains(k)).map(|k| &known[k]).collect();
    let rest = if behind.is_empty() { String::new() } else { format!(" Behind them: {}.", of(behind)) };
    let best = of(best.iter().map(|k| &known[*k]).collect());
    format!("Points of FID against LPIPS. No other is better in both: {best}.{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axes::{strength, style_text};
    use crate::run::style::ResultRow;

    fn run(rows: &[(&str, &str, f64, f64)]) -> StyleRun {
        let row = |(strategy, lora, lpips, fid): &(&str, &str, f64, f64)| {
            let values = [("lpips", Some(*lpips)), ("fid", Some(*fid))].into_iter().collect();
            let mut row = ResultRow { strategy: strategy.to_string(), values, ..Default::default() };
            row.axes.set(&lora::AXIS, *lora);
            row
        };
        StyleRun { results: rows.iter().map(row).collect(), ..Default::default() }
    }

    /// The ways of `experiments/beyond_words.toml`, and what it measured of them.
    fn ways() -> StyleRun {
        let mut run = run(&[
            ("mask__lora__none__none", "a.safetensors", 0.56, 14.0),
            ("mask__none__none__none", "", 0.41, 261.0),
            ("mask__none__canny__none", "", 0.05, 309.0),
            ("mask__none__none__shown", "", 0.53, 234.0),
            ("mask__none__canny__shown", "", 0.38, 223.0),
            ("mask__lora__canny__shown", "a.safetensors", 0.57, 16.0),
        ]);
        [2, 4, 5].iter().for_each(|at| run.results[*at].axes.set(&control::AXIS, "canny"));
        [3, 4, 5].iter().for_each(|at| run.results[*at].axes.set(&ip_adapter::AXIS, "ip.safetensors"));
        run
    }

    fn texts(figure: &Figure) -> Vec<String> {
        figure.text_boxes().into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn all_ways_are_named_points_and_the_unbeaten_ones_are_told() {
        let run = ways();
        for sheet in [Sheet::Wide, Sheet::Narrow] {
            let figure = figure(&run, sheet).unwrap();
            let texts = texts(&figure);
            for row in &run.results {
                assert!(texts.contains(&row.strategy), "{sheet:?}: {} is whole in {texts:?}", row.strategy);
            }
            let (best, behind) = figure.alt.split_once("Behind them").unwrap();
            let of = |alt: &str| run.results.iter().map(|row| alt.contains(&row.strategy)).collect::<Vec<_>>();
            assert_eq!(of(best), [true, false, true, false, true, false], "{}", figure.alt);
            assert_eq!(of(behind), [false, true, false, true, false, true], "{}", figure.alt);
        }
    }

    #[test]
    fn each_way_alone_makes_a_frontier_and_words_or_strength_do_not() {
        let two = || run(&[("a", "", 0.1, 300.0), ("b", "", 0.5, 100.0)]);
        let drawn = |run: &StyleRun| figure(run, Sheet::Wide).is_some();
        let mut words = two();
        words.results[1].axes.set(&style_text::AXIS, "ink");
        assert!(!drawn(&words));
        for axis in WAYS {
            let mut differing = two();
            differing.results[1].axes.set(axis, "something");
            assert!(drawn(&differing), "{}", axis.key);
            differing.results[0].axes.set(axis, "something");
            assert!(!drawn(&differing), "both have {}", axis.key);
            differing.results[0].axes.set(axis, "another");
            let mut along = two();
            along.results[1].axes.set(axis, "something");
            along.results[1].axes.set(&strength::AXIS, Some(0.5));
            assert!(!drawn(&along), "a run with strengths keeps its lines");
            differing.results[1].values.set_value("fid", None);
            assert!(!drawn(&differing), "one point is no frontier");
        }
    }

    #[test]
    fn equals_are_both_unbeaten_and_crowded_names_go_into_a_legend() {
        let names: Vec<String> = (0..9).map(|k| format!("a way with a long name, of the number {k}")).collect();
        let rows: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str(), 0.5, 100.0)).collect();
        let run = run(&rows);
        assert_eq!(front(&measured(&run)).len(), 9);
        let narrow = figure(&run, Sheet::Narrow).unwrap();
        let texts = texts(&narrow);
        assert!(names.iter().all(|name| texts.contains(name)), "{texts:?}");
        for (at, (text, b)) in narrow.text_boxes().iter().enumerate() {
            assert!(b[0] >= 0.0 && b[2] <= narrow.width && b[3] <= narrow.height, "{text:?} at {b:?}");
            for (other, o) in &narrow.text_boxes()[..at] {
                let o = [o[0] + 3.0, o[1] + 3.0, o[2] - 3.0, o[3] - 3.0];
                assert!(!labels::meet(b, &o), "{text:?} on {other:?}");
            }
        }
    }
}
