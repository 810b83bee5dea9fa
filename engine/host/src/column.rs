//! Columns: how an Arrow array becomes slots, and slots an array (`wit/README.md`, "Columns").
//!
//! A [`ColumnPlan`] is made once per binding from a type. Writing walks plan and array together; reading walks the plan and checks
//! everything on the way, so that Arrow's own unchecked constructors may be used afterwards.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, ListArray, MapArray, PrimitiveArray,
    StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, TimeUnit, ToByteSlice, i256};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use crate::data_type::{DataTypeError, FieldType, canonical};
use crate::frame::{FrameReader, FrameWriter, Lie, has_nulls, lie};

/// A column's type, resolved to slots.
#[derive(Debug, Clone)]
pub(crate) struct ColumnPlan {
    pub(crate) data_type: DataType,
    pub(crate) nullable: bool,
    /// How many slots it takes, its own and its children's.
    pub(crate) slots: usize,
    layout: Layout,
}

#[derive(Debug, Clone)]
enum Layout {
    Bool,
    Fixed,
    Bytes { utf8: bool },
    List { field: FieldRef, item: Box<ColumnPlan> },
    Struct { fields: Fields, children: Vec<ColumnPlan> },
    Map { field: FieldRef, entries: Fields, key: Box<ColumnPlan>, value: Box<ColumnPlan> },
}

/// Why an array does not fit its plan: the caller's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mismatch {
    #[error("is of type {got}, the binding says {want}")]
    Type { got: String, want: String },
    #[error("has {got} rows, the bundle {want}")]
    Rows { got: usize, want: usize },
    #[error(
        "has {nulls} nulls, but its type {want} has none: make the argument nullable, or fill or filter nulls before the UDF"
    )]
    Nulls { nulls: usize, want: String },
}

/// Runs `$body` with `$t` as the Arrow type of a fixed-width data type of the contract; `$other` for all others.
macro_rules! with_fixed {
    ($data_type:expr, $t:ident => $body:expr, $other:expr) => {
        match $data_type {
            DataType::Int8 => {
                type $t = Int8Type;
                $body
            }
            DataType::Int16 => {
                type $t = Int16Type;
                $body
            }
            DataType::Int32 => {
                type $t = Int32Type;
                $body
            }
            DataType::Int64 => {
                type $t = Int64Type;
                $body
            }
            DataType::UInt8 => {
                type $t = UInt8Type;
                $body
            }
            DataType::UInt16 => {
                type $t = UInt16Type;
                $body
            }
            DataType::UInt32 => {
                type $t = UInt32Type;
                $body
            }
            DataType::UInt64 => {
                type $t = UInt64Type;
                $body
            }
            DataType::Float32 => {
                type $t = Float32Type;
                $body
            }
            DataType::Float64 => {
                type $t = Float64Type;
                $body
            }
            DataType::Decimal128(_, _) => {
                type $t = Decimal128Type;
                $body
            }
            DataType::Date32 => {
                type $t = Date32Type;
                $body
            }
            DataType::Time64(TimeUnit::Microsecond) => {
                type $t = Time64MicrosecondType;
                $body
            }
            DataType::Timestamp(TimeUnit::Second, _) => {
                type $t = TimestampSecondType;
                $body
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                type $t = TimestampMillisecondType;
                $body
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                type $t = TimestampMicrosecondType;
                $body
            }
            DataType::Timestamp(TimeUnit::Nanosecond, _) => {
                type $t = TimestampNanosecondType;
                $body
            }
            _ => $other,
        }
    };
}

impl ColumnPlan {
    /// Resolves a type of the contract, in whatever form Arrow has it.
    pub(crate) fn new(data_type: &DataType, nullable: bool) -> Result<Self, DataTypeError> {
        Ok(Self::of_canonical(canonical(data_type)?, nullable))
    }

    pub(crate) fn of(field: &FieldType) -> Result<Self, DataTypeError> {
        Self::new(&field.data_type, field.nullable)
    }

    fn of_canonical(data_type: DataType, nullable: bool) -> Self {
        let child = |field: &FieldRef| Self::of_canonical(field.data_type().clone(), field.is_nullable());
        let (layout, inner_slots) = match &data_type {
            DataType::Boolean => (Layout::Bool, 1),
            DataType::Utf8 => (Layout::Bytes { utf8: true }, 2),
            DataType::Binary => (Layout::Bytes { utf8: false }, 2),
            DataType::List(field) => {
                let item = Box::new(child(field));
                let slots = 1 + item.slots;
                (Layout::List { field: field.clone(), item }, slots)
            }
            DataType::Struct(fields) => {
                let children: Vec<_> = fields.iter().map(child).collect();
                let slots = children.iter().map(|child| child.slots).sum();
                (Layout::Struct { fields: fields.clone(), children }, slots)
            }
            DataType::Map(field, _) => {
                let DataType::Struct(entries) = field.data_type() else {
                    unreachable!("a canonical map has a struct of entries");
                };
                let (key, value) = (Box::new(child(&entries[0])), Box::new(child(&entries[1])));
                let slots = 1 + key.slots + value.slots;
                (Layout::Map { field: field.clone(), entries: entries.clone(), key, value }, slots)
            }
            _ => (Layout::Fixed, 1),
        };
        Self { data_type, nullable, slots: 1 + inner_slots, layout }
    }

