//! Columns of values, and the encoding that a guest reaches by call (`wit/README.md`, "Values"), each made from the other.
//!
//! A state is kept as the one or the other, by how its function reaches it; what lies in a checkpoint is columns. A null of a column
//! is no value, on both sides.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray,
    NullBufferBuilder, StructArray, make_array,
};
use arrow::buffer::{BooleanBuffer, Buffer, MutableBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use arrow::error::ArrowError;

use crate::data_type::{self, DataTypeError};
use crate::frame::{Lie, lie};
use crate::value::{check_digits, take, take_count, take_flag};

/// Below a null, a column has room that its encoding has not: a struct of a thousand fields is one byte if it is null. So many bytes
/// of such room are made for each byte of the values, and [`FILLER_BYTES_MIN`] for all of them; more is no state but an attack.
const FILLER_FACTOR: u64 = 1024;
const FILLER_BYTES_MIN: u64 = 64 << 20;

/// Why values and columns cannot be made from each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The contract has no such type.
    #[error(transparent)]
    Type(#[from] DataTypeError),
    /// Bytes that are no value, or a column that has none of the contract's.
    #[error("value {row} is no {data_type}: {problem}")]
    Wrong {
        /// Which value, from 0.
        row: usize,
        /// What it should be, in the contract's notation.
        data_type: String,
        /// What is wrong.
        problem: String,
    },
    /// The values are good, and too many for one column.
    #[error("the values of type {data_type}, up to value {row}, are too many for one column: {problem}")]
    TooLarge {
        /// Which value, from 0.
        row: usize,
        /// What they are, in the contract's notation.
        data_type: String,
        /// Which limit they pass.
        problem: String,
    },
}

/// Where a [`ValueError`] came up; who knows the row and the type makes one of it.
enum Trouble {
    Wrong(String),
    TooLarge(String),
}

impl From<Lie> for Trouble {
    fn from(lie: Lie) -> Trouble {
        Trouble::Wrong(lie.0)
    }
}

impl Trouble {
    fn at(self, row: usize, data_type: &DataType) -> ValueError {
        let data_type = data_type::display(data_type, false).unwrap_or_else(|_| data_type.to_string());
        match self {
            Trouble::Wrong(problem) => ValueError::Wrong { row, data_type, problem },
            Trouble::TooLarge(problem) => ValueError::TooLarge { row, data_type, problem },
        }
    }
}

/// A column of `data_type` from encoded values; `None` becomes null.
///
/// # Errors
/// [`ValueError`]: whatever the bytes are, it does not panic. Bytes are taken just if a guest could have put them.
pub fn decode<'a>(
    data_type: &DataType,
    values: impl IntoIterator<Item = Option<&'a [u8]>>,
) -> Result<ArrayRef, ValueError> {
    data_type::display(data_type, false)?;
    let mut column = Column::new(data_type, true);
    let mut filler = FILLER_BYTES_MIN;
    for (row, value) in values.into_iter().enumerate() {
        let Some(value) = value else {
            column.push_null();
            continue;
        };
        filler = filler.saturating_add((value.len() as u64).saturating_mul(FILLER_FACTOR));
        let mut input = Input { rest: value, filler: &mut filler };
        let taken = column.take_value(&mut input).and_then(|()| match input.rest.len() {
            0 => Ok(()),
            behind => Err(Trouble::Wrong(format!("{behind} bytes behind the value"))),
        });
        taken.map_err(|trouble| trouble.at(row, data_type))?;
    }
    let last = column.rows.saturating_sub(1);
    column.finish().map_err(|error| Trouble::TooLarge(error.to_string()).at(last, data_type))
}

