//! A metric of each picture, per strategy: the shape of the distribution, its quartiles, and every picture.

use plotters::style::RGBColor;

use super::strategy_colors;
use crate::metrics::About;
use crate::metrics::stats::{Interval, quantile};
use crate::report::figure::{Align, Figure, INK, MUTED, PAPER, Shape, shorten_middle, text_width};
use crate::report::number::short;
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, Sheet, nothing, titled, told};
use crate::report::style::StyleRun;
use crate::run::style::{ItemRow, ResultRow};

const TOP: f64 = 66.0;
const ROW: f64 = 58.0;
/// Room for a name over its row, on a narrow sheet.
const ABOVE: f64 = 20.0;
/// Fewer pictures make no shape: only the points are drawn.
const ENOUGH_FOR_A_SHAPE: usize = 8;
/// More points than this hide each other; an even part of them is drawn.
const MOST_POINTS: usize = 400;

/// The distributions, in the order of the ArtFID plot.
pub fn figure(run: &StyleRun, metric: &About, sheet: Sheet) -> Figure {
    let title = format!("{} of each picture", metric.label);
    let order = run.ranking();
    let known: Vec<Vec<(f64, &str)>> = order.iter().map(|at| values(run, metric, *at)).collect();
    let values: Vec<Vec<f64>> = known.iter().map(|known| known.iter().map(|(value, _)| *value).collect()).collect();
    let Some(axis) = axis(run, &values, sheet) else {
        return nothing(sheet, &title, &format!("No picture has {}.", metric.one()));
    };
    let has_interval = run.results.iter().any(|row| row.values.interval(metric.name).is_some());
    let mean = if has_interval { "; thin line: mean with its 95 % interval" } else { "" };
    let reading = format!("{} Bar: middle half; gap: median; dots: pictures{mean}.", metric.item.unwrap_or_default());
    let (mut figure, drop) = titled(sheet, &title, &reading);
    let (above, start) = (if sheet.is_narrow() { ABOVE } else { 0.0 }, TOP + drop);
    let bottom = start + (ROW + above) * order.len() as f64;
    figure.height = bottom + 48.0;
    axis.draw_horizontal(&mut figure, start, bottom, metric.label);
    let colors = strategy_colors(run);
    for (row, (at, values)) in order.iter().zip(&values).enumerate() {
        let middle = start + (ROW + above) * row as f64 + above + ROW * 0.56;
        let strategy = &run.results[*at];
        let count = if values.is_empty() { "not measured".to_string() } else { format!("n = {}", values.len()) };
        if sheet.is_narrow() {
            let (left, right) = axis.pixels;
            let y = middle - above - ROW * 0.56 + 12.0;
            let name = shorten_middle(&strategy.strategy, NAME, right - left - 90.0);
            figure.text_on_paper((left, y), name, NAME, INK, Align::Left);
            figure.text_on_paper((right, y), count, SMALL, MUTED, Align::Right);
            // Beside the shape alone, so that it touches no name.
            figure.line([(left, middle - ROW * 0.5), (left, middle + ROW * 0.4)], MUTED, 1.0);
        } else {
            let name = shorten_middle(&strategy.strategy, NAME, axis.pixels.0 - MARGIN - 14.0);
            figure.text((axis.pixels.0 - 12.0, middle - 8.0), name, NAME, INK, Align::Right);
            figure.text((axis.pixels.0 - 12.0, middle + 8.0), count, SMALL, MUTED, Align::Right);
        }
        cloud(&mut figure, &axis, values, colors[*at], middle);
        points(&mut figure, &axis, &known[row], (colors[*at], strategy, metric), middle);
        averaged(&mut figure, &axis, (strategy, metric), middle);
    }
    if !sheet.is_narrow() {
        figure.line([(axis.pixels.0, start), (axis.pixels.0, bottom)], MUTED, 1.0);
    }
    figure.alt = alt(run, metric, &order, &values);
    figure
}

/// The measured values of a strategy, sorted, each with its photo.
fn values<'a>(run: &'a StyleRun, metric: &About, at: usize) -> Vec<(f64, &'a str)> {
    let of = |item: &'a ItemRow| Some((item.values.value(metric.name)?, item.id.as_str()));
    let mut values: Vec<(f64, &str)> = run.items_of(&run.results[at].strategy).filter_map(of).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    values
}

fn axis(run: &StyleRun, values: &[Vec<f64>], sheet: Sheet) -> Option<Axis> {
    let low = values.iter().flatten().copied().reduce(f64::min)?;
    let high = values.iter().flatten().copied().reduce(f64::max)?;
    let room = ((high - low) * 0.12).max(high.abs() * 0.02).max(1e-3);
    let names = run.results.iter().map(|row| text_width(&row.strategy, NAME, false)).fold(80.0, f64::max);
    let left = if sheet.is_narrow() { MARGIN } else { MARGIN + names.min(210.0) + 16.0 };
    // Only what can be negative has an axis below 0.
    let start = if low < 0.0 { low - room } else { (low - room).max(0.0) };
    Some(Axis { values: (start, high + room), pixels: (left, sheet.width() - MARGIN - 10.0) })
}

