//! Each type there and back.

use std::collections::BTreeMap;

use wasmill_udf::{Date, Decimal, Micros, Millis, Nanos, Row, Seconds, Time, Timestamp, Utc, udf};

macro_rules! identities {
    ($($name:ident: $type:ty;)*) => {$(
        #[udf]
        pub fn $name(value: $type) -> $type {
            value
        }
    )*};
}

/// A place.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Point {
    pub x: f64,
    pub y: Option<f64>,
}

/// Structs, lists and maps in one another.
#[derive(Clone, Debug, PartialEq, Row)]
pub struct Nested {
    pub at: Option<Point>,
    pub tags: Option<Vec<Option<String>>>,
    pub counts: BTreeMap<String, Vec<i32>>,
    #[row(name = "two words")]
    pub renamed: bool,
}

identities! {
    id_bool: bool;
    id_i8: i8;
    id_i16: i16;
    id_i32: i32;
    id_i64: i64;
    id_u8: u8;
    id_u16: u16;
    id_u32: u32;
    id_u64: u64;
    id_f32: f32;
    id_f64: f64;
    id_decimal: Decimal<12, 2>;
    id_utf8: String;
    id_binary: Vec<u8>;
    id_date: Date;
    id_time: Time;
    id_timestamp_s: Timestamp<Seconds>;
    id_timestamp_ms: Timestamp<Millis>;
    id_timestamp_us: Timestamp<Micros>;
    id_timestamp_ns: Timestamp<Nanos>;
    id_timestamp_utc: Timestamp<Micros, Utc>;
    id_list: Vec<i64>;
    id_list_nullable: Vec<Option<String>>;
    id_struct: Point;
    id_map: BTreeMap<String, Option<i64>>;
    id_nested: Nested;
    maybe_bool: Option<bool>;
    maybe_i64: Option<i64>;
    maybe_f64: Option<f64>;
    maybe_utf8: Option<String>;
    maybe_decimal: Option<Decimal<12, 2>>;
    maybe_list: Option<Vec<Option<i64>>>;
    maybe_struct: Option<Point>;
}

/// A text that is not copied on its way in.
#[udf]
pub fn id_text(value: &str) -> &str {
    value
}

/// Bytes that are not copied on their way in.
#[udf]
pub fn id_bytes(value: &[u8]) -> &[u8] {
    value
}
