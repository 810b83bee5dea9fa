//! What the guest answers, checked against the bundle that it answers to.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;

use crate::bundle::{Bundle, Effects, Operation, Output, RowError, StateWrites};
use crate::column::check_utf8;
use crate::declare::Kind;
use crate::frame::{FrameReader, HEADER_BYTES, Lie, MAGIC_EFFECTS, ROWS_MAX, lie};
use crate::guard::cut_text;
use crate::plan::{BindingPlan, ERROR_SLOTS, RESERVED_SLOTS, TIMER_SLOTS, first_not_below};

/// Whether there is more to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Done,
    More,
}

/// Adds up the effects of one bundle, frame by frame.
pub(crate) struct EffectsReader<'a> {
    plan: &'a BindingPlan,
    operation: Operation,
    /// Rows that outputs and errors may refer to: those of the bundle, or its keys for `Result`.
    inputs: usize,
    keys: usize,
    effects: Effects,
    /// Output rows so far.
    rows: usize,
    /// Source row of the last output row so far.
    last_source: Option<u32>,
}

impl<'a> EffectsReader<'a> {
    pub(crate) fn new(plan: &'a BindingPlan, bundle: &Bundle<'_>) -> Self {
        let inputs = if bundle.operation == Operation::Result { bundle.keys } else { bundle.rows };
        Self {
            plan,
            operation: bundle.operation,
            inputs,
            keys: bundle.keys,
            effects: Effects::default(),
            rows: 0,
            last_source: None,
        }
    }

    /// Reads one frame.
    pub(crate) fn read(&mut self, bytes: Vec<u8>) -> Result<Status, Lie> {
        let mut frame = FrameReader::new(bytes, MAGIC_EFFECTS, self.plan.effects_slots)?;
        frame.expect_rows(self.inputs.max(self.keys));
        let status = match frame.u32(8) {
            0 => Status::Done,
            1 => Status::More,
            2 => lie!("status 2 (waiting) is not in contract 0.1"),
            other => lie!("status {other}"),
        };
        let rows = frame.u32(12) as usize;
        frame.check_zero(16, HEADER_BYTES, "the header")?;
        if rows > ROWS_MAX {
            lie!("{rows} output rows in a frame, limit {ROWS_MAX}");
        }
        self.read_output(&mut frame, rows).map_err(|lie| lie.of("output"))?;
        self.read_states(&mut frame, status)?;
        frame.absent(TIMER_SLOTS, "timers (not in contract 0.1)")?;
        self.read_errors(&mut frame).map_err(|lie| lie.of("row errors"))?;
        frame.absent(RESERVED_SLOTS, "metric deltas and requests (not in contract 0.1)")?;
        frame.finish()?;
        Ok(status)
    }

    fn one_to_one(&self) -> bool {
        match self.operation {
            Operation::Process => self.plan.kind.is_one_to_one(),
            _ => self.operation == Operation::Result,
        }
    }

    fn read_output(&mut self, frame: &mut FrameReader, rows: usize) -> Result<(), Lie> {
        let folds = matches!(self.operation, Operation::Accumulate | Operation::Retract | Operation::Merge);
        if folds && rows > 0 {
            lie!("{rows} rows, but {:?} has none", self.operation);
        }
        let column = self.plan.result.read(frame, rows)?;
        let sources = frame.numbers::<u32>(rows, "source rows")?;
        let row_kinds = frame.numbers::<u8>(rows, "row kinds")?;
        if let Some(row) = row_kinds.as_ref().and_then(|kinds| kinds.iter().position(|kind| *kind > 3)) {
            lie!("row {row} has an unknown row kind");
        }
        if rows == 0 {
            return Ok(());
        }
        match &sources {
            Some(sources) => self.check_sources(sources)?,
            None if self.rows == 0 && rows == self.inputs => {
                self.last_source = Some(rows as u32 - 1);
            }
            None => {
                lie!("{rows} rows without source rows, for {} input rows and {} rows before", self.inputs, self.rows)
            }
        }
        self.rows += rows;
        self.effects.outputs.push(Output {
            column,
            source_rows: sources.map(|sources| sources.to_vec()),
            row_kinds: row_kinds.map(|kinds| kinds.to_vec()),
        });
        Ok(())
    }

    fn check_sources(&mut self, sources: &[u32]) -> Result<(), Lie> {
        if let Some(row) = first_not_below(sources, self.inputs) {
            lie!("row {row} comes from input row {}, but there are {}", sources[row], self.inputs);
        }
        if self.one_to_one() {
            let first = self.rows as u32;
            if let Some(row) = sources.iter().enumerate().position(|(i, source)| *source != first + i as u32) {
                lie!(
                    "row {row} comes from input row {}, expected {}: kind {} answers each row once",
                    sources[row],
                    first as usize + row,
                    self.plan.kind
                );
            }
        }
        let before = self.last_source.unwrap_or(0);
        let descending = sources.windows(2).fold(sources[0] < before, |bad, pair| bad | (pair[1] < pair[0]));
        if descending {
            lie!("source rows descend");
        }
        self.last_source = sources.last().copied();
        Ok(())
    }

    fn read_states(&mut self, frame: &mut FrameReader, status: Status) -> Result<(), Lie> {
        if status == Status::More {
            return frame
                .absent(self.plan.effects_slots - self.slots_besides_states(), "states (while the status is more)");
        }
        for state in &self.plan.states {
            let writes = read_state(frame, &state.column, &state.empty, self.keys)
                .map_err(|lie| lie.of(format_args!("state {:?}", state.name)))?;
            self.effects.states.push(writes);
        }
        Ok(())
    }

