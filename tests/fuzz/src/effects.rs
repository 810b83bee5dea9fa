//! The answer to a bundle: any kind, operation, result and states; one frame or several.

use arrow::datatypes::DataType;
use wasmill_host::data_type::FieldType;
use wasmill_host::fuzz::Plan;
use wasmill_host::{Access, Binding, Effects, Kind, Loaded, Operation, StateDeclaration};

use super::frame::check_array;
use super::input::{Input, MAGIC_EFFECTS};
use super::plain::{Frame, Value, u32_at, values};

const FRAMES_MAX: usize = 8;
const ROWS_MAX: usize = 1 << 24;
/// A message is cut to 16 KiB, and an ellipsis says so.
const MESSAGE_BYTES_MAX: usize = (16 << 10) + '…'.len_utf8();

pub const KINDS: [Kind; 8] = [
    Kind::Scalar,
    Kind::Vectorized,
    Kind::Table,
    Kind::Filter,
    Kind::Map,
    Kind::Reduce,
    Kind::Aggregate,
    Kind::Process,
];
const FOLDING: [Operation; 4] = [Operation::Accumulate, Operation::Retract, Operation::Merge, Operation::Result];

/// What the answer is to.
struct Question {
    kind: Kind,
    operation: Operation,
    rows: usize,
    keys: usize,
    loaded: Loaded,
}

pub fn check(data: &[u8]) {
    let mut input = Input::new(data);
    let question = Question::new(&mut input);
    let plan = question.plan();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    while frames.len() < FRAMES_MAX && !input.is_empty() {
        frames.push(input.frame(plan.effects_slots()));
    }
    let plain = question.read(&frames, plan.effects_slots());
    match (plan.read(question.operation, question.rows, question.keys, frames), plain) {
        (None, Plain::More) | (Some(Err(_)), Plain::Bad) => {}
        (Some(Ok(effects)), Plain::Done(answer)) => question.check(&effects, &answer),
        (None, _) => panic!("the host waits for more"),
        (Some(Err(lie)), _) => panic!("the host refuses what is good: {lie}"),
        (Some(Ok(_)), _) => panic!("the host takes what is bad"),
    }
}

impl Question {
    fn new(input: &mut Input<'_>) -> Self {
        let kind = KINDS[usize::from(input.byte() % 8)];
        let operation = match kind {
            Kind::Aggregate => FOLDING[usize::from(input.byte() % 4)],
            _ => Operation::Process,
        };
        let (rows, keys) = (input.count(), input.count());
        let mut result = input.field_type();
        if kind == Kind::Filter {
            result.data_type = DataType::Boolean;
        }
        let states = (0..input.byte() % 4)
            .map(|number| StateDeclaration {
                name: format!("state {number}"),
                data_type: input.field_type().data_type,
                access: if input.byte() & 1 == 0 { Access::Column } else { Access::Call },
            })
            .collect();
        Self { kind, operation, rows, keys, loaded: Loaded { result, states } }
    }

    fn plan(&self) -> Plan {
        let binding = Binding {
            function: String::new(),
            arguments: vec![],
            key: vec![],
            result: None,
            access: vec![],
            parameters: vec![],
        };
        Plan::new(&binding, self.kind, &self.loaded).expect("all of its types are of the contract")
    }

    /// Rows that outputs and errors may be of.
    fn inputs(&self) -> usize {
        if self.operation == Operation::Result { self.keys } else { self.rows }
    }

    fn one_to_one(&self) -> bool {
        match self.operation {
            Operation::Process => !matches!(self.kind, Kind::Table | Kind::Process),
            operation => operation == Operation::Result,
        }
    }

    fn states(&self) -> impl Iterator<Item = FieldType> {
        let by_column = |state: &&StateDeclaration| state.access == Access::Column;
        self.loaded.states.iter().filter(by_column).map(|state| FieldType::nullable(state.data_type.clone()))
    }

