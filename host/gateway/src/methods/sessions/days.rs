//! Days of the calendar, for what is counted by day.

use leanclaw_types::frame::ErrorShape;

const DAY_MS: i64 = 86_400_000;
/// Days that may be asked for at once: ten years.
const MAX_DAYS: i64 = 3660;

/// Whole days, the last one included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Days since the Unix epoch.
    pub(super) first: i64,
    /// See `first`.
    pub(super) last: i64,
    /// What to add to a time before its day is taken, in milliseconds.
    pub(super) shift_ms: i64,
}

impl Span {
    /// The days from one date to another, or the `days` up to today.
    ///
    /// # Errors
    /// A date that is none, or a span that ends before it begins or is too long.
    pub(super) fn read(
        (start, end): (Option<&str>, Option<&str>),
        utc_offset: Option<&str>,
        days: i64,
        now_ms: u64,
    ) -> Result<Self, ErrorShape> {
        let shift_ms = utc_offset.map(offset_ms).transpose()?.unwrap_or(0);
        let today = i64::try_from(now_ms).unwrap_or(i64::MAX).saturating_add(shift_ms).div_euclid(DAY_MS);
        let last = end.map(day_of).transpose()?.unwrap_or(today);
        let first = match start {
            Some(start) => day_of(start)?,
            None => last - (days.clamp(1, MAX_DAYS) - 1),
        };
        if first > last || last - first >= MAX_DAYS {
            return Err(ErrorShape::invalid(format!(
                "invalid dates: from start to end it must be 1 to {MAX_DAYS} days"
            )));
        }
        Ok(Self { first, last, shift_ms })
    }

    /// How many days.
    pub(super) fn days(&self) -> i64 {
        self.last - self.first + 1
    }

    /// From when to when (not included), in milliseconds since the Unix epoch.
    pub(super) fn times_ms(&self) -> (u64, u64) {
        let time = |day: i64| u64::try_from(day * DAY_MS - self.shift_ms).unwrap_or(0);
        (time(self.first), time(self.last + 1))
    }
}

/// `YYYY-MM-DD` of a day.
pub(super) fn date(day: i64) -> String {
    // The civil calendar repeats every 400 years; years begin in March here, so that a leap day comes last.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day_of_month:02}", year_of_era + era * 400 + next)
}

/// The day of a `YYYY-MM-DD`.
fn day_of(text: &str) -> Result<i64, ErrorShape> {
    let bad = || ErrorShape::invalid("invalid date: it must be a day written YYYY-MM-DD, from 1970 on");
    let mut parts = text.splitn(3, '-').map(str::parse::<i64>);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) = (parts.next(), parts.next(), parts.next()) else {
        return Err(bad());
    };
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(bad());
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    let found = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    // A day that the month does not have would come out as another one.
    if date(found) == text { Ok(found) } else { Err(bad()) }
}

/// Milliseconds of an offset such as `UTC+5:30`.
fn offset_ms(text: &str) -> Result<i64, ErrorShape> {
    let bad = || ErrorShape::invalid("invalid utcOffset: it must look like UTC+2 or UTC-3:30");
    let rest = text.strip_prefix("UTC").ok_or_else(bad)?;
    let (sign, rest) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return Err(bad()),
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "0"));
    match (hours.parse::<u8>(), minutes.parse::<u8>()) {
        (Ok(hours @ 0..=14), Ok(minutes @ 0..=59)) => Ok(sign * (i64::from(hours) * 60 + i64::from(minutes)) * 60_000),
        _ => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_the_dates_of_the_calendar() {
        for (day, text) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (19_675, "2023-11-14"),
            (20_454, "2026-01-01"),
        ] {
            assert_eq!((date(day).as_str(), day_of(text).unwrap()), (text, day));
        }
        for bad in ["2023-02-29", "2023-13-01", "1969-12-31", "2023-1-1", "x", "2023-01-32", "2023-01"] {
            assert!(day_of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_end_today_where_the_asker_is() {
        let evening = 19_675 * 86_400_000 + 23 * 3_600_000;
        let span = |offset| Span::read((None, None), offset, 7, evening).unwrap();
        assert_eq!((span(None).first, span(None).last, span(None).days()), (19_669, 19_675, 7));
        assert_eq!(span(Some("UTC+2")).last, 19_676);
        assert_eq!(span(Some("UTC+2")).times_ms().1, 19_677 * 86_400_000 - 2 * 3_600_000);
        assert_eq!(span(Some("UTC-3:30")).last, 19_675);
        for bad in ["UTC", "+2", "UTC+15", "UTC+1:60", "UTC+x"] {
            assert!(offset_ms(bad).is_err(), "{bad}");
        }
        assert!(Span::read((Some("2023-01-02"), Some("2023-01-01")), None, 1, evening).is_err());
        assert!(Span::read((Some("1970-01-01"), None), None, 1, evening).is_err());
    }
}
