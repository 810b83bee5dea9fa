//! `utf8` and `binary`: borrowed from the frame as `&str` and `&[u8]`, or copied out of it as `String` and `Vec<u8>`.

use super::{
    Codec, CodecError, ColumnWriter, FromColumn, ListItem, NonNull, NullFound, Nulls, Reader, ToColumn, Typed, Validity,
};
use crate::data_type::{DataType, Shape};
use crate::frame::{FrameError, FrameWriter, Slots, broken};

/// Where each row's part of a list, text or map begins and ends.
#[derive(Clone, Copy, Debug)]
pub struct Offsets<'f>(&'f [[u8; 4]]);

impl<'f> Offsets<'f> {
    /// Takes the slot.
    pub fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self, FrameError> {
        if rows > 0 {
            return slots.fixed(rows + 1).map(Self);
        }
        match slots.take()?.len() {
            0 | 4 => Ok(Self(&[])),
            other => broken(format!("offsets of no rows have {other} bytes")),
        }
    }

    /// Rows of the child, or bytes of the data.
    pub fn total(&self) -> usize {
        self.0.last().map_or(0, |end| i32::from_le_bytes(*end) as u32 as usize)
    }

    /// # Safety
    /// `row` is less than the column's rows.
    #[inline(always)]
    pub unsafe fn range(&self, row: usize) -> std::ops::Range<usize> {
        debug_assert!(row + 1 < self.0.len());
        // SAFETY: there is one offset more than rows, and `row` is one of them.
        let (start, end) = unsafe { (*self.0.get_unchecked(row), *self.0.get_unchecked(row + 1)) };
        u32::from_le_bytes(start) as usize..u32::from_le_bytes(end) as usize
    }
}

/// A column of texts or bytes.
#[derive(Clone, Copy, Debug)]
pub struct BytesReader<'f> {
    validity: Validity<'f>,
    offsets: Offsets<'f>,
    data: &'f [u8],
}

impl<'f> BytesReader<'f> {
    fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self, FrameError> {
        let validity = Validity::open(slots, rows)?;
        let offsets = Offsets::open(slots, rows)?;
        let data = slots.take()?;
        if offsets.total() > data.len() {
            return broken(format!("texts end at {} of {} bytes", offsets.total(), data.len()));
        }
        Ok(Self { validity, offsets, data })
    }

    #[inline(always)]
    unsafe fn bytes(&self, row: usize) -> &'f [u8] {
        // SAFETY: the caller's promise.
        &self.data[unsafe { self.offsets.range(row) }]
    }

    #[inline(always)]
    unsafe fn text(&self, row: usize) -> &'f str {
        // SAFETY: the caller's promise.
        let bytes = unsafe { self.bytes(row) };
        if cfg!(target_family = "wasm") {
            // SAFETY: the host holds all texts as Arrow arrays, which are valid UTF-8; it is the side that a guest must believe.
            return unsafe { std::str::from_utf8_unchecked(bytes) };
        }
        std::str::from_utf8(bytes).expect("a bundle's texts are UTF-8, and offsets lie between characters")
    }
}

impl Reader for BytesReader<'_> {
    #[inline(always)]
    fn is_null(&self, row: usize) -> bool {
        self.validity.is_null(row)
    }

    #[inline(always)]
    fn has_nulls(&self) -> bool {
        self.validity.has_nulls()
    }
}

/// Writes a column of texts or bytes.
#[derive(Clone, Debug, Default)]
pub struct BytesWriter {
    nulls: Nulls,
    ends: Vec<[u8; 4]>,
    data: Vec<u8>,
}

impl BytesWriter {
    #[inline(always)]
    pub fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.end();
    }

    /// Fills the slots of offsets and data alone.
    pub(crate) fn write_without_validity(&self, frame: &mut FrameWriter) {
        frame.offsets(&self.ends);
        frame.slot(&self.data);
    }

    #[inline(always)]
    fn end(&mut self) {
        let end = i32::try_from(self.data.len())
            .expect("the texts of one column of a bundle stay below 2 GiB: set a smaller bundle.size");
        self.ends.push(end.to_le_bytes());
    }
}

impl ColumnWriter for BytesWriter {
    #[inline(always)]
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn null(&mut self) {
        self.nulls.set(self.ends.len());
        self.end();
    }

    fn hole(&mut self) {
        self.end();
    }

    fn truncate(&mut self, len: usize) {
        self.ends.truncate(len);
        self.data.truncate(self.ends.last().map_or(0, |end| u32::from_le_bytes(*end) as usize));
        self.nulls.truncate(len);
    }

    fn reserve(&mut self, rows: usize) {
        self.ends.reserve(rows);
    }

    fn bytes(&self) -> usize {
        self.data.len() + 4 * self.ends.len()
    }

    fn set_null(&mut self, row: usize) {
        self.nulls.set(row);
    }

    fn write(&self, frame: &mut FrameWriter) {
        self.nulls.write(frame, self.ends.len());
        self.write_without_validity(frame);
    }
}

macro_rules! bytes_column {
    ([$($life:lifetime)?] $type:ty, $shape:ident, |$reader:ident, $row:ident| $get:expr, |$value:ident| $bytes:expr) => {
        impl<$($life)?> Typed for $type {
            fn data_type() -> DataType {
                DataType::of(Shape::$shape)
            }
        }

        impl<$($life)?> NonNull for $type {}
        impl<$($life)?> ListItem for $type {}

        impl<'f> FromColumn<'f> for $type {
            type Reader = BytesReader<'f>;

            fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Reader, FrameError> {
                BytesReader::open(slots, rows)
            }

            #[inline(always)]
            unsafe fn get($reader: &Self::Reader, $row: usize) -> Result<Self, NullFound> {
                // SAFETY: the caller's promise.
                Ok(unsafe { $get })
            }
        }

        impl<$($life)?> ToColumn for $type {
            type Writer = BytesWriter;

            #[inline(always)]
            fn push_to(&self, writer: &mut Self::Writer) {
                let $value = self;
                writer.push($bytes);
            }
        }
    };
}

bytes_column!(['f] &'f str, Utf8, |reader, row| reader.text(row), |value| value.as_bytes());
bytes_column!(['f] &'f [u8], Binary, |reader, row| reader.bytes(row), |value| value);
bytes_column!([] String, Utf8, |reader, row| reader.text(row).to_owned(), |value| value.as_bytes());
bytes_column!([] Vec<u8>, Binary, |reader, row| reader.bytes(row).to_vec(), |value| value);

crate::row::single_column!(borrowed &'f str);
crate::row::single_column!(borrowed &'f [u8]);
crate::row::single_column!(String);
crate::row::single_column!(Vec<u8>);

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        CodecError::put_bytes(self.as_bytes(), out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        let text = CodecError::bytes(bytes)?;
        std::str::from_utf8(text).map(str::to_owned).map_err(|error| CodecError::Utf8 { at: error.valid_up_to() })
    }
}

impl Codec for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        CodecError::put_bytes(self, out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        CodecError::bytes(bytes).map(<[u8]>::to_vec)
    }
}
