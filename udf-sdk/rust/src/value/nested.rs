//! Lists and maps. Structs come from `#[derive(Row)]`.

use std::collections::BTreeMap;

use super::text::Offsets;
use super::{
    Codec, CodecError, ColumnWriter, FromColumn, ListItem, NonNull, NullFound, Nulls, Reader, ToColumn, Typed,
    Validity, field,
};
use crate::data_type::{DataType, Shape};
use crate::frame::{FrameError, FrameWriter, Slots};

/// A list of anything: needed only for `List<u8>`, `list<uint8>`, since `Vec<u8>` is `binary`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List<T>(pub Vec<T>);

/// A column of lists, over a column of their items.
#[derive(Clone, Copy, Debug)]
pub struct ListReader<'f, C> {
    validity: Validity<'f>,
    offsets: Offsets<'f>,
    items: C,
}

impl<C> Reader for ListReader<'_, C> {
    #[inline(always)]
    fn is_null(&self, row: usize) -> bool {
        self.validity.is_null(row)
    }

    #[inline(always)]
    fn has_nulls(&self) -> bool {
        self.validity.has_nulls()
    }
}

/// A pair of columns: the entries of maps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entries<K, V>(K, V);

/// Writes a column of lists.
#[derive(Clone, Debug, Default)]
pub struct ListWriter<W> {
    nulls: Nulls,
    ends: Vec<[u8; 4]>,
    items: W,
}

impl<W: ColumnWriter> ListWriter<W> {
    fn end(&mut self) {
        let end = i32::try_from(self.items.len())
            .expect("the lists of one column of a bundle have fewer than 2^31 items: set a smaller bundle.size");
        self.ends.push(end.to_le_bytes());
    }
}

impl<W: ColumnWriter> ColumnWriter for ListWriter<W> {
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
        self.items.truncate(self.ends.last().map_or(0, |end| u32::from_le_bytes(*end) as usize));
        self.nulls.truncate(len);
    }

    fn reserve(&mut self, rows: usize) {
        self.ends.reserve(rows);
    }

    fn bytes(&self) -> usize {
        self.items.bytes() + 4 * self.ends.len()
    }

    fn set_null(&mut self, row: usize) {
        self.nulls.set(row);
    }

    fn write(&self, frame: &mut FrameWriter) {
        self.nulls.write(frame, self.ends.len());
        frame.offsets(&self.ends);
        self.items.write(frame);
    }
}

impl<K: ColumnWriter, V: ColumnWriter> ColumnWriter for Entries<K, V> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn null(&mut self) {
        unreachable!("the entries of a map are not a column of their own");
    }

    fn hole(&mut self) {
        self.0.hole();
        self.1.hole();
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
        self.1.truncate(len);
    }

    fn reserve(&mut self, rows: usize) {
        self.0.reserve(rows);
        self.1.reserve(rows);
    }

    fn bytes(&self) -> usize {
        self.0.bytes() + self.1.bytes()
    }

    fn set_null(&mut self, _row: usize) {
        unreachable!("the entries of a map are not a column of their own");
    }

    fn write(&self, frame: &mut FrameWriter) {
        self.0.write(frame);
        self.1.write(frame);
    }
}

