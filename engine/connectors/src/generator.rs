//! `source: generator`: rows made up, the same in every run.
//!
//! | option | default | |
//! |---|---|---|
//! | `rows` | without end | rows of all splits together |
//! | `rate` | as fast as possible | rows a second of all splits together |
//! | `splits` | 1 | parts that can be read in parallel; split s has the rows s, s + splits, s + 2 · splits … |
//! | `seed` | 0 | where the randomness begins |
//! | `fields` | | `{column: {kind: …}}`, at least one |
//!
//! Kinds, for row number n from 0, whichever split has it:
//!
//! | kind | column |
//! |---|---|
//! | `sequence: {start: 0, step: 1}` | `int64`: start + n · step |
//! | `modulo: k` | `int64`: n mod k |
//! | `timestamp: {start: "2013-01-01T00:00:00", step: 1s}` | `timestamp(ms)`: start + n · step; start defaults to 1970 |
//! | `random: {type: int64, min: 0, max: 9}` | any integer or float type, evenly spread; `min` and `max` belong to it, floats stay below `max`. Defaults: 0 and the largest integer, 0 and 1 |
//! | `random: {type: bool}` | `bool` |
//! | `random: {type: utf8, length: 8}` | `utf8` of so many letters |
//! | `choice: [a, b]` | one of the values, evenly spread: `bool`, `int64`, `float64` or `utf8`; `null` may be among them |

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::PrimitiveArray;
use arrow::array::{Array, ArrayRef, BooleanArray, Int64Array, StringArray, TimestampMillisecondArray, UInt32Array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema, SchemaRef, TimeUnit};
use serde::{Deserialize, Serialize};
use wasmill_host::data_type;
use wasmill_runtime::batch::record_batch;
use wasmill_runtime::connector::{
    ConnectorContext, ConnectorError, Position, ReadOutcome, Source, SourceReader, Split,
};
use wasmill_runtime::value::{Location, Options, Value, ValueKind};

use crate::collection;
use crate::datum::{self, Datum};
use crate::options::{together, wrong, wrong_at};
use crate::position;

const SPLITS_MAX: u64 = 1024;
const LENGTH_MAX: u64 = 1 << 16;

/// Makes rows up.
#[derive(Debug)]
pub(crate) struct GeneratorSource {
    rows: Option<u64>,
    rate: Option<f64>,
    splits: u64,
    seed: u64,
    schema: SchemaRef,
    fields: Arc<[Kind]>,
}

/// What fills a column.
#[derive(Debug, Clone)]
enum Kind {
    Sequence {
        start: i64,
        step: i64,
    },
    Modulo(u64),
    Timestamp {
        start_ms: i64,
        step_ms: i64,
    },
    /// `span` is max − min; the type follows by a cast.
    Integers {
        min: i64,
        span: u64,
        data_type: DataType,
    },
    Floats {
        min: f64,
        span: f64,
        data_type: DataType,
    },
    Bools,
    Texts {
        length: usize,
    },
    Choice(ArrayRef),
}

impl GeneratorSource {
    pub(crate) fn new(context: ConnectorContext<'_>) -> Result<GeneratorSource, ConnectorError> {
        let options = context.options;
        let rows = options.unsigned("rows").map_err(wrong)?;
        let rate = rate(options)?;
        let at = options.at("splits");
        let splits = options.unsigned("splits").map_err(wrong)?.unwrap_or(1);
        if !(1..=SPLITS_MAX).contains(&splits) {
            return Err(wrong_at(at, "splits", format!("is {splits}; 1 to {SPLITS_MAX} is possible")));
        }
        let seed = options.unsigned("seed").map_err(wrong)?.unwrap_or(0);
        let at = options.at("fields");
        let given = options.options("fields").map_err(wrong)?.unwrap_or_default();
        let mut fields = Vec::new();
        let mut kinds = Vec::new();
        let mut errors = Vec::new();
        for (name, value) in given.into_entries() {
            let at = value.at;
            match kind(&name.text, value) {
                Ok(kind) if rows.is_some_and(|rows| kind.overflows(rows.saturating_sub(1))) => {
                    let rows = rows.unwrap_or_default();
                    errors.push(wrong_at(at, &format!("fields.{}", name.text), kind.beyond(rows)));
                }
                Ok(kind) => {
                    fields.push(Field::new(name.text, kind.data_type(), kind.nullable()));
                    kinds.push(kind);
                }
                Err(error) => errors.push(error),
            }
        }
        together(errors, "fields cannot be generated")?;
        if kinds.is_empty() {
            return Err(wrong_at(at, "fields", "is missing; {column: {sequence: {}}} is the simplest"));
        }
        Ok(GeneratorSource { rows, rate, splits, seed, schema: Arc::new(Schema::new(fields)), fields: kinds.into() })
    }
}

