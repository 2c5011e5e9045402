//! Times as people and tables write them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 as `2026-05-28T20:26:40Z`; days to the calendar as in
/// <https://howardhinnant.github.io/date_algorithms.html>.
pub fn utc(seconds: u64) -> String {
    let days = seconds / 86400 + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153; // months from March
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", seconds % 60)
}

/// This moment, as [`utc`] writes it.
pub fn now() -> String {
    utc(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// Says with `-v` what is done so many seconds after the process was started: where a short command spends its time.
pub fn log_moment(what: &str) {
    super::note_stage(what);
    if tracing::enabled!(tracing::Level::DEBUG)
        && let Some(seconds) = super::machine::process_seconds()
    {
        tracing::debug!("{seconds:.2} s: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let shown = [0, 951_782_400, 951_868_799, 1_767_225_599, 1_780_000_000].map(utc);
        let expected = [
            "1970-01-01T00:00:00Z",
            "2000-02-29T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2025-12-31T23:59:59Z",
            "2026-05-28T20:26:40Z",
        ];
        assert_eq!(shown, expected);
    }
}