macro_rules! list_column {
    ($type:ty, $bound:ident, |$self:ident| $items:expr, $wrap:expr) => {
        impl<T: $bound> Typed for $type {
            fn data_type() -> DataType {
                DataType::of(Shape::List(Box::new(T::data_type())))
            }
        }

        impl<T: $bound> NonNull for $type {}
        impl<T: $bound> ListItem for $type {}

        impl<'f, T: $bound + FromColumn<'f>> FromColumn<'f> for $type {
            type Reader = ListReader<'f, T::Reader>;

            fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Reader, FrameError> {
                let validity = Validity::open(slots, rows)?;
                let offsets = Offsets::open(slots, rows)?;
                let items = T::open(slots, offsets.total())?;
                Ok(ListReader { validity, offsets, items })
            }

            unsafe fn get(reader: &Self::Reader, row: usize) -> Result<Self, NullFound> {
                // SAFETY: the caller's promise.
                let range = unsafe { reader.offsets.range(row) };
                assert!(range.end <= reader.offsets.total(), "offsets of a bundle never descend");
                // SAFETY: the items have as many rows as the offsets say, as just checked.
                range.map(|item| unsafe { field::<T>(&reader.items, item, "item") }).collect::<Result<_, _>>().map($wrap)
            }
        }

        impl<T: $bound + ToColumn> ToColumn for $type {
            type Writer = ListWriter<T::Writer>;

            fn push_to(&self, writer: &mut Self::Writer) {
                let $self = self;
                T::push_all($items, &mut writer.items);
                writer.end();
            }
        }

        impl<T: $bound + Codec> Codec for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                let $self = self;
                CodecError::put_count($items.len(), out);
                $items.iter().for_each(|item| item.encode(out));
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                let count = CodecError::count(bytes)?;
                (0..count).map(|_| T::decode(bytes)).collect::<Result<_, _>>().map($wrap)
            }
        }

        crate::row::single_column!([T: $bound] $type);
    };
}

list_column!(Vec<T>, ListItem, |list| list, |items| items);
list_column!(List<T>, Typed, |list| &list.0, List);

macro_rules! map_column {
    ($type:ty, [$($order:tt)*]) => {
        impl<K: NonNull $($order)*, V: Typed> Typed for $type {
            fn data_type() -> DataType {
                DataType::of(Shape::Map(Box::new(K::data_type()), Box::new(V::data_type())))
            }
        }

        impl<K: NonNull $($order)*, V: Typed> NonNull for $type {}

        impl<'f, K: NonNull $($order)* + FromColumn<'f>, V: FromColumn<'f>> FromColumn<'f> for $type {
            type Reader = ListReader<'f, Entries<K::Reader, V::Reader>>;

            fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Reader, FrameError> {
                let validity = Validity::open(slots, rows)?;
                let offsets = Offsets::open(slots, rows)?;
                let keys = K::open(slots, offsets.total())?;
                let values = V::open(slots, offsets.total())?;
                Ok(ListReader { validity, offsets, items: Entries(keys, values) })
            }

            unsafe fn get(reader: &Self::Reader, row: usize) -> Result<Self, NullFound> {
                // SAFETY: the caller's promise.
                let range = unsafe { reader.offsets.range(row) };
                assert!(range.end <= reader.offsets.total(), "offsets of a bundle never descend");
                let entry = |at| {
                    // SAFETY: keys and values have as many rows as the offsets say, as just checked.
                    unsafe { Ok((field::<K>(&reader.items.0, at, "key")?, field::<V>(&reader.items.1, at, "value")?)) }
                };
                range.map(entry).collect()
            }
        }

        impl<K: NonNull $($order)* + ToColumn, V: ToColumn> ToColumn for $type {
            type Writer = ListWriter<Entries<K::Writer, V::Writer>>;

            fn push_to(&self, writer: &mut Self::Writer) {
                for (key, value) in self.iter() {
                    key.push_to(&mut writer.items.0);
                    value.push_to(&mut writer.items.1);
                }
                writer.end();
            }
        }

        impl<K: NonNull $($order)* + Codec, V: Typed + Codec> Codec for $type {
            fn encode(&self, out: &mut Vec<u8>) {
                CodecError::put_count(self.len(), out);
                for (key, value) in self.iter() {
                    key.encode(out);
                    value.encode(out);
                }
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                let count = CodecError::count(bytes)?;
                (0..count).map(|_| Ok((K::decode(bytes)?, V::decode(bytes)?))).collect()
            }
        }

        crate::row::single_column!([K: NonNull $($order)*, V: Typed] $type);
    };
}

map_column!(BTreeMap<K, V>, [+ Ord]);
map_column!(Vec<(K, V)>, []);

impl<K: NonNull + Ord, V: Typed> ListItem for BTreeMap<K, V> {}
