//! What a value costs on its way into a Python function and out of it, by its type: nested ones, decimals, dates and times too.
//!
//! Two functions of `guests/bench/values.py` are called with the same values: `took` answers true, `same` gives back what it was
//! given. `in` is what `took` takes longer for a value of the type than for a bool; `out` is what `same` takes longer than `took`.
//! Beside them stands pyarrow, which makes CPython's objects of a column and a column of them.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field};
use arrow_ipc::writer::StreamWriter;
use wasmill_host::data_type::FieldType;
use wasmill_host::{
    Binding, Bundle, Capabilities, Limits, LogLevel, Operation, Setup, SourceFile, UdfHost, UdfInstance, UdfModule,
};
use wasmill_runtime::connector::{ConnectorContext, ReadOutcome};
use wasmill_runtime::udf_file::Environment;
use wasmill_runtime::value::{Location, Name, Options, Value, ValueKind};

use crate::cores::on_one_core;
use crate::figures::{Figure, WayName};
use crate::pace::{Pace, median};
use crate::work::connectors;
use crate::{BenchError, python, root};

/// In the figures.
pub const ID: &str = "python-values";

/// Values of a call; at most 10,000 make a batch.
const BUNDLE: usize = 1000;

const FUNCTIONS: &str = "guests/bench/values.py";
const PYARROW: &str = "the CPython process of benches/python/values.py";