    /// Whether its values take no bytes: `struct<>`, and structs of nothing else.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(&self.layout, Layout::Struct { children, .. } if children.iter().all(Self::is_bare))
    }

    fn describe(&self) -> String {
        FieldType { data_type: self.data_type.clone(), nullable: self.nullable }.to_string()
    }

    // ---- writing ----

    /// Writes the column's slots; the array has these rows and no others.
    pub(crate) fn write(&self, array: &dyn Array, rows: usize, frame: &mut FrameWriter) -> Result<(), Mismatch> {
        if array.len() != rows {
            return Err(Mismatch::Rows { got: array.len(), want: rows });
        }
        self.write_part(array, 0..rows, frame)
    }

    /// Writes the column's slots for some rows of the array.
    pub(crate) fn write_part(
        &self,
        array: &dyn Array,
        rows: Range<usize>,
        frame: &mut FrameWriter,
    ) -> Result<(), Mismatch> {
        if array.len() < rows.end {
            return Err(Mismatch::Rows { got: array.len(), want: rows.end });
        }
        if !self.nullable && has_nulls(array) {
            let nulls = array.nulls().map_or(0, |nulls| nulls.slice(rows.start, rows.len()).null_count());
            if nulls > 0 {
                return Err(Mismatch::Nulls { nulls, want: self.describe() });
            }
        }
        self.write_rows(array, rows, frame)
    }

    /// As [`write_part`](Self::write_part), unchecked; nulls of a child that has none are those of its parent, which Arrow has seen to.
    fn write_rows(&self, array: &dyn Array, rows: Range<usize>, frame: &mut FrameWriter) -> Result<(), Mismatch> {
        if rows.is_empty() {
            self.check_type(array)?;
            frame.absent(self.slots);
            return Ok(());
        }
        match array.nulls() {
            Some(nulls) if self.nullable => {
                let nulls = nulls.inner().slice(rows.start, rows.len());
                if nulls.has_false() { frame.bits(&nulls) } else { frame.absent(1) }
            }
            _ => frame.absent(1),
        }
        match &self.layout {
            Layout::Fixed => match fixed_bytes(array, &self.data_type) {
                Some((bytes, width)) => frame.slot(&bytes[rows.start * width..rows.end * width]),
                None => return Err(self.mismatch(array)),
            },
            Layout::Bool => match array.as_boolean_opt() {
                Some(array) => frame.bits(&array.values().slice(rows.start, rows.len())),
                None => return Err(self.mismatch(array)),
            },
            Layout::Bytes { .. } => match (&self.data_type, array.data_type()) {
                (DataType::Utf8, DataType::Utf8) => {
                    let array = array.as_string::<i32>();
                    write_bytes(array.offsets(), array.values(), rows, frame);
                }
                (DataType::Binary, DataType::Binary) => {
                    let array = array.as_binary::<i32>();
                    write_bytes(array.offsets(), array.values(), rows, frame);
                }
                _ => return Err(self.mismatch(array)),
            },
            Layout::List { item, .. } => {
                let list = array.as_list_opt::<i32>().ok_or_else(|| self.mismatch(array))?;
                let items = write_offsets(list.offsets(), rows, frame);
                item.write_rows(list.values(), items, frame)?;
            }
            Layout::Struct { children, .. } => {
                let structure = array
                    .as_struct_opt()
                    .filter(|s| s.num_columns() == children.len())
                    .ok_or_else(|| self.mismatch(array))?;
                for (child, column) in children.iter().zip(structure.columns()) {
                    child.write_rows(column, rows.clone(), frame)?;
                }
            }
            Layout::Map { key, value, .. } => {
                let map = array.as_map_opt().ok_or_else(|| self.mismatch(array))?;
                let entries = write_offsets(map.offsets(), rows, frame);
                key.write_rows(map.keys(), entries.clone(), frame)?;
                value.write_rows(map.values(), entries, frame)?;
            }
        }
        Ok(())
    }

    /// What writing would find out on the way, for an array without rows.
    fn check_type(&self, array: &dyn Array) -> Result<(), Mismatch> {
        if array.data_type() == &self.data_type {
            return Ok(());
        }
        match canonical(array.data_type()) {
            Ok(data_type) if data_type == self.data_type => Ok(()),
            _ => Err(self.mismatch(array)),
        }
    }

    #[cold]
    fn mismatch(&self, array: &dyn Array) -> Mismatch {
        let got = FieldType { data_type: array.data_type().clone(), nullable: has_nulls(array) };
        Mismatch::Type { got: got.to_string(), want: self.describe() }
    }

    // ---- reading ----

    /// Reads the column's slots as `rows` rows.
    pub(crate) fn read(&self, frame: &mut FrameReader, rows: usize) -> Result<ArrayRef, Lie> {
        let nulls = self.read_validity(frame, rows)?;
        Ok(match &self.layout {
            Layout::Fixed => with_fixed!(
                &self.data_type,
                T => self.read_fixed::<T>(frame, rows, nulls)?,
                unreachable!("layout Fixed is for fixed-width types")
            ),
            Layout::Bool => {
                let bits = frame.bits(rows, "the bits of a bool column")?;
                let bits = match bits {
                    Some(bits) => bits,
                    None if rows == 0 => BooleanBuffer::new_unset(0),
                    None => lie!("the bits of a bool column are absent, but it has {rows} rows"),
                };
                Arc::new(BooleanArray::new(bits, nulls))
            }
            Layout::Bytes { utf8 } => read_bytes(frame, rows, nulls, *utf8)?,
            Layout::List { field, item } => {
                let (offsets, length) = read_offsets(frame, rows)?;
                let values = item.read(frame, length).map_err(|lie| lie.of("item"))?;
                Arc::new(ListArray::try_new(field.clone(), offsets, values, nulls).map_err(arrow_refuses)?)
            }
            Layout::Struct { fields, children } => {
                Arc::new(read_struct(frame, rows, nulls, fields, children.iter().zip(fields))?)
            }
            Layout::Map { field, entries, key, value } => {
                let (offsets, length) = read_offsets(frame, rows)?;
                let children = [(&**key, &entries[0]), (&**value, &entries[1])];
                let columns = read_struct(frame, length, None, entries, children.into_iter())?;
                Arc::new(MapArray::try_new(field.clone(), offsets, columns, nulls, false).map_err(arrow_refuses)?)
            }
        })
    }

    fn read_validity(&self, frame: &mut FrameReader, rows: usize) -> Result<Option<NullBuffer>, Lie> {
        let Some(bits) = frame.bits(rows, "a validity bitmap")? else {
            return Ok(None);
        };
        if !bits.has_false() {
            return Ok(None);
        }
        let nulls = NullBuffer::new(bits);
        if !self.nullable {
            lie!("{} nulls in a column of type {}, which has none", nulls.null_count(), self.describe());
        }
        Ok(Some(nulls))
    }

    fn read_fixed<T: ArrowPrimitiveType>(
        &self,
        frame: &mut FrameReader,
        rows: usize,
        nulls: Option<NullBuffer>,
    ) -> Result<ArrayRef, Lie> {
        let bytes = frame.exactly(rows * size_of::<T::Native>(), "a column of fixed width")?;
        let values = ScalarBuffer::<T::Native>::new(bytes, 0, rows);
        let array = PrimitiveArray::<T>::new(values, nulls).with_data_type(self.data_type.clone());
        if let DataType::Decimal128(precision, _) = self.data_type {
            check_decimals(array.as_any().downcast_ref().expect("the plan says Decimal128"), precision)?;
        }
        Ok(Arc::new(array))
    }
}

