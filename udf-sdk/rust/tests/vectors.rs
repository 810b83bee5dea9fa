//! The golden vectors of the contract: what is decoded from the bytes is their meaning, and what is encoded from it is the bytes.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json, json};
use wasmill_udf::data_type::DataType;
use wasmill_udf::frame::{BUNDLE_MAGIC, Bundle, FrameWriter, Operation, Slots};
use wasmill_udf::value::{ColumnWriter, Reader, ToColumn, Unit, Value, decode_value};
use wasmill_udf::{Date, Decimal, Micros, Millis, Nanos, NoZone, Row, Seconds, Time, Timestamp, Utc, Zone};

fn vectors() -> Json {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../wit/vectors/frames.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("wit/vectors/frames.json")).expect("vectors are JSON")
}

fn list<'v>(vectors: &'v Json, name: &str) -> &'v Vec<Json> {
    vectors[name].as_array().unwrap_or_else(|| panic!("vectors have {name}"))
}

fn text<'v>(vector: &'v Json, name: &str) -> &'v str {
    vector[name].as_str().unwrap_or_else(|| panic!("{name} of {vector}"))
}

fn bytes(vector: &Json) -> Vec<u8> {
    let hex = text(vector, "hex");
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A type's values as the vectors write them.
trait Meaning: Sized {
    fn to_json(&self) -> Json;
    fn from_json(json: &Json) -> Self;
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Meaning for $type {
            fn to_json(&self) -> Json {
                json!(*self)
            }
            fn from_json(json: &Json) -> Self {
                serde_json::from_value(json.clone()).expect("a number")
            }
        }
    )*};
}
integers!(bool i8 i16 i32 i64 u8 u16 u32 u64);

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Meaning for $type {
            fn to_json(&self) -> Json {
                match *self {
                    value if value.is_nan() => json!("NaN"),
                    value if value.is_infinite() => json!(if value > 0.0 { "inf" } else { "-inf" }),
                    value => Json::Number(Number::from_f64(f64::from(value)).expect("a number")),
                }
            }
            fn from_json(json: &Json) -> Self {
                match json.as_str() {
                    Some(text) => text.parse().expect("a number"),
                    None => json.as_f64().expect("a number") as $type,
                }
            }
        }
    )*};
}
floats!(f32 f64);

impl Meaning for String {
    fn to_json(&self) -> Json {
        json!(self)
    }
    fn from_json(json: &Json) -> Self {
        json.as_str().expect("a text").to_owned()
    }
}

impl Meaning for Vec<u8> {
    fn to_json(&self) -> Json {
        json!(hex(self))
    }
    fn from_json(json: &Json) -> Self {
        bytes(&json!({ "hex": json }))
    }
}

impl<const P: u8, const S: u8> Meaning for Decimal<P, S> {
    fn to_json(&self) -> Json {
        json!(self.to_string())
    }
    fn from_json(json: &Json) -> Self {
        json.as_str().expect("a decimal").parse().expect("a decimal")
    }
}

impl Meaning for Date {
    fn to_json(&self) -> Json {
        json!(self.0)
    }
    fn from_json(json: &Json) -> Self {
        Self(Meaning::from_json(json))
    }
}

impl Meaning for Time {
    fn to_json(&self) -> Json {
        json!(self.0)
    }
    fn from_json(json: &Json) -> Self {
        Self(Meaning::from_json(json))
    }
}

impl<U: Unit, Z: Zone> Meaning for Timestamp<U, Z> {
    fn to_json(&self) -> Json {
        json!(self.0)
    }
    fn from_json(json: &Json) -> Self {
        Self::new(Meaning::from_json(json))
    }
}

impl<T: Meaning> Meaning for Option<T> {
    fn to_json(&self) -> Json {
        self.as_ref().map_or(Json::Null, Meaning::to_json)
    }
    fn from_json(json: &Json) -> Self {
        (!json.is_null()).then(|| T::from_json(json))
    }
}

macro_rules! lists {
    ($($item:ty)*) => {$(
        impl Meaning for Vec<$item> {
            fn to_json(&self) -> Json {
                Json::Array(self.iter().map(Meaning::to_json).collect())
            }
            fn from_json(json: &Json) -> Self {
                json.as_array().expect("a list").iter().map(Meaning::from_json).collect()
            }
        }
    )*};
}
lists!(i64 Option<String> Option<i32> Option<Vec<Option<i32>>> Option<Pair>);

/// Maps in the order of the vectors are lists of pairs; those that are sorted and without doubles can be `BTreeMap`s too.
impl<K: Meaning, V: Meaning> Meaning for Vec<(K, V)> {
    fn to_json(&self) -> Json {
        Json::Array(self.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect())
    }
    fn from_json(json: &Json) -> Self {
        json.as_array().expect("a map").iter().map(|pair| (K::from_json(&pair[0]), V::from_json(&pair[1]))).collect()
    }
}

