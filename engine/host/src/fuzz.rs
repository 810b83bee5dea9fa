//! Doors to the checks of what a guest answers, for `tests/fuzz` alone. No part of this crate's API.

use std::ops::Range;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;

use crate::bundle::{Bundle, Effects, Operation};
use crate::column::ColumnPlan;
use crate::contract::{self, FieldRecord, FunctionRecord, KindEnum, LoadedRecord, StateRecord};
use crate::data_type::FieldType;
use crate::declare::{Access, Binding, FunctionDeclaration, Kind, Loaded};
use crate::effects::{EffectsReader, Status};
use crate::frame::{FrameReader, FrameWriter, Lie, MAGIC_EFFECTS};
use crate::plan::BindingPlan;
use crate::value::ValuePlan;

/// A column, alone in a frame of effects.
pub struct Column(ColumnPlan);

impl Column {
    /// `None`: no type of the contract.
    pub fn new(field: &FieldType) -> Option<Self> {
        ColumnPlan::of(field).ok().map(Self)
    }

    /// How many slots it takes.
    pub fn slots(&self) -> usize {
        self.0.slots
    }

    /// Reads the frame, or says what is wrong with it.
    pub fn read(&self, frame: Vec<u8>, rows: usize) -> Result<ArrayRef, String> {
        self.read_frame(frame, rows).map_err(|lie| lie.0)
    }

    fn read_frame(&self, frame: Vec<u8>, rows: usize) -> Result<ArrayRef, Lie> {
        let mut frame = FrameReader::new(frame, MAGIC_EFFECTS, self.0.slots)?;
        frame.expect_rows(rows);
        let array = self.0.read(&mut frame, rows)?;
        frame.finish()?;
        Ok(array)
    }

    /// Writes the frame of some rows of the array.
    pub fn write(&self, array: &ArrayRef, rows: Range<usize>) -> Result<Vec<u8>, String> {
        let mut frame = FrameWriter::default();
        frame.begin(MAGIC_EFFECTS, self.0.slots);
        self.0.write_part(array, rows, &mut frame).map_err(|mismatch| mismatch.to_string())?;
        frame.finish().map(<[u8]>::to_vec).map_err(|bytes| format!("{bytes} bytes"))
    }

    /// Checks the bytes of a value of this type, as a guest gives them to `state.put`.
    pub fn check_value(&self, bytes: &[u8]) -> Result<(), String> {
        ValuePlan::new(&self.0.data_type).check(bytes).map_err(|lie| lie.0)
    }

    /// The column's type, in the form of the contract.
    pub fn data_type(&self) -> &DataType {
        &self.0.data_type
    }
}

/// A binding, with the slots of its frames.
pub struct Plan(BindingPlan);

impl Plan {
    /// `None`: a column of no type of the contract.
    pub fn new(binding: &Binding, kind: Kind, loaded: &Loaded) -> Option<Self> {
        BindingPlan::new(binding, kind, loaded).ok().map(Self)
    }

    /// Slots of a frame of effects.
    pub fn effects_slots(&self) -> usize {
        self.0.effects_slots
    }

    /// What the frames that answer one bundle add up to, or what is wrong with them. `None`: more would have to come.
    pub fn read(
        &self,
        operation: Operation,
        rows: usize,
        keys: usize,
        frames: Vec<Vec<u8>>,
    ) -> Option<Result<Effects, String>> {
        let bundle = bundle(operation, rows, keys);
        let mut reader = EffectsReader::new(&self.0, &bundle);
        for frame in frames {
            match reader.read(frame) {
                Ok(Status::More) => {}
                Ok(Status::Done) => return Some(reader.finish().map_err(|lie| lie.0)),
                Err(lie) => return Some(Err(lie.0)),
            }
        }
        None
    }
}

/// What the check of an answer looks at in a bundle, and nothing else.
fn bundle(operation: Operation, rows: usize, keys: usize) -> Bundle<'static> {
    Bundle {
        function: 0,
        operation,
        rows,
        arguments: &[],
        first_row: 0,
        event_times: None,
        row_kinds: None,
        key_index: None,
        keys,
        key_columns: &[],
        states: &[],
        sources: &[],
        watermark: 0,
        processing_time: 0,
        seed: 0,
    }
}

/// A state as a guest describes it.
#[derive(Debug, Clone)]
pub struct State {
    /// Its name.
    pub name: String,
    /// The text of its type.
    pub data_type: String,
    /// How it is reached.
    pub access: Access,
}

/// A function as a guest describes it.
#[derive(Debug, Clone)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Names and the texts of types.
    pub arguments: Vec<(String, String)>,
    /// The text of a type.
    pub result: Option<String>,
    /// In order.
    pub states: Vec<State>,
    /// Whether it says so.
    pub deterministic: bool,
    /// What it says of itself.
    pub documentation: String,
}

/// As the answer of `describe`.
pub fn declarations(functions: Vec<Function>) -> Result<Vec<FunctionDeclaration>, String> {
    contract::declarations(functions.into_iter().map(function_record).collect())
}

/// As the answer of `load-functions`: the text of a type and states, for each binding.
pub fn loaded(answers: Vec<(String, Vec<State>)>, bindings: &[Binding], kinds: &[Kind]) -> Result<Vec<Loaded>, String> {
    let record = |(result, states): (String, Vec<State>)| LoadedRecord { result, states: state_records(states) };
    contract::loaded(answers.into_iter().map(record).collect(), bindings, kinds)
}

fn function_record(function: Function) -> FunctionRecord {
    let field = |(name, data_type)| FieldRecord { name, data_type };
    FunctionRecord {
        name: function.name,
        kind: kind_enum(function.kind),
        arguments: function.arguments.into_iter().map(field).collect(),
        result: function.result,
        states: state_records(function.states),
        deterministic: function.deterministic,
        documentation: function.documentation,
    }
}

fn state_records(states: Vec<State>) -> Vec<StateRecord> {
    let record =
        |state: State| StateRecord { name: state.name, data_type: state.data_type, access: state.access.into() };
    states.into_iter().map(record).collect()
}

fn kind_enum(kind: Kind) -> KindEnum {
    match kind {
        Kind::Scalar => KindEnum::Scalar,
        Kind::Vectorized => KindEnum::Vectorized,
        Kind::Table => KindEnum::Table,
        Kind::Filter => KindEnum::Filter,
        Kind::Map => KindEnum::Map,
        Kind::Reduce => KindEnum::Reduce,
        Kind::Aggregate => KindEnum::Aggregate,
        Kind::Process => KindEnum::Process,
    }
}
