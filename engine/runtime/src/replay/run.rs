//! Runs a recorded call again, and makes tables of what went in and what comes out.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, UInt32Array, new_null_array};
use arrow::compute::{concat, interleave, take};
use arrow::datatypes::{DataType, Field, Schema};
use wasmill_host::{
    Access, Bundle, Effects, Fault, Loaded, LogLevel, Operation, SourceFile, StateDeclaration, UdfHost, UdfModule,
    data_type, value_column,
};
use xxhash_rust::xxh3::xxh3_128;

use crate::batch::{columns_of, record_batch};
use crate::checkpoint::restore::grown;
use crate::python_files;
use crate::replay::record::{COMPONENT, FailureOf, Recorded, ReplayError, STATES};
use crate::udf_file::Environment;

/// What the function was called with, but for the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    pub operation: Operation,
    pub rows: usize,
    pub keys: usize,
    /// Milliseconds since 1970-01-01T00:00Z; `i64::MIN`: none yet.
    pub watermark: i64,
    /// Milliseconds since 1970-01-01T00:00Z.
    pub processing_time: i64,
    pub seed: u64,
}

/// How it went this time.
#[derive(Debug)]
pub struct Rerun {
    pub outcome: Result<Effects, Fault>,
    /// What the function came to.
    pub loaded: Loaded,
    pub log: Vec<(LogLevel, String)>,
    /// What is not as it was, a line each.
    pub notes: Vec<String>,
}

impl Rerun {
    /// Did the call or any of its rows fail?
    pub fn failed(&self) -> bool {
        self.outcome.as_ref().map_or(true, |effects| !effects.errors.is_empty())
    }
}

impl Recorded {
    pub fn input(&self) -> Input {
        let Bundle { operation, rows, keys, watermark, processing_time, seed, .. } = self.bundle.bundle();
        Input { operation, rows, keys, watermark, processing_time, seed }
    }

    /// The UDF as it was, and what there is to say about that: from the record, or from where the job had it.
    ///
    /// # Errors
    /// It is in neither place, or does not load.
    pub fn module(&self, environment: &Environment) -> Result<(UdfModule, Vec<String>), ReplayError> {
        let udf = &self.record.udf;
        let now = std::fs::read(&udf.path);
        let is_same = now.as_ref().is_ok_and(|now| format!("{:032x}", xxh3_128(now)) == udf.hash);
        let mut notes = Vec::new();
        if let (Ok(_), false) = (&now, is_same) {
            let path = udf.path.display();
            notes.push(format!("{path} has changed since: this is as it was; --udf {path} runs it as it is now"));
        }
        if !self.source.is_empty() {
            return Ok((self.interpreter(environment)?.with_source(self.source.clone()), notes));
        }
        let component = match (udf.component, now) {
            (true, _) => {
                let path = self.dir.join(COMPONENT);
                std::fs::read(&path).map_err(|source| ReplayError::Io { path, source })?
            }
            (false, Ok(now)) if is_same => now,
            (false, Ok(_)) => return Err(ReplayError::Changed { path: udf.path.clone() }),
            (false, Err(source)) => return Err(ReplayError::Gone { path: udf.path.clone(), source }),
        };
        Ok((environment.engine.load(&udf.name, &component)?, notes))
    }

    /// Another version: a component, or a `.py` file in the place of the recorded program, with the modules that travelled with that.
    ///
    /// # Errors
    /// It cannot be read, or does not load.
    pub fn other_module(&self, environment: &Environment, path: &Path) -> Result<UdfModule, ReplayError> {
        if path.extension().is_some_and(|extension| extension == "py") {
            let program = python_files::collect(path, &[], None);
            let mut files: Vec<SourceFile> = program.map_err(|error| ReplayError::Udf(error.to_string()))?;
            files.extend(self.source.iter().skip(1).cloned());
            return Ok(self.interpreter(environment)?.with_source(files));
        }
        let component = std::fs::read(path).map_err(|source| ReplayError::Io { path: path.to_owned(), source })?;
        Ok(environment.engine.load(&self.record.udf.name, &component)?)
    }

    fn interpreter(&self, environment: &Environment) -> Result<UdfModule, ReplayError> {
        let Some(runner) = &environment.python_runner else {
            let message = "the UDF is in Python and needs the Python runner (python-runner.wasm), and there is none: build it with \
                           `make python-runner`, or name it in WASMILL_PYTHON_RUNNER";
            return Err(ReplayError::Udf(message.into()));
        };
        Ok(environment.engine.load_interpreter("python", runner)?.with_name(&self.record.udf.name))
    }

