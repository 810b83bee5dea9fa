//! The golden vectors of `wit/vectors/frames.json`: what is encoded from `meaning` is `hex`, what is decoded from `hex` is `meaning`.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, PrimitiveArray, StringArray, StructArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array,
};
use arrow::array::{
    Time64MicrosecondArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, TimeUnit};
use serde_json::Value;

use crate::bundle::{Bundle, Operation};
use crate::data_type::parse;
use crate::declare::{Access, Binding, Kind, Loaded, StateDeclaration};
use crate::effects::{EffectsReader, Status};
use crate::frame::FrameWriter;
use crate::plan::BindingPlan;
use crate::recorded::RecordedBundle;
use crate::value::ValuePlan;

fn vectors() -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/vectors/frames.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn numbers<T: TryFrom<i64>>(value: &Value) -> Option<Vec<T>> {
    let number = |value: &Value| T::try_from(value.as_i64().unwrap()).ok().unwrap();
    value.as_array().map(|values| values.iter().map(number).collect())
}

fn float(value: &Value) -> f64 {
    match value.as_str() {
        Some("NaN") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        Some(other) => panic!("{other}"),
        None => value.as_f64().unwrap(),
    }
}

/// What lies under a null: zero, nothing, empty.
fn primitive<T: ArrowPrimitiveType>(
    values: &[Value],
    nulls: Option<NullBuffer>,
    read: impl Fn(&Value) -> T::Native,
) -> PrimitiveArray<T> {
    let values = values.iter().map(|value| if value.is_null() { T::Native::default() } else { read(value) });
    PrimitiveArray::<T>::new(values.collect(), nulls)
}

fn decimal(value: &Value, scale: i8) -> i128 {
    let text = value.as_str().unwrap();
    let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
    assert_eq!(fraction.len(), scale as usize, "{text}");
    text.replace('.', "").parse().unwrap()
}

/// A column of JSON as an array.
fn array(data_type: &DataType, values: &[Value]) -> ArrayRef {
    let nulls =
        values.iter().any(Value::is_null).then(|| NullBuffer::from_iter(values.iter().map(|value| !value.is_null())));
    macro_rules! ints {
        ($array:ty, $native:ty) => {
            Arc::new(<$array>::from(primitive(values, nulls, |v| {
                v.as_i64().map(|v| v as $native).or(v.as_u64().map(|v| v as $native)).unwrap()
            })))
        };
    }
    match data_type {
        DataType::Boolean => {
            let bits = values.iter().map(|value| value.as_bool().unwrap_or(false)).collect();
            Arc::new(BooleanArray::new(bits, nulls))
        }
        DataType::Int8 => ints!(Int8Array, i8),
        DataType::Int16 => ints!(Int16Array, i16),
        DataType::Int32 => ints!(Int32Array, i32),
        DataType::Int64 => ints!(Int64Array, i64),
        DataType::UInt8 => ints!(UInt8Array, u8),
        DataType::UInt16 => ints!(UInt16Array, u16),
        DataType::UInt32 => ints!(UInt32Array, u32),
        DataType::UInt64 => ints!(UInt64Array, u64),
        DataType::Date32 => ints!(Date32Array, i32),
        DataType::Time64(_) => ints!(Time64MicrosecondArray, i64),
        DataType::Float32 => Arc::new(Float32Array::from(primitive(values, nulls, |v| float(v) as f32))),
        DataType::Float64 => Arc::new(Float64Array::from(primitive(values, nulls, float))),
        DataType::Decimal128(_, scale) => {
            let array = Decimal128Array::from(primitive(values, nulls, |v| decimal(v, *scale)));
            Arc::new(array.with_data_type(data_type.clone()))
        }
        DataType::Timestamp(unit, zone) => timestamps(*unit, zone.clone(), values, nulls),
        DataType::Utf8 => Arc::new(StringArray::from_iter(values.iter().map(Value::as_str))),
        DataType::Binary => {
            let bytes: Vec<_> = values.iter().map(|value| value.as_str().map(unhex)).collect();
            Arc::new(BinaryArray::from_iter(bytes))
        }
        _ => nested(data_type, values, nulls),
    }
}

fn timestamps(unit: TimeUnit, zone: Option<Arc<str>>, values: &[Value], nulls: Option<NullBuffer>) -> ArrayRef {
    macro_rules! stamps {
        ($array:ty) => {
            Arc::new(<$array>::from(primitive(values, nulls, |v| v.as_i64().unwrap())).with_timezone_opt(zone))
        };
    }
    match unit {
        TimeUnit::Second => stamps!(TimestampSecondArray),
        TimeUnit::Millisecond => stamps!(TimestampMillisecondArray),
        TimeUnit::Microsecond => stamps!(TimestampMicrosecondArray),
        TimeUnit::Nanosecond => stamps!(TimestampNanosecondArray),
    }
}