fn rate(options: &mut Options) -> Result<Option<f64>, ConnectorError> {
    let at = options.at("rate");
    let Some(value) = options.value("rate") else { return Ok(None) };
    let rate = match value.kind {
        ValueKind::Integer(rate) => rate as f64,
        ValueKind::Float(rate) => rate,
        _ => f64::NAN,
    };
    if rate.is_finite() && rate > 0.0 {
        return Ok(Some(rate));
    }
    Err(wrong_at(at, "rate", format!("is {}; a number of rows a second above 0 is wanted", value.describe())))
}

/// The one thing that fills the column `name`.
fn kind(name: &str, value: Value) -> Result<Kind, ConnectorError> {
    let key = format!("fields.{name}");
    let at = value.at;
    let described = value.describe();
    let one = match value.kind {
        ValueKind::Map(mut entries) if entries.len() == 1 => entries.pop(),
        _ => None,
    };
    let Some((kind, value)) = one else {
        return Err(wrong_at(
            at,
            &key,
            format!("is {described}; one of {{sequence: …}}, {{random: …}} and so on is wanted"),
        ));
    };
    let key = format!("{key}.{kind}");
    match kind.text.as_str() {
        "modulo" => match value.kind {
            ValueKind::Integer(modulo @ 1..) => Ok(Kind::Modulo(modulo.cast_unsigned())),
            _ => Err(wrong_at(value.at, &key, format!("is {}; a whole number above 0 is wanted", value.describe()))),
        },
        "choice" => choice(&key, value),
        "sequence" => within(&key, value, |options| {
            let start = options.integer("start").map_err(wrong)?.unwrap_or(0);
            Ok(Kind::Sequence { start, step: options.integer("step").map_err(wrong)?.unwrap_or(1) })
        }),
        "timestamp" => within(&key, value, timestamp),
        "random" => within(&key, value, random),
        _ => Err(wrong_at(kind.at, &key, "no such kind; there are sequence, modulo, timestamp, random, choice")),
    }
}

/// Reads a kind's own options, all of which must be known. Their errors name the field.
fn within(
    key: &str,
    value: Value,
    read: impl Fn(&mut Options) -> Result<Kind, ConnectorError>,
) -> Result<Kind, ConnectorError> {
    let entries = match value.kind {
        ValueKind::Map(entries) => entries,
        ValueKind::Null => Vec::new(),
        _ => return Err(wrong_at(value.at, key, format!("is {}; a map is wanted", value.describe()))),
    };
    let name = |mut error: ConnectorError| {
        error.message = format!("{key}.{}", error.message);
        error
    };
    let mut options = Options::from_map(entries).map_err(wrong).map_err(name)?;
    let kind = read(&mut options).map_err(name)?;
    match options.finish().into_iter().next() {
        None => Ok(kind),
        Some(unknown) => Err(name(wrong(unknown))),
    }
}

fn timestamp(options: &mut Options) -> Result<Kind, ConnectorError> {
    let at = options.at("start");
    let start = options.string("start").map_err(wrong)?.unwrap_or_else(|| "1970-01-01T00:00:00".into());
    let field = Field::new("", DataType::Timestamp(TimeUnit::Millisecond, None), false);
    let Ok(Datum::Int(start_ms)) = datum::from_text(&start, &field) else {
        return Err(wrong_at(at, "start", format!("is {start:?}; a time such as 2013-01-01T00:00:00 is wanted")));
    };
    let step_at = options.at("step");
    let step = options.duration("step").map_err(wrong)?.unwrap_or(Duration::from_secs(1));
    let step_ms = i64::try_from(step.as_millis()).map_err(|_| {
        wrong_at(step_at, "step", format!("is {step:?}; at most {} ms, the largest int64, are possible", i64::MAX))
    })?;
    Ok(Kind::Timestamp { start_ms, step_ms })
}