/// A type in the contract's notation, and a value of it for a row, as JSON.
type Sample = (&'static str, fn(usize) -> String);

const SAMPLES: [Sample; 24] = [
    ("bool", |row| (row % 3 == 0).to_string()),
    ("int8", |row| (row % 100).to_string()),
    ("int64", |row| wide(row).to_string()),
    ("int64?", |row| if row % 4 == 0 { "null".into() } else { wide(row).to_string() }),
    ("uint64", |row| (u64::MAX - row as u64).to_string()),
    ("float32", |row| format!("{}.5", row % 1000)),
    ("float64", |row| format!("{}.37", wide(row))),
    ("decimal(9,2)", |row| format!("\"{}.37\"", row * 7919 % 10_000_000)),
    ("decimal(38,18)", |row| format!("\"-{}.{:018}\"", wide(row), wide(row + 1))),
    ("utf8", |row| format!("\"value {row:06}\"")),
    ("binary", |row| format!("\"{:024x}\"", wide(row))),
    ("date", |row| format!("\"20{:02}-0{}-1{}\"", row % 90 + 10, row % 9 + 1, row % 10)),
    ("time", |row| format!("\"0{}:{:02}:{:02}.000{:03}\"", row % 10, row % 60, row % 59, row % 1000)),
    ("timestamp(ms)", |row| format!("\"2026-0{}-1{}T10:11:12.{:03}\"", row % 9 + 1, row % 10, row % 1000)),
    ("timestamp(us)", |row| format!("\"2026-0{}-1{}T10:11:12.000{:03}\"", row % 9 + 1, row % 10, row % 1000)),
    ("timestamp(us,UTC)", |row| format!("\"2026-0{}-1{}T10:11:12.000{:03}Z\"", row % 9 + 1, row % 10, row % 1000)),
    ("timestamp(us,Europe/Zurich)", |row| {
        format!("\"2026-0{}-1{}T10:11:12.000{:03}Z\"", row % 9 + 1, row % 10, row % 1000)
    }),
    ("list<int64>", |row| format!("[{}, {}, {}]", wide(row), row, row + 1)),
    ("list<utf8>", |row| format!("[\"a {row}\", \"b {row}\", \"c {row}\"]")),
    ("struct<a: int64, b: utf8>", |row| format!("{{\"a\": {row}, \"b\": \"value {row:06}\"}}")),
    ("map<utf8, int64>", |row| format!("{{\"a {row}\": {row}, \"b {row}\": 2, \"c {row}\": 3}}")),
    ("list<struct<a: int64, b: utf8>>", |row| {
        format!("[{{\"a\": {row}, \"b\": \"x {row}\"}}, {{\"a\": 2, \"b\": \"y {row}\"}}]")
    }),
    ("struct<price: decimal(9,2), at: timestamp(us)>", |row| {
        format!(
            "{{\"price\": \"{}.37\", \"at\": \"2026-0{}-1{}T10:11:12.000{:03}\"}}",
            row,
            row % 9 + 1,
            row % 10,
            row % 1000
        )
    }),
    ("struct<tags: list<utf8>, by: map<utf8, list<int64>>>", |row| {
        format!("{{\"tags\": [\"a {row}\", \"b\"], \"by\": {{\"x {row}\": [1, {row}], \"y\": [3]}}}}")
    }),
];

/// Numbers of which no two are alike, beyond CPython's small ones.
fn wide(row: usize) -> u64 {
    (row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24
}

/// Nanoseconds a value, in and out, for every type.
///
/// # Errors
/// [`BenchError`].
pub fn measure(pace: &Pace, environment: &Environment) -> Result<Vec<Figure>, BenchError> {
    let batch = values()?;
    let floor = pyarrow(&batch, pace)?;
    let module = module(environment)?;
    let bools: ArrayRef = Arc::new(BooleanArray::from_iter((0..BUNDLE).map(|row| Some(row % 3 == 0))));
    let bool_field = Field::new("x", DataType::Boolean, false);
    let mut base = Call::new(&module, "took", &bool_field, bools)?;
    let mut figures = Vec::new();
    for (((notation, _), (field, column)), of_pyarrow) in
        SAMPLES.iter().zip(batch.schema().fields().iter().zip(batch.columns())).zip(floor)
    {
        let field = Field::new("x", field.data_type().clone(), field.is_nullable());
        let mut took = Call::new(&module, "took", &field, Arc::clone(column))?;
        let mut same = Call::new(&module, "same", &field, Arc::clone(column))?;
        same.check_same()?;
        let of_wasmill = on_one_core(|| differences(pace, &mut base, &mut took, &mut same))?;
        for (way, times) in [(WayName::Wasmill, of_wasmill), (WayName::Native, of_pyarrow)] {
            for (direction, time) in ["in", "out"].into_iter().zip(times) {
                figures.push(Figure::new(ID, way, BUNDLE, &format!("{notation} {direction}"), time, "ns"));
            }
        }
    }
    Ok(figures)
}

/// What a value takes in and out, in nanoseconds. The three calls are made in turn: a busy machine slows all of them.
fn differences(pace: &Pace, base: &mut Call, took: &mut Call, same: &mut Call) -> Result<[f64; 2], BenchError> {
    let (mut into, mut out) = (Vec::new(), Vec::new());
    for call in [&mut *base, &mut *took, &mut *same] {
        call.run()?;
    }
    let end = Instant::now() + pace.run;
    while into.len() < pace.samples || Instant::now() < end {
        let [base, took, same] = [base.run()?, took.run()?, same.run()?];
        into.push(took - base);
        out.push(same - took);
    }
    let a_value = |mut times: Vec<f64>| median(&mut times) / BUNDLE as f64;
    Ok([a_value(into), a_value(out)])
}

/// A batch with a column of each type.
fn values() -> Result<RecordBatch, BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::file(std::env::temp_dir()))?;
    let path = folder.path().join("values.jsonl");
    let mut lines = String::new();
    for row in 0..BUNDLE {
        let cells = SAMPLES.iter().enumerate().map(|(column, (_, json))| format!("\"c{column}\": {}", json(row)));
        let _infallible = writeln!(lines, "{{{}}}", cells.collect::<Vec<_>>().join(", "));
    }
    std::fs::write(&path, lines).map_err(BenchError::file(&path))?;
    let types = SAMPLES.iter().enumerate().map(|(column, (notation, _))| {
        (Name { text: format!("c{column}"), at: Location::NONE }, Value::text(*notation))
    });
    let mut options = Options::default();
    options.set("path", Value::text(path.display().to_string()));
    options.set("schema", Value { kind: ValueKind::Map(types.collect()), at: Location::NONE });
    let context = ConnectorContext { base: Path::new(""), options: &mut options };
    let source = connectors().source("jsonl", context)?;
    let split = source.splits()?.remove(0);
    match source.open(&split, None)?.next(BUNDLE)? {
        ReadOutcome::Rows { rows, .. } if rows.num_rows() == BUNDLE => Ok(rows),
        ReadOutcome::Rejected(rows) => {
            let problem = rows.into_iter().next().map_or_else(String::new, |row| row.message);
            Err(BenchError::Nothing { what: ID, problem })
        }
        _ => Err(BenchError::Nothing { what: ID, problem: "its rows did not come in one batch".into() }),
    }
}