fn nested(data_type: &DataType, values: &[Value], nulls: Option<NullBuffer>) -> ArrayRef {
    let lengths = || OffsetBuffer::from_lengths(values.iter().map(|value| list(value).len()));
    match data_type {
        DataType::List(item) => {
            let items: Vec<Value> = values.iter().flat_map(|value| list(value).iter().cloned()).collect();
            Arc::new(ListArray::new(item.clone(), lengths(), array(item.data_type(), &items), nulls))
        }
        DataType::Struct(fields) => {
            let child = |field: &Arc<Field>| {
                let value = |value: &Value| {
                    if value.is_null() {
                        under_null(field.data_type(), field.is_nullable())
                    } else {
                        value[field.name()].clone()
                    }
                };
                array(field.data_type(), &values.iter().map(value).collect::<Vec<_>>())
            };
            Arc::new(
                StructArray::try_new_with_length(
                    fields.clone(),
                    fields.iter().map(child).collect(),
                    nulls,
                    values.len(),
                )
                .unwrap(),
            )
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(fields) = entries.data_type() else { panic!() };
            let pairs: Vec<&Value> = values.iter().flat_map(list).collect();
            let column = |at: usize| {
                array(fields[at].data_type(), &pairs.iter().map(|pair| pair[at].clone()).collect::<Vec<_>>())
            };
            let columns = StructArray::new(fields.clone(), vec![column(0), column(1)], None);
            Arc::new(MapArray::new(entries.clone(), lengths(), columns, nulls, false))
        }
        other => panic!("{other}"),
    }
}

/// What the reference writes for a field of a struct that is null.
fn under_null(data_type: &DataType, nullable: bool) -> Value {
    match data_type {
        _ if nullable => Value::Null,
        DataType::Boolean => Value::Bool(false),
        DataType::Utf8 | DataType::Binary => Value::String(String::new()),
        DataType::List(_) | DataType::Map(_, _) => Value::Array(vec![]),
        DataType::Struct(fields) => fields
            .iter()
            .map(|field| (field.name().clone(), under_null(field.data_type(), field.is_nullable())))
            .collect(),
        DataType::Decimal128(_, scale) if *scale > 0 => Value::String(format!("0.{}", "0".repeat(*scale as usize))),
        DataType::Decimal128(_, _) => Value::String("0".to_string()),
        _ => Value::from(0),
    }
}

fn kind(text: &str) -> Kind {
    let all = [
        Kind::Scalar,
        Kind::Vectorized,
        Kind::Table,
        Kind::Filter,
        Kind::Map,
        Kind::Reduce,
        Kind::Aggregate,
        Kind::Process,
    ];
    all.into_iter().find(|kind| kind.as_str() == text).unwrap()
}

fn operation(number: u64) -> Operation {
    [Operation::Process, Operation::Accumulate, Operation::Retract, Operation::Merge, Operation::Result]
        [number as usize]
}

fn fields(value: &Value) -> Vec<Field> {
    list(value).iter().map(|field| parse(text(field, "type")).unwrap().to_field(text(field, "name"))).collect()
}

fn states(value: &Value) -> Vec<StateDeclaration> {
    let state = |state: &Value| StateDeclaration {
        name: text(state, "name").to_string(),
        data_type: parse(text(state, "type")).unwrap().data_type,
        access: if text(state, "access") == "call" { Access::Call } else { Access::Column },
    };
    list(value).iter().map(state).collect()
}

fn plan(
    kind_text: &str,
    arguments: Vec<Field>,
    key: Vec<Field>,
    states: Vec<StateDeclaration>,
    result: &str,
) -> BindingPlan {
    let binding = Binding { function: "f".into(), arguments, key, result: None, access: vec![], parameters: vec![] };
    let loaded = Loaded { result: parse(result).unwrap(), states };
    BindingPlan::new(&binding, kind(kind_text), &loaded).ok().unwrap()
}

fn columns(types: &[DataType], values: &Value) -> Vec<ArrayRef> {
    let present = types.iter().zip(list(values)).filter(|(_, values)| values.is_array());
    present.map(|(data_type, values)| array(data_type, list(values))).collect()
}

