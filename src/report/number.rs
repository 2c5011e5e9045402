//! Numbers as a reader wants them.

pub use crate::run::finite;

/// A value with about four significant digits; `–` where there is none.
pub fn short(value: Option<f64>) -> String {
    let Some(value) = finite(value) else { return "–".to_string() };
    let decimals = match value.abs() {
        v if v >= 1000.0 => 0,
        v if v >= 100.0 => 1,
        v if v >= 10.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}").replace('-', "−")
}

/// The same of a difference, with its sign; what rounds to nothing has none.
pub fn signed(difference: f64) -> String {
    let shown = short(Some(difference));
    match shown.trim_start_matches('−') {
        size if size.chars().all(|c| "0.".contains(c)) => size.to_string(),
        _ if difference > 0.0 => format!("+{shown}"),
        _ => shown,
    }
}

/// A probability as `= 0.123`; a thousand resamples tell none that is smaller than one in a thousand.
pub fn equal(probability: f64) -> String {
    if probability < 0.001 { "< 0.001".to_string() } else { format!("= {probability:.3}") }
}

/// About `count` round values within `low..=high`, for an axis, and the decimals they need.
pub fn ticks(low: f64, high: f64, count: usize) -> (Vec<f64>, usize) {
    let span = (high - low).max(f64::MIN_POSITIVE);
    let rough = span / count.max(1) as f64;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * magnitude).into_iter().find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(rough);
    let decimals = (0..10).find(|d| (step * 10f64.powi(*d) % 1.0).min(1.0 - step * 10f64.powi(*d) % 1.0) < 1e-6);
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    ((first..=last).map(|k| k as f64 * step).collect(), decimals.unwrap_or(0) as usize)
}

#[cfg(test)]
mod tests {
    use super::{equal, short, signed, ticks};

    #[test]
    fn numbers_are_short() {
        let shown = [1234.56, 123.456, 12.3456, 1.23456, 0.0123, -2.0].map(|v| short(Some(v)));
        assert_eq!(shown, ["1235", "123.5", "12.35", "1.235", "0.012", "−2.000"]);
        assert_eq!(
            (short(None), short(Some(f64::NAN)), short(Some(f64::INFINITY))),
            ("–".into(), "–".into(), "–".into())
        );
    }

    #[test]
    fn differences_have_signs_and_probabilities_an_end() {
        assert_eq!([12.345, -0.5, 0.0001, -0.0001].map(signed), ["+12.35", "−0.500", "0.000", "0.000"]);
        assert_eq!([0.5, 0.0004].map(equal), ["= 0.500", "< 0.001"]);
    }

    #[test]
    fn ticks_are_round_and_inside() {
        assert_eq!(ticks(0.0, 430.0, 5), (vec![0.0, 100.0, 200.0, 300.0, 400.0], 0));
        assert_eq!(ticks(0.31, 0.55, 5).0.len(), 5);
        assert_eq!(ticks(0.31, 0.55, 5).1, 2);
        assert_eq!(ticks(0.0, 0.1, 4).1, 3);
        assert!(ticks(5.0, 5.0, 5).0.len() <= 1);
    }
}
