//! The format of a recorded call (`docs/replay.md`): a folder with `replay.json` and what belongs to it as it was.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmill_host::{
    Access, Binding, Capabilities, HostError, Kind, Limits, Loaded, RecordedBundle, RecordedBundleError, Resource,
    Setup, SourceFile, StateDeclaration, data_type,
};

/// Of what is written here, and the newest that is read.
pub const RECORD_VERSION: u32 = 1;

pub(super) const RECORD: &str = "replay.json";
pub(super) const FRAME: &str = "bundle.frame";
pub(super) const STATES: &str = "states.bin";
pub(super) const COMPONENT: &str = "udf.wasm";
/// Folders.
pub(super) const SOURCE: &str = "source";
pub(super) const RESOURCES: &str = "resources";

/// `replay.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`RECORD_VERSION`] of who wrote it.
    pub version: u32,
    /// Version of the Wasmill that wrote it.
    pub wasmill: String,
    /// Since 1970-01-01T00:00Z.
    pub recorded_at_millis: i64,
    pub job: String,
    pub node: String,
    pub subtask: u32,
    pub parallelism: u32,
    /// Number of the call in its subtask, from 1.
    pub bundle: u64,
    /// Where the bundle's first row came from, if that is known.
    pub first_row: Option<String>,
    pub udf: Udf,
    pub function: Function,
    pub failure: Failure,
}

/// The file that has the function, with what the job granted it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Udf {
    /// In the job.
    pub name: String,
    /// Absolute.
    pub path: PathBuf,
    /// XXH3 of the file, 128 bits in hex.
    pub hash: String,
    /// Is a copy of it in the record?
    pub component: bool,
    /// Files of an interpreted UDF in the folder `source`, the program first.
    pub source: Vec<String>,
    /// Files in the folder `resources`.
    pub resources: Vec<String>,
    pub real_clock: bool,
    pub real_random: bool,
    pub memory_bytes_max: u64,
    pub call_millis_max: u64,
    pub load_millis_max: u64,
    pub output_bytes_max: u64,
}

/// The function and how the job uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    pub name: String,
    pub kind: String,
    pub arguments: Vec<Column>,
    pub key: Vec<Column>,
    /// The type that came of it.
    pub result: String,
    /// The type that the job asks for.
    pub wanted_result: Option<String>,
    pub states: Vec<State>,
    /// Name and value.
    pub parameters: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub name: String,
    #[serde(rename = "type")]
    pub data_type: String,
    /// By host calls; else its values are in the frame.
    pub by_call: bool,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub of: FailureOf,
    /// `trap`, `deadline` and the like, or what a row raised: `ValueError`.
    pub kind: String,
    pub message: String,
    /// As the guest says it: `src/lib.rs:12:5`, or empty.
    pub location: String,
    pub traceback: String,
    /// Row of the bundle; of an aggregate's results, the key. `None`: the whole call, of several rows.
    pub row: Option<u32>,
    /// Where that row came from, if that is known.
    pub position: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureOf {
    /// The call ended the instance.
    Call,
    /// A row raised.
    Row,
}

/// Why a recorded call cannot be read or run.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("{} holds no recorded call: there is no {RECORD} in it", .dir.display())]
    NoRecord { dir: PathBuf },
    #[error("cannot read {}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(
        "{} is of version {got}, and this Wasmill reads up to {RECORD_VERSION}: replay it with the Wasmill that recorded it, or a later one", .path.display()
    )]
    Version { path: PathBuf, got: u32 },
    #[error("{} is damaged: {problem}", .path.display())]
    Damaged { path: PathBuf, problem: String },
    #[error("{} is damaged: {source}", .path.display())]
    Frame { path: PathBuf, source: RecordedBundleError },
    #[error("the UDF is not in the record, and {} is not what it was: name a version of it with --udf", .path.display())]
    Changed { path: PathBuf },
    #[error("the UDF is not in the record, and {} cannot be read ({source}): name a version of it with --udf", .path.display())]
    Gone { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Udf(String),
    #[error("{0}")]
    Host(#[from] HostError),
    #[error(
        "state \"{state}\" is {got} in this version, and its recorded values are {was}: no other type can take them"
    )]
    StateType { state: String, got: String, was: String },
    #[error("function \"{function}\" is of kind {got} in this version, and was {was}")]
    Kind { function: String, got: String, was: String },
    #[error("cannot show the bundle: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// A recorded call, read whole.