fn types(fields: &[Field]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

#[test]
fn bundles_are_encoded_as_the_vectors_say() {
    let vectors = vectors();
    let bundles = list(&vectors["bundles"]);
    assert!(bundles.len() > 100);
    let mut frame = FrameWriter::default();
    for case in bundles {
        let name = text(case, "name");
        let (binding, meaning) = (&case["binding"], &case["meaning"]);
        let (arguments, key, states) =
            (fields(&binding["arguments"]), fields(&binding["key"]), states(&binding["states"]));
        let by_column: Vec<_> =
            states.iter().filter(|state| state.access == Access::Column).map(|state| state.data_type.clone()).collect();
        let (argument_types, key_types) = (types(&arguments), types(&key));
        let plan = plan(text(case, "kind"), arguments, key, states, "bool");
        let (times, kinds, index) =
            (numbers(&meaning["event_times"]), numbers(&meaning["row_kinds"]), numbers(&meaning["key_index"]));
        let number = |key: &str| meaning[key].as_u64().unwrap();
        let bundle = Bundle {
            function: number("function") as u32,
            operation: operation(number("operation")),
            rows: number("rows") as usize,
            arguments: &columns(&argument_types, &meaning["arguments"]),
            first_row: 0,
            event_times: times.as_deref(),
            row_kinds: kinds.as_deref(),
            key_index: index.as_deref(),
            keys: number("keys") as usize,
            key_columns: &columns(&key_types, &meaning["key_columns"]),
            states: &columns(&by_column, &meaning["states"]),
            sources: &columns(&by_column, &meaning["sources"]),
            watermark: meaning["watermark"].as_i64().unwrap(),
            processing_time: meaning["processing_time"].as_i64().unwrap(),
            seed: number("seed"),
        };
        plan.write(&bundle, &mut frame).unwrap_or_else(|bad| panic!("{name}: {bad}"));
        let want = unhex(text(case, "hex"));
        let differ = frame.bytes().iter().zip(&want).position(|(got, want)| got != want);
        assert_eq!(differ, None, "{name}: byte");
        assert_eq!(frame.bytes().len(), want.len(), "{name}");
    }
}

/// The binding of a bundle's case, what it came to, and its frame as that of the only binding.
fn recorded(case: &Value) -> (Binding, Kind, Loaded, Vec<u8>) {
    let binding = &case["binding"];
    let (arguments, key) = (fields(&binding["arguments"]), fields(&binding["key"]));
    let loaded = Loaded { result: parse("bool").unwrap(), states: states(&binding["states"]) };
    let binding = Binding { function: "f".into(), arguments, key, result: None, access: vec![], parameters: vec![] };
    let mut frame = unhex(text(case, "hex"));
    frame[8..12].fill(0);
    (binding, kind(text(case, "kind")), loaded, frame)
}

#[test]
fn recorded_bundles_are_written_again_to_the_byte() {
    for case in list(&vectors()["bundles"]) {
        let (binding, kind, loaded, frame) = recorded(case);
        let read = RecordedBundle::read(frame.clone(), &binding, kind, &loaded).unwrap();
        let plan = BindingPlan::new(&binding, kind, &loaded).ok().unwrap();
        let mut writer = FrameWriter::default();
        plan.write(&read.bundle(), &mut writer).unwrap_or_else(|bad| panic!("{}: {bad}", text(case, "name")));
        assert!(writer.bytes() == frame, "{}", text(case, "name"));
    }
}

#[test]
fn damaged_bundles_are_told_and_never_panic() {
    for case in list(&vectors()["bundles"]) {
        let (binding, kind, loaded, frame) = recorded(case);
        let read = |bytes: Vec<u8>| RecordedBundle::read(bytes, &binding, kind, &loaded);
        for at in 0..frame.len() {
            let mut bytes = frame.clone();
            bytes[at] ^= 1 << (at % 8);
            let _either = read(bytes);
        }
        for length in (0..frame.len()).step_by(8) {
            let error = read(frame[..length].to_vec()).unwrap_err().to_string();
            assert!(error.starts_with("the frame of function \"f\" is not what it was: "), "{error}");
        }
    }
}

#[test]
fn effects_are_decoded_as_the_vectors_say() {
    let vectors = vectors();
    let effects = list(&vectors["effects"]);
    assert!(effects.len() > 70);
    for case in effects {
        let name = text(case, "name");
        let meaning = &case["meaning"];
        let result = text(case, "result");
        let plan = plan(text(case, "kind"), vec![], vec![], states(&case["states"]), result);
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let bundle = empty_bundle(operation(case["operation"].as_u64().unwrap()), number("rows"), number("keys"));
        let mut reader = EffectsReader::new(&plan, &bundle);
        let status = reader.read(unhex(text(case, "hex"))).unwrap_or_else(|lie| panic!("{name}: {lie}"));
        let more = meaning["status"].as_u64() == Some(1);
        assert_eq!(status, if more { Status::More } else { Status::Done }, "{name}");
        let got = reader.finish().unwrap_or_else(|lie| panic!("{name}: {lie}"));
        let want = array(&parse(result).unwrap().data_type, list(&meaning["output"]));
        match got.outputs.as_slice() {
            [] => assert_eq!(want.len(), 0, "{name}"),
            [output] => {
                assert_eq!(&output.column, &want, "{name}");
                assert_eq!(output.source_rows, numbers(&meaning["source_rows"]), "{name}");
                assert_eq!(output.row_kinds, numbers(&meaning["row_kinds"]), "{name}");
            }
            more => panic!("{name}: {} outputs", more.len()),
        }
        let errors: Vec<_> = got
            .errors
            .iter()
            .map(|e| serde_json::json!({"row": e.row, "kind": e.kind, "message": e.message, "traceback": e.traceback}))
            .collect();
        assert_eq!(Value::Array(errors), meaning["errors"], "{name}");
        if !more {
            check_states(name, &plan, &got.states, list(&meaning["states"]));
        }
    }
}

fn check_states(name: &str, plan: &BindingPlan, got: &[crate::bundle::StateWrites], want: &[Value]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for ((writes, state), want) in got.iter().zip(&plan.states).zip(want) {
        if want.is_null() {
            assert_eq!((writes.values.len(), writes.written.len()), (0, 0), "{name}");
            continue;
        }
        assert_eq!(&writes.values, &array(&state.column.data_type, list(&want["values"])), "{name}");
        let written: BooleanBuffer = list(&want["written"]).iter().map(|bit| bit.as_bool().unwrap()).collect();
        assert_eq!(writes.written, written, "{name}");
    }
}

fn empty_bundle(operation: Operation, rows: usize, keys: usize) -> Bundle<'static> {
    Bundle {
        function: 0,
        operation,
        rows,
        arguments: &[],
        first_row: 0,
        event_times: None,
        row_kinds: None,
        key_index: None,
        keys,
        key_columns: &[],
        states: &[],
        sources: &[],
        watermark: 0,
        processing_time: 0,
        seed: 0,
    }
}

