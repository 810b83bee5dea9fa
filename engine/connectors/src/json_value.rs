//! From the text of a JSON value to a value of a column's type.

use std::borrow::Cow;
use std::fmt;

use arrow::datatypes::{DataType, Field};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::datum::{self, Datum, Misfit, guessed_from};

/// A JSON value before its column's type is looked at. Numbers and texts keep what they were written as.
enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// What goes along while a row is read.
#[derive(Default)]
pub(crate) struct Reading {
    /// Why a value is not taken, where it is JSON and does not fit: serde's errors carry only texts, so that the misfit is put
    /// beside the error, and the error only stops the parser.
    misfit: Option<Misfit>,
    /// The types were inferred: nobody asked for floats, so that no whole number is rounded to one.
    exact: bool,
    /// Numbers for float columns are looked at as they are written.
    literal: bool,
    /// A number came that serde_json may have rounded to a float by itself, since it is beyond its integers.
    beyond: bool,
}

const HALF_A_PAIR: &str = "a text has half a surrogate pair (\\ud800 to \\udfff mean a character only as two, high and low): write both, or \\ufffd,";

/// Where serde_json's own integers end.
const INTEGERS_END: f64 = 18_446_744_073_709_551_616.0;

/// Reads one value as `field` wants it.
pub(crate) struct Seed<'s> {
    pub field: &'s Field,
    pub reading: &'s mut Reading,
}

impl Seed<'_> {
    fn stop<E: serde::de::Error>(self, misfit: Misfit) -> E {
        self.reading.misfit = Some(misfit);
        E::custom("the value does not fit its column")
    }

    /// Would an inferred column round this whole number?
    fn rounds(&self, value: i128) -> bool {
        self.reading.exact && self.field.data_type() == &DataType::Float64 && value as f64 as i128 != value
    }

    fn keep<'de, E: serde::de::Error>(self, result: Result<Datum<'de>, Misfit>) -> Result<Datum<'de>, E> {
        result.map_err(|misfit| self.stop(misfit))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Datum<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Datum<'de>, D::Error> {
        if let DataType::Decimal128(_, _) = self.field.data_type() {
            // As written: a float would round it.
            let raw = <&'de RawValue as serde::Deserialize>::deserialize(deserializer)?;
            let result = decimal(raw.get(), self.field);
            return self.keep(result);
        }
        if self.reading.literal && self.field.data_type() == &DataType::Float64 {
            let raw = <&'de RawValue as serde::Deserialize>::deserialize(deserializer)?;
            if datum::float64_rounds(raw.get()) {
                let misfit = Misfit::new(datum::cut(raw.get(), 60), self.field).rounded();
                return Err(self.stop(misfit));
            }
            let mut value = serde_json::Deserializer::from_str(raw.get());
            return value.deserialize_any(self).map_err(D::Error::custom);
        }
        deserializer.deserialize_any(self)
    }
}

fn decimal<'a>(raw: &'a str, field: &Field) -> Result<Datum<'a>, Misfit> {
    match raw.as_bytes().first() {
        Some(b'n') => datum::null(field),
        Some(b'-' | b'0'..=b'9') => datum::from_text(raw, field).map_err(|_| Misfit::new(datum::cut(raw, 60), field)),
        Some(b'"') if raw.len() >= 2 && !raw.contains('\\') => match datum::from_text(&raw[1..raw.len() - 1], field) {
            Ok(value) => Ok(value),
            Err(misfit) => Err(misfit),
        },
        _ => Err(Misfit::new(datum::cut(raw, 60), field)),
    }
}