#[derive(Debug, Clone)]
pub struct Recorded {
    pub dir: PathBuf,
    pub record: Record,
    pub(super) kind: Kind,
    pub(super) setup: Setup,
    pub(super) loaded: Loaded,
    pub(super) bundle: RecordedBundle,
    /// State and key of each value that is behind host calls.
    pub(super) values: Vec<(u32, u32, Vec<u8>)>,
    pub(super) source: Vec<SourceFile>,
}

impl Recorded {
    /// Reads the folder.
    ///
    /// # Errors
    /// All of [`ReplayError`] that is about files: it is not there, of a later version, cut or damaged.
    pub fn read(dir: &Path) -> Result<Recorded, ReplayError> {
        let record = read_record(dir)?;
        let path = dir.join(RECORD);
        let damaged = |problem: String| ReplayError::Damaged { path: path.clone(), problem };
        let kind = kind_of(&record.function.kind)
            .ok_or_else(|| damaged(format!("there is no kind {:?}", record.function.kind)))?;
        let loaded = loaded_of(&record.function).map_err(damaged)?;
        let binding = binding_of(&record.function).map_err(damaged)?;
        let frame_path = dir.join(FRAME);
        let bundle = RecordedBundle::read(read_file(&frame_path)?, &binding, kind, &loaded)
            .map_err(|source| ReplayError::Frame { path: frame_path, source })?;
        let values = match record.function.states.iter().any(|state| state.by_call) {
            true => read_values(&dir.join(STATES))?,
            false => Vec::new(),
        };
        let file = |folder: &str, name: &str| -> Result<Arc<[u8]>, ReplayError> {
            let path = plain_path(name).ok_or_else(|| damaged(format!("{name:?} is no path inside of it")))?;
            Ok(read_file(&dir.join(folder).join(path))?.into())
        };
        let resource = |name: &String| Ok(Resource { name: name.clone(), content: file(RESOURCES, name)? });
        let source = |path: &String| Ok(SourceFile { path: path.clone(), content: file(SOURCE, path)? });
        let resources = record.udf.resources.iter().map(resource).collect::<Result<_, ReplayError>>()?;
        let source = record.udf.source.iter().map(source).collect::<Result<_, ReplayError>>()?;
        let setup = Setup {
            job: record.job.clone(),
            operator: record.node.clone(),
            subtask: record.subtask,
            parallelism: record.parallelism,
            bindings: vec![binding],
            resources,
        };
        Ok(Recorded { dir: dir.to_owned(), record, kind, setup, loaded, bundle, values, source })
    }

    pub(super) fn limits(&self) -> Limits {
        let udf = &self.record.udf;
        let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Limits {
            memory_bytes_max: bytes(udf.memory_bytes_max),
            call_time_max: Duration::from_millis(udf.call_millis_max),
            load_time_max: Duration::from_millis(udf.load_millis_max),
            output_bytes_max: bytes(udf.output_bytes_max),
            ..Limits::default()
        }
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities { real_clock: self.record.udf.real_clock, real_random: self.record.udf.real_random }
    }
}

