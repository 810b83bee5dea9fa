//! What `load-functions` fixed about one binding: its slots, and with them how a bundle is written.

use arrow::array::{ArrayRef, new_empty_array};
use arrow::datatypes::{Field, ToByteSlice};

use crate::bundle::{Bundle, Operation};
use crate::column::{ColumnPlan, Mismatch};
use crate::data_type::DataTypeError;
use crate::declare::{Access, Binding, Kind, Loaded};
use crate::frame::{FrameReader, FrameWriter, Lie, MAGIC_BUNDLE, ROWS_MAX};
use crate::recorded::Columns;
use crate::value::ValuePlan;

/// Event time, row kind, key index.
const ROW_SLOTS: usize = 3;
/// Fired timers in a bundle, timers set in effects.
pub(crate) const TIMER_SLOTS: usize = 3;
/// Row; offsets and data of kind, message and traceback.
pub(crate) const ERROR_SLOTS: usize = 7;
/// Metric deltas, requests.
pub(crate) const RESERVED_SLOTS: usize = 2;

/// One binding, resolved to slots. Names are kept for messages.
#[derive(Debug)]
pub(crate) struct BindingPlan {
    pub(crate) function: String,
    pub(crate) kind: Kind,
    arguments: Vec<(String, ColumnPlan)>,
    key: Vec<(String, ColumnPlan)>,
    pub(crate) result: ColumnPlan,
    /// States with access `column`.
    pub(crate) states: Vec<StatePlan>,
    /// By index into `Loaded::states`; `None` = access `column`.
    pub(crate) call_states: Vec<Option<ValuePlan>>,
    argument_slots: usize,
    state_slots: usize,
    bundle_slots: usize,
    pub(crate) effects_slots: usize,
}

#[derive(Debug)]
pub(crate) struct StatePlan {
    pub(crate) name: String,
    /// Nullable: null = no value.
    pub(crate) column: ColumnPlan,
    /// What an unwritten state answers.
    pub(crate) empty: ArrayRef,
}

/// Which column of the setup has a type that cannot cross.
pub(crate) struct BadColumn {
    pub(crate) column: String,
    pub(crate) source: DataTypeError,
}

