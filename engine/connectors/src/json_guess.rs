//! The types of JSON values that nobody declared.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::datum::{self, cut};

/// What is known of a column's type from the values so far.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Guess {
    Unknown,
    Bool,
    Int(Int),
    Float,
    Text,
    List(Box<Guess>),
    Struct(Entries),
}

/// Columns or fields and what is known of each, in the order in which they came.
pub(crate) type Entries = Vec<(String, Guess)>;

/// What is known of whole numbers: an example of each kind that not every numeric type can hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Int {
    beyond_int64: Option<String>,
    beyond_float64: Option<String>,
}

/// The columns of the object that `line` is; `None` where it is none.
///
/// # Errors
/// Values of one column that no type fits.
pub(crate) fn columns(line: &[u8]) -> Option<Result<Entries, String>> {
    // Values are looked at as they are written, since serde_json rounds large numbers. Whether the line is JSON, and not nested
    // without end, is asked first.
    let Ok(Value::Object(_)) = serde_json::from_slice(line) else { return None };
    let object: Object = serde_json::from_slice(line).ok()?;
    Some(entries(object))
}

/// An object whose values are left as they are written. Of a key that stands twice the last counts.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut entries: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
                    match entries.iter_mut().find(|(known, _)| *known == key) {
                        Some(known) => known.1 = value,
                        None => entries.push((key, value)),
                    }
                }
                Ok(Object(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

fn entries(object: Object<'_>) -> Result<Entries, String> {
    object.0.into_iter().map(|(name, value)| Ok((name, Guess::of(value)?))).collect()
}

impl Guess {
    /// `value` is JSON and not nested too deep: its line was parsed.
    fn of(value: &RawValue) -> Result<Guess, String> {
        let text = value.get();
        let malformed = |error: serde_json::Error| error.to_string();
        Ok(match text.as_bytes().first() {
            Some(b'n') => Guess::Unknown,
            Some(b't' | b'f') => Guess::Bool,
            Some(b'"') => Guess::Text,
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(malformed)?;
                let items = items.iter().try_fold(Guess::Unknown, |guess, item| guess.and(Guess::of(item)?, "[]"));
                Guess::List(Box::new(items?))
            }
            Some(b'{') => Guess::Struct(entries(serde_json::from_str(text).map_err(malformed)?)?),
            _ if text.contains(['.', 'e', 'E']) => Guess::Float,
            _ => {
                let example = || cut(text, 60).into_owned();
                Guess::Int(Int {
                    beyond_int64: text.parse::<i64>().is_err().then(example),
                    beyond_float64: datum::float64_rounds(text).then(example),
                })
            }
        })
    }

    /// What both fit.
    fn and(self, other: Guess, path: &str) -> Result<Guess, String> {
        Ok(match (self, other) {
            (Guess::Unknown, one) | (one, Guess::Unknown) => one,
            (Guess::Int(a), Guess::Int(b)) => Guess::Int(Int {
                beyond_int64: a.beyond_int64.or(b.beyond_int64),
                beyond_float64: a.beyond_float64.or(b.beyond_float64),
            }),
            (Guess::Int(Int { beyond_float64: Some(number), .. }), Guess::Float)
            | (Guess::Float, Guess::Int(Int { beyond_float64: Some(number), .. })) => {
                return Err(format!(
                    "column {path} has numbers with a point or exponent, and {number}, which float64 would round"
                ));
            }
            (Guess::Int(_), Guess::Float) | (Guess::Float, Guess::Int(_)) => Guess::Float,
            (Guess::List(a), Guess::List(b)) => Guess::List(Box::new(a.and(*b, &format!("{path}[]"))?)),
            (Guess::Struct(a), Guess::Struct(b)) => Guess::Struct(merge(a, b, &format!("{path}."))?),
            (a, b) if a == b => a,
            (a, b) => return Err(format!("column {path} has values of several kinds ({} and {})", a.name(), b.name())),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Guess::Unknown => "null",
            Guess::Bool => "bool",
            Guess::Int(_) => "int64",
            Guess::Float => "float64",
            Guess::Text => "utf8",
            Guess::List(_) => "list",
            Guess::Struct(_) => "struct",
        }
    }

    fn data_type(self, path: &str) -> Result<DataType, String> {
        Ok(match self {
            Guess::Unknown => return Err(format!("column {path} is always null")),
            Guess::Bool => DataType::Boolean,
            Guess::Int(Int { beyond_int64: None, .. }) => DataType::Int64,
            Guess::Int(Int { beyond_int64: Some(_), beyond_float64: None }) | Guess::Float => DataType::Float64,
            Guess::Int(Int { beyond_float64: Some(number), .. }) => {
                return Err(format!(
                    "column {path} has whole numbers beyond int64, and {number}, which float64 would round"
                ));
            }
            Guess::Text => DataType::Utf8,
            Guess::List(item) => {
                DataType::List(Arc::new(Field::new("item", item.data_type(&format!("{path}[]"))?, true)))
            }
            Guess::Struct(entries) => DataType::Struct(fields(entries, &format!("{path}."))?),
        })
    }
}

/// What both objects fit.
pub(crate) fn merge(mut into: Entries, from: Entries, path: &str) -> Result<Entries, String> {
    for (name, guess) in from {
        match into.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                let before = std::mem::replace(known, Guess::Unknown);
                *known = before.and(guess, &format!("{path}{name}"))?;
            }
            None => into.push((name, guess)),
        }
    }
    Ok(into)
}

/// The columns that `entries` became; `path` comes before their names in messages.
pub(crate) fn fields(entries: Entries, path: &str) -> Result<Fields, String> {
    let field = |(name, guess): (String, Guess)| {
        let data_type = guess.data_type(&format!("{path}{name}"))?;
        Ok(Field::new(name, data_type, true))
    };
    entries.into_iter().map(field).collect()
}
