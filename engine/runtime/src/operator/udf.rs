//! Calls a UDF for an operator: arguments from columns, faults to job errors, row errors to the UDF's policy.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StructArray, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{CastOptions, cast_with_options, concat, take};
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;
use wasmill_host::{Bundle, Effects, Fault, LogLevel, Operation, Output, RowError, UdfHost, UdfInstance};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::batch::Batch;
use crate::dead_letter::{DeadLetter, record_of};
use crate::error::{JobError, RowFailure};
use crate::graph::{BoundArgument, BoundCall, Place};
use crate::job::{LogRecord, Shared};
use crate::metrics::NodeMetrics;
use crate::spec::OnError;
use crate::state::ByteState;

/// What every operator with a UDF is given.
pub(crate) struct Context {
    pub place: Place,
    pub shared: Arc<Shared>,
    pub metrics: Arc<NodeMetrics>,
}

impl Context {
    pub(crate) fn arrow(&self, error: ArrowError) -> JobError {
        JobError::Arrow { node: self.place.node.clone(), error }
    }
}

/// The engine as a guest sees it: a log, and the state of this task's keys.
pub(crate) struct OperatorHost {
    place: Place,
    udf: String,
    shared: Arc<Shared>,
    /// For each state of the function with access `call`, by its index; the others stay empty.
    pub states: Vec<ByteState>,
    /// Key index of the running bundle → slot.
    pub slots: Vec<u32>,
}

impl UdfHost for OperatorHost {
    fn log(&mut self, level: LogLevel, message: &str) {
        self.shared.log(&LogRecord {
            job: &self.place.job,
            node: &self.place.node,
            subtask: self.place.subtask,
            udf: &self.udf,
            level,
            message,
        });
    }

    fn state_get(&mut self, state: u32, key: u32) -> Result<Option<Vec<u8>>, String> {
        let slot = self.slots.get(key as usize).ok_or_else(|| format!("key {key} is not in this bundle"))?;
        let state = self.states.get(state as usize).ok_or_else(|| format!("there is no state {state}"))?;
        Ok(state.get(*slot).map(<[u8]>::to_vec))
    }
}

/// An instance of one UDF, in one task.
pub(crate) struct UdfCaller {
    call: BoundCall,
    instance: UdfInstance<OperatorHost>,
    place: Place,
    shared: Arc<Shared>,
    metrics: Arc<NodeMetrics>,
    /// Of the job, the node and the subtask; with the bundle's number it makes the bundle's seed.
    seed: u64,
    bundles: u64,
    watermark: i64,
}

/// What a call gets beside the rows.
#[derive(Default)]
pub(crate) struct KeyedInput<'a> {
    pub index: Option<&'a [u32]>,
    pub keys: usize,
    pub key_columns: &'a [ArrayRef],
    pub states: &'a [ArrayRef],
}

impl UdfCaller {
    pub(crate) fn open(call: &BoundCall, context: &Context) -> Result<UdfCaller, JobError> {
        let host = OperatorHost {
            place: context.place.clone(),
            udf: call.udf.name.clone(),
            shared: Arc::clone(&context.shared),
            states: call.loaded.states.iter().map(|_| ByteState::default()).collect(),
            slots: Vec::new(),
        };
        let instance = call
            .instantiate(&context.place, host)
            .map_err(|error| JobError::Host { node: context.place.node.clone(), error: Box::new(error) })?;
        let place = format!("{}/{}/{}", context.place.node, context.place.subtask, call.title());
        Ok(UdfCaller {
            call: call.clone(),
            instance,
            place: context.place.clone(),
            shared: Arc::clone(&context.shared),
            metrics: Arc::clone(&context.metrics),
            seed: xxh3_64_with_seed(place.as_bytes(), context.shared.config.seed),
            bundles: 0,
            watermark: crate::batch::WATERMARK_MIN,
        })
    }

    pub(crate) fn call(&self) -> &BoundCall {
        &self.call
    }

    pub(crate) fn host_mut(&mut self) -> &mut OperatorHost {
        self.instance.host_mut()
    }

    pub(crate) fn set_watermark(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    /// Runs the function over `rows`.
    pub(crate) fn rows(
        &mut self,
        operation: Operation,
        rows: &Batch,
        keyed: &KeyedInput<'_>,
    ) -> Result<Effects, JobError> {
        let arguments = self
            .call
            .arguments
            .iter()
            .map(|argument| evaluate(argument, rows))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| JobError::Arrow { node: self.place.node.clone(), error })?;
        self.run(Bundle {
            function: 0,
            operation,
            rows: rows.num_rows(),
            arguments: &arguments,
            event_times: rows.event_times().map(|times| &times[..]),
            row_kinds: rows.row_kinds().map(|kinds| &kinds[..]),
            key_index: keyed.index,
            keys: keyed.keys,
            key_columns: keyed.key_columns,
            states: keyed.states,
            sources: &[],
            watermark: self.watermark,
            processing_time: self.shared.clock.processing_time_ms(),
            seed: 0,
        })
    }

    /// Takes the results of accumulators.
    pub(crate) fn results(&mut self, keyed: &KeyedInput<'_>) -> Result<Effects, JobError> {
        self.run(Bundle {
            function: 0,
            operation: Operation::Result,
            rows: 0,
            arguments: &[],
            event_times: None,
            row_kinds: None,
            key_index: None,
            keys: keyed.keys,
            key_columns: keyed.key_columns,
            states: keyed.states,
            sources: &[],
            watermark: self.watermark,
            processing_time: self.shared.clock.processing_time_ms(),
            seed: 0,
        })
    }

