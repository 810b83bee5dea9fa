//! Types of a fixed width, and `bool`, which is a bit.

use super::{
    Cell, Codec, CodecError, ColumnWriter, FromColumn, ListItem, NonNull, NullFound, Nulls, Reader, ToColumn, Typed,
    Validity,
};
use crate::data_type::{DataType, Shape};
use crate::frame::{FrameError, FrameWriter, Slots, broken};
use crate::kinds::each_row;

/// A type whose values take `W` bytes each, little-endian.
pub trait Fixed<const W: usize>: Copy + 'static {
    fn from_bytes(bytes: [u8; W]) -> Self;
    fn to_bytes(self) -> [u8; W];
}

/// A column of values of `W` bytes.
#[derive(Clone, Copy, Debug)]
pub struct FixedReader<'f, const W: usize> {
    pub(crate) validity: Validity<'f>,
    pub(crate) values: &'f [[u8; W]],
}

impl<'f, const W: usize> FixedReader<'f, W> {
    pub fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self, FrameError> {
        Ok(Self { validity: Validity::open(slots, rows)?, values: slots.fixed(rows)? })
    }

    /// # Safety
    /// `row` is less than the column's rows.
    #[inline(always)]
    pub unsafe fn bytes(&self, row: usize) -> [u8; W] {
        debug_assert!(row < self.values.len());
        // SAFETY: `values` has as many entries as the column has rows.
        unsafe { *self.values.get_unchecked(row) }
    }
}

impl<const W: usize> Reader for FixedReader<'_, W> {
    #[inline(always)]
    fn is_null(&self, row: usize) -> bool {
        self.validity.is_null(row)
    }

    #[inline(always)]
    fn has_nulls(&self) -> bool {
        self.validity.has_nulls()
    }
}

/// Writes a column of values of `W` bytes.
#[derive(Clone, Debug, Default)]
pub struct FixedWriter<const W: usize> {
    nulls: Nulls,
    values: Vec<[u8; W]>,
}

impl<const W: usize> FixedWriter<W> {
    #[inline(always)]
    pub fn push(&mut self, value: [u8; W]) {
        self.values.push(value);
    }

    pub(crate) fn extend(&mut self, values: impl Iterator<Item = [u8; W]>) {
        self.values.extend(values);
    }

    /// Adds what `each` gives for 0, 1 … `rows` − 1. It counts rows once, at the end, so that the loop can run in vector registers.
    #[inline(always)]
    pub(crate) fn push_each(&mut self, rows: usize, mut each: impl FnMut(usize) -> Cell<[u8; W]>) {
        let begin = self.values.len();
        self.values.reserve(rows);
        let room = self.values.spare_capacity_mut().as_mut_ptr();
        let nulls = &mut self.nulls;
        each_row(rows, |row| {
            let value = match each(row) {
                Cell::Value(value) => value,
                Cell::Null => {
                    nulls.set(begin + row);
                    [0; W]
                }
                Cell::Hole => [0; W],
            };
            // SAFETY: there is room for `rows` values, and `row` is less.
            unsafe { (*room.add(row)).write(value) };
        });
        // SAFETY: `each_row` has come by every row.
        unsafe { self.values.set_len(begin + rows) };
    }
}

impl<const W: usize> ColumnWriter for FixedWriter<W> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.values.len()
    }

    fn null(&mut self) {
        self.nulls.set(self.values.len());
        self.hole();
    }

    fn hole(&mut self) {
        self.values.push([0; W]);
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.nulls.truncate(len);
    }

    fn reserve(&mut self, rows: usize) {
        self.values.reserve(rows);
    }

    fn bytes(&self) -> usize {
        self.values.len() * W
    }

    fn set_null(&mut self, row: usize) {
        self.nulls.set(row);
    }

    fn write(&self, frame: &mut FrameWriter) {
        self.nulls.write(frame, self.values.len());
        frame.slot(self.values.as_flattened());
    }
}

/// Everything that a type of fixed width needs, from `Fixed` and a `DataType`.
macro_rules! fixed_column {
    ([$($generics:tt)*] $type:ty, $width:literal, $shape:expr) => {
        impl<$($generics)*> Typed for $type {
            fn data_type() -> DataType {
                DataType::of($shape)
            }
        }

        impl<$($generics)*> NonNull for $type {}

        impl<'f, $($generics)*> FromColumn<'f> for $type {
            type Reader = FixedReader<'f, $width>;

            fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Reader, FrameError> {
                FixedReader::open(slots, rows)
            }

            #[inline(always)]
            unsafe fn get(reader: &Self::Reader, row: usize) -> Result<Self, NullFound> {
                // SAFETY: the caller's promise.
                Ok(<$type as Fixed<$width>>::from_bytes(unsafe { reader.bytes(row) }))
            }
        }

        impl<$($generics)*> ToColumn for $type {
            type Writer = FixedWriter<$width>;

            #[inline(always)]
            fn push_to(&self, writer: &mut Self::Writer) {
                writer.push(self.to_bytes());
            }

            fn push_all(values: &[Self], writer: &mut Self::Writer) {
                writer.extend(values.iter().map(|value| value.to_bytes()));
            }

            #[inline(always)]
            fn push_each(rows: usize, mut each: impl FnMut(usize) -> Cell<Self>, writer: &mut Self::Writer) {
                writer.push_each(rows, |row| match each(row) {
                    Cell::Value(value) => Cell::Value(value.to_bytes()),
                    Cell::Null => Cell::Null,
                    Cell::Hole => Cell::Hole,
                });
            }
        }

        impl<$($generics)*> Codec for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                CodecError::fixed(bytes).map(<$type as Fixed<$width>>::from_bytes)
            }
        }

        crate::row::single_column!([$($generics)*] $type);
    };
}
pub(crate) use fixed_column;

