//! The built program, as a person meets it: what it prints, what it leaves, how it exits.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wasmill"));
    // Compiled components are shared between the tests, and kept: the Python runner takes long.
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
    command.current_dir(folder).env("WASMILL_CACHE_DIR", cache).env_remove("RUST_BACKTRACE");
    command
}

struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn wasmill(folder: &Path, arguments: &[&str]) -> Ran {
    program(folder).args(arguments).output().unwrap().into()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// A job file, checked and run.
fn job(folder: &Path, text: &str, arguments: &[&str]) -> Ran {
    std::fs::write(folder.join("job.yaml"), text).unwrap();
    wasmill(folder, &[&["run", "job.yaml"], arguments].concat())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The Python runner of this working copy.
fn runner() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wasmill/python-runner.wasm");
    assert!(path.is_file(), "{} is not built: run `make python-runner`", path.display());
    path
}

// ---- what needs no job

#[test]
fn help_shows_commands_and_examples() {
    let ran = wasmill(&folder().keep(), &["--help"]);
    assert_eq!(ran.code, Some(0));
    for word in
        ["run", "check", "jobs", "savepoint", "stop", "swap", "udf", "config", "schema", "completions", "Examples:"]
    {
        assert!(ran.out.contains(word), "{word} in {}", ran.out);
    }
    for command in [
        &["run", "--help"][..],
        &["udf", "bench", "--help"],
        &["udf", "new", "--help"],
        &["udf", "build", "--help"],
        &["stop", "--help"],
    ] {
        assert!(wasmill(Path::new("."), command).out.contains("Examples:"), "{command:?}");
    }
}

#[test]
fn a_wrong_command_is_a_usage_error() {
    for arguments in [
        &["fly"][..],
        &["run"],
        &["run", "x.yaml", "--set", "novalue"],
        &["udf", "new", "--lang", "cobol", "x"],
        &["udf", "new", "--lang", "rust", "Bad-Name"],
        &["run", "x.yaml", "--control", "0.0.0.0:80"],
        &["stop"],
        &["stop", "x", "--no-savepoint", "--to", "y"],
    ] {
        let ran = wasmill(Path::new("."), arguments);
        assert_eq!((ran.code, ran.err.starts_with("error:")), (Some(2), true), "{arguments:?}: {}", ran.err);
    }
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let ran = wasmill(Path::new("."), &["completions", shell]);
        assert!(ran.code == Some(0) && ran.out.contains("inspect"), "{shell}");
    }
}

#[test]
fn the_configuration_and_the_schema_are_printed() {
    let config = wasmill(Path::new("."), &["config"]).out;
    assert!(config.contains("bundle.size") && config.contains("1000"), "{config}");
    let schema: serde_json::Value = serde_json::from_str(&wasmill(Path::new("."), &["schema"]).out).unwrap();
    assert!(schema["properties"]["pipeline"].is_object());
}

// ---- jobs that are no jobs

fn check(text: &str) -> Ran {
    let folder = folder();
    std::fs::write(folder.path().join("job.yaml"), text).unwrap();
    let ran = wasmill(folder.path(), &["check", "job.yaml"]);
    assert_eq!(names(folder.path()), ["job.yaml"], "check writes nothing");
    ran
}

#[test]
fn a_valid_job_is_told_node_by_node() {
    let ran = check(
        "name: x\npipeline:\n  - g: { source: generator, rows: 1, fields: { i: { sequence: {} } } }\n  - out: { from: g, sink: jsonl, path: out }\n",
    );
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.out.starts_with("job.yaml is valid: job x, 2 nodes") && ran.out.contains("i: int64"), "{}", ran.out);
}

#[test]
fn every_problem_is_told_with_its_place() {
    let ran = check(
        "name: x\nconfig: { bundle.sise: 5 }\npipeline:\n  - g: { source: parquet, path: gone.parquet }\n  - out: { from: q, sink: print }\n",
    );
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""));
    assert!(
        ran.err.contains("error: job.yaml:2:11: bundle.sise: unknown key; did you mean \"bundle.size\"?"),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("cannot read gone.parquet\n  caused by: No such file or directory"), "{}", ran.err);
    assert!(ran.err.contains("job.yaml:5:"), "{}", ran.err);
    assert!(ran.err.ends_with("4 problems in job.yaml\n"), "{}", ran.err);
}

#[test]
fn bad_yaml_has_line_and_column() {
    let ran = check("name: x\npipeline:\n  - g: { source: [\n");
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.starts_with("error: job.yaml:") && ran.err.contains("bad YAML"), "{}", ran.err);
}