    fn run(&mut self, bundle: Bundle<'_>) -> Result<Effects, JobError> {
        self.bundles += 1;
        let bundle = Bundle { seed: xxh3_64_with_seed(&self.bundles.to_le_bytes(), self.seed), ..bundle };
        self.metrics.bundles.add(1);
        self.instance.run(&bundle).map_err(|fault| JobError::Fault {
            node: self.place.node.clone(),
            fault: Box::new(fault),
            position: None,
        })
    }

    /// A fresh instance in the place of one that a fault has cost. What the engine keeps for the UDF stays.
    pub(crate) fn reopen(&mut self) -> Result<(), JobError> {
        if !self.instance.is_poisoned() {
            return Ok(());
        }
        let old = self.instance.host_mut();
        let host = OperatorHost {
            place: old.place.clone(),
            udf: old.udf.clone(),
            shared: Arc::clone(&old.shared),
            states: std::mem::take(&mut old.states),
            slots: std::mem::take(&mut old.slots),
        };
        self.instance = self
            .call
            .instantiate(&self.place, host)
            .map_err(|error| JobError::Host { node: self.place.node.clone(), error: Box::new(error) })?;
        Ok(())
    }

    /// A row, or a group of rows, on which the guest fails as a whole meets the UDF's policy.
    pub(crate) fn bad_row(
        &mut self,
        fault: &Fault,
        position: Option<u64>,
        record: impl FnOnce() -> Result<String, ArrowError>,
    ) -> Result<(), JobError> {
        if self.call.udf.on_error == OnError::Fail {
            self.metrics.row_errors.add(1);
            let position = position.and_then(|position| self.shared.place_of(position));
            let position = position.map(|place| place.to_string());
            return Err(JobError::Fault { node: self.place.node.clone(), fault: Box::new(fault.clone()), position });
        }
        let at = if fault.location.is_empty() { String::new() } else { format!(" (at {})", fault.location) };
        let error = RowError {
            row: 0,
            kind: fault.kind.as_str().to_owned(),
            message: format!("{}{at}", fault.message),
            traceback: fault.backtrace.clone(),
        };
        self.row_error(&error, position, record)
    }

    /// Deals with rows that raised as the UDF's policy says. `rows` are those of the call.
    pub(crate) fn row_errors(&mut self, rows: &Batch, errors: &[RowError]) -> Result<(), JobError> {
        for error in errors {
            let position = rows.positions().get(error.row as usize);
            self.row_error(error, position, || record_of(rows.rows(), error.row as usize))?;
        }
        Ok(())
    }

    /// As [`row_errors`](Self::row_errors), for errors that belong to something else than a row.
    pub(crate) fn row_error(
        &mut self,
        error: &RowError,
        position: Option<u64>,
        record: impl FnOnce() -> Result<String, ArrowError>,
    ) -> Result<(), JobError> {
        self.metrics.row_errors.add(1);
        let place = position.and_then(|position| self.shared.place_of(position));
        match self.call.udf.on_error {
            OnError::Skip => Ok(()),
            OnError::Fail => Err(JobError::Row(Box::new(RowFailure {
                node: self.place.node.clone(),
                udf: self.call.udf.name.clone(),
                function: self.call.binding.function.clone(),
                kind: error.kind.clone(),
                message: error.message.clone(),
                traceback: error.traceback.clone(),
                position: place.map(|place| place.to_string()),
            }))),
            OnError::DeadLetter => self.shared.dead_letter(DeadLetter {
                node: self.place.node.clone(),
                function: Some(self.call.title()),
                source: place.as_ref().map(|place| place.source.to_owned()),
                split: place.as_ref().map(|place| place.split.to_owned()),
                row: place.as_ref().and_then(|place| i64::try_from(place.row).ok()),
                kind: error.kind.clone(),
                message: error.message.clone(),
                traceback: error.traceback.clone(),
                record: record().map_err(|error| JobError::Arrow { node: self.place.node.clone(), error })?,
            }),
        }
    }
}

/// The argument's values for each of `rows`.
fn evaluate(argument: &BoundArgument, rows: &Batch) -> Result<ArrayRef, ArrowError> {
    match argument {
        BoundArgument::Column { index, cast: None } => Ok(Arc::clone(rows.column(*index))),
        BoundArgument::Column { index, cast: Some(wanted) } => {
            // Binding allows only casts that lose nothing; a value that does not fit is an error, not a null.
            let options = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(rows.column(*index), wanted, &options)
        }
        BoundArgument::Literal(value) => take(value, &UInt32Array::from(vec![0; rows.num_rows()]), None),
        BoundArgument::Row { fields } => {
            let columns = fields.iter().map(|(_, field)| evaluate(field, rows)).collect::<Result<Vec<_>, _>>()?;
            let fields: Fields = fields.iter().map(|(field, _)| field.clone()).collect();
            Ok(Arc::new(StructArray::try_new_with_length(fields, columns, None, rows.num_rows())?))
        }
    }
}

/// Everything that several answers of one bundle put out, as one column.
pub(crate) fn whole_column(outputs: &[Output], data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match outputs {
        [] => Ok(arrow::array::new_empty_array(data_type)),
        [one] => Ok(Arc::clone(&one.column)),
        many => concat(&many.iter().map(|output| output.column.as_ref()).collect::<Vec<&dyn Array>>()),
    }
}

/// True for each of `rows` that did not raise; `None` if none did.
pub(crate) fn kept(rows: usize, errors: &[RowError]) -> Option<BooleanArray> {
    if errors.is_empty() {
        return None;
    }
    let mut keep = vec![true; rows];
    for error in errors {
        keep[error.row as usize] = false;
    }
    Some(BooleanArray::new(BooleanBuffer::from(keep), None))
}
