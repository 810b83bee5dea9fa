//! Which Rust types a column can hold, and how they are read from and written to its buffers.
//!
//! | Rust | notation |
//! |---|---|
//! | `bool`, `i8` … `u64`, `f32`, `f64` | `bool`, `int8` … `uint64`, `float32`, `float64` |
//! | `&str`, `String` | `utf8` |
//! | `&[u8]`, `Vec<u8>` | `binary` |
//! | [`Decimal<P, S>`](crate::Decimal) | `decimal(P,S)` |
//! | [`Date`], [`Time`], [`Timestamp<U, Z>`](crate::Timestamp) | `date`, `time`, `timestamp(U,Z)` |
//! | `Vec<T>` (`T` not `u8`), [`List<T>`](crate::List) | `list<T>` |
//! | `#[derive(Row)] struct` | `struct<…>` |
//! | `BTreeMap<K, V>`, `Vec<(K, V)>` | `map<K, V>` |
//! | `Option<T>` | `T?` |

mod codec;
mod decimal;
mod fixed;
mod nested;
mod text;
mod time;

use crate::data_type::DataType;
use crate::frame::{FrameError, FrameWriter, Slots};
use crate::kinds::each_row;

pub use codec::{Codec, CodecError, decode_value};
pub use decimal::{Decimal, DecimalError};
pub use fixed::{Fixed, FixedReader, FixedWriter};
pub use nested::List;
pub use text::BytesWriter;
pub use time::{Date, Micros, Millis, Nanos, NoZone, Seconds, Time, Timestamp, Unit, Utc, Zone};

/// A Rust type that stands for one type of the contract.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a type that a column can hold",
    note = "use bool, i8..u64, f32, f64, String, Vec<u8>, Decimal, Date, Time, Timestamp, Vec<T>, BTreeMap<K, V>, Option<T> or a struct with #[derive(Row)]"
)]
pub trait Typed {
    /// Is there a value of this Rust type for null?
    const NULLABLE: bool = false;

    /// The type in the contract, with `nullable` as [`Typed::NULLABLE`].
    fn data_type() -> DataType;
}

/// A type without null: all but `Option<T>`.
pub trait NonNull: Typed {}

/// What `Vec<T>` makes a list of: all but `u8`, since `Vec<u8>` is `binary`. [`List<u8>`](List) is a list of them.
pub trait ListItem: Typed {}

/// Null where a type without null was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NullFound {
    /// Which argument.
    pub argument: usize,
    /// Which field inside it, if it is not the argument itself; `item`, `key`, `value` for lists and maps.
    pub field: Option<&'static str>,
}

/// The buffers of a column, opened for reading.
pub trait Reader {
    /// `row` must be one of the column's.
    fn is_null(&self, row: usize) -> bool;
    /// May any row be null?
    fn has_nulls(&self) -> bool;
}

/// A value that can be read from a column that lives for `'f`.
pub trait FromColumn<'f>: Typed + Sized {
    type Reader: Reader;

    /// Takes the column's slots.
    fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Reader, FrameError>;

    /// The value of a row. What it gives for a null row, where `Self` has no null, is any value: the caller asks `is_null` first.
    ///
    /// # Safety
    /// `row` is less than the `rows` that the reader was opened with.
    unsafe fn get(reader: &Self::Reader, row: usize) -> Result<Self, NullFound>;
}

/// Buffers that a column is written into, kept from one bundle to the next.
pub trait ColumnWriter: Default + 'static {
    /// Rows so far.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Adds a null.
    fn null(&mut self);
    /// Adds a row whose value means nothing, but which is not null.
    fn hole(&mut self);
    /// Forgets all rows from `len` on.
    fn truncate(&mut self, len: usize);
    /// Makes room for `rows` more.
    fn reserve(&mut self, rows: usize);
    /// Bytes that the column would take in a frame, about.
    fn bytes(&self) -> usize;
    /// Makes row `row` null, whatever it was.
    fn set_null(&mut self, row: usize);
    /// Fills the column's slots.
    fn write(&self, frame: &mut FrameWriter);
}

/// What becomes of a row.
pub enum Cell<T> {
    Value(T),
    Null,
    /// Any value that is not null.
    Hole,
}

/// A value that can be written to a column.
pub trait ToColumn: Typed {
    type Writer: ColumnWriter;

    /// Adds the value as a row.
    fn push_to(&self, writer: &mut Self::Writer);

    /// Adds many.
    fn push_all(values: &[Self], writer: &mut Self::Writer)
    where
        Self: Sized,
    {
        writer.reserve(values.len());
        values.iter().for_each(|value| value.push_to(writer));
    }

