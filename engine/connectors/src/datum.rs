//! One value on its way from a text format into a column, and why it does not fit.
//!
//! CSV, JSON lines and job files all read through here, so that a type means the same in each of them.

use std::borrow::Cow;

use arrow::array::timezone::Tz;
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime};
use arrow::datatypes::{DataType, Date32Type, Field, Time64MicrosecondType, TimeUnit};
use chrono::{DateTime, MappedLocalTime, TimeZone, Utc};
use wasmill_host::data_type::FieldType;

/// A value that fits its column: the variant follows from the column's type.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Datum<'a> {
    Null,
    Bool(bool),
    /// Signed integers, dates, times and timestamps, in the unit of their type.
    Int(i64),
    UInt(u64),
    Float(f64),
    /// In units of the type's scale.
    Decimal(i128),
    Text(Cow<'a, str>),
    Binary(Vec<u8>),
    List(Vec<Datum<'a>>),
    Struct(Vec<Datum<'a>>),
    Map(Vec<(Datum<'a>, Datum<'a>)>),
}

/// What did not fit: `got "abc", wanted int64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Where below the column, such as `.tags[2]`; empty for the column itself.
    pub path: String,
    pub got: String,
    pub wanted: String,
    /// `wanted` says more than the type.
    pub explained: bool,
}

impl Misfit {
    pub(crate) fn new(got: impl Into<String>, field: &Field) -> Misfit {
        Misfit { path: String::new(), got: got.into(), wanted: notation(field), explained: false }
    }

    pub(crate) fn text(text: &str, field: &Field) -> Misfit {
        Misfit::new(quote(text), field)
    }

    /// The type is one that was inferred, and the value would be rounded in it.
    #[must_use]
    pub(crate) fn rounded(self) -> Misfit {
        self.because(
            ", which would round it: give the option schema, with int64, decimal or utf8, \
             or with float64 where the nearest float will do",
        )
    }

    #[must_use]
    pub(crate) fn because(mut self, reason: &str) -> Misfit {
        self.wanted += reason;
        self.explained = true;
        self
    }

    #[must_use]
    pub(crate) fn below(mut self, step: &str) -> Misfit {
        self.path.insert_str(0, step);
        self
    }

    /// `column x: got "abc", wanted int64`
    pub(crate) fn in_column(&self, column: &str) -> String {
        format!("column {column}{}: got {}, wanted {}", self.path, self.got, self.wanted)
    }
}

/// Goes after a type that nobody declared.
pub(crate) fn guessed_from(sampled: usize, rows: &str) -> String {
    format!(", which was guessed from the first {sampled} {rows}")
}

/// The type as users write it.
pub(crate) fn notation(field: &Field) -> String {
    FieldType { data_type: field.data_type().clone(), nullable: field.is_nullable() }.to_string()
}

/// A text for a message: quoted, and cut where it is long.
pub(crate) fn quote(text: &str) -> String {
    format!("{:?}", cut(text, 60))
}

/// The first `bytes_max` bytes of `text`, whole characters only.
pub(crate) fn cut(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let end = (0..=bytes_max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// Null, where the column allows it.
pub(crate) fn null(field: &Field) -> Result<Datum<'static>, Misfit> {
    if field.is_nullable() { Ok(Datum::Null) } else { Err(Misfit::new("nothing", field)) }
}

/// The value that `text` is in the type of `field`. White space around anything but text is ignored.
pub(crate) fn from_text<'a>(text: &'a str, field: &Field) -> Result<Datum<'a>, Misfit> {
    let trimmed = text.trim();
    let misfit = || match field.data_type() {
        DataType::Timestamp(_, Some(zone)) => match clock_change(trimmed, zone) {
            Some(reason) => Misfit::text(text, field).because(&reason),
            None => Misfit::text(text, field),
        },
        _ => Misfit::text(text, field),
    };
    match field.data_type() {
        DataType::Utf8 => Some(Datum::Text(Cow::Borrowed(text))),
        DataType::Binary => from_hex(trimmed).map(Datum::Binary),
        DataType::Boolean => boolean(trimmed).map(Datum::Bool),
        DataType::Float64 => float(trimmed).map(Datum::Float),
        DataType::Float32 => float(trimmed).filter(|&value| fits_f32(value)).map(Datum::Float),
        DataType::Decimal128(precision, scale) => decimal(trimmed, *precision, *scale).map(Datum::Decimal),
        DataType::Date32 => date(trimmed).map(|days| Datum::Int(i64::from(days))),
        DataType::Time64(TimeUnit::Microsecond) => Time64MicrosecondType::parse(trimmed).map(Datum::Int),
        DataType::Timestamp(unit, zone) => timestamp(trimmed, *unit, zone.as_deref()).map(Datum::Int),
        DataType::UInt64 => trimmed.parse().ok().map(Datum::UInt),
        other if other.is_integer() => trimmed.parse().ok().and_then(|value| integer(value, other)),
        _ => None,
    }
    .ok_or_else(misfit)
}

