//! The one notation for types, as in `wit/README.md` ("Types"): `struct<a: int64, tags: list<utf8?>?>`.
//!
//! It is what UDFs declare, what job files say and what messages print. [`parse`] and [`display`] are inverse to each other
//! for every type that the contract knows; [`parse`] takes any white space between tokens, [`display`] prints one form.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};

/// How deep types may nest: `int64` is 1 deep, `list<int64>` 2.
pub const NEST_MAX: usize = 16;

/// Longest text that [`parse`] reads, in bytes. A struct of 10,000 columns with names of 20 characters fits well.
pub const TEXT_BYTES_MAX: usize = 1 << 20;

/// A type, and whether a value of it may be null (`?` in the notation).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldType {
    /// One of the types that the contract knows, in its canonical Arrow form (`list`'s child is `item`, and so on).
    pub data_type: DataType,
    /// Whether a value may be null.
    pub nullable: bool,
}

impl FieldType {
    /// A type whose values are never null.
    pub fn required(data_type: DataType) -> Self {
        Self { data_type, nullable: false }
    }

    /// A type whose values may be null.
    pub fn nullable(data_type: DataType) -> Self {
        Self { data_type, nullable: true }
    }

    /// This type as an Arrow field of the given name.
    pub fn to_field(&self, name: impl Into<String>) -> Field {
        Field::new(name, self.data_type.clone(), self.nullable)
    }
}

impl std::fmt::Display for FieldType {
    /// The notation; a type that the contract does not know is shown as Arrow prints it, in angle brackets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match display(&self.data_type, self.nullable) {
            Ok(text) => f.write_str(&text),
            Err(_) => write!(f, "<{}>{}", self.data_type, if self.nullable { "?" } else { "" }),
        }
    }
}

/// Why a text is no type, or a type has no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataTypeError {
    /// The text is not in the notation.
    #[error("{text:?} is not a type: {problem} at byte {at}")]
    Syntax {
        /// What was parsed, cut to a readable length.
        text: String,
        /// What is wrong there.
        problem: String,
        /// Where, in bytes from the start.
        at: usize,
    },
    /// The type nests deeper than [`NEST_MAX`].
    #[error("{text:?} nests deeper than {NEST_MAX} levels: flatten the type")]
    TooDeep {
        /// What was parsed or printed, cut to a readable length.
        text: String,
    },
    /// The text is longer than [`TEXT_BYTES_MAX`].
    #[error("a type of {bytes} bytes of text, limit {TEXT_BYTES_MAX}: split the struct into several columns")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// An Arrow type that the contract has no word for.
    #[error("Arrow type {data_type} cannot cross into a UDF: {advice}")]
    Unsupported {
        /// As Arrow prints it.
        data_type: String,
        /// What to do instead.
        advice: &'static str,
    },
}

/// Reads a type, with its trailing `?`. `any` is not a type: whoever allows it tests for it first.
///
/// # Errors
/// [`DataTypeError`], except `Unsupported`.
pub fn parse(text: &str) -> Result<FieldType, DataTypeError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(DataTypeError::TooLong { bytes: text.len() });
    }
    let mut parser = Parser { text, at: 0 };
    let parsed = parser.field_type(1)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.problem("unexpected text after the type"));
    }
    Ok(parsed)
}

/// Prints a type in the notation, with a trailing `?` if `nullable`.
///
/// # Errors
/// [`DataTypeError::Unsupported`] or [`DataTypeError::TooDeep`].
pub fn display(data_type: &DataType, nullable: bool) -> Result<String, DataTypeError> {
    let mut text = String::new();
    write_type(&mut text, data_type, nullable, 1)?;
    Ok(text)
}