#[test]
fn a_job_file_that_is_not_there() {
    let ran = wasmill(folder().path(), &["run", "gone.yaml"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(2), "error: there is no job file gone.yaml\n"));
}

// ---- jobs

const GENERATE: &str = "name: made\npipeline:\n  - g: { source: generator, rows: 1000, splits: 2, fields: { i: { sequence: {} }, k: { modulo: 3 } } }\n";

#[test]
fn a_run_leaves_files_and_a_summary() {
    let folder = folder();
    let text = format!("{GENERATE}  - out: {{ from: g, sink: csv, path: out }}\n");
    let ran = job(folder.path(), &text, &["--set", "parallelism=2"]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    assert_eq!(names(&folder.path().join("out")), ["part-0-0.csv", "part-1-0.csv"]);
    assert!(ran.err.contains("made: 1,000 rows in") && ran.err.contains("0 row errors, 0 late rows"), "{}", ran.err);
    let lines: usize = ["part-0-0.csv", "part-1-0.csv"]
        .iter()
        .map(|name| std::fs::read_to_string(folder.path().join("out").join(name)).unwrap().lines().count() - 1)
        .sum();
    assert_eq!(lines, 1000);
    // Again: what is there is not overwritten unasked.
    let again = job(folder.path(), &text, &[]);
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains("is there already") && again.err.contains("overwrite: true"), "{}", again.err);
    let asked = job(folder.path(), &text, &["--quiet", "--set", "nodes.out.overwrite=true"]);
    assert_eq!((asked.code, asked.err.as_str()), (Some(0), ""));
    assert_eq!(names(&folder.path().join("out")), ["part-0-0.csv"]);
}

