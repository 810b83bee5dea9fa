//! From the text of a JSON value to a value of a column's type.

use std::borrow::Cow;
use std::fmt;

use arrow::datatypes::{DataType, Field};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::datum::{self, Datum, Misfit};

/// A JSON value before its column's type is looked at. Numbers and texts keep what they were written as.
enum Json<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// Why a value is not taken: it is not JSON (then the parser's own error says where), or it does not fit.
///
/// serde's errors carry only texts, so that a misfit is put beside the error, and the error only stops the parser.
pub(crate) type Fault = Option<Misfit>;

/// Reads one value as `field` wants it.
pub(crate) struct Seed<'s> {
    pub field: &'s Field,
    pub fault: &'s mut Fault,
}

impl Seed<'_> {
    fn stop<E: serde::de::Error>(self, misfit: Misfit) -> E {
        *self.fault = Some(misfit);
        E::custom("the value does not fit its column")
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
            _ => Err(Misfit::text(&text, field)),
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
        let result = scalar(Json::Int(value), self.field);
        self.keep(result)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Datum<'de>, E> {
        let json = i64::try_from(value).map_or(Json::UInt(value), Json::Int);
        let result = scalar(json, self.field);
        self.keep(result)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Datum<'de>, E> {
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
            let seed = Seed { field: item, fault: self.fault };
            match seq.next_element_seed(seed) {
                Ok(Some(value)) => items.push(value),
                Ok(None) => return Ok(Datum::List(items)),
                Err(error) => return Err(below(self.fault, &format!("[{}]", items.len()), error)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Datum<'de>, A::Error> {
        match self.field.data_type() {
            DataType::Struct(fields) => {
                let mut values: Vec<Option<Datum<'de>>> = vec![None; fields.len()];
                let fields: Vec<&Field> = fields.iter().map(AsRef::as_ref).collect();
                read_object(map, &fields, &mut values, ".", self.fault)?;
                Ok(Datum::Struct(values.into_iter().map(|value| value.unwrap_or(Datum::Null)).collect()))
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) if fields[0].data_type() == &DataType::Utf8 => {
                    read_map(map, &fields[1], self.fault)
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

fn below<E>(fault: &mut Fault, step: &str, error: E) -> E {
    *fault = fault.take().map(|misfit| misfit.below(step));
    error
}

fn read_map<'de, A: MapAccess<'de>>(mut map: A, value: &Field, fault: &mut Fault) -> Result<Datum<'de>, A::Error> {
    let mut entries: Vec<(Datum<'de>, Datum<'de>)> = Vec::new();
    while let Some(key) = map.next_key::<Cow<'de, str>>()? {
        let read = map.next_value_seed(Seed { field: value, fault: &mut *fault });
        let read = read.map_err(|error| below(fault, &format!(".{key}"), error))?;
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
    fault: &mut Fault,
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
        let read = map.next_value_seed(Seed { field: fields[index], fault: &mut *fault });
        values[index] = Some(read.map_err(|error| below(fault, &format!("{step}{key}"), error))?);
    }
    for (field, value) in fields.iter().zip(values.iter()) {
        if value.is_none() && !field.is_nullable() {
            *fault = Some(Misfit::new("nothing", field).below(&format!("{step}{}", field.name())));
            return Err(A::Error::custom("a column is missing"));
        }
    }
    Ok(())
}

/// A whole row.
struct RowSeed<'s> {
    fields: &'s [&'s Field],
    fault: &'s mut Fault,
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
        read_object(map, self.fields, &mut values, "", self.fault)?;
        Ok(values.into_iter().map(|value| value.unwrap_or(Datum::Null)).collect())
    }
}

/// The row that `line` is, one value for each of `fields`.
///
/// # Errors
/// A sentence: `column a: got "x", wanted int64`, `a JSON object is wanted, got a list`, or where the line stops being JSON.
pub(crate) fn row<'a>(line: &'a [u8], fields: &[&Field]) -> Result<Vec<Datum<'a>>, String> {
    let mut fault = None;
    let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
    let mut deserializer = serde_json::Deserializer::from_str(line);
    let read = RowSeed { fields, fault: &mut fault }.deserialize(&mut deserializer);
    match (read.and_then(|row| deserializer.end().map(|()| row)), fault) {
        (Ok(row), _) => Ok(row),
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
    format!("{reason} at column {}", error.column())
}