macro_rules! number {
    ($($type:ty, $width:literal, $shape:ident;)*) => {$(
        impl Fixed<$width> for $type {
            #[inline(always)]
            fn from_bytes(bytes: [u8; $width]) -> Self {
                <$type>::from_le_bytes(bytes)
            }

            #[inline(always)]
            fn to_bytes(self) -> [u8; $width] {
                self.to_le_bytes()
            }
        }
        fixed_column!([] $type, $width, Shape::$shape);
    )*};
}

number! {
    i8, 1, Int8; i16, 2, Int16; i32, 4, Int32; i64, 8, Int64;
    u8, 1, UInt8; u16, 2, UInt16; u32, 4, UInt32; u64, 8, UInt64;
    f32, 4, Float32; f64, 8, Float64;
}

macro_rules! list_items {
    ($($type:ty)*) => { $(impl ListItem for $type {})* };
}
list_items!(bool i8 i16 i32 i64 u16 u32 u64 f32 f64);

/// A column of bits.
#[derive(Clone, Copy, Debug)]
pub struct BitReader<'f> {
    validity: Validity<'f>,
    bits: &'f [u8],
}

impl Reader for BitReader<'_> {
    #[inline(always)]
    fn is_null(&self, row: usize) -> bool {
        self.validity.is_null(row)
    }

    #[inline(always)]
    fn has_nulls(&self) -> bool {
        self.validity.has_nulls()
    }
}

/// Writes a column of bits.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    nulls: Nulls,
    bits: Vec<u8>,
    rows: usize,
}

impl BitWriter {
    #[inline(always)]
    fn push(&mut self, value: bool) {
        if self.rows.is_multiple_of(8) {
            self.bits.push(0);
        }
        self.bits[self.rows / 8] |= u8::from(value) << (self.rows % 8);
        self.rows += 1;
    }
}

impl ColumnWriter for BitWriter {
    #[inline(always)]
    fn len(&self) -> usize {
        self.rows
    }

    fn null(&mut self) {
        self.nulls.set(self.rows);
        self.push(false);
    }

    fn hole(&mut self) {
        self.push(false);
    }

    fn truncate(&mut self, len: usize) {
        self.rows = len;
        self.nulls.truncate(len);
        self.bits.truncate(len.div_ceil(8));
        if !len.is_multiple_of(8) {
            self.bits[len / 8] &= 0xff >> (8 - len % 8);
        }
    }

    fn reserve(&mut self, rows: usize) {
        self.bits.reserve(rows.div_ceil(8));
    }

    fn bytes(&self) -> usize {
        self.bits.len()
    }

    fn set_null(&mut self, row: usize) {
        self.nulls.set(row);
    }

    fn write(&self, frame: &mut FrameWriter) {
        self.nulls.write(frame, self.rows);
        frame.slot(&self.bits);
    }
}

impl Typed for bool {
    fn data_type() -> DataType {
        DataType::of(Shape::Bool)
    }
}

impl NonNull for bool {}

impl<'f> FromColumn<'f> for bool {
    type Reader = BitReader<'f>;

    fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Reader, FrameError> {
        let validity = Validity::open(slots, rows)?;
        match slots.bits(rows)? {
            None if rows > 0 => broken(format!("a bool column of {rows} rows has no values")),
            bits => Ok(BitReader { validity, bits: bits.unwrap_or_default() }),
        }
    }

    #[inline(always)]
    unsafe fn get(reader: &Self::Reader, row: usize) -> Result<Self, NullFound> {
        Ok(reader.bits[row / 8] & (1 << (row % 8)) != 0)
    }
}

impl ToColumn for bool {
    type Writer = BitWriter;

    #[inline(always)]
    fn push_to(&self, writer: &mut Self::Writer) {
        writer.push(*self);
    }
}

impl Codec for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        match CodecError::fixed(bytes)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(CodecError::Invalid { what: "bool", got: u32::from(other) }),
        }
    }
}

crate::row::single_column!(bool);