    /// The answer as `wit/README.md` has it.
    fn read(&self, frames: &[Vec<u8>], slots: usize) -> Plain {
        let mut answer = Answer::default();
        for frame in frames {
            match self.read_frame(frame, slots, &mut answer) {
                None => return Plain::Bad,
                Some(0) if self.one_to_one() && answer.rows.len() != self.inputs() => return Plain::Bad,
                Some(0) => return Plain::Done(answer.without_failed(self.one_to_one())),
                Some(_) => {}
            }
        }
        Plain::More
    }

    /// The status, if the frame is good.
    fn read_frame(&self, bytes: &[u8], slots: usize, answer: &mut Answer) -> Option<u32> {
        let mut frame = Frame::new(bytes, MAGIC_EFFECTS, slots)?;
        frame.expect_rows(self.inputs().max(self.keys));
        let (status, rows) = (u32_at(bytes, 8)?, u32_at(bytes, 12)? as usize);
        if status > 1 || rows > ROWS_MAX || bytes[16..64].iter().any(|byte| *byte != 0) {
            return None;
        }
        self.read_output(&mut frame, rows, answer)?;
        for state in self.states() {
            let slots = wasmill_host::fuzz::Column::new(&state)?.slots();
            if status == 1 {
                frame.absent(slots + 1)?;
            } else {
                answer.states.push(read_state(&mut frame, &state, slots, self.keys)?);
            }
        }
        frame.absent(3)?;
        self.read_errors(&mut frame, answer)?;
        frame.absent(2)?;
        Some(status)
    }

    fn read_output(&self, frame: &mut Frame<'_>, rows: usize, answer: &mut Answer) -> Option<()> {
        let folds = self.kind == Kind::Aggregate && self.operation != Operation::Result;
        if folds && rows > 0 {
            return None;
        }
        let column = frame.column(&self.loaded.result, rows)?;
        let (sources, kinds) = (frame.slot()?, frame.slot()?);
        let before = answer.rows.len();
        let sources: Vec<u32> = match sources.len() {
            // Without sources, the rows are all the rows that there are.
            0 if rows == 0 || before == 0 && rows == self.inputs() => (0..rows as u32).collect(),
            bytes if bytes == 4 * rows => numbers(sources),
            _ => return None,
        };
        let expected = sources.iter().enumerate().all(|(row, source)| *source as usize == before + row);
        let last = answer.rows.last().map_or(0, |row| row.source);
        let ascending = sources.is_sorted() && sources.first().is_none_or(|first| *first >= last);
        let in_range = sources.iter().all(|source| (*source as usize) < self.inputs());
        let kinds_fit = (kinds.is_empty() || kinds.len() == rows) && kinds.iter().all(|kind| *kind <= 3);
        if !ascending || !in_range || !kinds_fit || self.one_to_one() && !expected {
            return None;
        }
        let row = |(row, value)| Row { value, source: sources[row], kind: kinds.get(row).copied() };
        answer.rows.extend(column.into_iter().enumerate().map(row));
        Some(())
    }

    fn read_errors(&self, frame: &mut Frame<'_>, answer: &mut Answer) -> Option<()> {
        let bytes = frame.slot()?;
        let rows = numbers(bytes);
        match bytes.len() {
            0 => return frame.absent(6),
            length if !length.is_multiple_of(4) => return None,
            _ => {}
        }
        let ascending = rows.windows(2).all(|pair| pair[0] < pair[1])
            && answer.errors.last().is_none_or(|(before, _)| *before < rows[0]);
        if !ascending || rows.iter().any(|row| *row as usize >= self.inputs()) {
            return None;
        }
        let texts = [read_texts(frame, rows.len())?, read_texts(frame, rows.len())?, read_texts(frame, rows.len())?];
        let error = |(at, row): (usize, &u32)| (*row, texts.each_ref().map(|texts| texts[at].clone()));
        answer.errors.extend(rows.iter().enumerate().map(error));
        Some(())
    }