#[test]
fn values_of_the_vectors_are_values_and_cut_ones_are_not() {
    let vectors = vectors();
    let values = list(&vectors["values"]);
    assert!(values.len() > 100);
    for case in values {
        let parsed = parse(text(case, "type")).unwrap();
        let field = parsed.to_field("v");
        let plan = match ValuePlan::new(&parsed.data_type) {
            plan if field.is_nullable() => ValuePlan::Nullable(Box::new(plan)),
            plan => plan,
        };
        let bytes = unhex(text(case, "hex"));
        plan.check(&bytes).unwrap_or_else(|lie| panic!("{case}: {lie}"));
        if !bytes.is_empty() {
            assert!(plan.check(&bytes[..bytes.len() - 1]).is_err(), "{case}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(plan.check(&longer).is_err(), "{case}");
    }
}

#[test]
fn types_are_read_as_the_vectors_say() {
    let vectors = vectors();
    let types = list(&vectors["types"]);
    assert!(types.len() > 50);
    for case in types {
        let parsed = parse(text(case, "text"));
        match case["canonical"].as_str() {
            Some("any") => assert!(parsed.is_err()),
            Some(canonical) => assert_eq!(parsed.unwrap().to_string(), canonical),
            None => assert!(parsed.is_err(), "{case}: {parsed:?}"),
        }
    }
}

/// Every byte of a frame that matters is looked at: flipping it either fails or changes what is read, and never panics.
#[test]
fn damaged_effects_never_panic() {
    let vectors = vectors();
    for case in list(&vectors["effects"]) {
        let plan = plan(text(case, "kind"), vec![], vec![], states(&case["states"]), text(case, "result"));
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let bundle = empty_bundle(operation(case["operation"].as_u64().unwrap()), number("rows"), number("keys"));
        let read = |bytes: Vec<u8>| {
            let mut reader = EffectsReader::new(&plan, &bundle);
            let status = reader.read(bytes)?;
            reader.finish().map(|effects| (status, format!("{effects:?}")))
        };
        let good = unhex(text(case, "hex"));
        for at in 0..good.len() {
            for bit in [0, 3, 7] {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                let header = at < 8 || (16..64).contains(&at);
                assert!(
                    read(bytes).is_err() || !header,
                    "{}: byte {at} bit {bit} of the header does not matter",
                    text(case, "name")
                );
            }
        }
        for length in (0..good.len()).step_by(8) {
            assert!(read(good[..length].to_vec()).is_err(), "{}: cut to {length}", text(case, "name"));
        }
    }
}