/// The type in the form in which the contract carries it: children named `item`, `entries`, `key`, `value`, metadata dropped.
/// Arrow's own libraries name such children differently, and the names mean nothing.
///
/// # Errors
/// As [`display`].
pub fn canonical(data_type: &DataType) -> Result<DataType, DataTypeError> {
    // Printing and reading is the definition of the canonical form; it happens once per binding.
    Ok(parse(&display(data_type, false)?)?.data_type)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn problem(&self, problem: impl Into<String>) -> DataTypeError {
        DataTypeError::Syntax { text: cut(self.text), problem: problem.into(), at: self.at }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn eat(&mut self, token: char) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len_utf8();
        }
        found
    }

    fn expect(&mut self, token: char) -> Result<(), DataTypeError> {
        if self.eat(token) { Ok(()) } else { Err(self.problem(format!("expected {token:?}"))) }
    }

    fn word(&mut self) -> Option<String> {
        self.skip_space();
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        if length == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let word = rest[..length].to_string();
        self.at += length;
        Some(word)
    }

    fn number(&mut self) -> Result<u8, DataTypeError> {
        self.skip_space();
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..length].parse().map_err(|_| self.problem("expected a number from 0 to 38"))?;
        self.at += length;
        Ok(number)
    }

    fn field_type(&mut self, depth: usize) -> Result<FieldType, DataTypeError> {
        if depth > NEST_MAX {
            return Err(DataTypeError::TooDeep { text: cut(self.text) });
        }
        let data_type = self.data_type(depth)?;
        let nullable = self.eat('?');
        Ok(FieldType { data_type, nullable })
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, DataTypeError> {
        self.skip_space();
        let start = self.at;
        let Some(word) = self.word() else {
            return Err(self.problem("expected the name of a type"));
        };
        Ok(match word.as_str() {
            "bool" => DataType::Boolean,
            "int8" => DataType::Int8,
            "int16" => DataType::Int16,
            "int32" => DataType::Int32,
            "int64" => DataType::Int64,
            "uint8" => DataType::UInt8,
            "uint16" => DataType::UInt16,
            "uint32" => DataType::UInt32,
            "uint64" => DataType::UInt64,
            "float32" => DataType::Float32,
            "float64" => DataType::Float64,
            "utf8" => DataType::Utf8,
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "time" => DataType::Time64(TimeUnit::Microsecond),
            "decimal" => self.decimal()?,
            "timestamp" => self.timestamp()?,
            "list" => {
                self.expect('<')?;
                let item = self.field_type(depth + 1)?;
                self.expect('>')?;
                DataType::List(Arc::new(item.to_field("item")))
            }
            "struct" => self.structure(depth)?,
            "map" => self.map(depth)?,
            other => {
                let problem = format!("unknown type {other:?}");
                self.at = start;
                return Err(self.problem(problem));
            }
        })
    }

    fn decimal(&mut self) -> Result<DataType, DataTypeError> {
        self.expect('(')?;
        let precision = self.number()?;
        self.expect(',')?;
        let scale = self.number()?;
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(self.problem("decimal(p,s) needs 1 <= p <= 38 and 0 <= s <= p"));
        }
        self.expect(')')?;
        Ok(DataType::Decimal128(precision, scale as i8))
    }

    fn timestamp(&mut self) -> Result<DataType, DataTypeError> {
        self.expect('(')?;
        let unit = match self.word().as_deref() {
            Some("s") => TimeUnit::Second,
            Some("ms") => TimeUnit::Millisecond,
            Some("us") => TimeUnit::Microsecond,
            Some("ns") => TimeUnit::Nanosecond,
            _ => return Err(self.problem("expected one of s, ms, us, ns")),
        };
        if self.eat(')') {
            return Ok(DataType::Timestamp(unit, None));
        }
        self.expect(',')?;
        self.skip_space();
        let rest = self.rest();
        let length = rest.find(')').unwrap_or(rest.len());
        let zone = rest[..length].trim_end();
        if !zone_is_plausible(zone) {
            return Err(self.problem("expected an IANA time zone or an offset such as +01:00"));
        }
        let zone = Arc::from(zone);
        self.at += length;
        self.expect(')')?;
        Ok(DataType::Timestamp(unit, Some(zone)))
    }

    fn structure(&mut self, depth: usize) -> Result<DataType, DataTypeError> {
        self.expect('<')?;
        let mut fields: Vec<Field> = Vec::new();
        let mut names = std::collections::HashSet::new();
        if !self.eat('>') {
            loop {
                let name = self.field_name()?;
                if !names.insert(name.clone()) {
                    return Err(self.problem(format!("second field of the name {name:?}")));
                }
                self.expect(':')?;
                fields.push(self.field_type(depth + 1)?.to_field(name));
                if self.eat('>') {
                    break;
                }
                self.expect(',')?;
            }
        }
        Ok(DataType::Struct(Fields::from(fields)))
    }

    fn map(&mut self, depth: usize) -> Result<DataType, DataTypeError> {
        self.expect('<')?;
        let key = self.field_type(depth + 1)?;
        if key.nullable {
            return Err(self.problem("a map's key is never null: drop the '?'"));
        }
        self.expect(',')?;
        let value = self.field_type(depth + 1)?;
        self.expect('>')?;
        Ok(map_type(key.to_field("key"), value.to_field("value")))
    }

    fn field_name(&mut self) -> Result<String, DataTypeError> {
        if let Some(word) = self.word() {
            return Ok(word);
        }
        self.expect('"')?;
        let mut name = String::new();
        loop {
            let Some(next) = self.rest().chars().next() else {
                return Err(self.problem("a field name that does not end"));
            };
            self.at += next.len_utf8();
            match next {
                '"' => return Ok(name),
                '\\' => match self.rest().chars().next() {
                    Some(escaped @ ('"' | '\\')) => {
                        self.at += 1;
                        name.push(escaped);
                    }
                    _ => return Err(self.problem("after a backslash comes \" or \\")),
                },
                other => name.push(other),
            }
        }
    }
}