    fn check(&self, effects: &Effects, answer: &Answer) {
        let rows: Vec<Row> = effects.outputs.iter().flat_map(|output| self.rows_of(output)).collect();
        assert_eq!(rows, answer.rows);
        assert_eq!(effects.output_rows(), answer.rows.len());
        let states: Vec<FieldType> = self.states().collect();
        assert_eq!((effects.states.len(), answer.states.len()), (states.len(), states.len()));
        for ((state, writes), expected) in states.iter().zip(&effects.states).zip(&answer.states) {
            let expected = expected.as_ref();
            let written: Vec<bool> = writes.written.iter().collect();
            assert_eq!(written, expected.map_or(Vec::new(), |(_, written)| written.clone()));
            check_array(&writes.values, state, expected.map_or(&[], |(values, _)| values.as_slice()));
        }
        assert!(effects.state_calls.is_empty());
        assert_eq!(effects.errors.len(), answer.errors.len());
        for (error, (row, texts)) in effects.errors.iter().zip(&answer.errors) {
            assert_eq!(error.row, *row);
            for (got, whole) in [&error.kind, &error.message, &error.traceback].into_iter().zip(texts) {
                let same = got == whole || whole.starts_with(got.trim_end_matches('…')) && whole.len() > 16 << 10;
                assert!(same && got.len() <= MESSAGE_BYTES_MAX, "{got:?} of {whole:?}");
            }
        }
    }

    fn rows_of(&self, output: &wasmill_host::Output) -> Vec<Row> {
        let values = values(&output.column);
        assert!(!values.is_empty(), "a piece of output has rows");
        check_array(&output.column, &self.loaded.result, &values);
        let lengths = [output.source_rows.as_ref().map(Vec::len), output.row_kinds.as_ref().map(Vec::len)];
        assert!(lengths.into_iter().flatten().all(|length| length == values.len()), "{lengths:?}");
        let source = |row: usize| output.source_rows.as_ref().map_or(row as u32, |sources| sources[row]);
        let kind = |row: usize| output.row_kinds.as_ref().map(|kinds| kinds[row]);
        let row = |(row, value)| Row { value, source: source(row), kind: kind(row) };
        values.into_iter().enumerate().map(row).collect()
    }
}

/// What frames add up to.
enum Plain {
    Bad,
    More,
    Done(Answer),
}

#[derive(Debug, PartialEq)]
struct Row {
    value: Value,
    source: u32,
    kind: Option<u8>,
}

#[derive(Default)]
struct Answer {
    rows: Vec<Row>,
    states: Vec<Writes>,
    /// Row; kind, message and traceback.
    errors: Vec<(u32, [String; 3])>,
}

impl Answer {
    /// Rows out of a row that failed do not count, unless they hold its place.
    fn without_failed(mut self, one_to_one: bool) -> Self {
        let failed = |row: &Row| self.errors.iter().any(|(source, _)| *source == row.source);
        self.rows.retain(|row| one_to_one || !failed(row));
        self
    }
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}

/// The values of a state and which keys were written; `None` = nothing was.
type Writes = Option<(Vec<Value>, Vec<bool>)>;

fn read_state(frame: &mut Frame<'_>, state: &FieldType, slots: usize, keys: usize) -> Option<Writes> {
    // The column may be absent where nothing is written, and is as it must be where there are no bytes to it.
    let absent = frame.all_absent(slots);
    let column = frame.attempt(|frame| frame.column(state, keys));
    if column.is_none() && !absent {
        return None;
    }
    if column.is_none() {
        frame.absent(slots)?;
    }
    let written = frame.bits(keys)?.filter(|written| written.contains(&true));
    match (column, written) {
        (_, None) => Some(None),
        (None, Some(_)) => None,
        (Some(values), Some(written)) => Some(Some((values, written))),
    }
}

fn read_texts(frame: &mut Frame<'_>, count: usize) -> Option<Vec<String>> {
    let (offsets, data) = (frame.offsets(count)?, frame.slot()?);
    if offsets[count] != data.len() {
        return None;
    }
    let text = |pair: &[usize]| Some(std::str::from_utf8(data.get(pair[0]..pair[1])?).ok()?.to_owned());
    offsets.windows(2).map(text).collect()
}
