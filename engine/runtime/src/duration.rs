//! Durations as job files write them: `200ms`, `22h`, `1d`, `1h 30m`.

use std::time::Duration;

/// What is wrong with the text of a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no duration: write a whole number and a unit (ms, s, m, h, d), such as 200ms, 22h or 1h 30m")]
pub struct DurationError(pub String);

/// Units are those of Flink's configuration; a bare number is refused, since Flink reads it as milliseconds and
/// people as seconds. The smallest step is a millisecond, the resolution of event time.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let wrong = || DurationError(text.to_owned());
    let mut rest = text.trim();
    let mut total_ms = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        let unit_ms = match &rest[..letters] {
            "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return Err(wrong()),
        };
        total_ms = number.checked_mul(unit_ms).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(wrong)?;
        rest = rest[letters..].trim_start();
    }
    if i64::try_from(total_ms).is_err() {
        return Err(wrong());
    }
    Ok(Duration::from_millis(total_ms))
}

/// The shortest text that [`parse`] reads as the same.
pub fn display(duration: Duration) -> String {
    let ms = duration.as_millis();
    for (unit, unit_ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms >= unit_ms && ms.is_multiple_of(unit_ms) {
            return format!("{}{unit}", ms / unit_ms);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [
            ("200ms", 200),
            ("1s", 1000),
            ("22h", 79_200_000),
            ("1d", 86_400_000),
            ("1h 30m", 5_400_000),
            ("5 min", 300_000),
            ("0s", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1.5h", "1 fortnight", "99999999999999999999d", "999999999999999d"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for text in ["200ms", "1s", "90m", "22h", "1d", "0ms"] {
            assert_eq!(display(parse(text).unwrap()), text);
        }
    }
}