fn scalar<'a>(json: Json<'a>, field: &Field) -> Result<Datum<'a>, Misfit> {
    let data_type = field.data_type();
    match (json, data_type) {
        (Json::Null, _) => datum::null(field),
        (Json::Bool(value), DataType::Boolean) => Ok(Datum::Bool(value)),
        (Json::Bool(value), _) => Err(Misfit::new(value.to_string(), field)),
        (Json::Int(value), DataType::Float64 | DataType::Float32) => Ok(Datum::Float(value as f64)),
        // The count of units since 1970, as other programs write it.
        (Json::Int(value), DataType::Timestamp(_, _)) => Ok(Datum::Int(value)),
        (Json::Int(value), _) => datum::integer(value, data_type).ok_or_else(|| Misfit::new(value.to_string(), field)),
        (Json::UInt(value), DataType::UInt64) => Ok(Datum::UInt(value)),
        (Json::UInt(value), DataType::Float64 | DataType::Float32) => Ok(Datum::Float(value as f64)),
        (Json::UInt(value), _) => Err(Misfit::new(value.to_string(), field)),
        (Json::Float(value), DataType::Float64) => Ok(Datum::Float(value)),
        (Json::Float(value), DataType::Float32) if datum::fits_f32(value) => Ok(Datum::Float(value)),
        (Json::Float(value), _) => Err(Misfit::new(value.to_string(), field)),
        (Json::Text(text), DataType::Utf8) => Ok(Datum::Text(text)),
        // JSON has numbers and truth values of its own: a text in their place is a mistake.
        (Json::Text(text), other) if other.is_numeric() || other == &DataType::Boolean => {
            Err(Misfit::text(&text, field))
        }
        (Json::Text(text), _) => match datum::from_text(&text, field) {
            Ok(Datum::Int(value)) => Ok(Datum::Int(value)),
            Ok(Datum::Binary(bytes)) => Ok(Datum::Binary(bytes)),
            Ok(_) => Err(Misfit::text(&text, field)),
            Err(misfit) => Err(misfit),
        },
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Datum<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Datum<'de>, E> {
        let result = scalar(Json::Null, self.field);
        self.keep(result)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Datum<'de>, E> {
        let result = scalar(Json::Bool(value), self.field);
        self.keep(result)
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Datum<'de>, E> {
        if self.rounds(i128::from(value)) {
            let misfit = Misfit::new(value.to_string(), self.field).rounded();
            return Err(self.stop(misfit));
        }
        let result = scalar(Json::Int(value), self.field);
        self.keep(result)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Datum<'de>, E> {
        if self.rounds(i128::from(value)) {
            let misfit = Misfit::new(value.to_string(), self.field).rounded();
            return Err(self.stop(misfit));
        }
        let json = i64::try_from(value).map_or(Json::UInt(value), Json::Int);
        let result = scalar(json, self.field);
        self.keep(result)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Datum<'de>, E> {
        self.reading.beyond |= value.abs() >= INTEGERS_END / 2.0;
        let result = scalar(Json::Float(value), self.field);
        self.keep(result)
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Datum<'de>, E> {
        let result = scalar(Json::Text(Cow::Borrowed(text)), self.field);
        self.keep(result)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Datum<'de>, E> {
        let result = scalar(Json::Text(Cow::Owned(text.to_owned())), self.field);
        self.keep(result)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Datum<'de>, A::Error> {
        let DataType::List(item) = self.field.data_type() else {
            let misfit = Misfit::new("a list", self.field);
            return Err(self.stop(misfit));
        };
        let mut items = Vec::new();
        loop {
            let seed = Seed { field: item, reading: self.reading };
            match seq.next_element_seed(seed) {
                Ok(Some(value)) => items.push(value),
                Ok(None) => return Ok(Datum::List(items)),
                Err(error) => return Err(below(self.reading, &format!("[{}]", items.len()), error)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Datum<'de>, A::Error> {
        match self.field.data_type() {
            DataType::Struct(fields) => {
                let mut values: Vec<Option<Datum<'de>>> = vec![None; fields.len()];
                let fields: Vec<&Field> = fields.iter().map(AsRef::as_ref).collect();
                read_object(map, &fields, &mut values, ".", self.reading)?;
                Ok(Datum::Struct(values.into_iter().map(|value| value.unwrap_or(Datum::Null)).collect()))
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields[0].data_type() == &DataType::Utf8 => {
                    read_map(map, &fields[1], self.reading)
                }
                _ => Err(A::Error::custom("schemas were checked: a map's keys are utf8")),
            },
            _ => {
                let misfit = Misfit::new("an object", self.field);
                Err(self.stop(misfit))
            }
        }
    }
}

fn below<E>(reading: &mut Reading, step: &str, error: E) -> E {
    reading.misfit = reading.misfit.take().map(|misfit| misfit.below(step));
    error
}

fn read_map<'de, A: MapAccess<'de>>(mut map: A, value: &Field, reading: &mut Reading) -> Result<Datum<'de>, A::Error> {
    let mut entries: Vec<(Datum<'de>, Datum<'de>)> = Vec::new();
    while let Some(key) = map.next_key::<Cow<'de, str>>()? {
        let read = map.next_value_seed(Seed { field: value, reading: &mut *reading });
        let read = read.map_err(|error| below(reading, &format!(".{key}"), error))?;
        entries.push((Datum::Text(key), read));
    }
    Ok(Datum::Map(entries))
}