    fn slots_besides_states(&self) -> usize {
        self.plan.result.slots + 2 + TIMER_SLOTS + ERROR_SLOTS + RESERVED_SLOTS
    }

    fn read_errors(&mut self, frame: &mut FrameReader) -> Result<(), Lie> {
        if frame.skip_if_absent(ERROR_SLOTS) {
            return Ok(());
        }
        let rows = {
            let bytes = frame.any()?;
            if !bytes.len().is_multiple_of(4) {
                lie!("rows have {} bytes, not a multiple of 4", bytes.len());
            }
            let count = bytes.len() / 4;
            arrow::buffer::ScalarBuffer::<u32>::new(bytes, 0, count)
        };
        if rows.is_empty() {
            return frame.absent(6, "kinds, messages and tracebacks (without rows)");
        }
        if let Some(at) = first_not_below(&rows, self.inputs) {
            lie!("error {at} is of input row {}, but there are {}", rows[at], self.inputs);
        }
        let before = self.effects.errors.last().map(|error| error.row);
        let ascending = rows.windows(2).all(|pair| pair[0] < pair[1]) && before.is_none_or(|before| before < rows[0]);
        if !ascending {
            lie!("rows do not ascend");
        }
        let kinds = read_texts(frame, rows.len()).map_err(|lie| lie.of("kinds"))?;
        let messages = read_texts(frame, rows.len()).map_err(|lie| lie.of("messages"))?;
        let tracebacks = read_texts(frame, rows.len()).map_err(|lie| lie.of("tracebacks"))?;
        let texts = kinds.into_iter().zip(messages).zip(tracebacks);
        let errors = rows.iter().zip(texts).map(|(row, ((kind, message), traceback))| RowError {
            row: *row,
            kind,
            message,
            traceback,
        });
        self.effects.errors.extend(errors);
        Ok(())
    }

    /// All effects, once the status was `done`.
    pub(crate) fn finish(mut self) -> Result<Effects, Lie> {
        if self.one_to_one() && self.rows != self.inputs {
            lie!(
                "output: {} rows for {} input rows: kind {} answers each row once",
                self.rows,
                self.inputs,
                self.plan.kind
            );
        }
        if !self.one_to_one() && !self.effects.errors.is_empty() {
            self.drop_rows_of_errors()?;
        }
        Ok(self.effects)
    }

    /// A row that failed after a frame of its output had been sent could not take that back; here it is taken back.
    fn drop_rows_of_errors(&mut self) -> Result<(), Lie> {
        let errors: Vec<u32> = self.effects.errors.iter().map(|error| error.row).collect();
        let failed = |source: u32| errors.binary_search(&source).is_ok();
        for output in &mut self.effects.outputs {
            let source = |row: usize| output.source_rows.as_ref().map_or(row as u32, |sources| sources[row]);
            let keep: Vec<bool> = (0..output.column.len()).map(|row| !failed(source(row))).collect();
            if keep.iter().all(|keep| *keep) {
                continue;
            }
            let sources = (0..keep.len()).filter(|row| keep[*row]).map(source).collect();
            output.row_kinds = output
                .row_kinds
                .take()
                .map(|kinds| (0..keep.len()).filter(|row| keep[*row]).map(|row| kinds[row]).collect());
            output.column =
                filter(&output.column, &BooleanArray::from(keep)).map_err(|error| Lie(format!("output: {error}")))?;
            output.source_rows = Some(sources);
        }
        self.effects.outputs.retain(|output| !output.column.is_empty());
        Ok(())
    }
}

fn read_state(
    frame: &mut FrameReader,
    column: &crate::column::ColumnPlan,
    empty: &ArrayRef,
    keys: usize,
) -> Result<StateWrites, Lie> {
    // The values of some types are there without any slot.
    let values =
        if !column.is_bare() && frame.skip_if_absent(column.slots) { None } else { Some(column.read(frame, keys)?) };
    let written = frame.bits(keys, "the written bitmap")?.filter(BooleanBuffer::has_true);
    Ok(match (values, written) {
        (_, None) => StateWrites { values: empty.clone(), written: BooleanBuffer::new_unset(0) },
        (Some(values), Some(written)) => StateWrites { values, written },
        (None, Some(_)) => lie!("the bitmap says written, but the values are absent"),
    })
}

fn read_texts(frame: &mut FrameReader, count: usize) -> Result<Vec<String>, Lie> {
    let Some(offsets) = frame.numbers::<i32>(count + 1, "offsets")? else {
        lie!("offsets are absent");
    };
    let data = frame.any()?;
    let ends = offsets[0] == 0 && offsets[count] as usize == data.len();
    if !ends || offsets.windows(2).any(|pair| pair[1] < pair[0]) {
        lie!("offsets do not go from 0 to {} without descending", data.len());
    }
    check_utf8(&offsets, &data)?;
    // A megabyte of message in each row of a bundle would fill the log and the dead letters.
    let text = |pair: &[i32]| cut_text(&String::from_utf8_lossy(&data[pair[0] as usize..pair[1] as usize]));
    Ok(offsets.windows(2).map(text).collect())
}

/// Whether a declared result type fits the kind.
pub(crate) fn check_result(kind: Kind, result: &crate::data_type::FieldType) -> Result<(), String> {
    if kind == Kind::Filter && result.data_type != arrow::datatypes::DataType::Boolean {
        return Err(format!("a filter's result is bool, got {result}"));
    }
    Ok(())
}