/// The value bytes of an array of exactly this fixed-width type, and how many a value has.
fn fixed_bytes<'a>(array: &'a dyn Array, data_type: &DataType) -> Option<(&'a [u8], usize)> {
    if array.data_type() != data_type {
        return None;
    }
    with_fixed!(
        data_type,
        T => array.as_any().downcast_ref::<PrimitiveArray<T>>().map(|array| {
            (array.values().inner().as_slice(), size_of::<<T as ArrowPrimitiveType>::Native>())
        }),
        None
    )
}

fn write_bytes(offsets: &OffsetBuffer<i32>, values: &Buffer, rows: Range<usize>, frame: &mut FrameWriter) {
    let bytes = write_offsets(offsets, rows, frame);
    frame.slot(&values.as_slice()[bytes]);
}

/// Writes the offsets of some rows so that the first is 0; returns where their children lie.
fn write_offsets(offsets: &OffsetBuffer<i32>, rows: Range<usize>, frame: &mut FrameWriter) -> Range<usize> {
    let offsets = &offsets[rows.start..=rows.end];
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    if first == 0 {
        frame.slot(offsets.to_byte_slice());
    } else {
        frame.slot_with(|bytes| {
            bytes.reserve(4 * offsets.len());
            bytes.extend(offsets.iter().flat_map(|offset| (offset - first).to_le_bytes()));
        });
    }
    first as usize..last as usize
}

