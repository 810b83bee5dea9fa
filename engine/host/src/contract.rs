//! The records of `wit/udf.wit` as wasmtime carries them, and their translation to this crate's types.
//! Whatever the guest returned is checked here before anybody else sees it.

use std::collections::HashSet;
use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Lower};

use crate::data_type::{FieldType, display, parse};
use crate::declare::{
    Access, ArgumentDeclaration, Binding, FunctionDeclaration, Kind, Loaded, Resource, Setup, SourceFile,
    StateDeclaration,
};
use crate::error::HostError;
use crate::guard::cut;

pub(crate) const CONTROL: &str = "wasmill:udf/control";
pub(crate) const BUNDLE: &str = "wasmill:udf/bundle";
pub(crate) const PACKAGE: &str = "wasmill:udf/";

/// Most functions that a UDF may describe.
const FUNCTIONS_MAX: usize = 10_000;
/// Most arguments and states of all functions together.
const PARTS_MAX: usize = 100_000;
/// Most states of a function: the host keeps an index of keys for each that is reached by call.
const STATES_MAX: usize = 1000;
/// Longest name of a function, argument or state, in bytes.
const NAME_BYTES_MAX: usize = 1000;

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(crate) struct Problem {
    pub(crate) message: String,
    pub(crate) traceback: String,
}

#[derive(ComponentType, Lift, Lower, Debug)]
#[component(record)]
pub(crate) struct FieldRecord {
    pub(crate) name: String,
    #[component(name = "data-type")]
    pub(crate) data_type: String,
}

#[derive(ComponentType, Lift, Lower, Debug, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum KindEnum {
    #[component(name = "scalar")]
    Scalar,
    #[component(name = "vectorized")]
    Vectorized,
    #[component(name = "table")]
    Table,
    #[component(name = "filter")]
    Filter,
    #[component(name = "map")]
    Map,
    #[component(name = "reduce")]
    Reduce,
    #[component(name = "aggregate")]
    Aggregate,
    #[component(name = "process")]
    Process,
}

#[derive(ComponentType, Lift, Lower, Debug, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum AccessEnum {
    #[component(name = "column")]
    Column,
    #[component(name = "call")]
    Call,
}