#[test]
fn printed_rows_are_standard_output() {
    let ran = job(folder().path(), &format!("{GENERATE}  - out: {{ from: g, sink: print }}\n"), &["-q"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out.lines().count(), 1000);
    assert_eq!(ran.out.lines().next(), Some("{\"i\":0,\"k\":0}"));
}

#[test]
fn a_file_beside_the_job() {
    let folder = folder();
    let ran = job(folder.path(), &format!("{GENERATE}  - out: {{ from: g, sink: jsonl, path: rows.jsonl }}\n"), &[]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(names(folder.path()), ["job.yaml", "rows.jsonl"]);
}

#[test]
fn a_reader_that_goes_away_ends_the_job() {
    let folder = folder();
    let text = "name: endless\npipeline:\n  - g: { source: generator, fields: { i: { sequence: {} } } }\n  - out: { from: g, sink: print }\n";
    std::fs::write(folder.path().join("job.yaml"), text).unwrap();
    let mut child =
        program(folder.path()).args(["run", "job.yaml"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "{\"i\":0}\n");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(said.contains("standard output was closed by its reader"), "{said}");
}

const READ: &str = "name: read\npipeline:\n  - in: { source: FORMAT, path: in.FORMAT, SCHEMA }\n  - out: { from: in, sink: jsonl, path: out/rows.jsonl }\n";

fn read_job(format: &str, schema: &str, content: &[u8], arguments: &[&str]) -> (TempDir, Ran) {
    let folder = folder();
    std::fs::write(folder.path().join(format!("in.{format}")), content).unwrap();
    let ran = job(folder.path(), &READ.replace("FORMAT", format).replace("SCHEMA", schema), arguments);
    (folder, ran)
}

#[test]
fn a_csv_row_with_too_few_fields() {
    let schema = "schema: { a: int64, b: utf8 }";
    let content = b"a,b\n1,x\n2\n3,z\n";
    let (folder, ran) = read_job("csv", schema, content, &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("node \"in\": in.csv:3: 1 fields, 2 expected"), "{}", ran.err);
    assert!(!folder.path().join("out/rows.jsonl").exists());
    assert_eq!(names(&folder.path().join("out")), [] as [&str; 0], "nothing half is left");
    let (folder, ran) = read_job("csv", schema, content, &["--set", "nodes.in.on-error=skip"]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(ran.err.contains("1 row errors"), "{}", ran.err);
    let rows = std::fs::read_to_string(folder.path().join("out/rows.jsonl")).unwrap();
    assert_eq!(rows, "{\"a\":1,\"b\":\"x\"}\n{\"a\":3,\"b\":\"z\"}\n");
}

#[test]
fn a_json_line_that_is_no_object() {
    let (_, ran) = read_job("jsonl", "schema: { a: int64 }", b"{\"a\": 1}\n[2]\n", &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("in.jsonl:2: a JSON object is wanted, got a list"), "{}", ran.err);
}

#[test]
fn a_truncated_parquet_file() {
    let (_, ran) = read_job("parquet", "columns: [a]", b"PAR1 and no footer", &[]);
    assert_eq!(ran.code, Some(2));
    assert!(ran.err.contains("in.parquet is not a readable Parquet file (18 bytes): is it cut off"), "{}", ran.err);
}

/// A whole disk is not to be had in a test, but a limit on the size of a file is the same to the program.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_grow_is_named() {
    let folder = folder();
    let text = "name: big\npipeline:\n  - g: { source: generator, rows: 5000000, fields: { i: { sequence: {} } } }\n  - out: { from: g, sink: csv, path: out }\n";
    std::fs::write(folder.path().join("job.yaml"), text).unwrap();
    let limited = format!("trap '' XFSZ; ulimit -f 1000; exec {} run job.yaml", env!("CARGO_BIN_EXE_wasmill"));
    let ran: Ran = Command::new("bash").args(["-c", &limited]).current_dir(folder.path()).output().unwrap().into();
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("cannot write ") && ran.err.contains("File too large"), "{}", ran.err);
    assert_eq!(names(&folder.path().join("out")), [] as [&str; 0], "nothing half is left");
}

// ---- signals

#[cfg(unix)]
fn interrupted(text: &str) -> (TempDir, Ran) {
    let folder = folder();
    std::fs::write(folder.path().join("job.yaml"), text).unwrap();
    let child = program(folder.path())
        .args(["run", "job.yaml"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The first file under its hidden name says that the job runs.
    let out = folder.path().join("out");
    let started = std::time::Instant::now();
    while !out.is_dir() || names(&out).is_empty() {
        assert!(started.elapsed().as_secs() < 60, "the job does not start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    std::thread::sleep(std::time::Duration::from_millis(200));
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    (folder, child.wait_with_output().unwrap().into())
}

#[cfg(unix)]
#[test]
fn a_stream_without_end_commits_when_it_is_stopped() {
    let (folder, ran) = interrupted(
        "name: endless\npipeline:\n  - g: { source: generator, rate: 10000, fields: { i: { sequence: {} } } }\n  - out: { from: g, sink: csv, path: out }\n",
    );
    assert_eq!(ran.code, Some(130), "{}", ran.err);
    assert!(ran.err.contains("what was read has been committed"), "{}", ran.err);
    assert_eq!(names(&folder.path().join("out")), ["part-0-0.csv"]);
}

#[cfg(unix)]
#[test]
fn a_job_with_an_end_commits_nothing_when_it_is_stopped() {
    let (folder, ran) = interrupted(
        "name: long\npipeline:\n  - g: { source: generator, rows: 100000000, rate: 10000, fields: { i: { sequence: {} } } }\n  - out: { from: g, sink: csv, path: out }\n",
    );
    assert_eq!(ran.code, Some(130), "{}", ran.err);
    assert!(ran.err.contains("nothing was committed"), "{}", ran.err);
    assert_eq!(names(&folder.path().join("out")), [] as [&str; 0]);
}

// ---- UDFs

#[test]
fn what_is_no_udf_is_refused_by_name() {
    let folder = folder();
    std::fs::write(folder.path().join("text.wasm"), "hello").unwrap();
    std::fs::write(folder.path().join("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let message = |file: &str| {
        let ran = wasmill(folder.path(), &["udf", "inspect", file]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
        ran.err
    };
    assert!(message("text.wasm").contains("is not WebAssembly"), "{}", message("text.wasm"));
    assert!(message("core.wasm").contains("is a core WebAssembly module, not a component"), "{}", message("core.wasm"));
    assert!(
        message("gone.wasm").starts_with("error: cannot read gone.wasm\n  caused by: No such file"),
        "{}",
        message("gone.wasm")
    );
}

#[test]
fn a_rust_project_builds_tests_and_runs_at_once() {
    let folder = folder();
    let made = wasmill(folder.path(), &["udf", "new", "--lang", "rust", "weather"]);
    assert_eq!((made.code, made.err.as_str()), (Some(0), ""));
    let again = wasmill(folder.path(), &["udf", "new", "--lang", "rust", "weather"]);
    assert!(again.code == Some(2) && again.err.contains("weather is there already"), "{}", again.err);

    let tested = wasmill(folder.path(), &["udf", "test", "weather"]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.out, tested.err);
    assert!(tested.out.contains("2 passed"), "{}", tested.out);

    let built = wasmill(folder.path(), &["udf", "build", "weather"]);
    assert_eq!(built.code, Some(0), "{}", built.err);
    assert!(built.out.starts_with("weather/weather.wasm (") && built.out.contains("celsius, Warmest"), "{}", built.out);

    let seen = wasmill(folder.path(), &["udf", "inspect", "weather/weather.wasm"]).out;
    assert!(seen.contains("celsius(fahrenheit: float64) -> float64") && seen.contains("so_far: float64"), "{seen}");
    let json = wasmill(folder.path(), &["udf", "inspect", "--json", "weather/weather.wasm"]).out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["functions"][0]["kind"], "scalar");

    for function in ["celsius", "Warmest"] {
        let measured = wasmill(folder.path(), &["udf", "bench", "weather/weather.wasm", function, "--time", "0.01"]);
        assert_eq!(measured.code, Some(0), "{}", measured.err);
        assert!(measured.out.contains("NS/ROW") && measured.out.contains("10,000"), "{}", measured.out);
    }
    let unknown = wasmill(folder.path(), &["udf", "bench", "weather/weather.wasm", "kelvin"]);
    assert!(unknown.code == Some(2) && unknown.err.contains("it has celsius, Warmest"), "{}", unknown.err);

    let text = "name: warm\nudfs: { weather: { path: weather/weather.wasm } }\npipeline:\n\
                \x20 - g: { source: collection, schema: { fahrenheit: float64 }, rows: [[32], [212]] }\n\
                \x20 - c: { from: g, with: { celsius: weather.celsius(fahrenheit) } }\n  - out: { from: c, sink: print }\n";
    let ran = job(folder.path(), text, &["-q"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert_eq!(ran.out, "{\"fahrenheit\":32.0,\"celsius\":0.0}\n{\"fahrenheit\":212.0,\"celsius\":100.0}\n");
}

#[test]
fn a_crate_that_does_not_build_shows_the_compilers_words() {
    let folder = folder();
    std::fs::create_dir_all(folder.path().join("bad/src")).unwrap();
    std::fs::write(
        folder.path().join("bad/Cargo.toml"),
        "[package]\nname = \"bad\"\nedition = \"2024\"\n[workspace]\n[lib]\ncrate-type = [\"cdylib\"]\n",
    )
    .unwrap();
    std::fs::write(folder.path().join("bad/src/lib.rs"), "fn f() -> i32 { \"x\" }\n").unwrap();
    let ran = wasmill(folder.path(), &["udf", "build", "bad"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.err.contains("mismatched types") && ran.err.contains("error: bad does not build: see above"),
        "{}",
        ran.err
    );
}

fn python_program(folder: &Path) {
    std::fs::write(folder.join("legs.py"), "from wasmill import udf\nimport helper\n\n@udf\ndef twice(x: int) -> int:\n    \"\"\"Two times x.\"\"\"\n    return helper.double(x)\n").unwrap();
}

#[test]
fn a_python_file_becomes_one_component_with_what_it_needs() {
    let folder = folder();
    python_program(folder.path());
    std::fs::create_dir(folder.path().join("more")).unwrap();
    std::fs::write(folder.path().join("more/helper.py"), "def double(x):\n    return 2 * x\n").unwrap();
    let run = |arguments: &[&str]| -> Ran {
        program(folder.path()).env("WASMILL_PYTHON_RUNNER", runner()).args(arguments).output().unwrap().into()
    };
    let without = run(&["udf", "build", "legs.py"]);
    assert_eq!(without.code, Some(1));
    assert!(without.err.contains("helper"), "{}", without.err);
    let built = run(&["udf", "build", "legs.py", "--include", "more", "-o", "out.wasm"]);
    assert_eq!(built.code, Some(0), "{}", built.err);
    // It needs neither the runner nor the sources any more.
    std::fs::remove_file(folder.path().join("legs.py")).unwrap();
    std::fs::remove_dir_all(folder.path().join("more")).unwrap();
    let seen = wasmill(folder.path(), &["udf", "inspect", "out.wasm"]);
    assert!(
        seen.out.contains("twice(x: int64) -> int64") && seen.out.contains("Two times x."),
        "{}{}",
        seen.out,
        seen.err
    );
    let text = "name: twice\nudfs: { legs: { path: out.wasm } }\npipeline:\n  - g: { source: generator, rows: 3, fields: { i: { sequence: {} } } }\n\
                \x20 - t: { from: g, with: { t: legs.twice(i) } }\n  - out: { from: t, sink: print }\n";
    let ran = job(folder.path(), text, &["-q"]);
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "{\"i\":0,\"t\":0}\n{\"i\":1,\"t\":2}\n{\"i\":2,\"t\":4}\n"),
        "{}",
        ran.err
    );
}

/// A wheel with one file and its RECORD, so that no registry is asked.
fn wheel(folder: &Path, file: &str, content: &str) -> PathBuf {
    let path = folder.join("tiny_helper-1.0-py3-none-any.whl");
    let script = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z:\n    z.writestr(sys.argv[2], sys.argv[3])\n    \
                  d = 'tiny_helper-1.0.dist-info/'\n    z.writestr(d + 'METADATA', 'Metadata-Version: 2.1\\nName: tiny-helper\\nVersion: 1.0\\n')\n    \
                  z.writestr(d + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n    \
                  z.writestr(d + 'RECORD', sys.argv[2] + ',,\\n' + d + 'METADATA,,\\n' + d + 'WHEEL,,\\n' + d + 'RECORD,,\\n')\n";
    let made = Command::new("python3").args(["-c", script]).arg(&path).args([file, content]).status().unwrap();
    assert!(made.success());
    path
}

#[test]
fn requirements_travel_along_and_native_ones_are_refused_by_name() {
    let folder = folder();
    python_program(folder.path());
    let run = || -> Ran {
        program(folder.path())
            .env("WASMILL_PYTHON_RUNNER", runner())
            .args(["udf", "build", "legs.py"])
            .output()
            .unwrap()
            .into()
    };
    let requirements =
        |wheel: &Path| std::fs::write(folder.path().join("requirements.txt"), wheel.display().to_string()).unwrap();
    requirements(&wheel(folder.path(), "helper.py", "def double(x):\n    return 2 * x\n"));
    let built = run();
    assert_eq!(built.code, Some(0), "{}", built.err);
    assert!(built.out.starts_with("legs.wasm ("), "{}", built.out);
    // A job takes the same along by itself.
    for packages in ["requirements.txt", "tiny_helper-1.0-py3-none-any.whl"] {
        let text = format!(
            "name: twice\nudfs: {{ legs: {{ path: legs.py, packages: {packages} }} }}\npipeline:\n  - g: {{ source: generator, rows: 2, fields: {{ i: {{ sequence: {{}} }} }} }}\n\
             \x20 - t: {{ from: g, with: {{ t: legs.twice(i) }} }}\n  - out: {{ from: t, sink: print }}\n"
        );
        let ran = job(folder.path(), &text, &["-q"]);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "{\"i\":0,\"t\":0}\n{\"i\":1,\"t\":2}\n"), "{}", ran.err);
    }
    requirements(&wheel(folder.path(), "helper/fast.so", "\x7fELF"));
    let refused = run();
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.err.starts_with(
            "error: package \"tiny_helper\" needs native code (helper/fast.so), which does not run in WebAssembly"
        ),
        "{}",
        refused.err
    );
    requirements(Path::new("./gone-1.0-py3-none-any.whl"));
    assert!(run().err.contains("pip could not install what"), "{}", run().err);
}

#[test]
fn a_python_project_tests_at_once() {
    let folder = folder();
    assert_eq!(wasmill(folder.path(), &["udf", "new", "--lang", "python", "weather"]).code, Some(0));
    let tested = wasmill(folder.path(), &["udf", "test", "weather"]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.out, tested.err);
    let mut file =
        std::fs::OpenOptions::new().append(true).open(folder.path().join("weather/tests/test_weather.py")).unwrap();
    file.write_all(b"\n\nimport unittest\n\n\nclass Wrong(unittest.TestCase):\n    def test_it(self):\n        self.assertEqual(1, 2)\n").unwrap();
    let failed = wasmill(folder.path(), &["udf", "test", "weather"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.ends_with("error: the tests failed: see above\n"), "{}", failed.err);
}

#[test]
fn without_the_runner_python_says_what_to_do() {
    let folder = folder();
    std::fs::write(folder.path().join("x.py"), "").unwrap();
    let ran: Ran = program(folder.path())
        .env("WASMILL_PYTHON_RUNNER", "/nowhere/runner.wasm")
        .args(["udf", "inspect", "x.py"])
        .output()
        .unwrap()
        .into();
    assert_eq!(
        (ran.code, ran.err.as_str()),
        (Some(2), "error: WASMILL_PYTHON_RUNNER is /nowhere/runner.wasm: there is no such file\n")
    );
}
