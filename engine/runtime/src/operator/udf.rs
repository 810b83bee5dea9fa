//! Calls a UDF for an operator: arguments from columns, faults to job errors, row errors to the UDF's policy.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, StructArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::Fields;
use arrow::error::ArrowError;
use serde::{Deserialize, Serialize};
use wasmill_host::{Bundle, Effects, Fault, FaultKind, LogLevel, Operation, RowError, UdfHost, UdfInstance};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::batch::{Batch, WATERMARK_MIN};
use crate::dead_letter::{DeadLetter, record_of};
use crate::error::{JobError, RowFailure};
use crate::graph::{BoundArgument, BoundCall, Place};
use crate::job::LogRecord;
use crate::metrics::NodeMetrics;
use crate::replay::{FailedCall, Failure, FailureOf};
use crate::shared::Shared;
use crate::simulate::Sabotage;
use crate::spec::OnError;
use crate::state::KeyedState;

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
    state: KeyedState,
    /// Key index of the running bundle → slot.
    slots: Vec<u32>,
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

    fn state_get(&mut self, state: u32, key: u32, value: &mut Vec<u8>) -> Result<bool, String> {
        let slot = self.slots.get(key as usize).ok_or_else(|| format!("key {key} is not in this bundle"))?;
        let found = self.state.called(state as usize, *slot)?;
        value.extend_from_slice(found.unwrap_or_default());
        Ok(found.is_some())
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
    /// The last call, if it failed and may have to be recorded.
    failed: Option<FailedCall>,
    /// Skipped rows that were told of.
    skipped: u32,
}

/// A [`UdfCaller`] in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CallerState {
    /// Calls so far: they decide the seed of the next.
    pub bundles: u64,
    pub watermark: i64,
}

/// So many rows that a subtask skips are told of, each by its error.
const SKIPPED_TOLD_MAX: u32 = 3;

/// What a call gets beside the rows.
#[derive(Default)]
pub(crate) struct KeyedInput<'a> {
    pub index: Option<&'a [u32]>,
    pub keys: usize,
    pub key_columns: &'a [ArrayRef],
    pub states: &'a [ArrayRef],
}