/// The values of a column, encoded.
///
/// # Errors
/// [`ValueError`]: a type that the contract has not, a null or a decimal that the type has not, or 2 GiB.
pub fn encode(values: &ArrayRef) -> Result<BinaryArray, ValueError> {
    let data_type = values.data_type();
    data_type::display(data_type, false)?;
    let source = Source::new(values, true);
    let mut bytes = Vec::new();
    let mut offsets: Vec<i32> = Vec::with_capacity(values.len() + 1);
    offsets.push(0);
    for row in 0..values.len() {
        if values.is_valid(row) {
            source.put_value(row, &mut bytes).map_err(|lie| Trouble::from(lie).at(row, data_type))?;
        }
        let end = i32::try_from(bytes.len());
        offsets.push(end.map_err(|_| Trouble::TooLarge("2 GiB of encoded values".into()).at(row, data_type))?);
    }
    Ok(BinaryArray::new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(bytes), values.nulls().cloned()))
}

// ---- decoding ----

/// What is left of a value, and of the room below nulls.
struct Input<'a> {
    rest: &'a [u8],
    filler: &'a mut u64,
}

/// A column that grows by a value at a time.
struct Column {
    data_type: DataType,
    nullable: bool,
    nulls: NullBufferBuilder,
    rows: usize,
    /// About how many bytes a row takes, whatever is in it.
    row_bytes: u64,
    kind: Kind,
}

enum Kind {
    Bool(BooleanBufferBuilder),
    Fixed { width: usize, precision: Option<u8>, bytes: MutableBuffer },
    Bytes { utf8: bool, offsets: Vec<i32>, bytes: Vec<u8> },
    List { field: FieldRef, offsets: Vec<i32>, item: Box<Column> },
    Struct(Vec<Column>),
    Map { field: FieldRef, offsets: Vec<i32>, entries: Box<Column> },
}

impl Column {
    fn of(field: &Field) -> Column {
        Column::new(field.data_type(), field.is_nullable())
    }

    /// For a type that the contract knows.
    fn new(data_type: &DataType, nullable: bool) -> Column {
        let offsets = vec![0];
        let (kind, row_bytes) = match data_type {
            DataType::Boolean => (Kind::Bool(BooleanBufferBuilder::new(0)), 1),
            DataType::Utf8 | DataType::Binary => {
                (Kind::Bytes { utf8: data_type == &DataType::Utf8, offsets, bytes: Vec::new() }, 4)
            }
            DataType::List(field) => {
                (Kind::List { field: Arc::clone(field), offsets, item: Box::new(Column::of(field)) }, 4)
            }
            DataType::Map(field, _) => {
                (Kind::Map { field: Arc::clone(field), offsets, entries: Box::new(Column::of(field)) }, 4)
            }
            DataType::Struct(fields) => {
                let columns: Vec<Column> = fields.iter().map(|field| Column::of(field)).collect();
                let row_bytes = columns.iter().map(|column| column.row_bytes).sum();
                (Kind::Struct(columns), row_bytes)
            }
            other => {
                let width = other.primitive_width().expect("the other types of the contract have a fixed width");
                let precision = match other {
                    DataType::Decimal128(precision, _) => Some(*precision),
                    _ => None,
                };
                (Kind::Fixed { width, precision, bytes: MutableBuffer::new(0) }, width as u64)
            }
        };
        Column { data_type: data_type.clone(), nullable, nulls: NullBufferBuilder::new(0), rows: 0, row_bytes, kind }
    }

    /// Do its values take no bytes, all being alike?
    fn is_bare(&self) -> bool {
        matches!(&self.kind, Kind::Struct(columns) if !self.nullable && columns.iter().all(Column::is_bare))
    }

    /// Takes a field of a struct, an item of a list: with its flag, if it may be null.
    fn take_field(&mut self, input: &mut Input<'_>) -> Result<(), Trouble> {
        if !self.nullable || take_flag(&mut input.rest)? {
            return self.take_value(input);
        }
        *input.filler = input.filler.checked_sub(self.row_bytes).ok_or_else(|| {
            Trouble::TooLarge(format!("their nulls would take more than {FILLER_FACTOR} times their bytes"))
        })?;
        self.push_null();
        Ok(())
    }

