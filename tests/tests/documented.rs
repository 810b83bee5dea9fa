//! Every complete example of docs/jobs.md runs and gives what it should; job files fit their JSON Schema.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;

use serde_json::{Value, json};
use wasmill_runtime::{JOB_SCHEMA, job_file};
use wasmill_tests::{root, run};

/// The code blocks of a language in a Markdown text.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    let ends = |block: &'a str| block.split("\n```").next().unwrap_or_default();
    text.split(fence.as_str()).skip(1).map(ends).collect()
}

/// The JSON lines in a folder, sorted by their text: parts come in any order.
fn lines(folder: &Path) -> Vec<Value> {
    let mut lines: Vec<String> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        lines.extend(text.lines().map(str::to_owned));
    }
    lines.sort();
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn expected(job: &str) -> (&'static str, Vec<Value>) {
    match job {
        "ratios" => ("out/ratios", vec![json!({"a": 10, "b": 2, "ratio": 5.0})]),
        "words" => {
            let row = |word: &str, count: i64| json!({"word": word, "count": count});
            ("out/counts", vec![row("a", 1), row("a", 2), row("is", 1), row("rose", 1), row("rose", 2)])
        }
        "hourly" => {
            let row = |station: &str, hour: u32, mean: f64| {
                let time = |hour: u32| format!("2026-01-01T{hour:02}:00:00");
                json!({"station": station, "window_start": time(hour), "window_end": time(hour + 1), "Mean": mean})
            };
            ("out/hourly", vec![row("n", 0, 2.5), row("n", 1, 2.5), row("s", 0, 4.0)])
        }
        "largest" => {
            let row = |who: &str, best: i64| json!({"who": who, "best": best});
            ("out/largest", vec![row("x", 2), row("x", 6), row("x", 6), row("y", 10)])
        }
        other => panic!("docs/jobs.md has an example \"{other}\" that nobody checks"),
    }
}

fn sorted(mut values: Vec<Value>) -> Vec<String> {
    values.iter_mut().for_each(|value| value.sort_all_objects());
    let mut texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    texts.sort();
    texts
}

#[test]
fn examples_run_and_give_what_they_should() {
    let text = std::fs::read_to_string(root().join("docs/jobs.md")).unwrap();
    let examples: Vec<&str> = blocks(&text, "yaml").into_iter().filter(|block| block.starts_with("name:")).collect();
    assert_eq!(examples.len(), 4);
    let [program] = blocks(&text, "python")[..] else { panic!("one examples.py is wanted") };
    for example in examples {
        for (mode, parallelism) in [("bundle", "1"), ("thread", "2")] {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("examples.py"), program).unwrap();
            let set = [("execution-mode".into(), mode.into()), ("parallelism".into(), parallelism.into())];
            let job = job_file::read(example, folder.path(), &set).unwrap_or_else(|problems| panic!("{problems:#?}"));
            let run = run(&job).unwrap_or_else(|problems| panic!("{example}\n{problems:#?}"));
            run.outcome.unwrap_or_else(|error| panic!("{}: {error}", job.name));
            let (output, rows) = expected(&job.name.text);
            assert_eq!(sorted(lines(&folder.path().join(output))), sorted(rows), "{} {mode}", job.name);
            if job.name.text == "ratios" {
                let letters = std::fs::read_to_string(folder.path().join("out/dead.jsonl")).unwrap();
                let letter: Value = serde_json::from_str(&letters).unwrap();
                assert_eq!(letter["kind"], "ZeroDivisionError");
                assert_eq!((&letter["row"], &letter["source"]), (&json!(1), &json!("numbers")));
                assert_eq!(letter["record"], r#"{"a":1,"b":0}"#);
                let traceback = letter["traceback"].as_str().unwrap();
                assert!(traceback.contains("examples.py\", line 8, in divide"), "{traceback}");
            }
        }
    }
}

#[test]
fn job_files_fit_the_schema() {
    let schema: Value = serde_json::from_str(JOB_SCHEMA).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let text = std::fs::read_to_string(root().join("docs/jobs.md")).unwrap();
    let demo = std::fs::read_to_string(root().join("guests/demo/flights.yaml")).unwrap();
    let jobs = blocks(&text, "yaml").into_iter().filter(|block| block.starts_with("name:")).chain([demo.as_str()]);
    for job in jobs {
        let value: Value = serde_saphyr::from_str(job).unwrap();
        let errors: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{job}\n{errors:#?}");
    }
    for wrong in [
        "name: x\nconfig: { bundle.sise: 1 }\npipeline: []\n",
        "name: x\npipeline: [{ a: { from: b, wiht: { c: u.f(d) } } }]\n",
        "name: x\npipeline: [{ a: { from: b, map: u.f, kay: [c] } }]\n",
    ] {
        let value: Value = serde_saphyr::from_str(wrong).unwrap();
        assert!(!validator.is_valid(&value), "{wrong}");
    }
}
