//! `wasmill udf bench`: what a call costs, by the size of the bundle.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::PrimitiveArray;
use arrow::array::{
    Array, ArrayRef, BooleanArray, ListArray, MapArray, StringArray, StructArray, UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, concat_batches, take};
use arrow::datatypes::{DataType, Field, Int64Type};
use wasmill_host::{
    Access, Binding, Bundle, Capabilities, FunctionDeclaration, Kind, Loaded, LogLevel, Operation, Resource, Setup,
    UdfHost, UdfInstance, data_type,
};
use wasmill_runtime::connector::{ConnectorContext, ReadOutcome};
use wasmill_runtime::value::{Options, Value};

use super::build::limits;
use super::inspect::signature;
use crate::args::BenchArgs;
use crate::environment::{connectors, environment, load};
use crate::progress::count;
use crate::report::Failure;

const BUNDLES: [usize; 5] = [1, 10, 100, 1000, 10_000];

/// Rows of input, used again and again; so many that a bundle of the largest size fits.
const ROWS: usize = 10_000;

/// Rows of one key, on average, for functions with state.
const ROWS_PER_KEY: usize = 10;

pub(crate) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let environment = environment()?;
    let module = load(&environment, &args.file)?;
    let limits = limits(module.has_source());
    let functions = module.describe(&limits).map_err(Failure::Host)?;
    let function = functions.iter().find(|function| function.name == args.function).ok_or_else(|| {
        let known = functions.iter().map(|function| function.name.as_str()).collect::<Vec<_>>().join(", ");
        Failure::Usage(format!("{} has no function \"{}\"; it has {known}", args.file.display(), args.function))
    })?;
    let input = Input::new(function, args.data.as_deref())?;
    let setup = setup(args, function, &input)?;
    let instance = module.instantiate(setup, limits, Capabilities::default(), Quiet).map_err(Failure::Host)?;
    let mut bench = Bench::new(function, input, instance);
    let mut rows = Vec::new();
    for size in BUNDLES {
        let (calls, done, elapsed) = bench.measure(size, Duration::from_secs_f64(args.time))?;
        let nanos = elapsed.as_nanos() as f64 / done as f64;
        rows.push(vec![
            format!("{:>8}", count(size as u64)),
            format!("{:>12}", count(calls)),
            format!("{:>12}", format!("{nanos:.1}")),
            format!("{:>14}", count((1e9 / nanos) as u64)),
        ]);
    }
    let header = [
        format!("{:>8}", "BUNDLE"),
        format!("{:>12}", "CALLS"),
        format!("{:>12}", "NS/ROW"),
        format!("{:>14}", "ROWS/S"),
    ];
    let table = crate::table(&header.each_ref().map(String::as_str), &rows);
    crate::print(&format!("{} {}\n\n{table}", function.kind, signature(function)))
}

fn setup(args: &BenchArgs, function: &FunctionDeclaration, input: &Input) -> Result<Setup, Failure> {
    let mut resources = Vec::new();
    for path in &args.resource {
        let content = std::fs::read(path).map_err(Failure::file("read", path))?;
        let name =
            path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
        resources.push(Resource { name, content: content.into() });
    }
    let key = if is_keyed(function) { vec![Field::new("key", DataType::Int64, false)] } else { Vec::new() };
    let binding = Binding {
        function: function.name.clone(),
        arguments: input.fields.clone(),
        key,
        result: None,
        access: Vec::new(),
        parameters: args.parameter.clone(),
    };
    let (job, operator) = ("bench".to_owned(), function.name.clone());
    Ok(Setup { job, operator, subtask: 0, parallelism: 1, bindings: vec![binding], resources })
}

fn is_keyed(function: &FunctionDeclaration) -> bool {
    !function.states.is_empty() || matches!(function.kind, Kind::Aggregate | Kind::Reduce)
}

/// No state is there yet, and what is logged is not what is measured.
struct Quiet;

impl UdfHost for Quiet {
    fn log(&mut self, _: LogLevel, _: &str) {}

    fn state_get(&mut self, _: u32, _: u32, _: &mut Vec<u8>) -> Result<bool, String> {
        Ok(false)
    }
}

/// The arguments, [`ROWS`] rows of them.
struct Input {
    fields: Vec<Field>,
    columns: Vec<ArrayRef>,
}

