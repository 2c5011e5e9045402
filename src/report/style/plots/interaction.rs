//! How two axes act together: the mean of the deciding metric at each value of one, a line for each value of the other.

use crate::metrics::About;
use crate::report::figure::{Align, Figure, GRID, INK, MUTED, shorten, shorten_middle, text_width};
use crate::report::number::{finite, short};
use crate::report::plots::{Axis, MARGIN, NAME, SMALL, Sheet, color, shape, titled, told};
use crate::report::style::{DECIDING, StyleRun};
use crate::run::factors::{Factor, factors};

const TOP: f64 = 66.0;
const PANEL: f64 = 150.0;
const LEFT: f64 = 52.0;
const GAP: f64 = 24.0;
const LINE: f64 = 17.0;
/// Pairs of axes that are drawn; the first axes are those that change most slowly between strategies.
const MOST_PAIRS: usize = 6;

/// A panel for each pair of axes; none where fewer than two vary, or nothing was measured.
pub fn figure(run: &StyleRun, sheet: Sheet) -> Option<Figure> {
    let factors = factors(&run.folder.config, &run.results[..run.listed]);
    let pairs: Vec<(&Factor, &Factor)> = factors
        .iter()
        .enumerate()
        .flat_map(|(at, a)| {
            factors[at + 1..].iter().map(move |b| if a.values.len() > b.values.len() { (a, b) } else { (b, a) })
        })
        .take(MOST_PAIRS)
        .collect();
    let panels: Vec<Panel> = pairs.into_iter().map(|(along, lines)| Panel::new(run, DECIDING, along, lines)).collect();
    let all = || panels.iter().flat_map(|panel| panel.means.iter().flatten().flatten().copied());
    let (low, high) = (all().reduce(f64::min)?, all().reduce(f64::max)?);
    let room = ((high - low) * 0.08).max(f64::MIN_POSITIVE.max(high.abs() * 1e-6));
    let reading = format!(
        "Mean {} by the values of two axes. Where the lines are parallel, each axis acts whatever the other is.",
        DECIDING.label
    );
    let (mut figure, drop) = titled(sheet, "How the axes act together", &reading);
    let columns = if sheet.is_narrow() { 1 } else { 2 };
    let width = (sheet.inner() - GAP * (columns as f64 - 1.0)) / columns as f64;
    let mut top = TOP + drop;
    for row in panels.chunks(columns) {
        let legends = row.iter().map(|panel| panel.legend(width).len()).max().unwrap_or(0) as f64;
        for (at, panel) in row.iter().enumerate() {
            let left = MARGIN + at as f64 * (width + GAP);
            panel.draw(&mut figure, (left, top), width, legends * LINE, (low - room, high + room));
        }
        top += legends * LINE + PANEL + 78.0;
    }
    figure.height = top;
    let said: Vec<String> = panels.iter().map(Panel::said).collect();
    figure.alt = format!("Lines of mean {} by two axes at a time. {}", DECIDING.label, said.join(" "));
    Some(figure)
}

/// Two axes.
struct Panel<'a> {
    along: &'a Factor,
    lines: &'a Factor,
    /// By line, then along: the mean over the strategies with both values.
    means: Vec<Vec<Option<f64>>>,
}

impl<'a> Panel<'a> {
    fn new(run: &StyleRun, metric: &About, along: &'a Factor, lines: &'a Factor) -> Self {
        let mean = |line: usize, at: usize| {
            let rows = (0..along.of_rows.len()).filter(|row| along.of_rows[*row] == at && lines.of_rows[*row] == line);
            let values: Vec<f64> = rows.filter_map(|row| run.results[row].values.value(metric.name)).collect();
            finite((!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64))
        };
        let means = (0..lines.values.len()).map(|line| (0..along.values.len()).map(|at| mean(line, at)).collect());
        Self { along, lines, means: means.collect() }
    }

    /// The lines' names with their places, row by row.
    fn legend(&self, width: f64) -> Vec<Vec<(usize, String, f64)>> {
        let mut rows: Vec<Vec<(usize, String, f64)>> = Vec::new();
        let mut x = width;
        for (at, name) in self.lines.values.iter().enumerate() {
            let name = shorten(name, SMALL, width - 40.0);
            let wide = text_width(&name, SMALL, false) + 32.0;
            if x + wide > width {
                rows.push(Vec::new());
                x = 0.0;
            }
            if let Some(row) = rows.last_mut() {
                row.push((at, name, x));
            }
            x += wide;
        }
        rows
    }