/// Reads offsets: the first 0, never descending. Returns the last one too.
fn read_offsets(frame: &mut FrameReader, rows: usize) -> Result<(OffsetBuffer<i32>, usize), Lie> {
    if rows == 0 {
        frame.absent(1, "the offsets of a column without rows")?;
        return Ok((OffsetBuffer::new_empty(), 0));
    }
    let Some(offsets) = frame.numbers::<i32>(rows + 1, "offsets")? else {
        lie!("offsets are absent, but there are {rows} rows");
    };
    if offsets[0] != 0 {
        lie!("the first offset is {}, expected 0", offsets[0]);
    }
    // One pass without a branch per row: the loop is a vector loop.
    let descending = offsets.windows(2).fold(false, |bad, pair| bad | (pair[1] < pair[0]));
    if descending {
        let at = offsets.windows(2).position(|pair| pair[1] < pair[0]).unwrap_or_default();
        lie!("offsets descend from {} to {} at row {at}", offsets[at], offsets[at + 1]);
    }
    let last = offsets[rows] as usize;
    // SAFETY: the first offset is 0 and none is below the one before it: they are not negative and do not descend.
    Ok((unsafe { OffsetBuffer::new_unchecked(offsets) }, last))
}

fn read_bytes(frame: &mut FrameReader, rows: usize, nulls: Option<NullBuffer>, utf8: bool) -> Result<ArrayRef, Lie> {
    let (offsets, length) = read_offsets(frame, rows)?;
    let data = frame.exactly(length, "the data of a utf8 or binary column")?;
    if !utf8 {
        // SAFETY: offsets do not descend and end where the data does; nulls, if any, are `rows` long.
        return Ok(Arc::new(unsafe { BinaryArray::new_unchecked(offsets, data, nulls) }));
    }
    check_utf8(&offsets, &data)?;
    // SAFETY: as above, and each value is UTF-8, for the whole is and every offset is on a boundary.
    Ok(Arc::new(unsafe { StringArray::new_unchecked(offsets, data, nulls) }))
}

/// Checks the text as a whole, then that no offset is inside of a character.
pub(crate) fn check_utf8(offsets: &[i32], data: &[u8]) -> Result<(), Lie> {
    if data.is_ascii() {
        return Ok(());
    }
    let text = match std::str::from_utf8(data) {
        Ok(text) => text,
        Err(error) => lie!("text is not UTF-8 at byte {}", error.valid_up_to()),
    };
    match offsets.iter().position(|offset| !text.is_char_boundary(*offset as usize)) {
        None => Ok(()),
        Some(row) => lie!("offset {} of row {row} is inside of a UTF-8 character", offsets[row]),
    }
}

fn read_struct<'a>(
    frame: &mut FrameReader,
    rows: usize,
    nulls: Option<NullBuffer>,
    fields: &Fields,
    children: impl Iterator<Item = (&'a ColumnPlan, &'a FieldRef)>,
) -> Result<StructArray, Lie> {
    let mut columns = Vec::with_capacity(fields.len());
    for (child, field) in children {
        columns.push(child.read(frame, rows).map_err(|lie| lie.of(field.name()))?);
    }
    // Rows of a struct without fields take no bytes: without this a frame of 1 kB could claim 2^31 of them.
    if fields.is_empty() && rows > frame.bare_rows_max() {
        lie!("{rows} rows of a struct without fields in a frame of {} bytes", frame.frame_bytes());
    }
    StructArray::try_new_with_length(fields.clone(), columns, nulls, rows).map_err(arrow_refuses)
}

/// Checks that every value has at most `precision` digits.
fn check_decimals(array: &PrimitiveArray<Decimal128Type>, precision: u8) -> Result<(), Lie> {
    let bound = 10i128.checked_pow(precision.into()).unwrap_or(i128::MAX);
    let fits = |value: i128| value > -bound && value < bound;
    if array.values().iter().all(|value| fits(*value)) {
        return Ok(());
    }
    // Under nulls may lie anything.
    match (0..array.len()).find(|row| array.is_valid(*row) && !fits(array.value(*row))) {
        None => Ok(()),
        Some(row) => {
            lie!("decimal {} of row {row} has more than {precision} digits", i256::from_i128(array.value(row)))
        }
    }
}

#[cold]
fn arrow_refuses(error: arrow::error::ArrowError) -> Lie {
    Lie(format!("not an Arrow array: {error}"))
}

#[cfg(test)]
#[path = "column_tests.rs"]
mod tests;