    /// Runs the call by `module`, in a fresh instance with the recorded limits.
    ///
    /// # Errors
    /// It could not be run: the module does not open, or its types are others. That it ran and failed is [`Rerun::outcome`].
    pub fn run(&self, module: &UdfModule) -> Result<Rerun, ReplayError> {
        let limits = self.limits();
        let function = &self.record.function;
        let declared = module.describe(&limits)?;
        let kind = declared.iter().find(|declared| declared.name == function.name).map(|declared| declared.kind);
        if let Some(got) = kind.filter(|kind| *kind != self.kind) {
            let (function, got, was) = (function.name.clone(), got.to_string(), self.kind.to_string());
            return Err(ReplayError::Kind { function, got, was });
        }
        let mut instance = module.instantiate(self.setup.clone(), limits, self.capabilities(), Host::default())?;
        let loaded = instance.loaded()[0].clone();
        let values = self.states_for(&loaded)?;
        let mut columns = Vec::new();
        for (index, (state, values)) in loaded.states.iter().zip(values).enumerate() {
            match state.access {
                Access::Column => columns.push(values),
                Access::Call => instance.host_mut().keep(index as u32, &self.encoded(state, &values)?),
            }
        }
        let outcome = instance.run(&self.bundle.with_states(&columns));
        let log = std::mem::take(&mut instance.host_mut().log);
        Ok(Rerun { outcome, notes: self.differences(&loaded), loaded, log })
    }

    /// Is it the failure of the record?
    pub fn is_same_failure(&self, rerun: &Rerun) -> bool {
        let failure = &self.record.failure;
        match (&rerun.outcome, failure.of) {
            (Err(fault), FailureOf::Call) => fault.kind.as_str() == failure.kind && fault.message == failure.message,
            (Ok(effects), FailureOf::Row) => effects.errors.iter().any(|error| {
                Some(error.row) == failure.row && error.kind == failure.kind && error.message == failure.message
            }),
            _ => false,
        }
    }

    /// The values of each recorded state, one row per key.
    fn recorded_states(&self) -> Result<Vec<(&StateDeclaration, ArrayRef)>, ReplayError> {
        let bundle = self.bundle.bundle();
        let mut in_frame = bundle.states.iter();
        let each = self.loaded.states.iter().enumerate().map(|(index, state)| {
            let column = if state.access == Access::Call { None } else { in_frame.next() };
            if let Some(column) = column {
                return Ok((state, Arc::clone(column)));
            }
            let mut values = vec![None; bundle.keys];
            for (_, key, value) in self.values.iter().filter(|(of, ..)| *of as usize == index) {
                if let Some(place) = values.get_mut(*key as usize) {
                    *place = Some(value.as_slice());
                }
            }
            let values = value_column::decode(&state.data_type, values).map_err(|error| ReplayError::Damaged {
                path: self.dir.join(STATES),
                problem: format!("state \"{}\": {error}", state.name),
            })?;
            Ok((state, values))
        });
        each.collect()
    }

    /// The recorded values as those of the states of any version: a new state has none yet.
    fn states_for(&self, loaded: &Loaded) -> Result<Vec<ArrayRef>, ReplayError> {
        let recorded = self.recorded_states()?;
        let keys = self.input().keys;
        let values = |state: &StateDeclaration| {
            let Some((was, values)) = recorded.iter().find(|(was, _)| was.name == state.name) else {
                return Ok(new_null_array(&state.data_type, keys));
            };
            grown(values, &state.data_type).ok_or_else(|| ReplayError::StateType {
                state: state.name.clone(),
                got: notation(&state.data_type),
                was: notation(&was.data_type),
            })
        };
        loaded.states.iter().map(values).collect()
    }

    fn encoded(&self, state: &StateDeclaration, values: &ArrayRef) -> Result<arrow::array::BinaryArray, ReplayError> {
        value_column::encode(values).map_err(|error| ReplayError::Damaged {
            path: self.dir.join(STATES),
            problem: format!("state \"{}\": {error}", state.name),
        })
    }

