//! Calls that ended a job, run again in this process.

use std::fmt;
use std::path::{Path, PathBuf};

use super::datum::{self, Datum};
use super::json::Json;
use super::{RowError, read_errors};
use crate::data_type::{DataType, Field};
use crate::frame::{Bundle, EFFECTS_MAGIC, FrameError, Operation, Slots, Status};
use crate::function::{Access, Binding, Loaded, Problem, StateDeclaration};
use crate::host;
use crate::instance::{Entry, Instance, Setup};

/// The newest version of records that is read.
const VERSION: u32 = 1;

/// What a recorded call did this time, shown as text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Each row given out, and which row of the bundle it came from.
    pub given: Vec<(usize, String)>,
    pub errors: Vec<RowError>,
    /// Each state that was written: key, state, value; `null` = cleared.
    pub written: Vec<(String, String, String)>,
    /// Lines of the log.
    pub log: Vec<String>,
}

/// Why a recorded call cannot be run.
#[derive(Debug)]
pub enum ReplayError {
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    Damaged {
        path: PathBuf,
        problem: String,
    },
    Version {
        path: PathBuf,
        got: u32,
    },
    /// The functions of this crate do not take it.
    Open(Problem),
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Self::Damaged { path, problem } => write!(f, "{} is damaged: {problem}", path.display()),
            Self::Version { path, got } => {
                write!(f, "{} is of version {got}, and this SDK reads up to {VERSION}: use a later one", path.display())
            }
            Self::Open(problem) => write!(f, "the function does not open: {problem}"),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Runs the call that is recorded in `folder` by the functions of this crate, and prints what it was given: rows, keys and states.
///
/// `functions` is `crate::WASMILL_FUNCTIONS`, which `export!` makes. Where the function panicked in the job it panics here, so that a
/// debugger stops there:
///
/// ```no_run
/// # use wasmill_udf::{export, udf};
/// # #[udf] fn half(x: i64) -> i64 { x / 2 }
/// # export!(half);
/// # /*
/// #[test]
/// # */
/// fn replay() {
///     wasmill_udf::testing::replay(crate::WASMILL_FUNCTIONS, "/home/me/.cache/wasmill/failures/shop/sums-half-0-17").unwrap();
/// }
/// # fn main() { replay() }
/// ```
///
/// # Errors
/// The record cannot be read, or the function does not open with its columns.
///
/// # Panics
/// The function panics.
pub fn replay(functions: &[Entry], folder: impl AsRef<Path>) -> Result<Replayed, ReplayError> {
    let recorded = Recorded::read(folder.as_ref())?;
    let mut instance = Instance::load(functions, &recorded.setup).map_err(ReplayError::Open)?;
    let loaded = instance.loaded().next().expect("one binding was loaded").clone();
    recorded.same_states(&loaded)?;
    print!("{}", recorded.text);
    host::with(|host| {
        host.state = recorded.values.iter().map(|(state, key, value)| ((*state, *key), value.clone())).collect();
    });
    let mut replayed = Replayed::default();
    let broken = |error: FrameError| recorded.damaged(FRAME, error.to_string());
    let mut answer = instance.run(&recorded.frame).map_err(broken)?.to_vec();
    loop {
        recorded.read_effects(&answer, &loaded, &mut replayed).map_err(broken)?;
        if answer[8] != Status::More as u8 {
            break;
        }
        answer = instance.resume(&recorded.frame, &[]).map_err(broken)?.to_vec();
    }
    recorded.written_by_call(&loaded, &mut replayed)?;
    let failed: Vec<usize> = replayed.errors.iter().map(|error| error.row).collect();
    replayed.given.retain(|(row, _)| !failed.contains(row));
    replayed.log = host::with(|host| host.log.drain(..).map(|(_, line)| line).collect());
    Ok(replayed)
}

const RECORD: &str = "replay.json";
const FRAME: &str = "bundle.frame";
const STATES: &str = "states.bin";

struct Recorded {
    folder: PathBuf,
    setup: Setup,
    states: Vec<StateDeclaration>,
    frame: Vec<u8>,
    /// State, key and encoded value of each that is behind host calls.
    values: Vec<(u32, u32, Vec<u8>)>,
    /// Of each key, for messages.
    keys: Vec<String>,
    /// What the call was given, for a person.
    text: String,
}

impl Recorded {
    fn read(folder: &Path) -> Result<Self, ReplayError> {
        let path = folder.join(RECORD);
        let text = String::from_utf8_lossy(&read_file(&path)?).into_owned();
        let damaged = |problem: String| ReplayError::Damaged { path: path.clone(), problem };
        let json = Json::parse(&text).map_err(damaged)?;
        let got = json.number("version").map_err(damaged)?;
        if got == 0 || got > VERSION {
            return Err(ReplayError::Version { path, got });
        }
        let (setup, states) = setup_of(&json).map_err(damaged)?;
        let resource = |name: String| Ok((name.clone(), read_file(&folder.join("resources").join(name))?));
        let names = texts(json.get("udf").and_then(|udf| udf.list("resources")).map_err(damaged)?).map_err(damaged)?;
        let resources = names.into_iter().map(resource).collect::<Result<_, ReplayError>>()?;
        let frame = read_file(&folder.join(FRAME))?;
        let values = match states.iter().any(|state| state.access == Access::Call) {
            true => read_values(&folder.join(STATES))?,
            false => Vec::new(),
        };
        let mut recorded = Self {
            folder: folder.to_owned(),
            setup: Setup { resources, ..setup },
            states,
            frame,
            values,
            keys: Vec::new(),
            text: String::new(),
        };
        recorded.describe().map_err(|error| recorded.damaged(FRAME, error.to_string()))?;
        Ok(recorded)
    }