/// Reads an object into one value for each of `fields`. Other keys are skipped, missing ones are null, of a key that stands
/// twice the last counts. `step` comes before the name in the path of a misfit.
fn read_object<'de, A: MapAccess<'de>>(
    mut map: A,
    fields: &[&Field],
    values: &mut [Option<Datum<'de>>],
    step: &str,
    reading: &mut Reading,
) -> Result<(), A::Error> {
    // Most objects have their keys in the order of the schema.
    let mut next = 0;
    while let Some(key) = map.next_key::<Cow<'de, str>>()? {
        let expected = fields.get(next).filter(|field| *field.name() == key).map(|_| next);
        let Some(index) = expected.or_else(|| fields.iter().position(|field| *field.name() == key)) else {
            map.next_value::<serde::de::IgnoredAny>()?;
            continue;
        };
        next = index + 1;
        let read = map.next_value_seed(Seed { field: fields[index], reading: &mut *reading });
        values[index] = Some(read.map_err(|error| below(reading, &format!("{step}{key}"), error))?);
    }
    for (field, value) in fields.iter().zip(values.iter()) {
        if value.is_none() && !field.is_nullable() {
            reading.misfit = Some(Misfit::new("nothing", field).below(&format!("{step}{}", field.name())));
            return Err(A::Error::custom("a column is missing"));
        }
    }
    Ok(())
}

/// A whole row.
struct RowSeed<'s> {
    fields: &'s [&'s Field],
    reading: &'s mut Reading,
}

impl<'de> DeserializeSeed<'de> for RowSeed<'_> {
    type Value = Vec<Datum<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RowSeed<'_> {
    type Value = Vec<Datum<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let mut values = vec![None; self.fields.len()];
        read_object(map, self.fields, &mut values, "", self.reading)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(Datum::Null)).collect())
    }
}

/// The row that `line` is, one value for each of `fields`; `sampled` says from how many lines the types of these were inferred, if
/// they were.
///
/// # Errors
/// A sentence: `column a: got "x", wanted int64`, `a JSON object is wanted, got a list`, or where the line stops being JSON.
pub(crate) fn row<'a>(line: &'a [u8], fields: &[&Field], sampled: Option<usize>) -> Result<Vec<Datum<'a>>, String> {
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let exact = sampled.is_some();
    let mut reading = Reading { exact, ..Reading::default() };
    let read = read(line, fields, sampled, &mut reading);
    if !(read.is_ok() && exact && reading.beyond) {
        return read;
    }
    // Rare enough to read the row a second time.
    self::read(line, fields, sampled, &mut Reading { exact, literal: true, ..Reading::default() })
}

fn read<'a>(
    line: &'a str,
    fields: &[&Field],
    sampled: Option<usize>,
    reading: &mut Reading,
) -> Result<Vec<Datum<'a>>, String> {
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let read = RowSeed { fields, reading: &mut *reading }.deserialize(&mut deserializer);
    match (read.and_then(|row| deserializer.end().map(|()| row)), reading.misfit.take()) {
        (Ok(row), _) => Ok(row),
        (Err(_), Some(misfit)) if sampled.is_some_and(|_| !misfit.explained) => {
            let advice = guessed_from(sampled.unwrap_or_default(), "lines");
            Err(format!(
                "column {}: got {}, wanted {}{advice}: if that is wrong, give the option schema",
                misfit.path, misfit.got, misfit.wanted
            ))
        }
        (Err(_), Some(misfit)) => Err(format!("column {}: got {}, wanted {}", misfit.path, misfit.got, misfit.wanted)),
        (Err(error), None) if error.is_data() => Err(format!("a JSON object is wanted, got {}", kind(line))),
        (Err(error), None) => Err(format!("not JSON: {}", at_column(&error))),
    }
}

fn kind(line: &str) -> &'static str {
    match line.trim_start().as_bytes().first() {
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// serde_json counts lines too, but here is only one.
fn at_column(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    // What serde_json says of a \uD800 with which nothing, or no other half, goes along. A text that ends there has another error.
    let is_half = reason.ends_with("surrogate in hex escape") || reason == "unexpected end of hex escape";
    let reason = if is_half { HALF_A_PAIR } else { reason };
    format!("{reason} at column {}", error.column())
}

/// Why `line`, in which no column was looked at, is not JSON.
pub(crate) fn malformed(line: &[u8]) -> String {
    match serde_json::from_slice::<serde_json::Value>(line) {
        Err(error) if !error.to_string().starts_with("recursion limit") => format!("not JSON: {}", at_column(&error)),
        _ => "not JSON: nested too deep".to_owned(),
    }
}