impl Input {
    fn new(function: &FunctionDeclaration, data: Option<&Path>) -> Result<Input, Failure> {
        let data = data.map(|path| read(path).map(|rows| (path, rows))).transpose()?;
        let mut input = Input { fields: Vec::new(), columns: Vec::new() };
        for argument in &function.arguments {
            let (data_type, nullable) = match &argument.data_type {
                Some(declared) => (declared.data_type.clone(), declared.nullable),
                None => (DataType::Int64, false),
            };
            let column = match &data {
                Some((path, rows)) => {
                    let column = rows.column_by_name(&argument.name).ok_or_else(|| {
                        let message = format!(
                            "{} has no column \"{}\", an argument of {}",
                            path.display(),
                            argument.name,
                            function.name
                        );
                        Failure::Usage(message)
                    })?;
                    let data_type = if argument.data_type.is_some() { data_type } else { column.data_type().clone() };
                    cast(column, &data_type).map_err(|error| {
                        Failure::because(
                            format!("column \"{}\" of {} does not fit the argument", argument.name, path.display()),
                            error,
                        )
                    })?
                }
                None => made_up(&data_type, ROWS),
            };
            let null = nullable || argument.data_type.is_none() && column.null_count() > 0;
            input.fields.push(Field::new(&argument.name, column.data_type().clone(), null || column.null_count() > 0));
            input.columns.push(column);
        }
        Ok(input)
    }

    fn rows(&self) -> usize {
        self.columns.first().map_or(ROWS, |column| column.len())
    }
}

/// The first rows of a file, repeated up to [`ROWS`].
fn read(path: &Path) -> Result<arrow::array::RecordBatch, Failure> {
    let connector = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let cannot = |error| Failure::because(format!("cannot read {}", path.display()), error);
    let mut options = Options::default();
    options.set("path", Value::text(path.display().to_string()));
    let context = ConnectorContext { base: Path::new(""), options: &mut options };
    let source = connectors().source(connector, context).map_err(cannot)?;
    let mut batches = Vec::new();
    let mut rows = 0;
    for split in source.splits().map_err(cannot)? {
        let mut reader = source.open(&split, None).map_err(cannot)?;
        while rows < ROWS {
            match reader.next(ROWS - rows).map_err(cannot)? {
                ReadOutcome::Rows { rows: batch, .. } => {
                    rows += batch.num_rows();
                    batches.push(batch);
                }
                ReadOutcome::Rejected(rejected) => {
                    let message = rejected.first().map_or("a row was rejected", |row| row.message.as_str());
                    return Err(Failure::Usage(message.to_owned()));
                }
                ReadOutcome::Pending(wait) => std::thread::sleep(wait),
                ReadOutcome::End => break,
            }
        }
    }
    if rows == 0 {
        return Err(Failure::Usage(format!("{} has no rows", path.display())));
    }
    let together = |error| Failure::because(format!("cannot put the rows of {} together", path.display()), error);
    let all = concat_batches(&source.schema(), &batches).map_err(together)?;
    let indices = UInt32Array::from_iter_values((0..ROWS as u32).map(|row| row % rows as u32));
    let columns = all
        .columns()
        .iter()
        .map(|column| take(column, &indices, None))
        .collect::<Result<Vec<_>, _>>()
        .map_err(together)?;
    arrow::array::RecordBatch::try_new(all.schema(), columns).map_err(together)
}

/// Values of any type of the contract, none of them null.
fn made_up(data_type: &DataType, rows: usize) -> ArrayRef {
    let numbers = |modulo: i64| PrimitiveArray::<Int64Type>::from_iter_values((0..rows as i64).map(|row| row % modulo));
    match data_type {
        DataType::Boolean => Arc::new(BooleanArray::from_iter((0..rows).map(|row| Some(row % 2 == 0)))),
        DataType::Utf8 => Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("value {}", row % 1000)))),
        DataType::Binary => cast(&made_up(&DataType::Utf8, rows), data_type).expect("texts are bytes"),
        DataType::List(item) => {
            let offsets = OffsetBuffer::from_repeated_length(3, rows);
            Arc::new(ListArray::new(Arc::clone(item), offsets, made_up(item.data_type(), rows * 3), None))
        }
        DataType::Struct(fields) if fields.is_empty() => Arc::new(StructArray::new_empty_fields(rows, None)),
        DataType::Struct(fields) => {
            let columns = fields.iter().map(|field| made_up(field.data_type(), rows)).collect();
            Arc::new(StructArray::new(fields.clone(), columns, None))
        }
        DataType::Map(entries, ordered) => {
            let offsets = OffsetBuffer::from_repeated_length(2, rows);
            let made = made_up(entries.data_type(), rows * 2);
            let made = made.as_any().downcast_ref::<StructArray>().expect("entries are a struct").clone();
            Arc::new(MapArray::new(Arc::clone(entries), offsets, made, None, *ordered))
        }
        // Numbers below 100 fit every other type, as a number of units where it is a time.
        other if other.is_temporal() && other.primitive_width() == Some(4) => {
            let small = cast(&numbers(100), &DataType::Int32).expect("small numbers fit");
            cast(&small, other).expect("an int32 can be a date")
        }
        DataType::Decimal128(precision, scale) => {
            let units = arrow::array::Decimal128Array::from_iter_values((0..rows).map(|row| (row % 9) as i128));
            Arc::new(units.with_precision_and_scale(*precision, *scale).expect("one digit fits every decimal"))
        }
        other => cast(&numbers(100), other).unwrap_or_else(|_| new_null_array(other, rows)),
    }
}

