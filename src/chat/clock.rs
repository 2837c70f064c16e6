//! Dates as templates write them: the formats of `strftime`, in UTC and in English.

use std::fmt::Write;

/// The longest format.
const MOST_FORMAT_BYTES: usize = 256;
const DAY: u64 = 86_400;
const WEEKDAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// The time `seconds` after the beginning of 1970 by a format of `strftime`. Codes that are not known are an error that names them.
pub(super) fn formatted(seconds: u64, format: &str) -> Result<String, String> {
    if format.len() > MOST_FORMAT_BYTES {
        return Err(format!("strftime_now with a format of {} bytes; at most {MOST_FORMAT_BYTES}", format.len()));
    }
    let days = seconds / DAY;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (weekday, month_name) = (WEEKDAYS[(days % 7) as usize], MONTHS[month as usize - 1]);
    let (half, half_hour) = (if hour < 12 { "AM" } else { "PM" }, (hour + 11) % 12 + 1);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        let mut code = characters.next();
        let pads = code != Some('-');
        if !pads {
            code = characters.next();
        }
        let two = if pads { 2 } else { 0 };
        let written = match code {
            Some('a') => write!(text, "{}", &weekday[..3]),
            Some('A') => write!(text, "{weekday}"),
            Some('b' | 'h') => write!(text, "{}", &month_name[..3]),
            Some('B') => write!(text, "{month_name}"),
            Some('d') => write!(text, "{day:0two$}"),
            Some('e') => write!(text, "{day:2}"),
            Some('m') => write!(text, "{month:0two$}"),
            Some('y') => write!(text, "{:0two$}", year % 100),
            Some('Y') => write!(text, "{year}"),
            Some('H') => write!(text, "{hour:0two$}"),
            Some('I') => write!(text, "{half_hour:0two$}"),
            Some('M') => write!(text, "{minute:0two$}"),
            Some('S') => write!(text, "{second:0two$}"),
            Some('p') => write!(text, "{half}"),
            Some('j') => write!(text, "{:03}", days - days_before(year) + 1),
            Some('F') => write!(text, "{year}-{month:02}-{day:02}"),
            Some('T') => write!(text, "{hour:02}:{minute:02}:{second:02}"),
            Some('D') => write!(text, "{month:02}/{day:02}/{:02}", year % 100),
            Some('Z') => write!(text, "UTC"),
            Some('z') => write!(text, "+0000"),
            Some('%') => write!(text, "%"),
            Some(other) => return Err(format!("strftime_now knows no %{other}")),
            None => return Err("strftime_now with a format that ends in %".into()),
        };
        written.expect("a string takes all");
    }
    Ok(text)
}

/// Year, month and day of the Gregorian calendar, by days since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // since the first of March of year 0, so that leap days come last
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153; // months since March
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// Days from 1970 to the first of January of a year.
fn days_before(year: u64) -> u64 {
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969)
}

#[cfg(test)]
mod tests {
    use super::formatted;

    #[test]
    fn dates_are_those_of_other_calendars() {
        // `date -u -d @SECONDS +FORMAT` of GNU coreutils.
        for (seconds, format, text) in [
            (0, "%A %d %B %Y %j", "Thursday 01 January 1970 001"),
            (951_782_400, "%a %-d %b %y %j", "Tue 29 Feb 00 060"),
            (1_783_166_400, "%d %b %Y, %H:%M:%S %I %p", "04 Jul 2026, 12:00:00 12 PM"),
            (1_735_689_599, "%F %T %D %j %%", "2024-12-31 23:59:59 12/31/24 366 %"),
            (4_107_542_399, "%F", "2100-02-28"),
            (4_107_542_400, "%e %m %-m %-H%-M", " 1 03 3 00"),
        ] {
            assert_eq!(formatted(seconds, format).unwrap(), text, "{seconds}");
        }
    }

    #[test]
    fn formats_that_are_none_are_named() {
        for (format, words) in
            [("%Q", "%Q"), ("x%", "ends in %"), ("%-", "ends in %"), (&*"%".repeat(300), "300 bytes")]
        {
            assert!(formatted(0, format).unwrap_err().contains(words), "{format}");
        }
    }
}