#[derive(ComponentType, Lift, Lower, Debug)]
#[component(record)]
pub(crate) struct StateRecord {
    pub(crate) name: String,
    #[component(name = "data-type")]
    pub(crate) data_type: String,
    pub(crate) access: AccessEnum,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(crate) struct FunctionRecord {
    pub(crate) name: String,
    pub(crate) kind: KindEnum,
    pub(crate) arguments: Vec<FieldRecord>,
    pub(crate) result: Option<String>,
    pub(crate) states: Vec<StateRecord>,
    pub(crate) deterministic: bool,
    pub(crate) documentation: String,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(crate) struct SourceFileRecord {
    path: String,
    content: Arc<[u8]>,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(crate) struct ResourceRecord {
    name: String,
    content: Arc<[u8]>,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(crate) struct BindingRecord {
    function: String,
    arguments: Vec<FieldRecord>,
    key: Vec<FieldRecord>,
    result: Option<String>,
    access: Vec<(String, AccessEnum)>,
    parameters: Vec<(String, String)>,
}

#[derive(ComponentType, Lower, Debug)]
#[component(record)]
pub(crate) struct SetupRecord {
    job: String,
    operator: String,
    subtask: u32,
    parallelism: u32,
    bindings: Vec<BindingRecord>,
    resources: Vec<ResourceRecord>,
}

#[derive(ComponentType, Lift, Debug)]
#[component(record)]
pub(crate) struct LoadedRecord {
    pub(crate) result: String,
    pub(crate) states: Vec<StateRecord>,
}

impl From<KindEnum> for Kind {
    fn from(kind: KindEnum) -> Self {
        match kind {
            KindEnum::Scalar => Kind::Scalar,
            KindEnum::Vectorized => Kind::Vectorized,
            KindEnum::Table => Kind::Table,
            KindEnum::Filter => Kind::Filter,
            KindEnum::Map => Kind::Map,
            KindEnum::Reduce => Kind::Reduce,
            KindEnum::Aggregate => Kind::Aggregate,
            KindEnum::Process => Kind::Process,
        }
    }
}

impl From<AccessEnum> for Access {
    fn from(access: AccessEnum) -> Self {
        match access {
            AccessEnum::Column => Access::Column,
            AccessEnum::Call => Access::Call,
        }
    }
}

impl From<Access> for AccessEnum {
    fn from(access: Access) -> Self {
        match access {
            Access::Column => AccessEnum::Column,
            Access::Call => AccessEnum::Call,
        }
    }
}

pub(crate) fn source_records(files: &[SourceFile]) -> Vec<SourceFileRecord> {
    files.iter().map(|file| SourceFileRecord { path: file.path.clone(), content: file.content.clone() }).collect()
}

/// The setup as the guest gets it.
pub(crate) fn setup_record(udf: &str, setup: &Setup) -> Result<SetupRecord, HostError> {
    let bindings = setup.bindings.iter().map(|binding| binding_record(udf, binding)).collect::<Result<_, _>>()?;
    let resource =
        |resource: &Resource| ResourceRecord { name: resource.name.clone(), content: resource.content.clone() };
    Ok(SetupRecord {
        job: setup.job.clone(),
        operator: setup.operator.clone(),
        subtask: setup.subtask,
        parallelism: setup.parallelism,
        bindings,
        resources: setup.resources.iter().map(resource).collect(),
    })
}

fn binding_record(udf: &str, binding: &Binding) -> Result<BindingRecord, HostError> {
    let column = |column: &str, source| HostError::Column {
        udf: udf.to_string(),
        function: binding.function.clone(),
        column: column.to_string(),
        problem: Box::new(source),
    };
    let fields = |fields: &[arrow::datatypes::Field]| {
        let record = |field: &arrow::datatypes::Field| {
            let data_type =
                display(field.data_type(), field.is_nullable()).map_err(|source| column(field.name(), source))?;
            Ok(FieldRecord { name: field.name().clone(), data_type })
        };
        fields.iter().map(record).collect::<Result<Vec<_>, HostError>>()
    };
    let result = match &binding.result {
        Some(result) => Some(display(&result.data_type, result.nullable).map_err(|source| column("result", source))?),
        None => None,
    };
    Ok(BindingRecord {
        function: binding.function.clone(),
        arguments: fields(&binding.arguments)?,
        key: fields(&binding.key)?,
        result,
        access: binding.access.iter().map(|(name, access)| (name.clone(), (*access).into())).collect(),
        parameters: binding.parameters.clone(),
    })
}

/// What `describe` returned, checked. An error is the problem, without the UDF's name.
pub(crate) fn declarations(records: Vec<FunctionRecord>) -> Result<Vec<FunctionDeclaration>, String> {
    let mut names = HashSet::new();
    let mut functions = Vec::with_capacity(records.len());
    let parts: usize = records.iter().map(|record| record.arguments.len() + record.states.len()).sum();
    if records.len() > FUNCTIONS_MAX || parts > PARTS_MAX {
        return Err(format!(
            "{} functions with {parts} arguments and states, limits {FUNCTIONS_MAX} and {PARTS_MAX}",
            records.len()
        ));
    }
    for record in records {
        check_name("function", &record.name)?;
        if record.name.is_empty() || !names.insert(record.name.clone()) {
            return Err(format!("a second function of the name {:?}, or one without a name", record.name));
        }
        let name = record.name.clone();
        functions.push(declaration(record).map_err(|problem| format!("function {name:?}: {problem}"))?);
    }
    Ok(functions)
}

/// Names stand in messages, logs and metrics: they may not move the cursor of who reads them, or fill the screen.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("the name of a {what} has {} bytes, limit {NAME_BYTES_MAX}", name.len()));
    }
    if name.contains(char::is_control) {
        return Err(format!("the name {name:?} of a {what} has control characters"));
    }
    Ok(())
}

fn declaration(record: FunctionRecord) -> Result<FunctionDeclaration, String> {
    let kind = Kind::from(record.kind);
    let mut names = HashSet::new();
    let mut arguments = Vec::with_capacity(record.arguments.len());
    for argument in record.arguments {
        check_name("argument", &argument.name)?;
        if !names.insert(argument.name.clone()) {
            return Err(format!("a second argument of the name {:?}", argument.name));
        }
        let data_type = match argument.data_type.trim() {
            "any" => None,
            text => Some(parse(text).map_err(|error| format!("argument {:?}: {error}", argument.name))?),
        };
        arguments.push(ArgumentDeclaration { name: argument.name, data_type });
    }
    let result = match record.result {
        Some(text) => Some(result_type(kind, &text)?),
        None => None,
    };
    Ok(FunctionDeclaration {
        name: record.name,
        kind,
        arguments,
        result,
        states: states(kind, record.states, false)?,
        deterministic: record.deterministic,
        documentation: cut(record.documentation),
    })
}

/// What `load-functions` returned, checked against the bindings and their kinds.
pub(crate) fn loaded(records: Vec<LoadedRecord>, bindings: &[Binding], kinds: &[Kind]) -> Result<Vec<Loaded>, String> {
    if records.len() != bindings.len() {
        return Err(format!("{} functions loaded for {} bindings", records.len(), bindings.len()));
    }
    let mut all = Vec::with_capacity(records.len());
    for ((record, binding), kind) in records.into_iter().zip(bindings).zip(kinds) {
        let named = |problem: String| format!("function {:?}: {problem}", binding.function);
        let result = result_type(*kind, &record.result).map_err(named)?;
        let states = states(*kind, record.states, true).map_err(named)?;
        all.push(Loaded { result, states });
    }
    Ok(all)
}

fn result_type(kind: Kind, text: &str) -> Result<FieldType, String> {
    let result = parse(text).map_err(|error| format!("result: {error}"))?;
    crate::effects::check_result(kind, &result)?;
    Ok(result)
}

/// `opened`: its types are known now. Before, a function that takes what it is given may not know its state.
fn states(kind: Kind, records: Vec<StateRecord>, opened: bool) -> Result<Vec<StateDeclaration>, String> {
    let mut names = HashSet::new();
    if records.len() > STATES_MAX {
        return Err(format!("{} states, limit {STATES_MAX}: keep them in one of a struct or map type", records.len()));
    }
    let mut states = Vec::with_capacity(records.len());
    for record in records {
        check_name("state", &record.name)?;
        let parsed = parse(&record.data_type).map_err(|error| format!("state {:?}: {error}", record.name))?;
        if parsed.nullable {
            return Err(format!("state {:?}: type {parsed} is nullable at the top: drop the '?'", record.name));
        }
        if !names.insert(record.name.clone()) {
            return Err(format!("a second state of the name {:?}", record.name));
        }
        states.push(StateDeclaration { name: record.name, data_type: parsed.data_type, access: record.access.into() });
    }
    let only = match kind {
        Kind::Aggregate => Some("accumulator"),
        Kind::Reduce => Some("reduced"),
        _ => None,
    };
    match (only, states.as_slice()) {
        (None, _) => {}
        (Some(_), []) if !opened => {}
        (Some(only), [state]) if state.name == only && state.access == Access::Column => {}
        (Some(only), _) => return Err(format!("kind {kind} has exactly one state, {only:?}, with access column")),
    }
    Ok(states)
}
