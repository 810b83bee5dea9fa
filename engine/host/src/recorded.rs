//! Bundles read back from the bytes that a guest was given: what a failed call is run again from.

use arrow::array::{Array, ArrayRef};

use crate::bundle::{Bundle, Operation};
use crate::declare::{Binding, Kind, Loaded};
use crate::frame::{FrameReader, HEADER_BYTES, Lie, MAGIC_BUNDLE, ROWS_MAX, lie};
use crate::plan::BindingPlan;

/// What is in a bundle's slots.
#[derive(Debug, Clone, Default)]
pub(crate) struct Columns {
    pub(crate) arguments: Vec<ArrayRef>,
    pub(crate) event_times: Option<Vec<i64>>,
    pub(crate) row_kinds: Option<Vec<u8>>,
    pub(crate) key_index: Option<Vec<u32>>,
    pub(crate) key_columns: Vec<ArrayRef>,
    pub(crate) states: Vec<ArrayRef>,
    pub(crate) sources: Vec<ArrayRef>,
}

/// A bundle that owns what a [`Bundle`] borrows.
#[derive(Debug, Clone)]
pub struct RecordedBundle {
    operation: Operation,
    rows: usize,
    keys: usize,
    watermark: i64,
    processing_time: i64,
    seed: u64,
    columns: Columns,
}

/// Why a frame is not one of the binding's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the frame of function {function:?} {problem}")]
pub struct RecordedBundleError {
    /// Name of the function.
    pub function: String,
    /// What is wrong.
    pub problem: String,
}

impl RecordedBundle {
    /// Reads what [`UdfInstance::failed_frame`](crate::UdfInstance::failed_frame) gave of an instance with this one binding.
    ///
    /// # Errors
    /// The frame is cut, damaged, or of a binding of other types. Whatever the bytes are, it does not panic.
    pub fn read(frame: Vec<u8>, binding: &Binding, kind: Kind, loaded: &Loaded) -> Result<Self, RecordedBundleError> {
        let error = |problem| RecordedBundleError { function: binding.function.clone(), problem };
        let plan = BindingPlan::new(binding, kind, loaded)
            .map_err(|bad| error(format!("cannot be read: column {:?}: {}", bad.column, bad.source)))?;
        read(frame, &plan).map_err(|lie| error(format!("is not what it was: {}", lie.0)))
    }

    /// As the instance takes it.
    pub fn bundle(&self) -> Bundle<'_> {
        self.with_states(&self.columns.states)
    }

    /// As [`bundle`](Self::bundle), with other states than the recorded ones: one array of [`Bundle::keys`] rows for each.
    pub fn with_states<'a>(&'a self, states: &'a [ArrayRef]) -> Bundle<'a> {
        let columns = &self.columns;
        Bundle {
            function: 0,
            operation: self.operation,
            rows: self.rows,
            arguments: &columns.arguments,
            first_row: 0,
            event_times: columns.event_times.as_deref(),
            row_kinds: columns.row_kinds.as_deref(),
            key_index: columns.key_index.as_deref(),
            keys: self.keys,
            key_columns: &columns.key_columns,
            states,
            sources: &columns.sources,
            watermark: self.watermark,
            processing_time: self.processing_time,
            seed: self.seed,
        }
    }
}

fn read(bytes: Vec<u8>, plan: &BindingPlan) -> Result<RecordedBundle, Lie> {
    let mut frame = FrameReader::new(bytes, MAGIC_BUNDLE, plan.slots())?;
    if frame.u32(8) != 0 {
        lie!("it is of binding {}, and there is only one", frame.u32(8));
    }
    let operation = match frame.u32(12) {
        0 => Operation::Process,
        1 => Operation::Accumulate,
        2 => Operation::Retract,
        3 => Operation::Merge,
        4 => Operation::Result,
        other => lie!("operation {other} is not in contract 0.1"),
    };
    if (plan.kind == Kind::Aggregate) == (operation == Operation::Process) {
        lie!("operation {operation:?} is not for kind {}", plan.kind);
    }
    let (rows, keys) = (frame.u32(16) as usize, frame.u32(20) as usize);
    if rows.max(keys) > ROWS_MAX {
        lie!("{rows} rows and {keys} keys, limit {ROWS_MAX}");
    }
    frame.check_zero(48, HEADER_BYTES, "the header")?;
    frame.expect_rows(rows.max(keys));
    let (watermark, processing_time, seed) = (frame.u64(24) as i64, frame.u64(32) as i64, frame.u64(40));
    let columns = plan.read(&mut frame, operation, rows, keys)?;
    frame.finish()?;
    let index = columns.key_index.iter().flatten();
    if let Some(got) = index.copied().find(|key| *key as usize >= keys) {
        lie!("key index {got}, but there are {keys} keys");
    }
    debug_assert!(columns.arguments.iter().all(|argument| argument.len() == rows));
    Ok(RecordedBundle { operation, rows, keys, watermark, processing_time, seed, columns })
}