impl UdfCaller {
    /// `state`: of the keys that the function sees.
    pub(crate) fn open(call: &BoundCall, context: &Context, state: KeyedState) -> Result<UdfCaller, JobError> {
        let host = OperatorHost {
            place: context.place.clone(),
            udf: call.udf.name.clone(),
            shared: Arc::clone(&context.shared),
            state,
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
            watermark: WATERMARK_MIN,
            failed: None,
            skipped: 0,
        })
    }

    pub(crate) fn call(&self) -> &BoundCall {
        &self.call
    }

    pub(crate) fn sabotage(&self) -> Option<Sabotage> {
        self.shared.sabotage
    }

    pub(crate) fn keyed(&self) -> &KeyedState {
        &self.instance.host().state
    }

    pub(crate) fn keyed_mut(&mut self) -> &mut KeyedState {
        &mut self.instance.host_mut().state
    }

    /// By which slots the guest finds the keys of the next bundle.
    pub(crate) fn set_slots(&mut self, slots: &[u32]) {
        let held = &mut self.instance.host_mut().slots;
        held.clear();
        held.extend_from_slice(slots);
    }

    /// What an operator says of this function in a checkpoint.
    pub(crate) fn state(&self) -> CallerState {
        CallerState { bundles: self.bundles, watermark: self.watermark }
    }

    /// Goes on after callers that said this; those of several subtasks agree on the earliest time.
    pub(crate) fn restore(&mut self, states: impl Iterator<Item = CallerState> + Clone) {
        self.bundles = states.clone().map(|state| state.bundles).max().unwrap_or(0);
        self.watermark = states.map(|state| state.watermark).min().unwrap_or(WATERMARK_MIN);
    }

    pub(crate) fn set_watermark(&mut self, watermark: i64) {
        self.watermark = watermark;
    }

    /// The function's arguments for each of `rows`.
    pub(crate) fn arguments(&self, rows: &Batch) -> Result<Vec<ArrayRef>, JobError> {
        let arguments = self.call.arguments.iter().map(|argument| evaluate(argument, rows));
        arguments
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| JobError::Arrow { node: self.place.node.clone(), error })
    }

    /// Runs the function over `part` of `rows`, whose arguments these are.
    pub(crate) fn rows(
        &mut self,
        operation: Operation,
        rows: &Batch,
        arguments: &[ArrayRef],
        part: Range<usize>,
        keyed: &KeyedInput<'_>,
    ) -> Result<Effects, JobError> {
        let position = rows.positions().get(part.start);
        let bundle = Bundle {
            function: 0,
            operation,
            rows: part.len(),
            arguments,
            first_row: part.start,
            event_times: rows.event_times().map(|times| &times[part.clone()]),
            row_kinds: rows.row_kinds().map(|kinds| &kinds[part.clone()]),
            key_index: keyed.index,
            keys: keyed.keys,
            key_columns: keyed.key_columns,
            states: keyed.states,
            sources: &[],
            watermark: self.watermark,
            processing_time: self.shared.clock.processing_time_ms(),
            seed: 0,
        };
        self.run(bundle, position)
    }

    /// Takes the results of accumulators.
    pub(crate) fn results(&mut self, keyed: &KeyedInput<'_>) -> Result<Effects, JobError> {
        let bundle = Bundle {
            function: 0,
            operation: Operation::Result,
            rows: 0,
            arguments: &[],
            first_row: 0,
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
        };
        self.run(bundle, None)
    }

    /// `position` is that of the bundle's first row.
    fn run(&mut self, bundle: Bundle<'_>, position: Option<u64>) -> Result<Effects, JobError> {
        self.bundles += 1;
        let bundle = Bundle { seed: xxh3_64_with_seed(&self.bundles.to_le_bytes(), self.seed), ..bundle };
        self.metrics.bundles.add(1);
        let answer = self.instance.run(&bundle);
        // Before its effects change any state: what it was given is what was there before.
        self.failed = match &answer {
            Ok(effects) if effects.errors.is_empty() || self.call.udf.on_error != OnError::Fail => None,
            _ => self.failed_call(bundle.keys, position),
        };
        answer.map_err(|fault| JobError::Fault {
            node: self.place.node.clone(),
            fault: Box::new(fault),
            position: None,
        })
    }

    /// What the last call was given; `None` where nothing is recorded.
    fn failed_call(&self, keys: usize, position: Option<u64>) -> Option<FailedCall> {
        self.shared.failures.as_ref()?;
        let host = self.instance.host();
        // Without states by call there are none in these, and no slots.
        let values = host.state.all_called(host.slots.get(..keys).unwrap_or_default());
        Some(FailedCall::new(self.bundles, position, self.instance.failed_frame(), values))
    }

    /// Records the last call, if it failed, and tells so with the error that ends the job.
    fn recorded(&self, error: JobError, failure: Failure) -> JobError {
        let (Some(failures), Some(failed)) = (&self.shared.failures, &self.failed) else { return error };
        let first_row = failed.position.and_then(|position| self.shared.place_of(position));
        let first_row = first_row.map(|place| place.to_string());
        match failures.record(&self.call, &self.place, failed, first_row, failure) {
            Ok(dir) => JobError::Recorded { error: Box::new(error), dir },
            Err(problem) => {
                self.warn(&format!("the call that failed is not recorded for a replay: {problem}"));
                error
            }
        }
    }

    /// The job ends with `error`, since too many calls ended like this one.
    pub(crate) fn given_up(&self, fault: &Fault, error: JobError) -> JobError {
        self.recorded(error, failure_of(fault, Some(0), None))
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.instance.is_poisoned()
    }

    /// `rows` rows, the first of them at `position`, have cost the instance: a fresh one takes its place. What the engine keeps for
    /// the UDF stays.
    pub(crate) fn lost(&mut self, position: Option<u64>, rows: usize, fault: &Fault) -> Result<(), JobError> {
        if self.shared.stopping() {
            return Err(JobError::Stopped);
        }
        let place = position.and_then(|position| self.shared.place_of(position)).map(|place| place.to_string());
        // The row would be found at the price of ten deadlines, only to be named: too long to wait for the end of a job.
        if fault.kind == FaultKind::Deadline && self.call.udf.on_error == OnError::Fail {
            let alone = rows == 1;
            let failure = failure_of(fault, alone.then_some(0), place.clone().filter(|_| alone));
            let fault = Box::new(fault.clone());
            let error = JobError::Fault { node: self.place.node.clone(), fault, position: place };
            return Err(self.recorded(error, failure));
        }
        if rows > 1 {
            let at = place.map_or(String::new(), |place| format!(", from {place} on,"));
            self.warn(&format!("{fault}; its {rows} rows{at} are tried in parts to find the bad one"));
        }
        self.reopen()
    }

    fn warn(&self, message: &str) {
        self.shared.log(&LogRecord {
            job: &self.place.job,
            node: &self.place.node,
            subtask: self.place.subtask,
            udf: &self.call.udf.name,
            level: LogLevel::Warn,
            message,
        });
    }

    fn reopen(&mut self) -> Result<(), JobError> {
        let old = self.instance.host_mut();
        let host = OperatorHost {
            place: old.place.clone(),
            udf: old.udf.clone(),
            shared: Arc::clone(&old.shared),
            state: std::mem::replace(&mut old.state, KeyedState::none()),
            slots: std::mem::take(&mut old.slots),
        };
        self.instance = self
            .call
            .instantiate(&self.place, host)
            .map_err(|error| JobError::Host { node: self.place.node.clone(), error: Box::new(error) })?;
        Ok(())
    }

    /// The row of `rows` on which the guest fails as a whole meets the UDF's policy.
    pub(crate) fn bad_row(&mut self, rows: &Batch, row: usize, fault: &Fault) -> Result<(), JobError> {
        self.bad(fault, rows.positions().get(row), || record_of(rows.rows(), row))
    }

    /// As [`bad_row`](Self::bad_row), for what is no row.
    pub(crate) fn bad(
        &mut self,
        fault: &Fault,
        position: Option<u64>,
        record: impl FnOnce() -> Result<String, ArrowError>,
    ) -> Result<(), JobError> {
        if self.call.udf.on_error == OnError::Fail {
            self.metrics.row_errors.add(1);
            let position = position.and_then(|position| self.shared.place_of(position));
            let position = position.map(|place| place.to_string());
            let failure = failure_of(fault, Some(0), position.clone());
            let fault = Box::new(fault.clone());
            let error = JobError::Fault { node: self.place.node.clone(), fault, position };
            return Err(self.recorded(error, failure));
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

    /// Deals with rows that raised as the UDF's policy says. They are those of a call that began with row `first` of `rows`.
    pub(crate) fn row_errors(&mut self, rows: &Batch, first: usize, errors: &[RowError]) -> Result<(), JobError> {
        for error in errors {
            let row = first + error.row as usize;
            self.row_error(error, rows.positions().get(row), || record_of(rows.rows(), row))?;
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
            OnError::Skip => {
                if self.skipped < SKIPPED_TOLD_MAX {
                    self.skipped += 1;
                    let at = place.map_or(String::new(), |place| format!(" ({place})"));
                    let last = if self.skipped == SKIPPED_TOLD_MAX { "; more are only counted" } else { "" };
                    let (function, RowError { kind, message, .. }) = (&self.call.binding.function, error);
                    self.warn(&format!("{function} raised {kind}: {message}{at}: row skipped{last}"));
                }
                Ok(())
            }
            OnError::Fail => {
                let position = place.map(|place| place.to_string());
                let failure = Failure {
                    of: FailureOf::Row,
                    kind: error.kind.clone(),
                    message: error.message.clone(),
                    location: String::new(),
                    traceback: error.traceback.clone(),
                    row: Some(error.row),
                    position: position.clone(),
                };
                let error = JobError::Row(Box::new(RowFailure {
                    node: self.place.node.clone(),
                    udf: self.call.udf.name.clone(),
                    function: self.call.binding.function.clone(),
                    kind: error.kind.clone(),
                    message: error.message.clone(),
                    traceback: error.traceback.clone(),
                    position,
                }));
                Err(self.recorded(error, failure))
            }
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

/// A fault for a record; `row` is the one row of the call, if it had but one.
fn failure_of(fault: &Fault, row: Option<u32>, position: Option<String>) -> Failure {
    Failure {
        of: FailureOf::Call,
        kind: fault.kind.as_str().to_owned(),
        message: fault.message.clone(),
        location: fault.location.clone(),
        traceback: fault.backtrace.clone(),
        row,
        position,
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