impl<K: Meaning + Ord, V: Meaning> Meaning for BTreeMap<K, V> {
    fn to_json(&self) -> Json {
        Json::Array(self.iter().map(|(key, value)| json!([key.to_json(), value.to_json()])).collect())
    }
    fn from_json(json: &Json) -> Self {
        json.as_array().expect("a map").iter().map(|pair| (K::from_json(&pair[0]), V::from_json(&pair[1]))).collect()
    }
}

macro_rules! rows {
    ($($(#[$derive:meta])* $row:ident { $($(#[$attribute:meta])* $field:ident ($name:literal): $type:ty,)* })*) => {$(
        #[derive(Clone, Debug, PartialEq, Row)]
        struct $row { $($(#[$attribute])* $field: $type,)* }

        impl Meaning for $row {
            fn to_json(&self) -> Json {
                let mut object = Map::new();
                $(object.insert($name.to_owned(), self.$field.to_json());)*
                Json::Object(object)
            }
            fn from_json(json: &Json) -> Self {
                Self { $($field: Meaning::from_json(&json[$name]),)* }
            }
        }
    )*};
}

rows! {
    Ab { a("a"): i64, b("b"): Option<String>, }
    Inner { x("x"): bool, y("y"): Option<Date>, }
    Spaced { #[row(name = "a b")] a_b("a b"): Option<f64>, tags("tags"): Option<Vec<Option<String>>>, #[row(name = "in")] inner("in"): Option<Inner>, }
    Pair { k("k"): String, v("v"): Option<Decimal<5, 1>>, }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct NewYork;
impl Zone for NewYork {
    const NAME: Option<&'static str> = Some("America/New_York");
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct PlusTwo;
impl Zone for PlusTwo {
    const NAME: Option<&'static str> = Some("+02:00");
}

/// Calls `$check::<T>(…)` with the Rust type of a type's text; false = the text is none of them.
macro_rules! with_type {
    ($text:expr, $check:ident ( $($argument:expr),* )) => {
        with_type!(@ $text, $check ($($argument),*):
            bool, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, Decimal<10, 2>, Decimal<38, 0>, Decimal<38, 38>, String, Vec<u8>, Date, Time,
            Timestamp<Seconds, NoZone>, Timestamp<Millis>, Timestamp<Micros>, Timestamp<Nanos>, Timestamp<Micros, Utc>,
            Timestamp<Millis, NewYork>, Timestamp<Seconds, PlusTwo>, Vec<i64>, Vec<Option<String>>, Vec<Option<Vec<Option<i32>>>>,
            Ab, Spaced, Vec<(String, Option<i64>)>, Vec<(i32, Vec<Option<Pair>>)>
        )
    };
    (@ $text:expr, $check:ident $arguments:tt: $($type:ty),*) => {{
        let data_type = DataType::parse($text).expect("a type");
        let mut known = false;
        $(if data_type == <$type as wasmill_udf::value::Typed>::data_type() {
            $check::<$type> $arguments;
            known = true;
        } else if data_type == <Option<$type> as wasmill_udf::value::Typed>::data_type() {
            $check::<Option<$type>> $arguments;
            known = true;
        })*
        known
    }};
}

fn read_column<T: Value>(slots: &mut Slots<'_>, rows: usize) -> Vec<T> {
    let reader = T::open(slots, rows).expect("a column");
    let get = |row| {
        assert!(T::NULLABLE || !reader.is_null(row), "row {row} is null");
        // SAFETY: the column was opened with `rows` rows.
        unsafe { T::get(&reader, row) }.expect("no null inside")
    };
    (0..rows).map(get).collect()
}

fn check_bundle<T: Value + Meaning>(vector: &Json) {
    let meaning = &vector["meaning"];
    let (frame, name) = (bytes(vector), text(vector, "name"));
    for shift in [0, 1, 3] {
        let mut moved = vec![0; shift];
        moved.extend_from_slice(&frame);
        let mut bundle = Bundle::open(&moved[shift..]).expect("a bundle");
        assert_eq!(json!(bundle.rows), meaning["rows"], "{name}");
        let values: Vec<T> = read_column(&mut bundle.slots, bundle.rows);
        let got: Vec<Json> = values.iter().map(Meaning::to_json).collect();
        assert_eq!(Json::Array(got), meaning["arguments"][0], "{name}");
    }
}

#[test]
fn bundles_mean_what_the_vectors_say() {
    let vectors = vectors();
    let mut columns = 0;
    for vector in list(&vectors, "bundles") {
        let meaning = &vector["meaning"];
        let frame = bytes(vector);
        let bundle = Bundle::open(&frame).expect("a bundle");
        let operation =
            [Operation::Process, Operation::Accumulate, Operation::Retract, Operation::Merge, Operation::Result];
        assert_eq!(bundle.operation, operation[meaning["operation"].as_u64().expect("a number") as usize]);
        let header = [
            ("function", json!(bundle.function)),
            ("rows", json!(bundle.rows)),
            ("keys", json!(bundle.keys)),
            ("watermark", json!(bundle.watermark)),
            ("processing_time", json!(bundle.processing_time)),
            ("seed", json!(bundle.seed)),
        ];
        for (name, got) in header {
            assert_eq!(got, meaning[name], "{name} of {}", text(vector, "name"));
        }
        if text(vector, "name").starts_with("column of ") {
            let argument = text(&vector["binding"]["arguments"][0], "type");
            assert!(with_type!(argument, check_bundle(vector)), "no Rust type for {argument}");
            columns += 1;
        }
    }
    assert!(columns >= 128, "only {columns} columns");
}

fn check_output<T: Value + Meaning>(vector: &Json) {
    let output: Vec<T> =
        vector["meaning"]["output"].as_array().expect("an output").iter().map(Meaning::from_json).collect();
    let mut writer = T::Writer::default();
    T::push_all(&output, &mut writer);
    let one_by_one = {
        let mut writer = T::Writer::default();
        // What is taken back leaves nothing behind.
        for value in &output {
            value.push_to(&mut writer);
            value.push_to(&mut writer);
            writer.hole();
            writer.null();
            writer.truncate(writer.len() - 3);
        }
        writer
    };
    for writer in [writer, one_by_one] {
        let mut frame = FrameWriter::default();
        frame.begin(wasmill_udf::frame::EFFECTS_MAGIC, T::data_type().slots() + 14);
        frame.header_u32(12, output.len() as u32);
        writer.write(&mut frame);
        frame.absent(14);
        assert_eq!(hex(frame.finish()), text(vector, "hex"), "{}", text(vector, "name"));
    }
}

#[test]
fn outputs_are_written_as_the_vectors_say() {
    let vectors = vectors();
    let mut outputs = 0;
    for vector in list(&vectors, "effects").iter().filter(|vector| text(vector, "name").starts_with("output of ")) {
        let result = text(vector, "result");
        assert!(with_type!(result, check_output(vector)), "no Rust type for {result}");
        outputs += 1;
    }
    assert!(outputs >= 64, "only {outputs} outputs");
}

fn check_value<T: Value + Meaning>(vector: &Json) {
    let value = T::from_json(&vector["value"]);
    let mut encoded = Vec::new();
    value.encode(&mut encoded);
    assert_eq!(hex(&encoded), text(vector, "hex"), "{vector}");
    let decoded: T = decode_value(&encoded).expect("a value");
    assert_eq!(decoded.to_json(), vector["value"]);
    encoded.push(0);
    assert!(decode_value::<T>(&encoded).is_err(), "a byte too many for {vector}");
    encoded.truncate(encoded.len() - 2);
    assert!(decode_value::<T>(&encoded).is_err(), "a byte too few for {vector}");
}

#[test]
fn values_are_stored_as_the_vectors_say() {
    let vectors = vectors();
    for vector in list(&vectors, "values") {
        assert!(with_type!(text(vector, "type"), check_value(vector)), "no Rust type for {vector}");
    }
    assert!(list(&vectors, "values").len() >= 160);
}

#[test]
fn types_are_read_as_the_vectors_say() {
    for vector in list(&vectors(), "types") {
        let got = DataType::parse(text(vector, "text"));
        match vector.get("canonical") {
            Some(canonical) => assert_eq!(json!(got.expect("a type").to_string()), *canonical),
            None => assert!(got.is_err(), "{vector} is {got:?}"),
        }
    }
}

#[test]
fn sorted_maps_are_read_too() {
    let mut writer = <Vec<(String, Option<i64>)> as ToColumn>::Writer::default();
    vec![("b".to_owned(), Some(2i64)), ("a".to_owned(), None)].push_to(&mut writer);
    let mut frame = FrameWriter::default();
    frame.begin(BUNDLE_MAGIC, 7);
    writer.write(&mut frame);
    let frame = frame.finish().to_vec();
    let maps: Vec<BTreeMap<String, Option<i64>>> =
        read_column(&mut Slots::open(&frame, BUNDLE_MAGIC).expect("a frame"), 1);
    assert_eq!(maps, [BTreeMap::from([("a".to_owned(), None), ("b".to_owned(), Some(2))])]);
}
