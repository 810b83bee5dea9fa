//! A job file's values with the place where each stands, and the typed reading of options out of them.

use std::fmt;
use std::time::Duration;

use indexmap::IndexMap;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::duration;

/// Line and column, from 1, in the job file. Values from `--set` or from Rust have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Location {
    pub line: u32,
    pub column: u32,
}

impl Location {
    pub const NONE: Location = Location { line: 0, column: 0 };

    pub fn is_known(self) -> bool {
        self.line > 0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// A value of a job file.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub at: Location,
    pub kind: ValueKind,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ValueKind {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    /// In the order of the file; a key can stand twice, which the reader of the map reports.
    Map(Vec<(Name, Value)>),
}

/// A key or a name, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    pub text: String,
    pub at: Location,
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name { text: text.to_owned(), at: Location::NONE }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is wrong with an option, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct OptionError {
    pub at: Location,
    pub key: String,
    pub message: String,
}

impl Value {
    pub fn text(text: impl Into<String>) -> Value {
        Value { at: Location::NONE, kind: ValueKind::Text(text.into()) }
    }

    /// Reads a scalar as YAML would: `--set key=value`.
    pub fn scalar(text: &str) -> Value {
        let kind = match serde_saphyr::from_str_with_options::<Value>(text, yaml_options()) {
            Ok(value) if !matches!(value.kind, ValueKind::Map(_) | ValueKind::Null) => without_place(value).kind,
            _ => ValueKind::Text(text.to_owned()),
        };
        Value { at: Location::NONE, kind }
    }

    /// As [`scalar`](Self::scalar), and maps too: what a person writes behind `--set key=`.
    pub fn setting(text: &str) -> Value {
        match serde_saphyr::from_str_with_options::<Value>(text, yaml_options()) {
            Ok(value) if matches!(value.kind, ValueKind::Map(_)) && text.trim_start().starts_with('{') => {
                without_place(value)
            }
            _ => Value::scalar(text),
        }
    }

    /// For messages: what was found.
    pub fn describe(&self) -> String {
        match &self.kind {
            ValueKind::Null => "nothing".into(),
            ValueKind::Bool(value) => format!("{value}"),
            ValueKind::Integer(value) => format!("{value}"),
            ValueKind::Float(value) => format!("{value}"),
            ValueKind::Text(text) => format!("\"{text}\""),
            ValueKind::List(values) => format!("a list of {}", values.len()),
            ValueKind::Map(entries) => format!("a map of {} keys", entries.len()),
        }
    }

    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a scalar: a path or name may look like a number.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.kind {
            ValueKind::Text(text) => Some(text.clone()),
            ValueKind::Integer(value) => Some(value.to_string()),
            ValueKind::Float(value) => Some(value.to_string()),
            ValueKind::Bool(value) => Some(value.to_string()),
            _ => None,
        }
    }
}

/// YAML 1.2, where `n`, `no` and `on` are texts and not booleans. Keys that stand twice get through: [`Options`] reports
/// them with both places.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::DuplicateKeyPolicy::LastWins;
    options.strict_booleans = true;
    options
}

/// As a value that stands in no file: its places would be taken for places in the job file.
fn without_place(value: Value) -> Value {
    let entry = |(name, value): (Name, Value)| (Name { at: Location::NONE, ..name }, without_place(value));
    let kind = match value.kind {
        ValueKind::List(values) => ValueKind::List(values.into_iter().map(without_place).collect()),
        ValueKind::Map(entries) => ValueKind::Map(entries.into_iter().map(entry).collect()),
        scalar => scalar,
    };
    Value { at: Location::NONE, kind }
}

fn place(at: serde_saphyr::Location) -> Location {
    Location {
        line: u32::try_from(at.line()).unwrap_or(u32::MAX),
        column: u32::try_from(at.column()).unwrap_or(u32::MAX),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        let spanned = Spanned::<ValueKind>::deserialize(deserializer)?;
        Ok(Value { at: place(spanned.referenced), kind: spanned.value })
    }
}