    fn draw(&self, figure: &mut Figure, (left, top): (f64, f64), width: f64, legend: f64, values: (f64, f64)) {
        let title = format!("{} by {}", self.along.label(), self.lines.label());
        figure.bold((left, top), shorten(&title, NAME, width), NAME, INK, Align::Left);
        for (row, names) in self.legend(width).into_iter().enumerate() {
            let y = top + 20.0 + row as f64 * LINE;
            for (line, name, x) in names {
                shape(figure, line, (left + x + 5.0, y), 4.0, color(line));
                figure.text((left + x + 14.0, y), name, SMALL, INK, Align::Left);
            }
        }
        let above = top + 22.0 + legend;
        let y = Axis { values, pixels: (above + PANEL, above) };
        let (ticks, decimals) = y.ticks();
        for value in ticks {
            figure.line([(left + LEFT, y.at(value)), (left + width, y.at(value))], GRID, 1.0);
            figure.text((left + LEFT - 6.0, y.at(value)), format!("{value:.decimals$}"), SMALL, MUTED, Align::Right);
        }
        let step = (width - LEFT) / self.along.values.len() as f64;
        let x = |at: usize| left + LEFT + step * (at as f64 + 0.5);
        for (at, name) in self.along.values.iter().enumerate() {
            let name = shorten_middle(name, SMALL, step - 6.0);
            figure.text((x(at), above + PANEL + 15.0), name, SMALL, INK, Align::Middle);
        }
        figure.text(
            (left + LEFT + (width - LEFT) / 2.0, above + PANEL + 34.0),
            shorten(&self.along.label(), SMALL, width - LEFT),
            SMALL,
            MUTED,
            Align::Middle,
        );
        for (line, means) in self.means.iter().enumerate() {
            let points: Vec<(f64, f64)> =
                means.iter().enumerate().filter_map(|(at, mean)| Some((x(at), y.at((*mean)?)))).collect();
            if points.len() > 1 {
                figure.line(points.clone(), color(line), 2.0);
            }
            points.into_iter().for_each(|point| shape(figure, line, point, 4.0, color(line)));
            for (at, mean) in means.iter().enumerate().filter_map(|(at, mean)| Some((at, (*mean)?))) {
                let name = format!("{}, {}", self.along.values[at], self.lines.values[line]);
                let (px, py) = (x(at), y.at(mean));
                figure.tip((px - 6.0, py - 6.0), (px + 6.0, py + 6.0), told(&name, DECIDING.label, Some(mean), None));
            }
        }
    }

    fn said(&self) -> String {
        let line = |(line, means): (usize, &Vec<Option<f64>>)| {
            let at = |(at, mean): (usize, &Option<f64>)| format!("{} {}", self.along.values[at], short(*mean));
            let means: Vec<String> = means.iter().enumerate().map(at).collect();
            format!("{}: {}", self.lines.values[line], means.join(", "))
        };
        let lines: Vec<String> = self.means.iter().enumerate().map(line).collect();
        format!("{} by {}: {}.", self.along.label(), self.lines.label(), lines.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::axes::{guidance_scale, scheduler, seed};
    use crate::report::style::plots::labels::meet;
    use crate::run::style::ResultRow;

    #[test]
    fn every_pair_of_axes_has_a_panel_and_no_text_meets_another() {
        let mut config = String::from("[axes.guidance_scale]\n");
        (0..7).for_each(|at| config += &format!("\"a-name-that-is-long-{at}\" = {at}.5\n"));
        config += "[axes.scheduler]\nddim = 'ddim'\n'dpmsolver-and-more' = 'dpmsolver++'\n[axes.seed]\n1 = 1\n2 = 2\n";
        let mut run = StyleRun::default();
        run.folder.config = config.parse().unwrap();
        for (at, row) in (0..28).enumerate() {
            let values = [("artfid", Some(100.0 + ((row * 13) % 11) as f64))].into_iter().collect();
            let mut result = ResultRow { strategy: format!("s{at}"), values, ..ResultRow::default() };
            result.axes.set(&guidance_scale::AXIS, (at / 4) as f64 + 0.5);
            result.axes.set(&scheduler::AXIS, if at % 4 < 2 { "ddim" } else { "dpmsolver++" });
            result.axes.set(&seed::AXIS, 1 + at as u64 % 2);
            run.results.push(result);
        }
        assert!(figure(&run, Sheet::Wide).is_none(), "what is not in results.csv is not drawn");
        run.listed = 28;
        let figure = figure(&run, Sheet::Wide).unwrap();
        for title in ["guidance scale by scheduler", "guidance scale by seed", "seed by scheduler"] {
            assert_eq!(figure.text_boxes().iter().filter(|(text, _)| text == title).count(), 1, "{title}");
        }
        let boxes = figure.text_boxes();
        for (at, (text, b)) in boxes.iter().enumerate() {
            assert!(b[0] >= 0.0 && b[1] >= 0.0 && b[2] <= figure.width && b[3] <= figure.height, "{text}");
            for (other, o) in &boxes[..at] {
                let o = [o[0] + 3.0, o[1] + 3.0, o[2] - 3.0, o[3] - 3.0];
                assert!(!meet(b, &o), "{text:?} on {other:?}");
            }
        }
        // Five strategies have the mean of two numbers in this place, each of its own seed.
        let of = |row: usize| run.results[row].values.value("artfid").unwrap();
        assert!(figure.alt.contains(&format!("ddim: a-name-that-is-long-0 {}", short(Some((of(0) + of(1)) / 2.0)))));
    }
}