/// An integer in a column of whole numbers of any width.
pub(crate) fn integer(value: i64, data_type: &DataType) -> Option<Datum<'static>> {
    let fits = match data_type {
        DataType::Int8 => i8::try_from(value).is_ok(),
        DataType::Int16 => i16::try_from(value).is_ok(),
        DataType::Int32 => i32::try_from(value).is_ok(),
        DataType::Int64 => true,
        DataType::UInt8 => u8::try_from(value).is_ok(),
        DataType::UInt16 => u16::try_from(value).is_ok(),
        DataType::UInt32 => u32::try_from(value).is_ok(),
        DataType::UInt64 => value >= 0,
        _ => false,
    };
    fits.then(|| if data_type.is_unsigned_integer() { Datum::UInt(value.cast_unsigned()) } else { Datum::Int(value) })
}

fn boolean(text: &str) -> Option<bool> {
    [("true", true), ("false", false), ("1", true), ("0", false)]
        .iter()
        .find(|(word, _)| text.eq_ignore_ascii_case(word))
        .map(|(_, value)| *value)
}

/// A number too large for the type is no infinity.
fn float(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    (value.is_finite() || !text.contains(|c: char| c.is_ascii_digit())).then_some(value)
}

/// Is `text` a whole number, written without a point or exponent, that is no float64? Such a number is an identifier or an
/// amount, which is exact, more often than a measurement.
pub(crate) fn float64_rounds(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches('0');
    // All whole numbers up to 2^53, so all of 15 digits, are floats.
    if digits.len() <= 15 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    // Without decimals a float is written out with all its digits.
    digits.parse::<f64>().is_ok_and(|value| format!("{value:.0}") != digits)
}

pub(crate) fn fits_f32(value: f64) -> bool {
    !value.is_finite() || (value as f32).is_finite()
}

/// `2013-01-01`; a time of day would be lost, so it is refused.
fn date(text: &str) -> Option<i32> {
    if text.contains([':', 'T', ' ']) {
        return None;
    }
    Date32Type::parse(text)
}

/// ISO 8601. Without an offset it is local to the column's zone, or UTC where the column has none. What is finer than
/// the unit is refused, since it would be lost.
fn timestamp(text: &str, unit: TimeUnit, zone: Option<&str>) -> Option<i64> {
    let at: DateTime<Utc> = match zone {
        None => string_to_datetime(&Utc, text).ok()?,
        Some(zone) => string_to_datetime(&zone.parse::<Tz>().ok()?, text).ok()?.with_timezone(&Utc),
    };
    let (per_second, nanos_per_unit) = match unit {
        TimeUnit::Second => (1, 1_000_000_000),
        TimeUnit::Millisecond => (1_000, 1_000_000),
        TimeUnit::Microsecond => (1_000_000, 1_000),
        TimeUnit::Nanosecond => (1_000_000_000, 1),
    };
    let nanos = i64::from(at.timestamp_subsec_nanos());
    if nanos % nanos_per_unit != 0 {
        return None;
    }
    at.timestamp().checked_mul(per_second)?.checked_add(nanos / nanos_per_unit)
}