    /// Takes a value that is there.
    fn take_value(&mut self, input: &mut Input<'_>) -> Result<(), Trouble> {
        match &mut self.kind {
            Kind::Bool(bits) => bits.append(take_flag(&mut input.rest)?),
            Kind::Fixed { width, precision, bytes } => {
                let value = take(&mut input.rest, *width)?;
                if let (Some(precision), Ok(value)) = (precision, value.try_into()) {
                    check_digits(i128::from_le_bytes(value), *precision)?;
                }
                bytes.extend_from_slice(value);
            }
            Kind::Bytes { utf8, offsets, bytes } => {
                let length = take_count(&mut input.rest)?;
                let value = take(&mut input.rest, length)?;
                if let (true, Err(error)) = (*utf8, std::str::from_utf8(value)) {
                    return Err(Trouble::Wrong(format!("text is not UTF-8 at byte {}", error.valid_up_to())));
                }
                offsets.push(offset(bytes.len() + length, "bytes of text or binary")?);
                bytes.extend_from_slice(value);
            }
            Kind::List { offsets, item: items, .. } | Kind::Map { offsets, entries: items, .. } => {
                let count = take_count(&mut input.rest)?;
                offsets.push(offset(items.rows + count, "items of lists or maps")?);
                if items.is_bare() {
                    items.push_bare(count);
                } else {
                    (0..count).try_for_each(|_| items.take_field(input))?;
                }
            }
            Kind::Struct(columns) => columns.iter_mut().try_for_each(|column| column.take_field(input))?,
        }
        self.nulls.append_non_null();
        self.rows += 1;
        Ok(())
    }

    /// A row that is not there: null if it may be, else what lies below a null.
    fn push_null(&mut self) {
        match &mut self.kind {
            Kind::Bool(bits) => bits.append(false),
            Kind::Fixed { width, bytes, .. } => bytes.extend_zeros(*width),
            Kind::Bytes { offsets, .. } | Kind::List { offsets, .. } | Kind::Map { offsets, .. } => {
                offsets.extend_from_within(offsets.len() - 1..);
            }
            Kind::Struct(columns) => columns.iter_mut().for_each(Column::push_null),
        }
        self.nulls.append(!self.nullable);
        self.rows += 1;
    }

    /// So many values that take no bytes: four billion of them cost a guest four bytes, and so may they cost us no more.
    fn push_bare(&mut self, count: usize) {
        if let Kind::Struct(columns) = &mut self.kind {
            columns.iter_mut().for_each(|column| column.push_bare(count));
        }
        self.rows += count;
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let Column { data_type, nullable, mut nulls, rows, kind, .. } = self;
        let nulls = if nullable { nulls.finish() } else { None };
        Ok(match kind {
            Kind::Bool(mut bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Kind::Fixed { bytes, .. } => array(data_type, rows, nulls, vec![bytes.into()])?,
            Kind::Bytes { offsets, bytes, .. } => {
                array(data_type, rows, nulls, vec![Buffer::from_vec(offsets), Buffer::from_vec(bytes)])?
            }
            Kind::List { field, offsets, item } => {
                Arc::new(ListArray::try_new(field, OffsetBuffer::new(offsets.into()), item.finish()?, nulls)?)
            }
            Kind::Struct(columns) => {
                let columns = columns.into_iter().map(Column::finish).collect::<Result<Vec<_>, _>>()?;
                let DataType::Struct(fields) = data_type else { unreachable!("a struct's column is of a struct") };
                Arc::new(StructArray::try_new_with_length(fields, columns, nulls, rows)?)
            }
            Kind::Map { field, offsets, entries } => {
                let entries = entries.finish()?.as_struct().clone();
                Arc::new(MapArray::try_new(field, OffsetBuffer::new(offsets.into()), entries, nulls, false)?)
            }
        })
    }
}

fn offset(end: usize, of: &str) -> Result<i32, Trouble> {
    i32::try_from(end).map_err(|_| Trouble::TooLarge(format!("more than {} {of}", i32::MAX)))
}

/// Of buffers that are right: text has been looked at, offsets were counted.
fn array(
    data_type: DataType,
    rows: usize,
    nulls: Option<NullBuffer>,
    buffers: Vec<Buffer>,
) -> Result<ArrayRef, ArrowError> {
    let data = ArrayData::builder(data_type).len(rows).nulls(nulls).buffers(buffers);
    Ok(make_array(data.build()?))
}

// ---- encoding ----

/// An array, its type looked at once.
struct Source<'a> {
    nulls: Option<&'a NullBuffer>,
    nullable: bool,
    values: Values<'a>,
}