fn read_record(dir: &Path) -> Result<Record, ReplayError> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let path = dir.join(RECORD);
    let text = match std::fs::read(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(ReplayError::NoRecord { dir: dir.to_owned() });
        }
        Err(source) => return Err(ReplayError::Io { path, source }),
        Ok(text) => text,
    };
    let damaged = |error: serde_json::Error| ReplayError::Damaged { path: path.clone(), problem: error.to_string() };
    let Versioned { version } = serde_json::from_slice(&text).map_err(damaged)?;
    match version {
        1..=RECORD_VERSION => serde_json::from_slice(&text).map_err(damaged),
        got => Err(ReplayError::Version { path, got }),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, ReplayError> {
    std::fs::read(path).map_err(|source| ReplayError::Io { path: path.to_owned(), source })
}

/// State u32, key u32, length u32, the value: for each that is there.
fn read_values(path: &Path) -> Result<Vec<(u32, u32, Vec<u8>)>, ReplayError> {
    let bytes = read_file(path)?;
    let mut rest = bytes.as_slice();
    let mut values = Vec::new();
    while !rest.is_empty() {
        let Some(value) = take_value(&mut rest) else {
            let problem = format!("it ends within value {}", values.len());
            return Err(ReplayError::Damaged { path: path.to_owned(), problem });
        };
        values.push(value);
    }
    Ok(values)
}

fn take_value(rest: &mut &[u8]) -> Option<(u32, u32, Vec<u8>)> {
    let mut number = || {
        let (number, left) = rest.split_first_chunk::<4>()?;
        *rest = left;
        Some(u32::from_le_bytes(*number))
    };
    let (state, key, length) = (number()?, number()?, number()?);
    let (value, left) = rest.split_at_checked(length as usize)?;
    *rest = left;
    Some((state, key, value.to_vec()))
}

/// One entry of what [`read_values`] reads.
pub(super) fn put_value(state: u32, key: u32, value: &[u8], bytes: &mut Vec<u8>) {
    for number in [state, key, value.len() as u32] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(value);
}

/// The name of a file as a path that leads out of no folder.
pub(super) fn plain_path(name: &str) -> Option<&Path> {
    let path = Path::new(name);
    let inside = !name.is_empty() && path.components().all(|part| matches!(part, Component::Normal(_)));
    inside.then_some(path)
}

fn kind_of(word: &str) -> Option<Kind> {
    const KINDS: [Kind; 8] = [
        Kind::Scalar,
        Kind::Vectorized,
        Kind::Table,
        Kind::Filter,
        Kind::Map,
        Kind::Reduce,
        Kind::Aggregate,
        Kind::Process,
    ];
    KINDS.into_iter().find(|kind| kind.as_str() == word)
}

fn binding_of(function: &Function) -> Result<Binding, String> {
    let parse = |text: &String| data_type::parse(text).map_err(|error| error.to_string());
    let fields = |columns: &[Column]| {
        let field = |column: &Column| Ok(parse(&column.data_type)?.to_field(&column.name));
        columns.iter().map(field).collect::<Result<Vec<_>, String>>()
    };
    Ok(Binding {
        function: function.name.clone(),
        arguments: fields(&function.arguments)?,
        key: fields(&function.key)?,
        result: function.wanted_result.as_ref().map(parse).transpose()?,
        // As they were, also in a version that would choose otherwise: the values are where they are.
        access: function.states.iter().map(|state| (state.name.clone(), access_of(state))).collect(),
        parameters: function.parameters.clone(),
    })
}

fn access_of(state: &State) -> Access {
    if state.by_call { Access::Call } else { Access::Column }
}

fn loaded_of(function: &Function) -> Result<Loaded, String> {
    let state = |state: &State| {
        let data_type = data_type::parse(&state.data_type).map_err(|error| error.to_string())?.data_type;
        Ok(StateDeclaration { name: state.name.clone(), data_type, access: access_of(state) })
    };
    Ok(Loaded {
        result: data_type::parse(&function.result).map_err(|error| error.to_string())?,
        states: function.states.iter().map(state).collect::<Result<_, String>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_record() {
        for name in ["", "/etc/passwd", "../x", "a/../../x", "a/./../x"] {
            assert_eq!(plain_path(name), None, "{name}");
        }
        assert_eq!(plain_path("helpers/x.py"), Some(Path::new("helpers/x.py")));
    }

    #[test]
    fn values_come_back_and_cut_ones_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATES);
        let values = vec![(0, 1, b"abc".to_vec()), (2, 0, Vec::new())];
        let mut bytes = Vec::new();
        values.iter().for_each(|(state, key, value)| put_value(*state, *key, value, &mut bytes));
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(read_values(&path).unwrap(), values);
        for end in (1..bytes.len()).filter(|end| *end != 15) {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let error = read_values(&path).unwrap_err().to_string();
            assert!(error.contains("states.bin is damaged: it ends within value"), "{end}: {error}");
        }
    }
}
