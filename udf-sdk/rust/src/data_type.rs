//! Types in the one notation that `describe`, job files and messages share (wit/README.md, "Types").

use std::fmt;

/// How deep types may nest, the outermost counted as 1.
pub const TYPE_DEPTH_MAX: usize = 16;

/// A type and whether a value of it may be null.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataType {
    /// What a value that is not null looks like.
    pub shape: Shape,
    /// Written as a trailing `?`.
    pub nullable: bool,
}

/// A named type: an argument, a field of a struct, a column of a row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    pub name: String,
    pub data_type: DataType,
}

/// The resolution of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeUnit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
}

/// A type without its nullability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Shape {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    Float32,
    Float64,
    /// Precision 1 to 38, scale 0 to precision.
    Decimal(u8, u8),
    Utf8,
    Binary,
    Date,
    Time,
    /// With the zone's name or offset, or without a zone.
    Timestamp(TimeUnit, Option<String>),
    List(Box<DataType>),
    Struct(Vec<Field>),
    Map(Box<DataType>, Box<DataType>),
}

/// Why a text is not a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeError {
    /// What was read.
    pub text: String,
    /// Byte in it where reading stopped.
    pub at: usize,
    /// What would have been right there.
    pub wanted: &'static str,
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a type: at byte {} {} was wanted", self.text, self.at, self.wanted)
    }
}

impl std::error::Error for TypeError {}

impl DataType {
    /// A type without null.
    pub fn of(shape: Shape) -> Self {
        Self { shape, nullable: false }
    }

    /// The same type with null.
    pub fn nullable(mut self) -> Self {
        self.nullable = true;
        self
    }

    /// Reads the notation: `struct<a: int64, tags: list<utf8?>?>`.
    pub fn parse(text: &str) -> Result<Self, TypeError> {
        let mut parser = Parser { text, at: 0 };
        let data_type = parser.data_type(1)?;
        parser.space();
        if parser.at != text.len() {
            return Err(parser.error("the end"));
        }
        Ok(data_type)
    }

    /// How many slots of a frame a column of this type takes.
    pub fn slots(&self) -> usize {
        1 + match &self.shape {
            Shape::Utf8 | Shape::Binary => 2,
            Shape::List(item) => 1 + item.slots(),
            Shape::Struct(fields) => fields.iter().map(|field| field.data_type.slots()).sum(),
            Shape::Map(key, value) => 1 + key.slots() + value.slots(),
            _ => 1,
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
            Self::Nanosecond => "ns",
        })
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Shape::Decimal(precision, scale) => write!(f, "decimal({precision},{scale})")?,
            Shape::Timestamp(unit, None) => write!(f, "timestamp({unit})")?,
            Shape::Timestamp(unit, Some(zone)) => write!(f, "timestamp({unit},{zone})")?,
            Shape::List(item) => write!(f, "list<{item}>")?,
            Shape::Map(key, value) => write!(f, "map<{key}, {value}>")?,
            Shape::Struct(fields) => {
                f.write_str("struct<")?;
                for (i, field) in fields.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    write_name(f, &field.name)?;
                    write!(f, ": {}", field.data_type)?;
                }
                f.write_str(">")?;
            }
            simple => {
                let entry = SIMPLE.iter().find(|(_, shape)| shape == simple);
                f.write_str(entry.expect("every shape is above or in SIMPLE").0)?;
            }
        }
        f.write_str(if self.nullable { "?" } else { "" })
    }
}

