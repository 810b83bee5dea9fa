//! Columns for vectorised functions: views of the frame, and kernels over them.
//!
//! The deadline is checked on each back-edge of a loop in a guest, which slows a tight loop 2 to 3 times. The kernels here are blocked so
//! that a check comes every 32 rows; prefer [`Column::map`] and [`Column::zip`] to a loop of your own.

use crate::frame::{FrameError, Slots};
use crate::kinds::{BLOCK_ROWS, each_row};
use crate::row::Input;
use crate::value::{Fixed, FixedReader, FromColumn, Reader, ToColumn};

/// A column of `T`: `Column<'_, f64>`, `Column<'_, &str>`, `Column<'_, Option<i64>>`.
///
/// Where `T` is without null but a nullable column is bound, rows that are null there hold any value, and give null whatever the
/// function gives for them.
pub struct Column<'f, T: FromColumn<'f>> {
    reader: T::Reader,
    rows: usize,
}

/// A column of texts.
pub type Utf8Column<'f> = Column<'f, &'f str>;
/// A column of byte strings.
pub type BinaryColumn<'f> = Column<'f, &'f [u8]>;

impl<'f, T: FromColumn<'f>> Column<'f, T> {
    /// Rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// May any row be null?
    pub fn has_nulls(&self) -> bool {
        self.reader.has_nulls()
    }

    /// Is row `row` null?
    ///
    /// # Panics
    /// `row` is not one of the column's.
    pub fn is_null(&self, row: usize) -> bool {
        assert!(row < self.rows, "row {row} of a column of {}", self.rows);
        self.reader.is_null(row)
    }

    /// The value of row `row`.
    ///
    /// # Panics
    /// `row` is not one of the column's, or something inside the value is null that must not be.
    #[inline(always)]
    pub fn get(&self, row: usize) -> T {
        assert!(row < self.rows, "row {row} of a column of {}", self.rows);
        // SAFETY: as just checked.
        unsafe { self.value(row) }
    }

    /// # Safety
    /// `row` is one of the column's.
    #[inline(always)]
    unsafe fn value(&self, row: usize) -> T {
        // SAFETY: the caller's promise.
        match unsafe { T::get(&self.reader, row) } {
            Ok(value) => value,
            Err(null) => panic!(
                "row {row} of a column has a null {}, which its type does not allow",
                null.field.unwrap_or("value")
            ),
        }
    }

    /// The values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = T> {
        (0..self.rows).map(|row| self.get(row))
    }

    /// A value for each value.
    #[inline(always)]
    pub fn map<O>(&self, mut each: impl FnMut(T) -> O) -> Vec<O> {
        // SAFETY: `collect` gives rows of the column only.
        collect(self.rows, |row| each(unsafe { self.value(row) }))
    }

    /// A value for each pair of values.
    ///
    /// # Panics
    /// The columns differ in length.
    #[inline(always)]
    pub fn zip<'o, U: FromColumn<'o>, O>(&self, other: &Column<'o, U>, mut each: impl FnMut(T, U) -> O) -> Vec<O> {
        assert!(self.rows == other.rows, "columns of {} and {} rows", self.rows, other.rows);
        // SAFETY: `collect` gives rows of both columns only.
        collect(self.rows, |row| unsafe { each(self.value(row), other.value(row)) })
    }
}

/// What `each` gives for 0, 1 … `rows` − 1. It counts once, at the end, so that the loop can run in vector registers.
#[inline(always)]
fn collect<O>(rows: usize, mut each: impl FnMut(usize) -> O) -> Vec<O> {
    let mut out = Vec::with_capacity(rows);
    let room: *mut O = out.as_mut_ptr();
    // SAFETY: there is room for `rows` values, and `each_row` comes by every row. If `each` panics, what was written leaks.
    unsafe {
        each_row(rows, |row| room.add(row).write(each(row)));
        out.set_len(rows);
    }
    out
}

impl<'f, T, const W: usize> Column<'f, T>
where
    T: Fixed<W> + FromColumn<'f, Reader = FixedReader<'f, W>>,
{
    /// Folds the values in blocks of 32, which lets the compiler use vector registers: `step` folds one value into one of 32 lanes, and
    /// `join` two lanes into one.
    pub fn fold_lanes<A: Copy>(&self, start: A, step: impl Fn(A, T) -> A, join: impl Fn(A, A) -> A) -> A {
        let mut lanes = [start; BLOCK_ROWS];
        let (blocks, rest) = self.reader.values.as_chunks::<BLOCK_ROWS>();
        for block in blocks {
            for (lane, value) in lanes.iter_mut().zip(block) {
                *lane = step(*lane, T::from_bytes(*value));
            }
        }
        for (lane, value) in lanes.iter_mut().zip(rest) {
            *lane = step(*lane, T::from_bytes(*value));
        }
        lanes.into_iter().reduce(join).expect("there are 32 lanes")
    }
}

/// The arguments of a vectorised function: a tuple of columns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the arguments of a vectorized UDF",
    note = "each argument is a `Column<'_, T>`, `Utf8Column<'_>` or `BinaryColumn<'_>`, and there are 1 to 12 of them"
)]
pub trait Columns<'f>: Sized {
    /// One row of them.
    type Row: Input<'f>;

    fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self, FrameError>;
}

macro_rules! columns {
    ($($type:ident)*) => { columns!(@ [] $($type)*); };
    (@ [$($done:ident)*] $next:ident $($rest:ident)*) => {
        impl<'f, $($done: FromColumn<'f> + ToColumn,)* $next: FromColumn<'f> + ToColumn> Columns<'f>
            for ($(Column<'f, $done>,)* Column<'f, $next>,)
        {
            type Row = ($($done,)* $next,);

            fn open(slots: &mut Slots<'f>, rows: usize) -> Result<Self, FrameError> {
                Ok((
                    $(Column::<'f, $done> { reader: $done::open(slots, rows)?, rows },)*
                    Column::<'f, $next> { reader: $next::open(slots, rows)?, rows },
                ))
            }
        }
        columns!(@ [$($done)* $next] $($rest)*);
    };
    (@ [$($done:ident)*]) => {};
}

columns!(A B C D E F G H I J K L);
