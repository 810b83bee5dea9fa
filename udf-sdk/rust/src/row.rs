//! What a function is called with: the fields of a row, each from a column of its own.

use crate::data_type::Field;
use crate::frame::{FrameError, FrameWriter, Slots};
use crate::value::{ColumnWriter, FromColumn, ListItem, NonNull, NullFound, Reader, ToColumn, Typed};

/// A struct whose fields are columns: `#[derive(Row)]`.
pub trait Row: NonNull + ListItem {
    /// The fields' names in order.
    const FIELDS: &'static [&'static str];
}

/// What rows of a bundle turn into. A struct with `#[derive(Row)]` takes a column for each field, a tuple one for each element, and
/// any other value is one column.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not what a row can turn into",
    note = "use a type that a column can hold, a tuple of up to 16 of them, or a struct with #[derive(Row)]"
)]
pub trait Input<'f>: Sized {
    type Readers;
    /// The columns to be, for tests.
    type Writers;

    /// The columns. A struct has names of its own; others are given theirs.
    fn fields(names: &[&str]) -> Vec<Field>;

    /// Takes the slots of all columns.
    fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Readers, FrameError>;

    /// May an argument that is not declared nullable be null in any row?
    fn has_nulls(readers: &Self::Readers) -> bool;

    /// Is an argument that is not declared nullable null in this row?
    fn missing(readers: &Self::Readers, row: usize) -> bool;

    /// # Safety
    /// `row` is less than the rows that the readers were opened with.
    unsafe fn get(readers: &Self::Readers, row: usize) -> Result<Self, NullFound>;

    /// No rows yet, for tests.
    fn writers() -> Self::Writers;

    /// Adds the row to the columns, for tests.
    fn push_to(&self, writers: &mut Self::Writers);

    /// Fills the slots of all columns, for tests.
    fn write(writers: &Self::Writers, frame: &mut FrameWriter);
}

/// Is a value that must not be null null?
#[inline(always)]
pub fn missing<'f, T: FromColumn<'f>>(reader: &T::Reader, row: usize) -> bool {
    !T::NULLABLE && reader.is_null(row)
}

/// May a value that must not be null be null anywhere in the column?
#[inline(always)]
pub fn may_miss<'f, T: FromColumn<'f>>(reader: &T::Reader) -> bool {
    !T::NULLABLE && reader.has_nulls()
}

/// The value of argument number `argument`.
///
/// # Safety
/// As [`FromColumn::get`].
#[inline(always)]
pub unsafe fn argument<'f, T: FromColumn<'f>>(reader: &T::Reader, row: usize, argument: usize) -> Result<T, NullFound> {
    if missing::<T>(reader, row) {
        return Err(NullFound { argument, field: None });
    }
    // SAFETY: the caller's promise.
    unsafe { T::get(reader, row) }.map_err(|null| NullFound { argument, field: null.field })
}

/// The field of a column: a name and a Rust type's type.
pub fn field_of<T: Typed>(name: &str) -> Field {
    Field { name: name.to_owned(), data_type: T::data_type() }
}