impl<'de> Deserialize<'de> for ValueKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ValueKind, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = ValueKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<ValueKind, E> {
        Ok(ValueKind::Null)
    }

    fn visit_none<E>(self) -> Result<ValueKind, E> {
        Ok(ValueKind::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<ValueKind, E> {
        Ok(ValueKind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<ValueKind, E> {
        Ok(ValueKind::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<ValueKind, E> {
        Ok(i64::try_from(value).map_or_else(|_| ValueKind::Text(value.to_string()), ValueKind::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<ValueKind, E> {
        Ok(ValueKind::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<ValueKind, E> {
        Ok(ValueKind::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<ValueKind, E> {
        Ok(ValueKind::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ValueKind, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(ValueKind::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ValueKind, A::Error> {
        let mut entries = Vec::new();
        // As written: `n`, `1.0` and `null` are names here, whatever YAML takes them for.
        while let Some(key) = map.next_key::<Spanned<Option<String>>>()? {
            let text = key.value.unwrap_or_else(|| "null".to_owned());
            entries.push((Name { text, at: place(key.referenced) }, map.next_value()?));
        }
        Ok(ValueKind::Map(entries))
    }
}

/// The keys of a map, each taken once by the one who knows it; what is left at the end is unknown.
#[derive(Debug, Clone, Default)]
pub struct Options {
    entries: IndexMap<String, (Location, Value)>,
    /// Every key that was asked for, to tell what there would have been.
    known: Vec<String>,
}

impl Options {
    /// Fails at a key that stands twice.
    pub fn from_map(entries: Vec<(Name, Value)>) -> Result<Options, OptionError> {
        let mut options = Options::default();
        for (name, value) in entries {
            if let Some((first, _)) = options.entries.get(&name.text) {
                let message = format!("stands twice, first at {first}: remove one");
                return Err(OptionError { at: name.at, key: name.text, message });
            }
            options.entries.insert(name.text, (name.at, value));
        }
        Ok(options)
    }

    pub fn set(&mut self, key: &str, value: Value) {
        self.entries.insert(key.to_owned(), (Location::NONE, value));
    }

    /// Where `key` stands.
    pub fn at(&self, key: &str) -> Location {
        self.entries.get(key).map_or(Location::NONE, |(at, _)| *at)
    }

    pub fn contains(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    pub fn value(&mut self, key: &str) -> Option<Value> {
        if !self.known.iter().any(|known| known == key) {
            self.known.push(key.to_owned());
        }
        self.entries.shift_remove(key).map(|(_, value)| value)
    }

    /// Keys that would have been possible, for the message about an unknown one.
    pub fn know(&mut self, keys: &[&str]) {
        self.known.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    pub fn string(&mut self, key: &str) -> Result<Option<String>, OptionError> {
        self.read(key, "a text", Value::scalar_text)
    }

    pub fn required_string(&mut self, key: &str) -> Result<String, OptionError> {
        self.string(key)?.ok_or_else(|| OptionError {
            at: Location::NONE,
            key: key.to_owned(),
            message: "is missing".into(),
        })
    }

    pub fn boolean(&mut self, key: &str) -> Result<Option<bool>, OptionError> {
        self.read(key, "true or false", |value| match value.kind {
            ValueKind::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// A whole number ≥ 0.
    pub fn unsigned(&mut self, key: &str) -> Result<Option<u64>, OptionError> {
        self.read(key, "a whole number, 0 or more", |value| match value.kind {
            ValueKind::Integer(value) => u64::try_from(value).ok(),
            _ => None,
        })
    }

    pub fn integer(&mut self, key: &str) -> Result<Option<i64>, OptionError> {
        self.read(key, "a whole number", |value| match value.kind {
            ValueKind::Integer(value) => Some(value),
            _ => None,
        })
    }

    pub fn duration(&mut self, key: &str) -> Result<Option<Duration>, OptionError> {
        self.read(key, "a duration such as 200ms, 22h or 1h 30m", |value| {
            value.as_text().and_then(|text| duration::parse(text).ok())
        })
    }

    /// A size such as `64MiB`; units are powers of 1024, a bare number is bytes.
    pub fn bytes(&mut self, key: &str) -> Result<Option<u64>, OptionError> {
        self.read(key, "a size such as 64MiB", |value| match &value.kind {
            ValueKind::Integer(bytes) => u64::try_from(*bytes).ok(),
            ValueKind::Text(text) => parse_bytes(text),
            _ => None,
        })
    }

    /// A list of texts; one text alone is a list of one.
    pub fn strings(&mut self, key: &str) -> Result<Option<Vec<Name>>, OptionError> {
        self.read(key, "a text or a list of texts", |value| {
            let name = |value: &Value| Some(Name { text: value.scalar_text()?, at: value.at });
            match &value.kind {
                ValueKind::List(values) => values.iter().map(name).collect(),
                _ => Some(vec![name(value)?]),
            }
        })
    }

    /// A map, to be read in turn.
    pub fn options(&mut self, key: &str) -> Result<Option<Options>, OptionError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value { kind: ValueKind::Map(entries), .. }) => Options::from_map(entries).map(Some),
            Some(other) => Err(wrong(key, "a map", &other)),
        }
    }

    /// One of `choices`, by its name.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Result<Option<T>, OptionError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let found = value.as_text().and_then(|text| choices.iter().find(|(name, _)| *name == text));
        match found {
            Some((_, choice)) => Ok(Some(*choice)),
            None => {
                let names = choices.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                Err(wrong(key, &format!("one of {names}"), &value))
            }
        }
    }

    fn read<T>(
        &mut self,
        key: &str,
        wanted: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, OptionError> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => convert(&value).map(Some).ok_or_else(|| wrong(key, wanted, &value)),
        }
    }

    /// Every key that nobody took, as an error.
    pub fn finish(self) -> Vec<OptionError> {
        let known = self.known;
        let error = |(key, (at, _)): (String, (Location, Value))| {
            let message = match nearest(&key, known.iter().map(String::as_str)) {
                Some(near) => format!("unknown key; did you mean \"{near}\"?"),
                None => format!("unknown key; there are {}", known.join(", ")),
            };
            OptionError { at, key, message }
        };
        self.entries.into_iter().map(error).collect()
    }

    /// What is left, in order.
    pub fn into_entries(self) -> impl Iterator<Item = (Name, Value)> {
        self.entries.into_iter().map(|(text, (at, value))| (Name { text, at }, value))
    }
}

fn wrong(key: &str, wanted: &str, got: &Value) -> OptionError {
    let message = format!("is {}; {wanted} is wanted", got.describe());
    OptionError { at: got.at, key: key.to_owned(), message }
}

/// `64MiB`, `1 GiB`, `512k`: bytes, by powers of 1024 as in Flink.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

/// The known name that a typing mistake probably meant.
pub fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (edit_distance(text, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min()
        .map(|(_, name)| name)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(yaml: &str) -> Options {
        let value: Value = serde_saphyr::from_str(yaml).unwrap();
        match value.kind {
            ValueKind::Map(entries) => Options::from_map(entries).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn values_know_their_place() {
        let mut options = options("a: 1\nb:\n  - x\n  - delay: 22h\n");
        assert_eq!(options.at("b"), Location { line: 2, column: 1 });
        let Some(Value { kind: ValueKind::List(values), .. }) = options.value("b") else { panic!() };
        assert_eq!(values[1].at.line, 4);
    }

    #[test]
    fn keys_are_names_whatever_yaml_takes_them_for() {
        let options = options("null: 1\ntrue: 2\n3: 4\n");
        let names: Vec<String> = options.into_entries().map(|(name, _)| name.text).collect();
        assert_eq!(names, ["null", "true", "3"]);
    }

    #[test]
    fn what_nobody_takes_is_reported_with_a_guess() {
        let mut options = options("path: x\nparalelism: 2\n");
        assert_eq!(options.string("path").unwrap().as_deref(), Some("x"));
        assert_eq!(options.unsigned("parallelism").unwrap(), None);
        let errors = options.finish();
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].to_string(), "paralelism: unknown key; did you mean \"parallelism\"?");
        assert_eq!(errors[0].at.line, 2);
    }

    #[test]
    fn keys_are_names_as_written() {
        let Value { kind: ValueKind::Map(entries), .. } =
            serde_saphyr::from_str("{n: 1, yes: 2, 007: 3, 1.0: 4, null: 5, true: 6, 'q r': 7}").unwrap()
        else {
            panic!()
        };
        let names: Vec<&str> = entries.iter().map(|(name, _)| name.text.as_str()).collect();
        assert_eq!(names, ["n", "yes", "007", "1.0", "null", "true", "q r"]);
    }

    #[test]
    fn a_wrong_type_says_what_was_got() {
        let error = options("delay: 5").duration("delay").unwrap_err();
        assert_eq!(error.to_string(), "delay: is 5; a duration such as 200ms, 22h or 1h 30m is wanted");
    }

    #[test]
    fn sizes() {
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("1 g"), Some(1 << 30));
        assert_eq!(parse_bytes("10"), Some(10));
        assert_eq!(parse_bytes("ten"), None);
        assert_eq!(parse_bytes("99999999999999999999"), None);
    }

    #[test]
    fn scalars_from_the_command_line_read_as_yaml() {
        assert_eq!(Value::scalar("2").kind, ValueKind::Integer(2));
        assert_eq!(Value::scalar("true").kind, ValueKind::Bool(true));
        assert_eq!(Value::scalar("1d").kind, ValueKind::Text("1d".into()));
        assert_eq!(Value::scalar("no").kind, ValueKind::Text("no".into()));
        assert_eq!(Value::scalar("").kind, ValueKind::Text(String::new()));
        assert_eq!(Value::setting("f.g(x)").kind, ValueKind::Text("f.g(x)".into()));
        let ValueKind::Map(entries) = Value::setting("{x: 1}").kind else { panic!() };
        assert_eq!((entries[0].0.text.as_str(), &entries[0].1.kind), ("x", &ValueKind::Integer(1)));
    }

    #[test]
    fn what_is_set_has_no_place_in_the_file() {
        let x = |kind| Value { at: Location::NONE, kind: ValueKind::Map(vec![("x".into(), kind)]) };
        let one = Value { at: Location::NONE, kind: ValueKind::Integer(1) };
        assert_eq!(Value::setting("{x: {x: 1}}"), x(x(one.clone())));
        let list = Value { at: Location::NONE, kind: ValueKind::List(vec![x(one)]) };
        assert_eq!(Value::setting("[{x: 1}]"), list);
    }
}