fn random(options: &mut Options) -> Result<Kind, ConnectorError> {
    let at = options.at("type");
    let text = options.string("type").map_err(wrong)?.unwrap_or_else(|| "int64".into());
    let parsed = data_type::parse(&text).map_err(|error| wrong_at(at, "type", error.to_string()))?;
    match parsed.data_type {
        data_type if data_type.is_integer() => integers(options, data_type),
        DataType::Boolean => Ok(Kind::Bools),
        DataType::Utf8 => {
            let at = options.at("length");
            let length = options.unsigned("length").map_err(wrong)?.unwrap_or(8);
            if length > LENGTH_MAX {
                return Err(wrong_at(at, "length", format!("is {length}; 0 to {LENGTH_MAX} is possible")));
            }
            Ok(Kind::Texts { length: usize::try_from(length).expect("at most LENGTH_MAX") })
        }
        data_type @ (DataType::Float32 | DataType::Float64) => {
            let places = [options.at("min"), options.at("max")];
            let (min, max) = (float(options, "min", 0.0)?, float(options, "max", 1.0)?);
            for ((key, value), at) in [("min", min), ("max", max)].into_iter().zip(places) {
                if data_type == DataType::Float32 && !datum::fits_f32(value) {
                    return Err(wrong_at(at, key, format!("is {value}; a value of float32 is wanted")));
                }
            }
            match (max - min).is_finite() && min <= max {
                true => Ok(Kind::Floats { min, span: max - min, data_type }),
                false => {
                    Err(wrong_at(Location::NONE, "max", format!("is {max}, min is {min}; at least min is wanted")))
                }
            }
        }
        _ => Err(wrong_at(at, "type", format!("is {text}; an integer or float type, bool or utf8 is wanted"))),
    }
}

fn integers(options: &mut Options, data_type: DataType) -> Result<Kind, ConnectorError> {
    let largest = match data_type {
        DataType::Int8 => i64::from(i8::MAX),
        DataType::Int16 => i64::from(i16::MAX),
        DataType::Int32 => i64::from(i32::MAX),
        DataType::UInt8 => i64::from(u8::MAX),
        DataType::UInt16 => i64::from(u16::MAX),
        DataType::UInt32 => i64::from(u32::MAX),
        _ => i64::MAX,
    };
    let places = [options.at("min"), options.at("max")];
    let min = options.integer("min").map_err(wrong)?.unwrap_or(0);
    let max = options.integer("max").map_err(wrong)?.unwrap_or(largest);
    let field = Field::new("", data_type.clone(), false);
    for ((key, value), at) in [("min", min), ("max", max)].into_iter().zip(places) {
        if datum::integer(value, &data_type).is_none() {
            return Err(wrong_at(at, key, format!("is {value}; a value of {} is wanted", datum::notation(&field))));
        }
    }
    if min > max {
        return Err(wrong_at(places[1], "max", format!("is {max}, min is {min}; at least min is wanted")));
    }
    Ok(Kind::Integers { min, span: max.abs_diff(min), data_type })
}

fn float(options: &mut Options, key: &str, default: f64) -> Result<f64, ConnectorError> {
    let Some(value) = options.value(key) else { return Ok(default) };
    match value.kind {
        ValueKind::Integer(value) => Ok(value as f64),
        ValueKind::Float(value) if value.is_finite() => Ok(value),
        _ => Err(wrong_at(value.at, key, format!("is {}; a number is wanted", value.describe()))),
    }
}

