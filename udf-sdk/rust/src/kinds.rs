//! The kinds of functions: how each runs a bundle.

pub mod aggregate;
pub mod one_to_one;
pub mod process;
pub mod reduce;
pub mod table;
pub mod vectorized;

use crate::data_type::DataType;
use crate::frame::{Bundle, FrameError, Slots};

/// Rows handled between two checks of the deadline: the check sits on each back-edge of a loop, and a body of so many rows hides it.
pub(crate) const BLOCK_ROWS: usize = 32;

/// Calls `row` with 0, 1 … `rows` − 1.
#[inline(always)]
pub(crate) fn each_row(rows: usize, mut row: impl FnMut(usize)) {
    let whole = rows - rows % BLOCK_ROWS;
    let mut block = 0;
    while block < whole {
        for i in 0..BLOCK_ROWS {
            row(block + i);
        }
        block += BLOCK_ROWS;
    }
    for at in whole..rows {
        row(at);
    }
}

/// What stands beside the arguments of a bundle.
pub(crate) struct Beside<'f> {
    pub(crate) event_times: Option<&'f [[u8; 8]]>,
    pub(crate) row_kinds: Option<&'f [[u8; 1]]>,
    pub(crate) key_index: Option<&'f [[u8; 4]]>,
    /// From the first key column on.
    pub(crate) key_slots: Slots<'f>,
    keys: usize,
}

impl<'f> Beside<'f> {
    /// Takes the slots between the arguments and the states.
    pub(crate) fn open(bundle: &mut Bundle<'f>, key: &[DataType]) -> Result<Self, FrameError> {
        let (rows, keys, slots) = (bundle.rows, bundle.keys, &mut bundle.slots);
        let event_times = slots.optional::<8>(rows)?;
        let row_kinds = slots.optional::<1>(rows)?;
        let key_index = slots.optional::<4>(rows)?;
        let key_slots = slots.clone();
        slots.skip(key.iter().map(DataType::slots).sum::<usize>() + 3)?;
        Ok(Self { event_times, row_kinds, key_index, key_slots, keys })
    }

    /// The key index of each row, for kinds that cannot do without.
    pub(crate) fn keys_of_rows(&self, rows: usize) -> Result<&'f [[u8; 4]], FrameError> {
        match self.key_index {
            Some(index) => Ok(index),
            None if rows == 0 => Ok(&[]),
            None => Err(FrameError("a bundle with keyed state has no key index".to_owned())),
        }
    }

    /// The key index of one row.
    #[inline(always)]
    pub(crate) fn key(&self, index: &[[u8; 4]], row: usize) -> usize {
        let key = u32::from_le_bytes(index[row]) as usize;
        assert!(key < self.keys, "row {row} has key index {key} of {} keys", self.keys);
        key
    }
}