struct Bench {
    function: FunctionDeclaration,
    input: Input,
    instance: UdfInstance<Quiet>,
    loaded: Loaded,
}

/// What one call is given, made before the clock runs.
struct Prepared {
    rows: usize,
    arguments: Vec<ArrayRef>,
    key_index: Option<Vec<u32>>,
    keys: usize,
    key_columns: Vec<ArrayRef>,
    states: Vec<ArrayRef>,
}

impl Bench {
    fn new(function: &FunctionDeclaration, input: Input, instance: UdfInstance<Quiet>) -> Bench {
        let loaded = instance.loaded()[0].clone();
        Bench { function: function.clone(), input, instance, loaded }
    }

    /// Calls, rows and the time that they took together.
    fn measure(&mut self, size: usize, time: Duration) -> Result<(u64, u64, Duration), Failure> {
        let calls = self.prepare(size);
        // Warm: memory of the guest grown, pages touched.
        for prepared in calls.iter().take(3) {
            self.call(prepared)?;
        }
        let (mut count, mut rows) = (0, 0);
        let start = Instant::now();
        loop {
            for prepared in &calls {
                self.call(prepared)?;
                count += 1;
                rows += prepared.rows as u64;
                if start.elapsed() >= time {
                    return Ok((count, rows, start.elapsed()));
                }
            }
        }
    }

    /// All of the input in bundles of `size`, for small ones as many as are worth keeping.
    fn prepare(&self, size: usize) -> Vec<Prepared> {
        const CALLS_MAX: usize = 1000;
        let size = size.min(self.input.rows());
        let starts = (0..self.input.rows() / size).take(CALLS_MAX).map(|call| call * size);
        starts.map(|start| self.one(start, size)).collect()
    }

    fn one(&self, start: usize, rows: usize) -> Prepared {
        let arguments = self.input.columns.iter().map(|column| column.slice(start, rows)).collect();
        let keyed = is_keyed(&self.function);
        let keys = if keyed { rows.div_ceil(ROWS_PER_KEY) } else { 0 };
        let columns = self.loaded.states.iter().filter(|state| state.access == Access::Column);
        Prepared {
            rows,
            arguments,
            key_index: keyed.then(|| (0..rows).map(|row| (row % keys) as u32).collect()),
            keys,
            key_columns: if keyed { vec![made_up(&DataType::Int64, keys)] } else { Vec::new() },
            states: columns.map(|state| new_null_array(&state.data_type, keys)).collect(),
        }
    }

    fn call(&mut self, prepared: &Prepared) -> Result<(), Failure> {
        let operation = if self.function.kind == Kind::Aggregate { Operation::Accumulate } else { Operation::Process };
        let bundle = Bundle {
            function: 0,
            operation,
            rows: prepared.rows,
            arguments: &prepared.arguments,
            first_row: 0,
            event_times: None,
            row_kinds: None,
            key_index: prepared.key_index.as_deref(),
            keys: prepared.keys,
            key_columns: &prepared.key_columns,
            states: &prepared.states,
            sources: &[],
            watermark: i64::MIN,
            processing_time: 0,
            seed: 0,
        };
        let name = &self.function.name;
        let effects =
            self.instance.run(&bundle).map_err(|fault| Failure::Other { message: fault.to_string(), source: None })?;
        match effects.errors.first() {
            None => Ok(()),
            Some(error) => {
                let row = made_text(&prepared.arguments, &self.input.fields, error.row as usize);
                let message = format!(
                    "{name} raised {}: {} for ({row}): give rows that it takes with --data",
                    error.kind, error.message
                );
                Err(Failure::Other { message, source: None })
            }
        }
    }
}

fn made_text(arguments: &[ArrayRef], fields: &[Field], row: usize) -> String {
    let value = |(array, field): (&ArrayRef, &Field)| {
        let text = arrow::util::display::array_value_to_string(array, row).unwrap_or_else(|_| {
            data_type::display(field.data_type(), field.is_nullable()).unwrap_or_else(|_| "?".into())
        });
        format!("{}: {text}", field.name())
    };
    arguments.iter().zip(fields).map(value).collect::<Vec<_>>().join(", ")
}