enum Values<'a> {
    Bool(&'a BooleanBuffer),
    Fixed { width: usize, precision: Option<u8>, bytes: Buffer },
    Bytes { offsets: &'a [i32], bytes: &'a [u8] },
    List { offsets: &'a [i32], items: Box<Source<'a>> },
    Struct(Vec<Source<'a>>),
}

impl<'a> Source<'a> {
    /// Of an array whose type the contract knows.
    fn new(array: &'a dyn Array, nullable: bool) -> Source<'a> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean().values()),
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                Values::Bytes { offsets: array.offsets(), bytes: array.values() }
            }
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                Values::Bytes { offsets: array.offsets(), bytes: array.values() }
            }
            DataType::List(item) => {
                let array = array.as_list::<i32>();
                let items = Box::new(Source::new(array.values(), item.is_nullable()));
                Values::List { offsets: array.offsets(), items }
            }
            DataType::Map(_, _) => {
                let array = array.as_map();
                Values::List { offsets: array.offsets(), items: Box::new(Source::new(array.entries(), false)) }
            }
            DataType::Struct(fields) => {
                let columns = array.as_struct().columns().iter().zip(fields);
                Values::Struct(columns.map(|(column, field)| Source::new(column, field.is_nullable())).collect())
            }
            fixed => {
                let width = fixed.primitive_width().expect("the other types of the contract have a fixed width");
                let precision = match fixed {
                    DataType::Decimal128(precision, _) => Some(*precision),
                    _ => None,
                };
                let data = array.to_data();
                let bytes = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                Values::Fixed { width, precision, bytes }
            }
        };
        Source { nulls: array.nulls(), nullable, values }
    }

    fn put_field(&self, row: usize, to: &mut Vec<u8>) -> Result<(), Lie> {
        let is_null = self.nulls.is_some_and(|nulls| nulls.is_null(row));
        match (self.nullable, is_null) {
            (true, true) => {
                to.push(0);
                return Ok(());
            }
            (true, false) => to.push(1),
            (false, true) => lie!("a null where the type has none"),
            (false, false) => {}
        }
        self.put_value(row, to)
    }

    fn put_value(&self, row: usize, to: &mut Vec<u8>) -> Result<(), Lie> {
        match &self.values {
            Values::Bool(bits) => to.push(bits.value(row).into()),
            Values::Fixed { width, precision, bytes } => {
                let value = &bytes[row * width..][..*width];
                if let (Some(precision), Ok(value)) = (precision, value.try_into()) {
                    check_digits(i128::from_le_bytes(value), *precision)?;
                }
                to.extend_from_slice(value);
            }
            Values::Bytes { offsets, bytes } => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                to.extend_from_slice(&((end - start) as u32).to_le_bytes());
                to.extend_from_slice(&bytes[start..end]);
            }
            Values::List { offsets, items } => {
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                to.extend_from_slice(&((end - start) as u32).to_le_bytes());
                if !items.is_bare() {
                    (start..end).try_for_each(|item| items.put_field(item, to))?;
                }
            }
            Values::Struct(columns) => columns.iter().try_for_each(|column| column.put_field(row, to))?,
        }
        Ok(())
    }

    fn is_bare(&self) -> bool {
        matches!(&self.values, Values::Struct(columns) if !self.nullable && columns.iter().all(Source::is_bare))
    }
}

#[cfg(test)]
#[path = "value_column_tests.rs"]
mod tests;