    fn damaged(&self, file: &str, problem: String) -> ReplayError {
        ReplayError::Damaged { path: self.folder.join(file), problem }
    }

    /// Reads the frame for a person.
    fn describe(&mut self) -> Result<(), FrameError> {
        let Bundle { operation, rows, keys, mut slots, .. } = Bundle::open(&self.frame)?;
        let binding = &self.setup.bindings[0];
        let mut text = format!(
            "replay of {} {}: {operation:?}, {rows} rows, {keys} keys\n",
            self.setup.operator, binding.function
        );
        let has_arguments = !matches!(operation, Operation::Merge | Operation::Result);
        let arguments = columns(&binding.arguments, &mut slots, if has_arguments { rows } else { 0 })?;
        slots.skip(2)?;
        let index = slots.optional::<4>(rows)?;
        let key_columns = columns(&binding.key, &mut slots, keys)?;
        slots.skip(3)?;
        let mut values: Vec<Vec<Datum>> = Vec::new();
        for (state, declared) in self.states.iter().enumerate() {
            values.push(match declared.access {
                Access::Column => datum::read(&declared.data_type, &mut slots, keys)?,
                Access::Call => self.by_call(state as u32, &declared.data_type, keys)?,
            });
        }
        for key in 0..keys {
            let parts: Vec<String> = binding
                .key
                .iter()
                .zip(&key_columns)
                .map(|(field, column)| datum::show(&field.data_type, &column[key]))
                .collect();
            self.keys.push(if parts.is_empty() { key.to_string() } else { parts.join(", ") });
            text.push_str(&format!("key {key}: {}", self.keys[key]));
            for (state, values) in self.states.iter().zip(&values) {
                text.push_str(&format!(", {} = {}", state.name, datum::show(&state.data_type, &values[key])));
            }
            text.push('\n');
        }
        for row in (0..rows).filter(|_| has_arguments) {
            let key = index.map_or(String::new(), |index| format!(" (key {})", u32::from_le_bytes(index[row])));
            let shown = binding.arguments.iter().zip(&arguments);
            let shown = shown
                .map(|(field, column)| format!("{} = {}", field.name, datum::show(&field.data_type, &column[row])));
            text.push_str(&format!("row {row}{key}: {}\n", shown.collect::<Vec<_>>().join(", ")));
        }
        self.text = text;
        Ok(())
    }

    fn by_call(&self, state: u32, data_type: &DataType, keys: usize) -> Result<Vec<Datum>, FrameError> {
        let mut values = vec![Datum::Null; keys];
        for (_, key, value) in self.values.iter().filter(|(of, ..)| *of == state) {
            if let Some(place) = values.get_mut(*key as usize) {
                *place =
                    datum::decode(data_type, &mut value.as_slice()).map_err(|error| FrameError(error.to_string()))?;
            }
        }
        Ok(values)
    }

    /// The frame has a place for each state of the version that failed.
    fn same_states(&self, loaded: &Loaded) -> Result<(), ReplayError> {
        if loaded.states == self.states {
            return Ok(());
        }
        let listed = |states: &[StateDeclaration]| {
            states.iter().map(|state| format!("{}: {}", state.name, state.data_type)).collect::<Vec<_>>().join(", ")
        };
        Err(ReplayError::Open(Problem::new(format!(
            "its states are ({}) now, and were ({}) in the record: `wasmill replay --udf` runs it all the same where they fit",
            listed(&loaded.states),
            listed(&self.states)
        ))))
    }

    fn read_effects(&self, frame: &[u8], loaded: &Loaded, replayed: &mut Replayed) -> Result<(), FrameError> {
        let mut slots = Slots::open(frame, EFFECTS_MAGIC)?;
        let rows = u32::from_le_bytes([frame[12], frame[13], frame[14], frame[15]]) as usize;
        let values = datum::read(&loaded.result, &mut slots, rows)?;
        let sources = slots.optional::<4>(rows)?;
        slots.skip(1)?;
        for (row, value) in values.iter().enumerate() {
            let from = sources.map_or(row, |sources| u32::from_le_bytes(sources[row]) as usize);
            replayed.given.push((from, datum::show(&loaded.result, value)));
        }
        for state in loaded.states.iter().filter(|state| state.access == Access::Column) {
            let mut column = slots.clone();
            slots.skip(state.data_type.slots())?;
            let Some(written) = slots.bits(self.keys.len())? else { continue };
            let values = datum::read(&state.data_type, &mut column, self.keys.len())?;
            for (at, value) in values.iter().enumerate().filter(|(at, _)| written[at / 8] & (1 << (at % 8)) != 0) {
                let shown = datum::show(&state.data_type, value);
                replayed.written.push((self.keys[at].clone(), state.name.clone(), shown));
            }
        }
        slots.skip(3)?;
        read_errors(&mut slots, &mut replayed.errors)
    }

