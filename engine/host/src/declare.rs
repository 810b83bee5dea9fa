//! What a UDF says of itself, and how a job binds it: the records of `interface control` with Arrow's types in them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

use crate::data_type::FieldType;

/// What a function is, and so what goes in and comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A row in, a value out.
    Scalar,
    /// Columns in, a column of the same length out.
    Vectorized,
    /// A row in, any number of rows out (flat map).
    Table,
    /// A row in, a bool out: is the row kept?
    Filter,
    /// A row in, a row out.
    Map,
    /// Two rows of one type in, one of the same out; the last is kept per key.
    Reduce,
    /// Rows fold into an accumulator per key, and a result is taken from it.
    Aggregate,
    /// A row in, any number of rows out, with state per key.
    Process,
}

impl Kind {
    /// Whether every input row has exactly one output row.
    pub fn is_one_to_one(self) -> bool {
        matches!(self, Kind::Scalar | Kind::Vectorized | Kind::Filter | Kind::Map | Kind::Reduce)
    }

    /// The word of the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Scalar => "scalar",
            Kind::Vectorized => "vectorized",
            Kind::Table => "table",
            Kind::Filter => "filter",
            Kind::Map => "map",
            Kind::Reduce => "reduce",
            Kind::Aggregate => "aggregate",
            Kind::Process => "process",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a state reaches the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// With the bundle, a value per distinct key.
    Column,
    /// By calls of the guest while it runs.
    Call,
}

/// One value per key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDeclaration {
    /// Unique within the function.
    pub name: String,
    /// Type of the value, not nullable at the top: no value is no state.
    pub data_type: DataType,
    /// How it is reached.
    pub access: Access,
}

/// One argument of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArgumentDeclaration {
    /// As the function calls it.
    pub name: String,
    /// `None` = `any`: takes what it is given.
    pub data_type: Option<FieldType>,
}

/// What is known of a function without running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDeclaration {
    /// Unique within the UDF.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// In the order of the call.
    pub arguments: Vec<ArgumentDeclaration>,
    /// `None`: the job must say it.
    pub result: Option<FieldType>,
    /// Its states, in order.
    pub states: Vec<StateDeclaration>,
    /// The same bundle gives the same effects.
    pub deterministic: bool,
    /// First paragraph of the documentation, or empty.
    pub documentation: String,
}

/// A file that an interpreting guest runs: the first is the program, the others what it may import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// As messages shall name it.
    pub path: String,
    /// The text.
    pub content: Arc<[u8]>,
}

/// A read-only file that the job grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// By which the guest asks for it.
    pub name: String,
    /// Its bytes.
    pub content: Arc<[u8]>,
}

/// A function as one place in a job uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Its name, as declared.
    pub function: String,
    /// The columns it will get: names, types, nullability.
    pub arguments: Vec<Field>,
    /// The columns of the key; empty = not keyed.
    pub key: Vec<Field>,
    /// The type that the job wants, if it says one.
    pub result: Option<FieldType>,
    /// How the job wants states reached, by name; others as declared.
    pub access: Vec<(String, Access)>,
    /// The job's settings for this use, by name.
    pub parameters: Vec<(String, String)>,
}

/// Everything an instance is opened with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// Name of the job.
    pub job: String,
    /// Name of the operator within it.
    pub operator: String,
    /// Which of the operator's parallel instances this is, from 0.
    pub subtask: u32,
    /// How many there are.
    pub parallelism: u32,
    /// The functions that this instance serves; [`Bundle::function`](crate::Bundle::function) is an index into it.
    pub bindings: Vec<Binding>,
    /// The files granted.
    pub resources: Vec<Resource>,
}

/// What a binding came to. From here on the slots of its frames are fixed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Type of the output column (a struct, where the output has several columns).
    pub result: FieldType,
    /// Its states, in the order in which bundles and effects carry them.
    pub states: Vec<StateDeclaration>,
}