    /// Adds what `each` gives for 0, 1 … `rows` − 1, in that order.
    #[inline(always)]
    fn push_each(rows: usize, mut each: impl FnMut(usize) -> Cell<Self>, writer: &mut Self::Writer)
    where
        Self: Sized,
    {
        writer.reserve(rows);
        each_row(rows, |row| match each(row) {
            Cell::Value(value) => value.push_to(writer),
            Cell::Null => writer.null(),
            Cell::Hole => writer.hole(),
        });
    }
}

/// A value that owns all it has: what states, accumulators and the rows of process functions are made of.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept: it borrows, or is not a type of the contract",
    note = "use owned types (`String` for `&str`, `Vec<u8>` for `&[u8]`), and derive Clone and Row for structs"
)]
pub trait Value: for<'f> FromColumn<'f> + ToColumn + Codec + Clone + 'static {}

impl<T> Value for T where T: for<'f> FromColumn<'f> + ToColumn + Codec + Clone + 'static {}

/// Reads `row` of a field, and says the field's name if it is null and must not be.
///
/// # Safety
/// As [`FromColumn::get`].
#[inline(always)]
pub unsafe fn field<'f, T: FromColumn<'f>>(reader: &T::Reader, row: usize, name: &'static str) -> Result<T, NullFound> {
    if !T::NULLABLE && reader.is_null(row) {
        return Err(NullFound { argument: 0, field: Some(name) });
    }
    // SAFETY: the caller's promise.
    unsafe { T::get(reader, row) }
}

/// Which rows are not null.
#[derive(Clone, Copy, Debug, Default)]
pub struct Validity<'f>(Option<&'f [u8]>);

impl<'f> Validity<'f> {
    /// Takes the slot.
    pub fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self, FrameError> {
        slots.bits(rows).map(Self)
    }
}

impl Reader for Validity<'_> {
    #[inline(always)]
    fn is_null(&self, row: usize) -> bool {
        match self.0 {
            Some(bits) => bits[row / 8] & (1 << (row % 8)) == 0,
            None => false,
        }
    }

    #[inline(always)]
    fn has_nulls(&self) -> bool {
        self.0.is_some()
    }
}

/// Which rows written so far are null: bits behind the end of `bits` stand for "not null", so that only nulls cost anything.
#[derive(Clone, Debug, Default)]
pub struct Nulls {
    bits: Vec<u8>,
}

impl Nulls {
    /// Marks a row.
    pub fn set(&mut self, row: usize) {
        if self.bits.len() <= row / 8 {
            self.bits.resize(row / 8 + 1, 0xff);
        }
        self.bits[row / 8] &= !(1 << (row % 8));
    }

    /// Forgets all rows from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.bits.truncate(len.div_ceil(8));
        if self.bits.len() * 8 > len {
            self.bits[len / 8] |= 0xff << (len % 8);
        }
    }

    /// Fills the validity slot of a column of `rows` rows.
    pub fn write(&self, frame: &mut FrameWriter, rows: usize) {
        if self.bits.iter().all(|byte| *byte == 0xff) {
            return frame.absent(1);
        }
        let bytes = rows.div_ceil(8);
        frame.slot_with(bytes, |out| {
            let start = out.len();
            out.extend_from_slice(&self.bits);
            out.resize(start + bytes, 0xff);
            if !rows.is_multiple_of(8)
                && let Some(last) = out.last_mut()
            {
                *last &= 0xff >> (8 - rows % 8);
            }
        });
    }
}

impl<T: NonNull> Typed for Option<T> {
    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        T::data_type().nullable()
    }
}

impl<T: NonNull> ListItem for Option<T> {}

impl<'f, T: NonNull + FromColumn<'f>> FromColumn<'f> for Option<T> {
    type Reader = T::Reader;

    fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Reader, FrameError> {
        T::open(slots, rows)
    }

    #[inline(always)]
    unsafe fn get(reader: &Self::Reader, row: usize) -> Result<Self, NullFound> {
        if reader.is_null(row) {
            return Ok(None);
        }
        // SAFETY: the caller's promise.
        unsafe { T::get(reader, row) }.map(Some)
    }
}

impl<T: NonNull + ToColumn> ToColumn for Option<T> {
    type Writer = T::Writer;

    #[inline(always)]
    fn push_to(&self, writer: &mut Self::Writer) {
        match self {
            Some(value) => value.push_to(writer),
            None => writer.null(),
        }
    }

    #[inline(always)]
    fn push_each(rows: usize, mut each: impl FnMut(usize) -> Cell<Self>, writer: &mut Self::Writer) {
        let flat = |row| match each(row) {
            Cell::Value(Some(value)) => Cell::Value(value),
            Cell::Value(None) | Cell::Null => Cell::Null,
            Cell::Hole => Cell::Hole,
        };
        T::push_each(rows, flat, writer);
    }
}