fn is_plain(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if is_plain(name) {
        return f.write_str(name);
    }
    write!(f, "\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

const SIMPLE: [(&str, Shape); 15] = [
    ("bool", Shape::Bool),
    ("int8", Shape::Int8),
    ("int16", Shape::Int16),
    ("int32", Shape::Int32),
    ("int64", Shape::Int64),
    ("uint8", Shape::UInt8),
    ("uint16", Shape::UInt16),
    ("uint32", Shape::UInt32),
    ("uint64", Shape::UInt64),
    ("float32", Shape::Float32),
    ("float64", Shape::Float64),
    ("utf8", Shape::Utf8),
    ("binary", Shape::Binary),
    ("date", Shape::Date),
    ("time", Shape::Time),
];

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Parser<'t> {
    fn error(&self, wanted: &'static str) -> TypeError {
        TypeError { text: self.text.to_owned(), at: self.at, wanted }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn eat(&mut self, token: char) -> bool {
        self.space();
        let there = self.rest().starts_with(token);
        self.at += if there { token.len_utf8() } else { 0 };
        there
    }

    fn want(&mut self, token: char, wanted: &'static str) -> Result<(), TypeError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(wanted)) }
    }

    fn word(&mut self) -> &'t str {
        self.space();
        let rest = self.rest();
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn number(&mut self, wanted: &'static str) -> Result<u8, TypeError> {
        let before = self.at;
        let word = self.word();
        if word.bytes().all(|b| b.is_ascii_digit())
            && let Ok(number) = word.parse()
        {
            return Ok(number);
        }
        self.at = before;
        Err(self.error(wanted))
    }

    fn name(&mut self) -> Result<String, TypeError> {
        if !self.eat('"') {
            let before = self.at;
            let word = self.word();
            if is_plain(word) {
                return Ok(word.to_owned());
            }
            self.at = before;
            return Err(self.error("a field's name"));
        }
        let mut name = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += at + 1;
                    return Ok(name);
                }
                '\\' => match chars.next() {
                    Some((_, escaped @ ('"' | '\\'))) => name.push(escaped),
                    _ => return Err(self.error("`\\\"` or `\\\\` after a backslash in a name")),
                },
                other => name.push(other),
            }
        }
        Err(self.error("a closing quote"))
    }

    fn data_type(&mut self, depth: usize) -> Result<DataType, TypeError> {
        if depth > TYPE_DEPTH_MAX {
            return Err(self.error("a type that nests at most 16 deep"));
        }
        self.space();
        let before = self.at;
        let shape = match self.word() {
            "decimal" => self.decimal()?,
            "timestamp" => self.timestamp()?,
            "list" => {
                self.want('<', "`<`")?;
                let item = self.data_type(depth + 1)?;
                self.want('>', "`>`")?;
                Shape::List(Box::new(item))
            }
            "map" => self.map(depth)?,
            "struct" => self.fields(depth)?,
            word => match SIMPLE.iter().find(|(name, _)| *name == word) {
                Some((_, shape)) => shape.clone(),
                None => {
                    self.at = before;
                    return Err(self.error("a type"));
                }
            },
        };
        Ok(DataType { shape, nullable: self.eat('?') })
    }

    fn decimal(&mut self) -> Result<Shape, TypeError> {
        self.want('(', "`(`")?;
        let precision = self.number("a precision from 1 to 38")?;
        self.want(',', "`,`")?;
        let scale = self.number("a scale from 0 to the precision")?;
        self.want(')', "`)`")?;
        if !(1..=38).contains(&precision) || scale > precision {
            return Err(self.error("a precision from 1 to 38 and a scale up to it"));
        }
        Ok(Shape::Decimal(precision, scale))
    }

    fn timestamp(&mut self) -> Result<Shape, TypeError> {
        self.want('(', "`(`")?;
        let before = self.at;
        let unit = match self.word() {
            "s" => TimeUnit::Second,
            "ms" => TimeUnit::Millisecond,
            "us" => TimeUnit::Microsecond,
            "ns" => TimeUnit::Nanosecond,
            _ => {
                self.at = before;
                return Err(self.error("`s`, `ms`, `us` or `ns`"));
            }
        };
        let mut zone = None;
        if self.eat(',') {
            let end = self.rest().find(')').ok_or_else(|| self.error("`)`"))?;
            let name = self.rest()[..end].trim();
            if name.is_empty() {
                return Err(self.error("a zone: an IANA name or an offset"));
            }
            zone = Some(name.to_owned());
            self.at += end;
        }
        self.want(')', "`)`")?;
        Ok(Shape::Timestamp(unit, zone))
    }

    fn map(&mut self, depth: usize) -> Result<Shape, TypeError> {
        self.want('<', "`<`")?;
        let key = self.data_type(depth + 1)?;
        if key.nullable {
            return Err(self.error("a key type without `?`"));
        }
        self.want(',', "`,`")?;
        let value = self.data_type(depth + 1)?;
        self.want('>', "`>`")?;
        Ok(Shape::Map(Box::new(key), Box::new(value)))
    }

    fn fields(&mut self, depth: usize) -> Result<Shape, TypeError> {
        self.want('<', "`<`")?;
        let mut fields = Vec::new();
        if self.eat('>') {
            return Ok(Shape::Struct(fields));
        }
        loop {
            let name = self.name()?;
            self.want(':', "`:`")?;
            fields.push(Field { name, data_type: self.data_type(depth + 1)? });
            if self.eat('>') {
                return Ok(Shape::Struct(fields));
            }
            self.want(',', "`,` or `>`")?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_survives_a_round_trip() {
        for text in [
            "bool",
            "int64?",
            "decimal(38,9)",
            "timestamp(us)",
            "timestamp(ns,Europe/Berlin)?",
            "timestamp(ms,+02:00)",
            "struct<a: int64, tags: list<utf8?>?>",
            "map<utf8, struct<x: float64?>?>?",
            "struct<\"a b\": date, \"q\\\"\\\\\": time>",
            "list<struct<>>",
        ] {
            assert_eq!(DataType::parse(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn white_space_means_nothing() {
        let spaced = DataType::parse(" struct < a :int64 ? ,b: decimal( 10 , 2 ) > ? ").expect("a type");
        assert_eq!(spaced.to_string(), "struct<a: int64?, b: decimal(10,2)>?");
    }

    #[test]
    fn what_is_not_a_type_is_refused_with_its_place() {
        for (text, at) in [
            ("int65", 0),
            ("list<int64", 10),
            ("decimal(39,0)", 13),
            ("map<utf8?, bool>", 9),
            ("int64 x", 6),
            ("", 0),
            ("struct<,>", 7),
        ] {
            assert_eq!(DataType::parse(text).expect_err(text).at, at, "{text}");
        }
        assert!(DataType::parse(&format!("{}bool{}", "list<".repeat(15), ">".repeat(15))).is_ok());
        assert!(DataType::parse(&format!("{}bool{}", "list<".repeat(16), ">".repeat(16))).is_err());
    }

    #[test]
    fn slots_are_counted_as_the_contract_says() {
        for (text, slots) in
            [("int64", 2), ("utf8", 3), ("list<utf8>", 5), ("struct<a: int64, b: utf8>", 6), ("map<utf8, int8>", 7)]
        {
            assert_eq!(DataType::parse(text).expect(text).slots(), slots, "{text}");
        }
    }
}
