//! Times of the host alone: `cargo run --release --example probe -- x.wasm FUNCTION [source.py|-] [ROWS]`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, Int64Array};
use wasmill_host::{
    Binding, Bundle, Capabilities, Engine, EngineConfig, Limits, LogLevel, Operation, Setup, SourceFile, UdfHost,
    data_type,
};

struct Print;

impl UdfHost for Print {
    fn log(&mut self, level: LogLevel, message: &str) {
        eprintln!("{level:?}: {message}");
    }

    fn state_get(&mut self, _state: u32, _key: u32, _value: &mut Vec<u8>) -> Result<bool, String> {
        Ok(false)
    }
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let made = work();
    println!("{what:40} {:>12.3?}", begun.elapsed());
    made
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let wasm = std::fs::read(&arguments[1])?;
    let cache_dir = Some(std::env::temp_dir().join("wasmill-probe-cache"));
    let engine = timed("engine", || Engine::new(EngineConfig { cache_dir, ..EngineConfig::default() }))?;
    let mut module = timed("load", || engine.load("probe", &wasm))?;
    if let Some(path) = arguments.get(3).filter(|path| *path != "-") {
        let content = Arc::from(std::fs::read(path)?);
        module = module.with_source(vec![SourceFile { path: path.clone(), content }]);
    }
    let limits = Limits { memory_bytes_max: 512 << 20, call_time_max: Duration::from_secs(60), ..Limits::default() };
    let declared = timed("describe", || module.describe(&limits))?;
    let function = declared.iter().find(|declared| declared.name == arguments[2]).ok_or("no such function")?;
    println!("{function:?}");
    let int = data_type::parse("int64")?;
    let fields = function.arguments.iter().map(|argument| int.to_field(&argument.name)).collect();
    let binding = Binding {
        function: function.name.clone(),
        arguments: fields,
        key: vec![],
        result: None,
        access: vec![],
        parameters: vec![],
    };
    let setup = Setup {
        job: "j".into(),
        operator: "o".into(),
        subtask: 0,
        parallelism: 1,
        bindings: vec![binding],
        resources: vec![],
    };
    let mut instance =
        timed("instantiate", || module.instantiate(setup.clone(), limits.clone(), Capabilities::default(), Print))?;
    timed("instantiate x 10, dropped", || -> Result<(), Box<dyn std::error::Error>> {
        for _ in 0..10 {
            module.instantiate(setup.clone(), limits.clone(), Capabilities::default(), Print)?;
        }
        Ok(())
    })?;
    println!("memory {} KiB", instance.memory_bytes() >> 10);
    let sizes = match arguments.get(4) {
        Some(rows) => vec![rows.parse()?; 20],
        None => vec![1, 10, 100, 1000, 10_000],
    };
    for rows in sizes {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let columns = vec![column; function.arguments.len()];
        let bundle = Bundle {
            function: 0,
            operation: Operation::Process,
            rows,
            arguments: &columns,
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
        let rounds = (2_000_000 / (rows + 100)).max(10);
        let mut best = Duration::MAX;
        for _ in 0..5 {
            let begun = Instant::now();
            for _ in 0..rounds {
                std::hint::black_box(instance.run(&bundle)?);
            }
            best = best.min(begun.elapsed() / rounds as u32);
        }
        println!("{rows:6} rows: {best:>10.3?} a bundle, {:>8.2} ns a row", best.as_nanos() as f64 / rows as f64);
    }
    Ok(())
}