fn choice(key: &str, value: Value) -> Result<Kind, ConnectorError> {
    let at = value.at;
    let ValueKind::List(values) = value.kind else {
        return Err(wrong_at(at, key, format!("is {}; a list of values is wanted", value.describe())));
    };
    let rank = |value: &Value| match value.kind {
        ValueKind::Null => Some(0),
        ValueKind::Bool(_) => Some(1),
        ValueKind::Integer(_) => Some(2),
        ValueKind::Float(_) => Some(3),
        ValueKind::Text(_) => Some(4),
        _ => None,
    };
    let data_type = match values.iter().map(rank).max().flatten() {
        Some(1) => DataType::Boolean,
        Some(2) => DataType::Int64,
        Some(3) => DataType::Float64,
        Some(4) => DataType::Utf8,
        _ => return Err(wrong_at(at, key, "at least one value is wanted: a truth value, number or text")),
    };
    let nullable = values.iter().any(|value| value.kind == ValueKind::Null);
    let field = Field::new(key, data_type, nullable);
    let schema = Arc::new(Schema::new(vec![field.clone()]));
    let mut columns = crate::columns::Columns::new(schema);
    for value in &values {
        let fits = collection::datum(value, &field).map_err(|misfit| {
            wrong_at(value.at, key, format!("has {} among values of {}", misfit.got, misfit.wanted))
        })?;
        // The type is that of the others: nobody asked for the number to be rounded to it.
        if let (ValueKind::Integer(number), DataType::Float64) = (&value.kind, field.data_type())
            && datum::float64_rounds(&number.to_string())
        {
            let message = format!("has {number} among values of float64, which would round it: write all as texts");
            return Err(wrong_at(value.at, key, message));
        }
        columns.append(&[fits]);
    }
    let choices = columns
        .finish()
        .map_err(|error| ConnectorError::new(format!("{key}: cannot make a column")).caused_by(error))?;
    Ok(Kind::Choice(Arc::clone(choices.column(0))))
}

impl Kind {
    fn data_type(&self) -> DataType {
        match self {
            Kind::Sequence { .. } | Kind::Modulo(_) => DataType::Int64,
            Kind::Timestamp { .. } => DataType::Timestamp(TimeUnit::Millisecond, None),
            Kind::Integers { data_type, .. } | Kind::Floats { data_type, .. } => data_type.clone(),
            Kind::Bools => DataType::Boolean,
            Kind::Texts { .. } => DataType::Utf8,
            Kind::Choice(choices) => choices.data_type().clone(),
        }
    }

    fn nullable(&self) -> bool {
        matches!(self, Kind::Choice(choices) if choices.null_count() > 0)
    }

    /// Is its value for row `number`, and so for all that follow, beyond int64?
    fn overflows(&self, number: u64) -> bool {
        let (start, step) = match self {
            Kind::Sequence { start, step } => (*start, *step),
            Kind::Timestamp { start_ms, step_ms } => (*start_ms, *step_ms),
            _ => return false,
        };
        let value = i128::from(step).checked_mul(i128::from(number)).and_then(|way| way.checked_add(i128::from(start)));
        value.is_none_or(|value| i64::try_from(value).is_err())
    }

    /// What is wrong where `rows` rows are too many.
    fn beyond(&self, rows: u64) -> String {
        let (from, limit) = match self {
            Kind::Sequence { start, step } => (format!("start {start}, step {step}"), "int64"),
            Kind::Timestamp { start_ms, step_ms } => {
                (format!("start {start_ms} ms since 1970, step {step_ms} ms"), "timestamp(ms)")
            }
            _ => (String::new(), "its type"),
        };
        format!(
            "row {} would be beyond {limit} ({from}, limits {} and {}): lower rows, or give another start or step",
            rows.saturating_sub(1),
            i64::MIN,
            i64::MAX
        )
    }

    /// The column for the rows `numbers`, which do not [overflow](Self::overflows).
    fn column(&self, numbers: Numbers, seed: u64) -> Result<ArrayRef, arrow::error::ArrowError> {
        Ok(match self {
            Kind::Sequence { start, step } => Arc::new(Int64Array::new(numbers.scaled(*start, *step), None)),
            Kind::Timestamp { start_ms, step_ms } => {
                Arc::new(TimestampMillisecondArray::new(numbers.scaled(*start_ms, *step_ms), None))
            }
            Kind::Modulo(modulo) => Arc::new(Int64Array::new(numbers.modulo(*modulo), None)),
            Kind::Integers { min, span, data_type } => {
                let values = numbers.random(seed, |random| min.wrapping_add_unsigned(below(random, *span)));
                let values = Int64Array::new(values, None);
                if data_type == &DataType::Int64 { Arc::new(values) } else { cast(&values, data_type)? }
            }
            Kind::Floats { min, span, data_type: DataType::Float32 } => {
                // Near max the sum, or its float32, may be rounded to it.
                let largest = ((min + span) as f32).next_down().max(*min as f32);
                let values = numbers.random(seed, |random| ((min + unit(random) * span) as f32).min(largest));
                Arc::new(PrimitiveArray::<Float32Type>::new(values, None))
            }
            Kind::Floats { min, span, .. } => {
                let largest = (min + span).next_down().max(*min);
                let values = numbers.random(seed, |random| (min + unit(random) * span).min(largest));
                Arc::new(PrimitiveArray::<Float64Type>::new(values, None))
            }
            Kind::Bools => Arc::new(BooleanArray::from_iter(numbers.each().map(|n| Some(mix(seed, n) >> 63 == 1)))),
            Kind::Texts { length } => Arc::new(texts(numbers, seed, *length)),
            Kind::Choice(choices) => {
                let last = choices.len() as u64 - 1;
                let picked = numbers.random(seed, |random| below(random, last) as u32);
                take(choices, &UInt32Array::new(picked, None), None)?
            }
        })
    }
}