/// What pyarrow takes: in and out, a column each.
fn pyarrow(batch: &RecordBatch, pace: &Pace) -> Result<Vec<[f64; 2]>, BenchError> {
    let folder = tempfile::tempdir().map_err(BenchError::file(std::env::temp_dir()))?;
    let path = folder.path().join("values.arrow");
    let file = std::fs::File::create(&path).map_err(BenchError::file(&path))?;
    let mut writer = StreamWriter::try_new_buffered(file, &batch.schema())?;
    writer.write(batch)?;
    writer.finish()?;
    let output = Command::new(python()?)
        .arg(root().join("benches/python/values.py"))
        .arg(&path)
        .arg(pace.run.as_secs_f64().to_string())
        .output()
        .map_err(BenchError::worker(PYARROW))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = |line: &str| -> Option<[f64; 2]> {
        let (into, out) = line.split_once(' ')?;
        Some([into.parse().ok()?, out.parse().ok()?])
    };
    match text.lines().map(line).collect::<Option<Vec<_>>>() {
        Some(times) if times.len() == batch.num_columns() => Ok(times),
        _ => {
            let got = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
            Err(BenchError::Answer { what: PYARROW, got, want: "two numbers for each column" })
        }
    }
}

fn module(environment: &Environment) -> Result<UdfModule, BenchError> {
    let path = root().join(FUNCTIONS);
    let content = std::fs::read(&path).map_err(BenchError::file(&path))?;
    let runner = environment
        .python_runner
        .as_ref()
        .ok_or_else(|| BenchError::Nothing { what: ID, problem: "there is no Python runner".into() })?;
    let files = vec![SourceFile { path: "values.py".into(), content: content.into() }];
    Ok(environment.engine.load_interpreter("python", runner)?.with_name("values").with_source(files))
}

/// One function on one column, again and again.
struct Call {
    instance: UdfInstance<Quiet>,
    arguments: [ArrayRef; 1],
    /// Of the last call.
    output: Vec<ArrayRef>,
}

/// Nothing is logged, and there is no state.
struct Quiet;

impl UdfHost for Quiet {
    fn log(&mut self, _: LogLevel, _: &str) {}

    fn state_get(&mut self, _: u32, _: u32, _: &mut Vec<u8>) -> Result<bool, String> {
        Ok(false)
    }
}

impl Call {
    fn new(module: &UdfModule, function: &str, field: &Field, column: ArrayRef) -> Result<Call, BenchError> {
        let result = FieldType { data_type: field.data_type().clone(), nullable: field.is_nullable() };
        let binding = Binding {
            function: function.to_owned(),
            arguments: vec![field.clone()],
            key: Vec::new(),
            result: (function == "same").then_some(result),
            access: Vec::new(),
            parameters: Vec::new(),
        };
        let (job, operator) = (ID.to_owned(), function.to_owned());
        let setup = Setup { job, operator, subtask: 0, parallelism: 1, bindings: vec![binding], resources: Vec::new() };
        // Python needs more than the default, which is a compiled UDF's.
        let limits = Limits { memory_bytes_max: 256 << 20, ..Limits::default() };
        let instance = module.instantiate(setup, limits, Capabilities::default(), Quiet)?;
        Ok(Call { instance, arguments: [column], output: Vec::new() })
    }

    /// Nanoseconds of one call; what it gives is checked to be whole.
    fn run(&mut self) -> Result<f64, BenchError> {
        let bundle = Bundle {
            function: 0,
            operation: Operation::Process,
            rows: BUNDLE,
            arguments: &self.arguments,
            first_row: 0,
            event_times: None,
            row_kinds: None,
            key_index: None,
            keys: 0,
            key_columns: &[],
            states: &[],
            sources: &[],
            watermark: i64::MIN,
            processing_time: 0,
            seed: 0,
        };
        let started = Instant::now();
        let effects = self.instance.run(&bundle);
        let time = started.elapsed();
        let effects = effects.map_err(|fault| BenchError::Nothing { what: ID, problem: fault.to_string() })?;
        if let Some(error) = effects.errors.first() {
            return Err(BenchError::Nothing { what: ID, problem: error.message.clone() });
        }
        self.output = effects.outputs.into_iter().map(|output| output.column).collect();
        Ok(nanoseconds(time))
    }

    /// Runs it once, and sees that what comes out is what went in.
    fn check_same(&mut self) -> Result<(), BenchError> {
        self.run()?;
        match self.output.as_slice() {
            [column] if column.as_ref() == self.arguments[0].as_ref() => Ok(()),
            other => {
                let what = format!("{other:?} for {:?}", self.arguments[0]);
                Err(BenchError::NotTheSame { work: ID.into(), way: "wasmill".into(), what })
            }
        }
    }
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}