/// Why a bundle cannot be sent: the caller's mistake, or a bundle too large.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadBundle {
    #[error("{part} {name:?} {mismatch}")]
    Column { part: &'static str, name: String, mismatch: Mismatch },
    #[error("{got} {part}, the binding has {want}")]
    Count { part: &'static str, got: usize, want: usize },
    #[error("{got} {part}, the bundle has {want} rows")]
    Rows { part: &'static str, got: usize, want: usize },
    #[error("row {row} has {part} {got}, limit {limit}")]
    Range { part: &'static str, row: usize, got: u32, limit: usize },
    #[error("operation {operation:?} is not for kind {kind}")]
    Operation { operation: Operation, kind: Kind },
    #[error("{rows} rows, limit {ROWS_MAX}: lower bundle.size")]
    TooManyRows { rows: usize },
    #[error("a frame of {bytes} bytes, limit 2147483647: lower bundle.size")]
    TooLarge { bytes: usize },
}

impl BindingPlan {
    pub(crate) fn new(binding: &Binding, kind: Kind, loaded: &Loaded) -> Result<Self, BadColumn> {
        let bad = |column: &str| {
            let column = column.to_string();
            move |source| BadColumn { column, source }
        };
        let columns = |fields: &[Field]| {
            let plan = |field: &Field| {
                let plan = ColumnPlan::new(field.data_type(), field.is_nullable()).map_err(bad(field.name()))?;
                Ok((field.name().clone(), plan))
            };
            fields.iter().map(plan).collect::<Result<Vec<_>, _>>()
        };
        let arguments = columns(&binding.arguments)?;
        let key = columns(&binding.key)?;
        let result = ColumnPlan::of(&loaded.result).map_err(bad("result"))?;
        let (mut states, mut call_states) = (Vec::new(), Vec::new());
        for state in &loaded.states {
            let column = ColumnPlan::new(&state.data_type, true).map_err(bad(&state.name))?;
            if state.access == Access::Call {
                call_states.push(Some(ValuePlan::new(&column.data_type)));
                continue;
            }
            call_states.push(None);
            let empty = new_empty_array(&column.data_type);
            states.push(StatePlan { name: state.name.clone(), column, empty });
        }
        let slots = |columns: &[(String, ColumnPlan)]| columns.iter().map(|(_, column)| column.slots).sum::<usize>();
        let (argument_slots, key_slots) = (slots(&arguments), slots(&key));
        let state_slots: usize = states.iter().map(|state| state.column.slots).sum();
        let source_slots = if kind == Kind::Aggregate { state_slots } else { 0 };
        Ok(Self {
            function: binding.function.clone(),
            kind,
            argument_slots,
            state_slots,
            bundle_slots: argument_slots + ROW_SLOTS + key_slots + TIMER_SLOTS + state_slots + source_slots,
            effects_slots: result.slots + 2 + state_slots + states.len() + TIMER_SLOTS + ERROR_SLOTS + RESERVED_SLOTS,
            arguments,
            key,
            result,
            states,
            call_states,
        })
    }

    /// Writes the frame of a bundle. An error leaves the writer without a frame.
    pub(crate) fn write(&self, bundle: &Bundle<'_>, frame: &mut FrameWriter) -> Result<(), BadBundle> {
        self.check(bundle)?;
        frame.begin(MAGIC_BUNDLE, self.bundle_slots);
        frame.set_u32(8, bundle.function);
        frame.set_u32(12, bundle.operation as u32);
        frame.set_u32(16, bundle.rows as u32);
        frame.set_u32(20, bundle.keys as u32);
        frame.set_u64(24, bundle.watermark as u64);
        frame.set_u64(32, bundle.processing_time as u64);
        frame.set_u64(40, bundle.seed);
        if matches!(bundle.operation, Operation::Merge | Operation::Result) {
            frame.absent(self.argument_slots);
        } else {
            let rows = bundle.first_row..bundle.first_row + bundle.rows;
            for ((name, plan), array) in self.arguments.iter().zip(bundle.arguments) {
                plan.write_part(array, rows.clone(), frame)
                    .map_err(|mismatch| bad_column("argument", name, mismatch))?;
            }
        }
        match bundle.event_times {
            Some(times) => frame.slot(times.to_byte_slice()),
            None => frame.absent(1),
        }
        match bundle.row_kinds {
            Some(kinds) => frame.slot(kinds),
            None => frame.absent(1),
        }
        match bundle.key_index {
            Some(index) => frame.slot(index.to_byte_slice()),
            None => frame.absent(1),
        }
        write_columns("key column", named(&self.key), bundle.key_columns, bundle.keys, frame)?;
        frame.absent(TIMER_SLOTS);
        let states = || self.states.iter().map(|state| (state.name.as_str(), &state.column));
        write_columns("state", states(), bundle.states, bundle.keys, frame)?;
        if bundle.operation == Operation::Merge {
            write_columns("source state", states(), bundle.sources, bundle.rows, frame)?;
        } else if self.kind == Kind::Aggregate {
            frame.absent(self.state_slots);
        }
        frame.finish().map(|_| ()).map_err(|bytes| BadBundle::TooLarge { bytes })
    }

    /// Reads the frame of a bundle that was written by the same plan.
    pub(crate) fn read(
        &self,
        frame: &mut FrameReader,
        operation: Operation,
        rows: usize,
        keys: usize,
    ) -> Result<Columns, Lie> {
        let mut columns = Columns::default();
        if matches!(operation, Operation::Merge | Operation::Result) {
            frame.absent(self.argument_slots, "arguments")?;
        } else {
            columns.arguments = read_columns("argument", named(&self.arguments), rows, frame)?;
        }
        columns.event_times = frame.numbers::<i64>(rows, "event times")?.map(|times| times.to_vec());
        columns.row_kinds = frame.numbers::<u8>(rows, "row kinds")?.map(|kinds| kinds.to_vec());
        columns.key_index = frame.numbers::<u32>(rows, "key index")?.map(|index| index.to_vec());
        columns.key_columns = read_columns("key column", named(&self.key), keys, frame)?;
        frame.absent(TIMER_SLOTS, "timers")?;
        let states = || self.states.iter().map(|state| (state.name.as_str(), &state.column));
        columns.states = read_columns("state", states(), keys, frame)?;
        if operation == Operation::Merge {
            columns.sources = read_columns("source state", states(), rows, frame)?;
        } else if self.kind == Kind::Aggregate {
            frame.absent(self.state_slots, "source states")?;
        }
        Ok(columns)
    }

    pub(crate) fn slots(&self) -> usize {
        self.bundle_slots
    }

    fn check(&self, bundle: &Bundle<'_>) -> Result<(), BadBundle> {
        let (rows, keys) = (bundle.rows, bundle.keys);
        if (self.kind == Kind::Aggregate) == (bundle.operation == Operation::Process) {
            return Err(BadBundle::Operation { operation: bundle.operation, kind: self.kind });
        }
        if rows.max(keys) > ROWS_MAX {
            return Err(BadBundle::TooManyRows { rows: rows.max(keys) });
        }
        if bundle.first_row.checked_add(rows).is_none() {
            return Err(BadBundle::TooManyRows { rows: bundle.first_row });
        }
        let of_rows = match bundle.operation {
            Operation::Merge => ("source states", bundle.sources.len(), self.states.len()),
            Operation::Result => ("arguments", 0, 0),
            _ => ("arguments", bundle.arguments.len(), self.arguments.len()),
        };
        let key = ("key columns", bundle.key_columns.len(), self.key.len());
        let states = ("states", bundle.states.len(), self.states.len());
        for (part, got, want) in [of_rows, key, states] {
            if got != want {
                return Err(BadBundle::Count { part, got, want });
            }
        }
        let wants = [
            ("event times", bundle.event_times.map(<[i64]>::len)),
            ("row kinds", bundle.row_kinds.map(<[u8]>::len)),
            ("key indices", bundle.key_index.map(<[u32]>::len)),
        ];
        for (part, got) in wants {
            if let Some(got) = got.filter(|got| *got != rows) {
                return Err(BadBundle::Rows { part, got, want: rows });
            }
        }
        if bundle.operation == Operation::Result && rows != 0 {
            return Err(BadBundle::Rows { part: "output rows asked for", got: rows, want: 0 });
        }
        if let Some(row) = bundle.key_index.and_then(|index| first_not_below(index, keys)) {
            let got = bundle.key_index.map_or(0, |index| index[row]);
            return Err(BadBundle::Range { part: "key index", row, got, limit: keys });
        }
        Ok(())
    }
}

/// Where the first number that is not below `limit` stands. The usual answer, none, costs one vectorised pass.
pub(crate) fn first_not_below(numbers: &[u32], limit: usize) -> Option<usize> {
    let largest = numbers.iter().fold(0, |largest, number| largest.max(*number));
    if numbers.is_empty() || (largest as usize) < limit {
        return None;
    }
    numbers.iter().position(|number| *number as usize >= limit)
}

fn named(columns: &[(String, ColumnPlan)]) -> impl Iterator<Item = (&str, &ColumnPlan)> {
    columns.iter().map(|(name, column)| (name.as_str(), column))
}

#[cold]
fn bad_column(part: &'static str, name: &str, mismatch: Mismatch) -> BadBundle {
    BadBundle::Column { part, name: name.to_string(), mismatch }
}

fn read_columns<'a>(
    part: &'static str,
    plans: impl Iterator<Item = (&'a str, &'a ColumnPlan)>,
    rows: usize,
    frame: &mut FrameReader,
) -> Result<Vec<ArrayRef>, Lie> {
    plans.map(|(name, plan)| plan.read(frame, rows).map_err(|lie| lie.of(format_args!("{part} {name:?}")))).collect()
}

fn write_columns<'a>(
    part: &'static str,
    plans: impl Iterator<Item = (&'a str, &'a ColumnPlan)>,
    arrays: &[ArrayRef],
    rows: usize,
    frame: &mut FrameWriter,
) -> Result<(), BadBundle> {
    for ((name, plan), array) in plans.zip(arrays) {
        plan.write(array, rows, frame).map_err(|mismatch| bad_column(part, name, mismatch))?;
    }
    Ok(())
}