/// Why a time without an offset is no moment in `zone`, if it is one elsewhere.
fn clock_change(text: &str, zone: &str) -> Option<String> {
    let local = string_to_datetime(&Utc, text).ok()?.naive_utc();
    let tz: Tz = zone.parse().ok()?;
    if string_to_datetime(&tz, text).is_ok() {
        return None;
    }
    let reason = match tz.offset_from_local_datetime(&local) {
        MappedLocalTime::None => "the clock is put forward then: there is no such local time",
        MappedLocalTime::Ambiguous(_, _) => "the clock is put back then: there are two such local times",
        MappedLocalTime::Single(_) => return None,
    };
    Some(format!(" (in {zone} {reason}; write it with its offset, or with Z for UTC)"))
}

/// A decimal number with an optional exponent, in units of 10^-scale, rounded half up (away from zero).
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, digits) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa.strip_prefix('+').unwrap_or(mantissa)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.len() + fraction.len() == 0 || !(whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit())) {
        return None;
    }
    // Digits of whole and fraction stand in front of a point that is moved to where the unit ends.
    let kept = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let mut value: i128 = 0;
    let mut seen = 0i64;
    for digit in whole.bytes().chain(fraction.bytes()).map(|b| i128::from(b - b'0')) {
        if seen == kept {
            value += i128::from(digit >= 5);
            break;
        }
        if seen > kept {
            break;
        }
        value = value.checked_mul(10)?.checked_add(digit)?;
        seen += 1;
    }
    if value != 0 {
        for _ in seen..kept {
            value = value.checked_mul(10)?;
        }
    }
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (value < limit).then_some(if negative { -value } else { value })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| char::from(b).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wasmill_host::data_type::parse;

    fn read(notation: &str, text: &'static str) -> Result<Datum<'static>, Misfit> {
        from_text(text, &parse(notation).unwrap().to_field("x"))
    }

    #[test]
    fn texts_become_values_of_their_type() {
        assert_eq!(read("int8", " -128 "), Ok(Datum::Int(-128)));
        assert_eq!(read("uint64", "18446744073709551615"), Ok(Datum::UInt(u64::MAX)));
        assert_eq!(read("float64", "1e3"), Ok(Datum::Float(1000.0)));
        assert_eq!(read("float64", "-inf"), Ok(Datum::Float(f64::NEG_INFINITY)));
        assert_eq!(read("bool", "TRUE"), Ok(Datum::Bool(true)));
        assert_eq!(read("utf8", " a "), Ok(Datum::Text(" a ".into())));
        assert_eq!(read("binary", "00fF"), Ok(Datum::Binary(vec![0, 255])));
        assert_eq!(read("date", "1970-01-02"), Ok(Datum::Int(1)));
        assert_eq!(read("time", "00:00:01.5"), Ok(Datum::Int(1_500_000)));
        assert_eq!(read("timestamp(ms)", "1970-01-01T00:00:01.5"), Ok(Datum::Int(1500)));
        assert_eq!(read("timestamp(s)", "1970-01-01 01:00:00+01:00"), Ok(Datum::Int(0)));
        assert_eq!(read("timestamp(s,America/New_York)", "1970-01-01T00:00:00"), Ok(Datum::Int(5 * 3600)));
    }

    #[test]
    fn what_would_lose_something_is_refused() {
        for (notation, text) in [
            ("int8", "128"),
            ("int64", "1.5"),
            ("int64", ""),
            ("uint8", "-1"),
            ("float64", "1e999"),
            ("float32", "1e39"),
            ("date", "2013-01-01T05:00:00"),
            ("date", "2013-02-30"),
            ("timestamp(s)", "1970-01-01T00:00:00.5"),
            ("timestamp(ns)", "9999-01-01T00:00:00"),
            ("timestamp(us)", "soon"),
            ("binary", "0"),
            ("binary", "zz"),
            ("bool", "yes"),
            ("time", "25:00:00"),
            ("decimal(3,1)", "100.0"),
            ("decimal(3,1)", "."),
            ("decimal(3,1)", "1e"),
            ("timestamp(s,No/Where)", "1970-01-01T00:00:00"),
            ("list<int64>", "[1]"),
        ] {
            let misfit = read(notation, text).unwrap_err();
            assert_eq!(misfit.in_column("x"), format!("column x: got {text:?}, wanted {notation}"));
        }
    }

    #[test]
    fn local_times_that_a_change_of_the_clock_leaves_out_or_repeats() {
        let message = |text| read("timestamp(us,Europe/Berlin)", text).unwrap_err().in_column("x");
        let wanted = |text: &str, reason: &str| {
            format!(
                "column x: got {text:?}, wanted timestamp(us,Europe/Berlin) (in Europe/Berlin the clock is put {reason}; write \
                 it with its offset, or with Z for UTC)"
            )
        };
        let (gap, twice) = ("2024-03-31T02:30:00", "2024-10-27T02:30:00");
        assert_eq!(message(gap), wanted(gap, "forward then: there is no such local time"));
        assert_eq!(message(twice), wanted(twice, "back then: there are two such local times"));
        assert!(read("timestamp(us,Europe/Berlin)", "2024-10-27T02:30:00+02:00").is_ok());
        let fine = message("2024-10-27T02:30:00.0000001+02:00");
        assert!(!fine.contains("clock"), "{fine}");
        assert!(!message("soon").contains("clock"));
    }

    #[test]
    fn whole_numbers_that_a_float_would_round() {
        for exact in [
            "0",
            "-5",
            "9007199254740992",
            "-9007199254740994",
            "100000000000000000000",
            "1.5",
            "9007199254740993.0",
            "1e30",
            "x",
            "",
            "00000000000000000000001",
            "18446744073709551616",
        ] {
            assert!(!float64_rounds(exact), "{exact}");
        }
        for rounded in [
            "9007199254740993",
            " -9007199254740993 ",
            "9223372036854775807",
            "18446744073709551615",
            "100000000000000000001",
            "+0012345678901234567890",
        ] {
            assert!(float64_rounds(rounded), "{rounded}");
        }
        assert!(float64_rounds(&format!("1{}1", "0".repeat(300))));
    }

    proptest! {
        #[test]
        fn rounding_is_seen_as_i128_sees_it(value in any::<i64>(), shift in 0u32..60) {
            let value = i128::from(value) << shift;
            prop_assert_eq!(float64_rounds(&value.to_string()), value as f64 as i128 != value);
        }
    }

    #[test]
    fn decimals_round_half_up() {
        for (text, units) in [
            ("1", 100),
            ("-1.005", -101),
            ("1.004", 100),
            ("1.005", 101),
            ("0.995", 100),
            ("12e-1", 120),
            ("1.2e1", 1200),
            (".5", 50),
            ("5.", 500),
            ("0.001", 0),
            ("0.005", 1),
            ("4e-99", 0),
            ("0e99", 0),
            ("+2", 200),
        ] {
            assert_eq!(decimal(text, 9, 2), Some(units), "{text}");
        }
        assert_eq!(decimal("99999999999999999999999999999999999999", 38, 0), Some(10i128.pow(38) - 1));
        assert_eq!(decimal("1e2147483647", 38, 0), None);
    }

    #[test]
    fn long_texts_are_cut_in_messages() {
        let long = "é".repeat(100);
        assert!(quote(&long).len() < 80);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}", which in 0usize..8) {
            let types = ["int32", "float32", "decimal(38,10)", "date", "time", "timestamp(ns)", "timestamp(us,Europe/Berlin)", "binary"];
            let field = parse(types[which]).unwrap().to_field("x");
            let _ = from_text(&text, &field);
        }

        #[test]
        fn decimals_are_exact(units in -10i128.pow(18)..10i128.pow(18)) {
            let text = format!("{}{}.{:06}", if units < 0 { "-" } else { "" }, units.abs() / 1_000_000, units.abs() % 1_000_000);
            prop_assert_eq!(decimal(&text, 38, 6), Some(units));
        }
    }
}