    /// Between what the function was opened as and what it is now.
    fn differences(&self, loaded: &Loaded) -> Vec<String> {
        let mut notes = Vec::new();
        if loaded.result != self.loaded.result {
            notes.push(format!("the result is {} in this version, and was {}", loaded.result, self.loaded.result));
        }
        let has = |states: &[StateDeclaration], name: &str| states.iter().any(|state| state.name == name);
        for state in loaded.states.iter().filter(|state| !has(&self.loaded.states, &state.name)) {
            notes.push(format!("state \"{}\" is new in this version: no key has a value", state.name));
        }
        for state in self.loaded.states.iter().filter(|state| !has(&loaded.states, &state.name)) {
            notes.push(format!("state \"{}\" is not in this version any more", state.name));
        }
        notes
    }

    // ---- tables ----

    /// The bundle's keys, each with its recorded states.
    ///
    /// # Errors
    /// The values of a state are damaged.
    pub fn keys_and_states(&self) -> Result<RecordBatch, ReplayError> {
        let mut table = self.keys();
        for (state, values) in self.recorded_states()? {
            table.push(state.name.clone(), values);
        }
        table.finish(self.input().keys)
    }

    /// The bundle's rows: number, event time, kind and key number where there are some, arguments. None of an aggregate's results.
    ///
    /// # Errors
    /// None, but Arrow's own.
    pub fn rows(&self) -> Result<RecordBatch, ReplayError> {
        let bundle = self.bundle.bundle();
        let mut table = Table::default();
        table.push("row", Arc::new(UInt32Array::from_iter_values(0..bundle.rows as u32)));
        if let Some(times) = bundle.event_times {
            let times = times.iter().map(|time| (*time != i64::MIN).then_some(*time));
            table.push("event time", Arc::new(times.collect::<Int64Array>()));
        }
        if let Some(kinds) = bundle.row_kinds {
            table.push("kind", row_kinds(kinds));
        }
        if let Some(index) = bundle.key_index {
            table.push("key", Arc::new(UInt32Array::from(index.to_vec())));
        }
        for (field, values) in self.setup.bindings[0].arguments.iter().zip(bundle.arguments) {
            table.push(field.name(), Arc::clone(values));
        }
        for (state, values) in self.loaded.states.iter().zip(bundle.sources) {
            table.push(&state.name, Arc::clone(values));
        }
        table.finish(bundle.rows)
    }

    /// What came out: the number of the row (of an aggregate's results: of the key) that each is from, its kind where the function says
    /// one, and its columns.
    ///
    /// # Errors
    /// None, but Arrow's own.
    pub fn rows_out(&self, effects: &Effects, loaded: &Loaded) -> Result<RecordBatch, ReplayError> {
        let (mut sources, mut kinds, mut columns) = (Vec::new(), Vec::new(), Vec::new());
        for output in &effects.outputs {
            match &output.source_rows {
                Some(rows) => sources.extend_from_slice(rows),
                None => sources.extend(0..output.column.len() as u32),
            }
            match &output.row_kinds {
                Some(output) => kinds.extend(output.iter().map(|kind| Some(*kind))),
                None => kinds.extend(std::iter::repeat_n(None, output.column.len())),
            }
            columns.push(output.column.as_ref());
        }
        let column = match columns.is_empty() {
            true => arrow::array::new_empty_array(&loaded.result.data_type),
            false => concat(&columns)?,
        };
        // A row that raised holds its place by any value where they are one to one.
        let raised = |row: &u32| effects.errors.iter().any(|error| error.row == *row);
        let kept: UInt32Array = (0..sources.len() as u32).filter(|at| !raised(&sources[*at as usize])).collect();
        let mut table = Table::default();
        let from = if self.input().operation == Operation::Result { "key" } else { "row" };
        table.push(from, take(&UInt32Array::from(sources), &kept, None)?);
        if kinds.iter().any(Option::is_some) {
            let words: StringArray = kinds.iter().map(|kind| kind.map(row_kind)).collect();
            table.push("kind", take(&words, &kept, None)?);
        }
        let column = take(&column, &kept, None)?;
        let names = match column.as_any().downcast_ref::<StructArray>() {
            Some(rows) => rows.column_names().into_iter().map(str::to_owned).collect(),
            None => vec![self.record.function.name.clone()],
        };
        names.into_iter().zip(columns_of(&column, true)).for_each(|(name, column)| table.push(name, column));
        table.finish(kept.len())
    }

