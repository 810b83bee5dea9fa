//! Columns under construction, a row at a time.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, ListArray, MapArray, NullBufferBuilder,
    PrimitiveBuilder, RecordBatch, StringBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, SchemaRef, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::error::ArrowError;
use wasmill_runtime::batch::record_batch;

use crate::datum::Datum;

/// Rows that become a record batch.
pub(crate) struct Columns {
    schema: SchemaRef,
    builders: Vec<Box<dyn Append>>,
    rows: usize,
}

impl Columns {
    /// Every type is one that the contract knows.
    pub(crate) fn new(schema: SchemaRef) -> Columns {
        let builders = schema.fields().iter().map(|field| builder(field.data_type())).collect();
        Columns { schema, builders, rows: 0 }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// One value for each column, already made to fit it.
    pub(crate) fn append(&mut self, row: &[Datum<'_>]) {
        for (builder, datum) in self.builders.iter_mut().zip(row) {
            builder.append(datum);
        }
        self.rows += 1;
    }

    /// The rows so far; what follows begins a new batch.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns = self.builders.iter_mut().map(|builder| builder.finish()).collect();
        record_batch(Arc::clone(&self.schema), columns, std::mem::take(&mut self.rows))
    }
}

trait Append: Send {
    fn append(&mut self, datum: &Datum<'_>);
    fn finish(&mut self) -> ArrayRef;
}

struct Primitive<T: ArrowPrimitiveType> {
    builder: PrimitiveBuilder<T>,
    read: fn(&Datum<'_>) -> Option<T::Native>,
}

impl<T: ArrowPrimitiveType> Append for Primitive<T> {
    fn append(&mut self, datum: &Datum<'_>) {
        self.builder.append_option((self.read)(datum));
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.builder.finish())
    }
}

fn primitive<T: ArrowPrimitiveType>(
    data_type: &DataType,
    read: fn(&Datum<'_>) -> Option<T::Native>,
) -> Box<dyn Append> {
    Box::new(Primitive { builder: PrimitiveBuilder::<T>::new().with_data_type(data_type.clone()), read })
}

/// The conversion that made the datum checked that it fits, so that no cast here loses anything.
fn int(datum: &Datum<'_>) -> Option<i64> {
    match datum {
        Datum::Int(value) => Some(*value),
        _ => None,
    }
}

fn uint(datum: &Datum<'_>) -> Option<u64> {
    match datum {
        Datum::UInt(value) => Some(*value),
        _ => None,
    }
}

fn float(datum: &Datum<'_>) -> Option<f64> {
    match datum {
        Datum::Float(value) => Some(*value),
        _ => None,
    }
}

fn decimal(datum: &Datum<'_>) -> Option<i128> {
    match datum {
        Datum::Decimal(value) => Some(*value),
        _ => None,
    }
}

fn builder(data_type: &DataType) -> Box<dyn Append> {
    match data_type {
        DataType::Boolean => Box::new(BooleanBuilder::new()),
        DataType::Int8 => primitive::<Int8Type>(data_type, |datum| int(datum).map(|value| value as i8)),
        DataType::Int16 => primitive::<Int16Type>(data_type, |datum| int(datum).map(|value| value as i16)),
        DataType::Int32 => primitive::<Int32Type>(data_type, |datum| int(datum).map(|value| value as i32)),
        DataType::Int64 => primitive::<Int64Type>(data_type, int),
        DataType::UInt8 => primitive::<UInt8Type>(data_type, |datum| uint(datum).map(|value| value as u8)),
        DataType::UInt16 => primitive::<UInt16Type>(data_type, |datum| uint(datum).map(|value| value as u16)),
        DataType::UInt32 => primitive::<UInt32Type>(data_type, |datum| uint(datum).map(|value| value as u32)),
        DataType::UInt64 => primitive::<UInt64Type>(data_type, uint),
        DataType::Float32 => primitive::<Float32Type>(data_type, |datum| float(datum).map(|value| value as f32)),
        DataType::Float64 => primitive::<Float64Type>(data_type, float),
        DataType::Decimal128(_, _) => primitive::<Decimal128Type>(data_type, decimal),
        DataType::Date32 => primitive::<Date32Type>(data_type, |datum| int(datum).map(|value| value as i32)),
        DataType::Time64(_) => primitive::<Time64MicrosecondType>(data_type, int),
        DataType::Timestamp(TimeUnit::Second, _) => primitive::<TimestampSecondType>(data_type, int),
        DataType::Timestamp(TimeUnit::Millisecond, _) => primitive::<TimestampMillisecondType>(data_type, int),
        DataType::Timestamp(TimeUnit::Microsecond, _) => primitive::<TimestampMicrosecondType>(data_type, int),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => primitive::<TimestampNanosecondType>(data_type, int),
        DataType::Utf8 => Box::new(StringBuilder::new()),
        DataType::Binary => Box::new(BinaryBuilder::new()),
        DataType::List(item) => Box::new(Lists::new(item)),
        DataType::Struct(fields) => Box::new(Structs::new(fields)),
        DataType::Map(entries, _) => Box::new(Maps::new(entries)),
        other => unreachable!("schemas are checked against the contract's types, {other} is none"),
    }
}

impl Append for BooleanBuilder {
    fn append(&mut self, datum: &Datum<'_>) {
        self.append_option(match datum {
            Datum::Bool(value) => Some(*value),
            _ => None,
        });
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(BooleanBuilder::finish(self))
    }
}

impl Append for StringBuilder {
    fn append(&mut self, datum: &Datum<'_>) {
        match datum {
            Datum::Text(text) => self.append_value(text),
            _ => self.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(StringBuilder::finish(self))
    }
}

impl Append for BinaryBuilder {
    fn append(&mut self, datum: &Datum<'_>) {
        match datum {
            Datum::Binary(bytes) => self.append_value(bytes),
            _ => self.append_null(),
        }
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(BinaryBuilder::finish(self))
    }
}

struct Lists {
    item: FieldRef,
    items: Box<dyn Append>,
    lengths: Vec<usize>,
    nulls: NullBufferBuilder,
}

impl Lists {
    fn new(item: &FieldRef) -> Lists {
        Lists {
            item: Arc::clone(item),
            items: builder(item.data_type()),
            lengths: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }
    }
}

impl Append for Lists {
    fn append(&mut self, datum: &Datum<'_>) {
        let items = match datum {
            Datum::List(items) => Some(items),
            _ => None,
        };
        self.nulls.append(items.is_some());
        self.lengths.push(items.map_or(0, Vec::len));
        for item in items.into_iter().flatten() {
            self.items.append(item);
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        Arc::new(ListArray::new(Arc::clone(&self.item), offsets, self.items.finish(), self.nulls.finish()))
    }
}

struct Structs {
    fields: Fields,
    columns: Vec<Box<dyn Append>>,
    rows: usize,
    nulls: NullBufferBuilder,
}

impl Structs {
    fn new(fields: &Fields) -> Structs {
        let columns = fields.iter().map(|field| builder(field.data_type())).collect();
        Structs { fields: fields.clone(), columns, rows: 0, nulls: NullBufferBuilder::new(0) }
    }
}

impl Append for Structs {
    fn append(&mut self, datum: &Datum<'_>) {
        let values = match datum {
            Datum::Struct(values) => Some(values),
            _ => None,
        };
        self.nulls.append(values.is_some());
        self.rows += 1;
        for (at, column) in self.columns.iter_mut().enumerate() {
            match values {
                Some(values) => column.append(&values[at]),
                // Below a null row anything may stand, but Arrow wants no null where the field says none.
                None => column.append(&filler(&self.fields[at])),
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let columns: Vec<ArrayRef> = self.columns.iter_mut().map(|column| column.finish()).collect();
        let (rows, nulls) = (std::mem::take(&mut self.rows), self.nulls.finish());
        let array = if columns.is_empty() {
            StructArray::new_empty_fields(rows, nulls)
        } else {
            StructArray::new(self.fields.clone(), columns, nulls)
        };
        Arc::new(array)
    }
}

/// A value that stands where none is looked at.
fn filler(field: &Field) -> Datum<'static> {
    if field.is_nullable() {
        return Datum::Null;
    }
    match field.data_type() {
        DataType::Boolean => Datum::Bool(false),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Datum::UInt(0),
        DataType::Float32 | DataType::Float64 => Datum::Float(0.0),
        DataType::Decimal128(_, _) => Datum::Decimal(0),
        DataType::Utf8 => Datum::Text("".into()),
        DataType::Binary => Datum::Binary(Vec::new()),
        DataType::List(_) => Datum::List(Vec::new()),
        DataType::Struct(fields) => Datum::Struct(fields.iter().map(|field| filler(field)).collect()),
        DataType::Map(_, _) => Datum::Map(Vec::new()),
        _ => Datum::Int(0),
    }
}

struct Maps {
    entries: FieldRef,
    fields: Fields,
    keys: Box<dyn Append>,
    values: Box<dyn Append>,
    lengths: Vec<usize>,
    nulls: NullBufferBuilder,
}

impl Maps {
    fn new(entries: &FieldRef) -> Maps {
        let DataType::Struct(fields) = entries.data_type() else {
            unreachable!("the contract's maps have a struct of key and value as entries")
        };
        Maps {
            entries: Arc::clone(entries),
            fields: fields.clone(),
            keys: builder(fields[0].data_type()),
            values: builder(fields[1].data_type()),
            lengths: Vec::new(),
            nulls: NullBufferBuilder::new(0),
        }
    }
}

impl Append for Maps {
    fn append(&mut self, datum: &Datum<'_>) {
        let entries = match datum {
            Datum::Map(entries) => Some(entries),
            _ => None,
        };
        self.nulls.append(entries.is_some());
        self.lengths.push(entries.map_or(0, Vec::len));
        for (key, value) in entries.into_iter().flatten() {
            self.keys.append(key);
            self.values.append(value);
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let offsets = OffsetBuffer::from_lengths(std::mem::take(&mut self.lengths));
        let entries = StructArray::new(self.fields.clone(), vec![self.keys.finish(), self.values.finish()], None);
        Arc::new(MapArray::new(Arc::clone(&self.entries), offsets, entries, self.nulls.finish(), false))
    }
}