/// Half a violin above, the quartiles on the middle line.
fn cloud(figure: &mut Figure, axis: &Axis, values: &[f64], color: RGBColor, middle: f64) {
    if values.len() >= ENOUGH_FOR_A_SHAPE {
        let shape = density(values, axis.values);
        let highest = shape.iter().map(|(_, d)| *d).fold(f64::MIN_POSITIVE, f64::max);
        let mut outline: Vec<_> =
            shape.iter().map(|(v, d)| (axis.at(*v), middle - 5.0 - d / highest * ROW * 0.42)).collect();
        outline.extend([shape.last(), shape.first()].into_iter().flatten().map(|(v, _)| (axis.at(*v), middle - 5.0)));
        figure.area(outline, color, 0.45);
    }
    if let (Some(q1), Some(q2), Some(q3)) = (quantile(values, 0.25), quantile(values, 0.5), quantile(values, 0.75))
        && values.len() > 2
    {
        figure.rect((axis.at(q1), middle - 3.5), (axis.at(q3), middle + 3.5), color, 1.0);
        figure.rect((axis.at(q2) - 1.5, middle - 5.0), (axis.at(q2) + 1.5, middle + 5.0), PAPER, 1.0);
    }
}

/// The mean of the strategy with its interval, over the bar.
fn averaged(figure: &mut Figure, axis: &Axis, (row, metric): (&ResultRow, &About), middle: f64) {
    let (value, interval) = (row.values.value(metric.name), row.values.interval(metric.name));
    let (Some(value), Some(Interval { low, high })) = (value, interval) else { return };
    let (low, high) = (axis.at(low), axis.at(high));
    // An edge of paper tells it from the bar below it, whatever colour that has.
    figure.rect((low - 1.0, middle - 1.75), (high + 1.0, middle + 1.75), PAPER, 0.9);
    figure.line([(low, middle), (high, middle)], INK, 1.5);
    for end in [low, high] {
        figure.line([(end, middle - 4.0), (end, middle + 4.0)], INK, 1.5);
    }
    figure.disc((axis.at(value), middle), 3.4, PAPER, 1.0);
    figure.disc((axis.at(value), middle), 2.4, INK, 1.0);
    let text = told(&row.strategy, &format!("mean {}", metric.label), Some(value), interval);
    figure.tip((low - 3.0, middle - 5.0), (high + 3.0, middle + 5.0), text);
}

/// The pictures, below the middle line; in the page each opens its own.
fn points(
    figure: &mut Figure,
    axis: &Axis,
    known: &[(f64, &str)],
    (color, row, metric): (RGBColor, &ResultRow, &About),
    middle: f64,
) {
    let step = known.len().div_ceil(MOST_POINTS).max(1);
    for (k, (value, id)) in known.iter().step_by(step).enumerate() {
        // Multiples of the golden ratio scatter evenly and are the same every time.
        let jitter = (k as f64 * 0.618_033_988_75).fract();
        let at = (axis.at(*value), middle + 8.0 + jitter * 9.0);
        figure.disc(at, 2.0, color, 0.9);
        let (photo, strategy) = (id.to_string(), row.strategy.clone());
        let text = told(&format!("{id}, {strategy}"), metric.label, Some(*value), None);
        figure.shapes.push(Shape::Spot { at, radius: 4.0, photo, strategy, text });
    }
}

/// Gaussian kernel density with Silverman's bandwidth, from one bandwidth below the values to one above.
fn density(sorted: &[f64], bounds: (f64, f64)) -> Vec<(f64, f64)> {
    let n = sorted.len() as f64;
    let mean = sorted.iter().sum::<f64>() / n;
    let deviation = (sorted.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    let quartiles = quantile(sorted, 0.75).unwrap_or(mean) - quantile(sorted, 0.25).unwrap_or(mean);
    let spread = if quartiles > 0.0 { deviation.min(quartiles / 1.34) } else { deviation };
    let bandwidth = (0.9 * spread * n.powf(-0.2)).max((bounds.1 - bounds.0) * 0.004);
    let (low, high) = (sorted[0] - bandwidth, sorted[sorted.len() - 1] + bandwidth);
    let (low, high) = (low.max(bounds.0), high.min(bounds.1));
    let at = |k: u32| low + (high - low) * f64::from(k) / 120.0;
    let kernel = |v: f64| sorted.iter().map(|s| (-((v - s) / bandwidth).powi(2) / 2.0).exp()).sum::<f64>();
    (0..=120).map(|k| (at(k), kernel(at(k)))).collect()
}

fn alt(run: &StyleRun, metric: &About, order: &[usize], values: &[Vec<f64>]) -> String {
    let medians = order.iter().zip(values).map(|(at, values)| {
        format!("{} median {} of {}", run.results[*at].strategy, short(quantile(values, 0.5)), values.len())
    });
    format!("Distribution of {} over the pictures: {}.", metric.label, medians.collect::<Vec<_>>().join("; "))
}