fn map_type(key: Field, value: Field) -> DataType {
    let entries = DataType::Struct(Fields::from(vec![key, value]));
    DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
}

/// Whether a zone can be printed and read back; whether it exists is for whoever computes with it.
fn zone_is_plausible(zone: &str) -> bool {
    !zone.is_empty()
        && zone.len() <= 64
        && zone.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+' | b'/' | b':'))
}

fn write_type(text: &mut String, data_type: &DataType, nullable: bool, depth: usize) -> Result<(), DataTypeError> {
    if depth > NEST_MAX {
        return Err(DataTypeError::TooDeep { text: cut(text) });
    }
    match data_type {
        DataType::Decimal128(p, s) if (1..=38).contains(p) && *s >= 0 && *s as u8 <= *p => {
            push(text, format_args!("decimal({p},{s})"))
        }
        DataType::Timestamp(unit, None) => push(text, format_args!("timestamp({})", unit_name(*unit))),
        DataType::Timestamp(unit, Some(zone)) if zone_is_plausible(zone) => {
            push(text, format_args!("timestamp({},{zone})", unit_name(*unit)));
        }
        DataType::List(item) => {
            text.push_str("list<");
            write_type(text, item.data_type(), item.is_nullable(), depth + 1)?;
            text.push('>');
        }
        DataType::Struct(fields) => {
            text.push_str("struct<");
            for (i, field) in fields.iter().enumerate() {
                text.push_str(if i == 0 { "" } else { ", " });
                write_name(text, field.name());
                text.push_str(": ");
                write_type(text, field.data_type(), field.is_nullable(), depth + 1)?;
            }
            text.push('>');
        }
        DataType::Map(entries, false) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 && !fields[0].is_nullable() => {
                text.push_str("map<");
                write_type(text, fields[0].data_type(), false, depth + 1)?;
                text.push_str(", ");
                write_type(text, fields[1].data_type(), fields[1].is_nullable(), depth + 1)?;
                text.push('>');
            }
            _ => return Err(unsupported(data_type)),
        },
        other => text.push_str(simple_name(other).ok_or_else(|| unsupported(other))?),
    }
    if nullable {
        text.push('?');
    }
    Ok(())
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("writing to a String cannot fail");
}

fn simple_name(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Boolean => "bool",
        DataType::Int8 => "int8",
        DataType::Int16 => "int16",
        DataType::Int32 => "int32",
        DataType::Int64 => "int64",
        DataType::UInt8 => "uint8",
        DataType::UInt16 => "uint16",
        DataType::UInt32 => "uint32",
        DataType::UInt64 => "uint64",
        DataType::Float32 => "float32",
        DataType::Float64 => "float64",
        DataType::Utf8 => "utf8",
        DataType::Binary => "binary",
        DataType::Date32 => "date",
        DataType::Time64(TimeUnit::Microsecond) => "time",
        _ => return None,
    })
}

fn unit_name(unit: TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

fn write_name(text: &mut String, name: &str) {
    let mut bytes = name.bytes();
    let plain = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if plain {
        text.push_str(name);
        return;
    }
    text.push('"');
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

fn unsupported(data_type: &DataType) -> DataTypeError {
    let advice = match data_type {
        DataType::LargeUtf8 | DataType::Utf8View => "cast it to Utf8",
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "cast it to Binary",
        DataType::LargeList(_) | DataType::FixedSizeList(_, _) | DataType::ListView(_) | DataType::LargeListView(_) => {
            "cast it to List"
        }
        DataType::Dictionary(_, _) | DataType::RunEndEncoded(_, _) => "cast it to its value type",
        DataType::Date64 => "cast it to Date32 or Timestamp",
        DataType::Time32(_) | DataType::Time64(_) => "cast it to Time64(Microsecond)",
        DataType::Decimal32(_, _)
        | DataType::Decimal64(_, _)
        | DataType::Decimal256(_, _)
        | DataType::Decimal128(_, _) => "cast it to Decimal128(p, s) with 0 <= s <= p <= 38",
        DataType::Float16 => "cast it to Float32",
        DataType::Duration(_) | DataType::Interval(_) => "cast it to Int64",
        _ => "drop the column or cast it to a type of the contract",
    };
    DataTypeError::Unsupported { data_type: cut(&data_type.to_string()), advice }
}

/// A text short enough for a message.
fn cut(text: &str) -> String {
    const CHARACTERS_MAX: usize = 120;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

#[cfg(test)]
#[path = "data_type_tests.rs"]
mod tests;