fn texts(numbers: Numbers, seed: u64, length: usize) -> StringArray {
    let mut letters = Vec::with_capacity(numbers.count * length);
    for n in numbers.each() {
        let mut random = mix(seed, n);
        for at in 0..length {
            if at % 8 == 0 {
                random = mix(random, at as u64);
            }
            letters.push(b'a' + ((random & 0xff) * 26 / 256) as u8);
            random >>= 8;
        }
    }
    let offsets = OffsetBuffer::from_repeated_length(length, numbers.count);
    StringArray::new(offsets, Buffer::from_vec(letters), None)
}

/// The numbers first, first + stride, …, of which there are `count`.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    first: u64,
    stride: u64,
    count: usize,
}

impl Numbers {
    fn each(self) -> impl Iterator<Item = u64> {
        (0..self.count as u64).map(move |i| self.first.wrapping_add(i.wrapping_mul(self.stride)))
    }

    fn scaled(self, start: i64, step: i64) -> ScalarBuffer<i64> {
        let first = start.wrapping_add(step.wrapping_mul(self.first.cast_signed()));
        let step = step.wrapping_mul(self.stride.cast_signed());
        (0..self.count as i64).map(|i| first.wrapping_add(i.wrapping_mul(step))).collect::<Vec<_>>().into()
    }

    /// Without a division for each row.
    fn modulo(self, modulo: u64) -> ScalarBuffer<i64> {
        let step = self.stride % modulo;
        let mut next = self.first % modulo;
        let following = |_| {
            let value = next;
            next = if next >= modulo - step { next - (modulo - step) } else { next + step };
            value.cast_signed()
        };
        (0..self.count).map(following).collect::<Vec<_>>().into()
    }

    fn random<T: arrow::datatypes::ArrowNativeType>(self, seed: u64, value: impl Fn(u64) -> T) -> ScalarBuffer<T> {
        self.each().map(|n| value(mix(seed, n))).collect::<Vec<_>>().into()
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014) at position `n` of the sequence that `seed` begins: any row by itself, in any order.
fn mix(seed: u64, n: u64) -> u64 {
    let z = seed.wrapping_add(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// 0 to `last`, by multiplication instead of division (Lemire 2019); its bias is below 2^-32 for ranges below 2^32.
fn below(random: u64, last: u64) -> u64 {
    match last.checked_add(1) {
        None => random,
        Some(size) => ((u128::from(random) * u128::from(size)) >> 64) as u64,
    }
}

/// 0 up to but not including 1, in steps of 2^-53.
fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1u64 << 53) as f64
}

/// The position of a reader.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct GeneratorPosition {
    /// Rows of the split before it.
    row: u64,
    /// Which rows a split has depends on how many splits there are.
    splits: u64,
}

impl GeneratorSource {
    /// How many of the `rows` rows of `split` are done at `from`.
    fn go_on(&self, split: &Split, rows: u64, from: &Position) -> Result<u64, ConnectorError> {
        let name = format!("generator, split {}", split.id);
        let GeneratorPosition { row, splits } = position::read(from, &name)?;
        if splits != self.splits {
            let message = format!(
                "{name}: splits is {}, and was {splits} when the checkpoint was made, so that rows would be made twice or not at \
                 all: set splits: {splits}, or start the job without the checkpoint",
                self.splits
            );
            return Err(ConnectorError::unfit(message));
        }
        if row > rows { Err(position::shrunk(&name, from, rows, "rows", row)) } else { Ok(row) }
    }
}