    fn written_by_call(&self, loaded: &Loaded, replayed: &mut Replayed) -> Result<(), ReplayError> {
        for (index, state) in loaded.states.iter().enumerate().filter(|(_, state)| state.access == Access::Call) {
            for (at, key) in self.keys.iter().enumerate() {
                let place = (index as u32, at as u32);
                let before =
                    self.values.iter().find(|(state, key, _)| (*state, *key) == place).map(|(.., value)| value);
                let after = host::with(|host| host.state.remove(&place));
                if after.as_ref() == before {
                    continue;
                }
                let shown = after.map(|value| datum::decode(&state.data_type, &mut value.as_slice())).transpose();
                let shown = shown.map_err(|error| self.damaged(STATES, error.to_string()))?.unwrap_or(Datum::Null);
                replayed.written.push((key.clone(), state.name.clone(), datum::show(&state.data_type, &shown)));
            }
        }
        Ok(())
    }
}

fn columns(fields: &[Field], slots: &mut Slots<'_>, rows: usize) -> Result<Vec<Vec<Datum>>, FrameError> {
    fields.iter().map(|field| datum::read(&field.data_type, slots, rows)).collect()
}

fn read_file(path: &Path) -> Result<Vec<u8>, ReplayError> {
    std::fs::read(path).map_err(|source| ReplayError::Io { path: path.to_owned(), source })
}

/// State u32, key u32, length u32, the value: for each that is there.
fn read_values(path: &Path) -> Result<Vec<(u32, u32, Vec<u8>)>, ReplayError> {
    let bytes = read_file(path)?;
    let (mut rest, mut values) = (bytes.as_slice(), Vec::new());
    let number = |at: &[u8; 4]| u32::from_le_bytes(*at);
    while let Some((head, behind)) = rest.split_first_chunk::<12>() {
        let [state, key, length] = [0, 4, 8].map(|at| number(&[head[at], head[at + 1], head[at + 2], head[at + 3]]));
        let Some((value, left)) = behind.split_at_checked(length as usize) else { break };
        values.push((state, key, value.to_vec()));
        rest = left;
    }
    match rest {
        [] => Ok(values),
        _ => Err(ReplayError::Damaged {
            path: path.to_owned(),
            problem: format!("it ends within value {}", values.len()),
        }),
    }
}

fn texts(items: &[Json]) -> Result<Vec<String>, String> {
    let text = |item: &Json| {
        if let Json::Text(text) = item { Ok(text.clone()) } else { Err("a list of texts has another value".to_owned()) }
    };
    items.iter().map(text).collect()
}

/// What `load-functions` was told but for the resources, and what came of it.
fn setup_of(json: &Json) -> Result<(Setup, Vec<StateDeclaration>), String> {
    let function = json.get("function")?;
    let parse = |text: &str| DataType::parse(text).map_err(|error| error.to_string());
    let fields = |name: &str| {
        let field = |column: &Json| Ok(Field { name: column.text("name")?, data_type: parse(&column.text("type")?)? });
        function.list(name)?.iter().map(field).collect::<Result<Vec<_>, String>>()
    };
    let state = |state: &Json| {
        let access = if state.flag("by_call")? { Access::Call } else { Access::Column };
        Ok(StateDeclaration { name: state.text("name")?, data_type: parse(&state.text("type")?)?, access })
    };
    let states: Vec<StateDeclaration> = function.list("states")?.iter().map(state).collect::<Result<_, String>>()?;
    let pair = |pair: &Json| match pair {
        Json::List(pair) => match texts(pair)?.as_slice() {
            [name, value] => Ok((name.clone(), value.clone())),
            _ => Err("a parameter is no pair".to_owned()),
        },
        _ => Err("a parameter is no pair".to_owned()),
    };
    let binding = Binding {
        function: function.text("name")?,
        arguments: fields("arguments")?,
        key: fields("key")?,
        result: match function.get("wanted_result")? {
            Json::Null => None,
            _ => Some(parse(&function.text("wanted_result")?)?),
        },
        access: states.iter().map(|state| (state.name.clone(), state.access)).collect(),
        parameters: function.list("parameters")?.iter().map(pair).collect::<Result<_, String>>()?,
    };
    let setup = Setup {
        job: json.text("job")?,
        operator: json.text("node")?,
        subtask: json.number("subtask")?,
        parallelism: json.number("parallelism")?,
        bindings: vec![binding],
        resources: Vec::new(),
    };
    Ok((setup, states))
}
