//! What goes into a call and what comes out of it, as Arrow arrays.

use arrow::array::ArrayRef;
use arrow::buffer::BooleanBuffer;

/// What a bundle asks of a function. Only aggregates know others than [`Operation::Process`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Operation {
    /// Run the function over the rows.
    Process = 0,
    /// Fold rows into accumulators.
    Accumulate = 1,
    /// Take rows out of accumulators.
    Retract = 2,
    /// Fold accumulators into accumulators.
    Merge = 3,
    /// Take a result of each key's accumulator.
    Result = 4,
}

/// The input of one call: everything the function may know.
#[derive(Debug, Clone, Copy)]
pub struct Bundle<'a> {
    /// Index into [`Setup::bindings`](crate::Setup::bindings).
    pub function: u32,
    /// What is asked.
    pub operation: Operation,
    /// Input rows, at most 2^24. 0 for [`Operation::Result`].
    pub rows: usize,
    /// One array per argument, whose rows from `first_row` on are those of the bundle; none for [`Operation::Merge`] and
    /// [`Operation::Result`].
    pub arguments: &'a [ArrayRef],
    /// Where the bundle begins in the arrays of `arguments`, which may hold the rows of many bundles: to slice each of them for a
    /// bundle of one row would cost as much as to write it.
    pub first_row: usize,
    /// Event time of each row in ms since the epoch, `i64::MIN` = none. `None`: no row has one.
    pub event_times: Option<&'a [i64]>,
    /// Kind of each row: 0 +I, 1 −U, 2 +U, 3 −D. `None`: all +I.
    pub row_kinds: Option<&'a [u8]>,
    /// Distinct key of each row, below `keys`. `None` where the binding has no key and no state per key.
    pub key_index: Option<&'a [u32]>,
    /// Distinct keys of this bundle.
    pub keys: usize,
    /// One array of `keys` rows per key field: the key itself.
    pub key_columns: &'a [ArrayRef],
    /// One array of `keys` rows per state with access `column`, in order; null = no value.
    pub states: &'a [ArrayRef],
    /// [`Operation::Merge`] only: one array of `rows` rows per such state, the accumulators to fold in.
    pub sources: &'a [ArrayRef],
    /// The watermark, in ms since the epoch; `i64::MIN` = none yet.
    pub watermark: i64,
    /// The only clock that the function sees, in ms since the epoch.
    pub processing_time: i64,
    /// The only randomness that the function sees.
    pub seed: u64,
}

/// The outcome of one call: everything the function did. Nothing of it has been applied yet.
#[derive(Debug, Clone, Default)]
pub struct Effects {
    /// Output rows, in pieces as the guest sent them; a piece has at least one row.
    pub outputs: Vec<Output>,
    /// One per state with access `column`, in order.
    pub states: Vec<StateWrites>,
    /// The last write of each (state, key) with access `call`, in ascending order of both.
    pub state_calls: StateCalls,
    /// Rows that failed, ascending. They have left no trace elsewhere, except that one-to-one kinds hold a row's place in the output.
    pub errors: Vec<RowError>,
}

impl Effects {
    /// Output rows of all pieces.
    pub fn output_rows(&self) -> usize {
        self.outputs.iter().map(|output| output.column.len()).sum()
    }
}

/// A piece of the output. Its arrays share the frame that they came in: whoever keeps a small part for long copies it.
#[derive(Debug, Clone)]
pub struct Output {
    /// Of type [`Loaded::result`](crate::Loaded::result).
    pub column: ArrayRef,
    /// Input row (for [`Operation::Result`]: key) of each output row, never descending. `None`: output row i comes from input row i.
    pub source_rows: Option<Vec<u32>>,
    /// Kind of each output row, 0 to 3. `None`: that of its source row.
    pub row_kinds: Option<Vec<u8>>,
}

/// What became of a state with access `column`.
#[derive(Debug, Clone)]
pub struct StateWrites {
    /// A value per key; only those with their bit set in `written` count, and null among those clears. Empty if nothing was written.
    pub values: ArrayRef,
    /// Which keys were written. Empty if none was.
    pub written: BooleanBuffer,
}

/// Writes to states with access `call`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateCalls {
    pub(crate) entries: Vec<StateEntry>,
    /// The values, one after the other: one piece of memory for all of them.
    pub(crate) bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateEntry {
    pub(crate) state: u32,
    pub(crate) key: u32,
    /// Where its value lies; `None` clears.
    pub(crate) value: Option<(usize, usize)>,
}

impl StateCalls {
    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = StateCall<'_>> {
        self.entries.iter().map(|entry| StateCall {
            state: entry.state,
            key: entry.key,
            value: entry.value.map(|(start, end)| &self.bytes[start..end]),
        })
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// A write to a state with access `call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateCall<'a> {
    /// Index into [`Loaded::states`](crate::Loaded::states).
    pub state: u32,
    /// Index of the key within the bundle.
    pub key: u32,
    /// The value as `wit/README.md` ("Values") encodes it, checked; `None` clears.
    pub value: Option<&'a [u8]>,
}

/// A row that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// Input row; for [`Operation::Result`] the key.
    pub row: u32,
    /// `ValueError`, `panic` and the like.
    pub kind: String,
    /// One line.
    pub message: String,
    /// Where, or empty.
    pub traceback: String,
}