impl Source for GeneratorSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    /// Sizes are in rows.
    fn splits(&self) -> Result<Vec<Split>, ConnectorError> {
        let split = |number: u64| {
            // Row n belongs to split n mod splits.
            let size = self.rows.map(|rows| rows.saturating_sub(number).div_ceil(self.splits));
            Split { id: number.to_string(), size }
        };
        Ok((0..self.splits).map(split).collect())
    }

    fn open(&self, split: &Split, from: Option<&Position>) -> Result<Box<dyn SourceReader>, ConnectorError> {
        let number = split.id.parse().ok().filter(|number| *number < self.splits);
        let number: u64 =
            number.ok_or_else(|| ConnectorError::new(format!("{} is no split of this generator", split.id)))?;
        let rows = self.rows.map_or(u64::MAX, |rows| rows.saturating_sub(number).div_ceil(self.splits));
        let done = from.map_or(Ok(0), |from| self.go_on(split, rows, from))?;
        Ok(Box::new(GeneratorReader {
            schema: Arc::clone(&self.schema),
            fields: Arc::clone(&self.fields),
            seed: self.seed,
            number,
            splits: self.splits,
            rows,
            pace: self.rate.map(|rate| Pace { rate: rate / self.splits as f64, start: None, from: done }),
            done,
        }))
    }

    fn bounded(&self) -> bool {
        self.rows.is_some()
    }
}

struct GeneratorReader {
    schema: SchemaRef,
    fields: Arc<[Kind]>,
    seed: u64,
    number: u64,
    splits: u64,
    /// Of this split.
    rows: u64,
    pace: Option<Pace>,
    done: u64,
}

/// A rate in rows a second, since the first call.
struct Pace {
    rate: f64,
    start: Option<Instant>,
    /// Rows that were done before: what a checkpoint held up is not made good.
    from: u64,
}

impl Pace {
    /// Rows that are due, or how long until some are. About a millisecond's rows come together, so that a high rate is not
    /// made of tiny batches.
    fn due(&mut self, done: u64, rows_max: u64) -> Result<u64, Duration> {
        let elapsed = self.start.get_or_insert_with(Instant::now).elapsed().as_secs_f64();
        let due = elapsed * self.rate - (done - self.from) as f64;
        let wanted = (self.rate / 1000.0).clamp(1.0, rows_max as f64);
        if due >= wanted {
            return Ok((due as u64).min(rows_max));
        }
        let seconds = (wanted - due) / self.rate;
        Err(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX).max(Duration::from_micros(100)))
    }
}

impl SourceReader for GeneratorReader {
    fn next(&mut self, rows_max: usize) -> Result<ReadOutcome, ConnectorError> {
        let mut count = (self.rows - self.done).min(rows_max.max(1) as u64);
        if count == 0 {
            return Ok(ReadOutcome::End);
        }
        if let Some(pace) = &mut self.pace {
            match pace.due(self.done, count) {
                Ok(due) => count = due,
                Err(wait) => return Ok(ReadOutcome::Pending(wait)),
            }
        }
        let count = usize::try_from(count).expect("at most rows_max");
        let first = self.number.wrapping_add(self.done.wrapping_mul(self.splits));
        let numbers = Numbers { first, stride: self.splits, count };
        let last = first.saturating_add((count as u64 - 1).saturating_mul(self.splits));
        // Where the rows were counted this was refused before the start.
        if let Some(at) = self.fields.iter().position(|kind| kind.overflows(last)) {
            let message = self.fields[at].beyond(last.saturating_add(1));
            return Err(ConnectorError::new(format!("fields.{}: {message}", self.schema.field(at).name())));
        }
        let columns = self.fields.iter().enumerate().map(|(at, kind)| kind.column(numbers, mix(self.seed, at as u64)));
        let rows = columns
            .collect::<Result<Vec<_>, _>>()
            .and_then(|columns| record_batch(Arc::clone(&self.schema), columns, count))
            .map_err(|error| ConnectorError::new("generator: cannot make columns").caused_by(error))?;
        let first_row = self.done;
        self.done += count as u64;
        Ok(ReadOutcome::Rows { rows, first_row })
    }

    fn done(&self) -> u64 {
        self.done
    }

    fn position(&self) -> Position {
        position::write(&GeneratorPosition { row: self.done, splits: self.splits })
    }
}

#[cfg(test)]
#[path = "generator_tests.rs"]
mod tests;