/// `Input` for a value that is one column.
macro_rules! single_column {
    (borrowed $type:ty) => { crate::row::single_column!(@ [] $type); };
    ([$($generics:tt)*] $type:ty) => { crate::row::single_column!(@ [$($generics)*] $type); };
    ($type:ty) => { crate::row::single_column!(@ [] $type); };
    (@ [$($generics:tt)*] $type:ty) => {
        impl<'f, $($generics)*> crate::row::Input<'f> for $type
        where
            Self: crate::value::FromColumn<'f> + crate::value::ToColumn,
        {
            type Readers = <Self as crate::value::FromColumn<'f>>::Reader;
            type Writers = <Self as crate::value::ToColumn>::Writer;

            fn fields(names: &[&str]) -> Vec<crate::data_type::Field> {
                vec![crate::row::field_of::<Self>(names.first().unwrap_or(&"value"))]
            }

            #[inline(always)]
            fn open(slots: &mut crate::frame::Slots<'f>, rows: usize) -> Result<Self::Readers, crate::frame::FrameError> {
                <Self as crate::value::FromColumn<'f>>::open(slots, rows)
            }

            #[inline(always)]
            fn has_nulls(readers: &Self::Readers) -> bool {
                crate::row::may_miss::<Self>(readers)
            }

            #[inline(always)]
            fn missing(readers: &Self::Readers, row: usize) -> bool {
                crate::row::missing::<Self>(readers, row)
            }

            #[inline(always)]
            unsafe fn get(readers: &Self::Readers, row: usize) -> Result<Self, crate::value::NullFound> {
                // SAFETY: the caller's promise.
                unsafe { crate::row::argument::<Self>(readers, row, 0) }
            }

            fn writers() -> Self::Writers {
                ::std::default::Default::default()
            }

            fn push_to(&self, writers: &mut Self::Writers) {
                crate::value::ToColumn::push_to(self, writers);
            }

            fn write(writers: &Self::Writers, frame: &mut crate::frame::FrameWriter) {
                crate::value::ColumnWriter::write(writers, frame);
            }
        }
    };
}
pub(crate) use single_column;

single_column!([T: NonNull] Option<T>);

macro_rules! tuple_of_columns {
    ($(($type:ident $at:tt))*) => {
        impl<'f, $($type: FromColumn<'f> + ToColumn),*> Input<'f> for ($($type,)*) {
            type Readers = ($($type::Reader,)*);
            type Writers = ($($type::Writer,)*);

            fn fields(names: &[&str]) -> Vec<Field> {
                vec![$(match names.get($at) {
                    Some(name) => field_of::<$type>(name),
                    None => field_of::<$type>(concat!("f", $at)),
                }),*]
            }

            #[inline(always)]
            fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self::Readers, FrameError> {
                Ok(($($type::open(slots, rows)?,)*))
            }

            #[inline(always)]
            fn has_nulls(readers: &Self::Readers) -> bool {
                false $(|| may_miss::<$type>(&readers.$at))*
            }

            #[inline(always)]
            fn missing(readers: &Self::Readers, row: usize) -> bool {
                false $(|| missing::<$type>(&readers.$at, row))*
            }

            #[inline(always)]
            unsafe fn get(readers: &Self::Readers, row: usize) -> Result<Self, NullFound> {
                // SAFETY: the caller's promise.
                Ok(($(unsafe { argument::<$type>(&readers.$at, row, $at) }?,)*))
            }

            fn writers() -> Self::Writers {
                ($($type::Writer::default(),)*)
            }

            fn push_to(&self, writers: &mut Self::Writers) {
                $(self.$at.push_to(&mut writers.$at);)*
            }

            fn write(writers: &Self::Writers, frame: &mut FrameWriter) {
                $(writers.$at.write(frame);)*
            }
        }
    };
}

macro_rules! tuples {
    ($(($type:ident $at:tt))*) => { tuples!(@ [] $(($type $at))*); };
    (@ [$($done:tt)*] $next:tt $($rest:tt)*) => {
        tuple_of_columns!($($done)* $next);
        tuples!(@ [$($done)* $next] $($rest)*);
    };
    (@ [$($done:tt)*]) => {};
}

tuples!((A 0) (B 1) (C 2) (D 3) (E 4) (F 5) (G 6) (H 7) (I 8) (J 9) (K 10) (L 11) (M 12) (N 13) (O 14) (P 15));

impl Input<'_> for () {
    type Readers = ();
    type Writers = ();

    fn fields(_names: &[&str]) -> Vec<Field> {
        Vec::new()
    }

    fn open(_slots: &mut Slots<'_>, _rows: usize) -> Result<(), FrameError> {
        Ok(())
    }

    fn has_nulls(_readers: &()) -> bool {
        false
    }

    fn missing(_readers: &(), _row: usize) -> bool {
        false
    }

    unsafe fn get(_readers: &(), _row: usize) -> Result<Self, NullFound> {
        Ok(())
    }

    fn writers() {}

    fn push_to(&self, _writers: &mut ()) {}

    fn write(_writers: &(), _frame: &mut FrameWriter) {}
}