    /// The keys of which a state was written, each with all of its states as they are behind the bundle.
    ///
    /// # Errors
    /// A value that was written by a host call is beyond what a column can hold.
    pub fn states_after(&self, effects: &Effects, loaded: &Loaded) -> Result<RecordBatch, ReplayError> {
        let keys = self.input().keys;
        let mut written = vec![false; keys];
        let mut in_frame = effects.states.iter();
        let mut after = Vec::new();
        for (index, (state, before)) in loaded.states.iter().zip(self.states_for(loaded)?).enumerate() {
            let mut from: Vec<(usize, usize)> = (0..keys).map(|key| (0, key)).collect();
            let values = match state.access {
                Access::Column => {
                    let writes = in_frame.next();
                    let set = writes.into_iter().flat_map(|writes| writes.written.set_indices());
                    set.for_each(|key| from[key] = (1, key));
                    writes.map_or_else(|| new_null_array(before.data_type(), 0), |writes| Arc::clone(&writes.values))
                }
                Access::Call => {
                    let mut values = vec![None; keys];
                    for call in effects.state_calls.iter().filter(|call| call.state as usize == index) {
                        from[call.key as usize].0 = 1;
                        values[call.key as usize] = call.value;
                    }
                    value_column::decode(&state.data_type, values)
                        .map_err(|error| ReplayError::Udf(format!("state \"{}\": {error}", state.name)))?
                }
            };
            from.iter().filter(|(of, _)| *of == 1).for_each(|(_, key)| written[*key] = true);
            after.push((state.name.clone(), interleave(&[before.as_ref(), values.as_ref()], &from)?));
        }
        let shown: UInt32Array = (0..keys as u32).filter(|key| written[*key as usize]).collect();
        let mut table = self.keys();
        after.into_iter().for_each(|(name, values)| table.push(name, values));
        table.take(&shown)
    }

    /// A column of numbers, and those of the key.
    fn keys(&self) -> Table {
        let bundle = self.bundle.bundle();
        let mut table = Table::default();
        table.push("key", Arc::new(UInt32Array::from_iter_values(0..bundle.keys as u32)));
        for (field, values) in self.setup.bindings[0].key.iter().zip(bundle.key_columns) {
            table.push(field.name(), Arc::clone(values));
        }
        table
    }
}

/// Columns on their way to a table. Names may stand twice.
#[derive(Default)]
struct Table {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Table {
    fn push(&mut self, name: impl Into<String>, column: ArrayRef) {
        self.fields.push(Field::new(name, column.data_type().clone(), true));
        self.columns.push(column);
    }

    fn finish(self, rows: usize) -> Result<RecordBatch, ReplayError> {
        Ok(record_batch(Arc::new(Schema::new(self.fields)), self.columns, rows)?)
    }

    fn take(mut self, rows: &UInt32Array) -> Result<RecordBatch, ReplayError> {
        for column in &mut self.columns {
            *column = take(column, rows, None)?;
        }
        self.finish(rows.len())
    }
}

fn row_kind(kind: u8) -> &'static str {
    match kind {
        0 => "+I",
        1 => "-U",
        2 => "+U",
        _ => "-D",
    }
}

fn row_kinds(kinds: &[u8]) -> ArrayRef {
    Arc::new(kinds.iter().map(|kind| Some(row_kind(*kind))).collect::<StringArray>())
}

fn notation(data_type: &DataType) -> String {
    data_type::display(data_type, false).unwrap_or_else(|_| data_type.to_string())
}

/// The recorded values behind host calls, and a place for the log.
#[derive(Default)]
struct Host {
    values: HashMap<(u32, u32), Vec<u8>>,
    log: Vec<(LogLevel, String)>,
}

impl Host {
    fn keep(&mut self, state: u32, values: &arrow::array::BinaryArray) {
        let present = values.iter().enumerate().filter_map(|(key, value)| Some((key as u32, value?)));
        self.values.extend(present.map(|(key, value)| ((state, key), value.to_vec())));
    }
}

impl UdfHost for Host {
    fn log(&mut self, level: LogLevel, message: &str) {
        self.log.push((level, message.to_owned()));
    }

    fn state_get(&mut self, state: u32, key: u32, value: &mut Vec<u8>) -> Result<bool, String> {
        let found = self.values.get(&(state, key));
        value.extend_from_slice(found.map_or(&[], Vec::as_slice));
        Ok(found.is_some())
    }
}
