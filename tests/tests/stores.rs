//! Files behind URLs, by the built program: a real S3 API on loopback (moto, from requirements.txt), and a small web server.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wasmill_tests::s3::s3;
use wasmill_tests::{built, root};

/// The built program in `folder`, without anything from this machine's environment that stores look at.
fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(built("target/release/wasmill"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("WASMILL_CACHE_DIR", root().join("target/test-cache")).args(arguments);
    command
}

fn with_s3(mut command: Command) -> Command {
    command.envs(s3().environment());
    command
}

struct Ran {
    code: i32,
    err: String,
}

fn ran(mut command: Command) -> Ran {
    let output = command.output().unwrap();
    Ran { code: output.status.code().unwrap(), err: String::from_utf8(output.stderr).unwrap() }
}

fn folder(job: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.yaml"), job).unwrap();
    folder
}

/// Runs a job against S3.
fn run(job: &str, arguments: &[&str]) -> (TempDir, Ran) {
    let folder = folder(job);
    let ran = ran(with_s3(program(folder.path(), &[&["run", "job.yaml"], arguments].concat())));
    (folder, ran)
}

fn well(job: &str, arguments: &[&str]) -> TempDir {
    let (folder, ran) = run(job, arguments);
    assert_eq!(ran.code, 0, "{job}\n{}", ran.err);
    folder
}

const NUMBERS: &str = "
  - numbers:
      source: generator
      rows: 1000
      splits: 2
      fields: { n: { sequence: {} }, word: { random: { type: utf8, length: 5 } } }
";

/// The lines of a JSON lines file or folder of this machine, in the order of `n`.
fn lines(path: &Path) -> Vec<String> {
    let mut lines = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        for line in std::fs::read_to_string(entry.unwrap().path()).unwrap().lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            lines.insert(row["n"].as_i64().unwrap(), line.to_owned());
        }
    }
    lines.into_values().collect()
}

#[test]
fn every_format_goes_to_s3_and_comes_back() {
    let s3 = s3();
    s3.bucket("formats");
    let written = well(
        &format!(
            "name: there\nconfig: {{ parallelism: 2 }}\npipeline:{NUMBERS}  \
             - a: {{ from: numbers, sink: parquet, path: s3://formats/parquet }}\n  \
             - b: {{ from: numbers, sink: csv, path: s3://formats/csv/ }}\n  \
             - c: {{ from: numbers, sink: jsonl, path: s3://formats/deep/all.jsonl, parallelism: 1 }}\n  \
             - d: {{ from: numbers, sink: jsonl, path: here }}\n"
        ),
        &[],
    );
    assert_eq!(
        s3.keys("formats"),
        [
            "csv/part-0-0.csv",
            "csv/part-1-0.csv",
            "deep/all.jsonl",
            "parquet/part-0-0.parquet",
            "parquet/part-1-0.parquet"
        ]
    );
    assert_eq!(s3.uploads("formats"), 0);
    let expected = lines(&written.path().join("here"));
    assert_eq!(expected.len(), 1000);
    let sources = [
        ("parquet", "s3://formats/parquet"),
        ("csv", "s3://formats/csv/*.csv"),
        ("jsonl", "s3://formats/deep/all.jsonl"),
        ("jsonl", "s3a://formats/deep/"),
    ];
    for (format, path) in sources {
        let job = format!(
            "name: back\npipeline:\n  - rows: {{ source: {format}, path: '{path}', columns: [n, word] }}\n  \
             - out: {{ from: rows, sink: jsonl, path: out }}\n"
        );
        let back = well(&job, &["--set", "parallelism=2"]);
        assert_eq!(lines(&back.path().join("out")), expected, "{path}");
    }
}

#[test]
fn nothing_is_seen_before_the_end() {
    let s3 = s3();
    s3.bucket("unseen");
    let folder = folder(
        "name: slow\npipeline:\n  - rows:\n      source: generator\n      rows: 12000\n      rate: 4000\n      \
         fields: { text: { random: { type: utf8, length: 2000 } } }\n  \
         - out: { from: rows, sink: csv, path: s3://unseen/out }\n",
    );
    let mut job = with_s3(program(folder.path(), &["run", "job.yaml"])).stderr(Stdio::null()).spawn().unwrap();
    let (mut begun, started) = (0, Instant::now());
    while job.try_wait().unwrap().is_none() {
        // A list that is asked for after the end of the job may hold the output.
        let keys = s3.keys("unseen");
        if job.try_wait().unwrap().is_none() && started.elapsed() < Duration::from_millis(2500) {
            assert_eq!(keys, [] as [&str; 0]);
            begun = begun.max(s3.uploads("unseen"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(job.wait().unwrap().success());
    assert_eq!(begun, 1, "the upload begins while rows come");
    assert_eq!((s3.keys("unseen"), s3.uploads("unseen")), (vec!["out/part-0-0.csv".to_owned()], 0));
    let text = s3.text("unseen", "out/part-0-0.csv");
    assert_eq!((text.lines().count(), text.len()), (12_001, 5 + 12_000 * 2001));
}

#[test]
fn earlier_output_stays_unless_it_is_to_be_replaced() {
    let s3 = s3();
    s3.bucket("again");
    let job = |format: &str, more: &str| {
        format!(
            "name: again\npipeline:{NUMBERS}  - out: {{ from: numbers, sink: {format}, path: s3://again/out{more} }}\n"
        )
    };
    well(&job("csv", ""), &["--set", "parallelism=2"]);
    let before = s3.text("again", "out/part-0-0.csv");
    for format in ["csv", "jsonl"] {
        let (_folder, ran) = run(&job(format, ""), &[]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        let wanted = "s3://again/out/part-0-0.csv is there already, from an earlier run: remove it, give another path, or set overwrite: true";
        assert!(ran.err.contains(wanted), "{}", ran.err);
    }
    assert_eq!(s3.text("again", "out/part-0-0.csv"), before);
    well(&job("jsonl", ", overwrite: true"), &[]);
    assert_eq!(s3.keys("again"), ["out/part-0-0.jsonl"], "no mixture of formats is left");
    well(&job("jsonl", ", overwrite: true"), &[]);
    assert_eq!((s3.keys("again"), s3.uploads("again")), (vec!["out/part-0-0.jsonl".to_owned()], 0));
}

#[test]
fn a_job_that_fails_leaves_neither_objects_nor_uploads() {
    let s3 = s3();
    s3.bucket("failing");
    let folder = folder(
        "name: failing\npipeline:\n  - rows: { source: csv, path: 'in/*.csv', schema: { n: int64, text: utf8 } }\n  \
         - out: { from: rows, sink: jsonl, path: s3://failing/out }\n  \
         - more: { from: rows, sink: parquet, path: s3://failing/more, compression: none }\n",
    );
    std::fs::create_dir(folder.path().join("in")).unwrap();
    let good: String = (0..12_000).map(|n| format!("{n},{}\n", format!("{n:05}").repeat(400))).collect();
    std::fs::write(folder.path().join("in/a.csv"), format!("n,text\n{good}")).unwrap();
    std::fs::write(folder.path().join("in/b.csv"), format!("n,text\n{good}oops,x\n")).unwrap();
    let ran = ran(with_s3(program(folder.path(), &["run", "job.yaml", "--set", "parallelism=2"])));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("in/b.csv:12002: column n: got \"oops\", wanted int64"), "{}", ran.err);
    assert_eq!((s3.keys("failing"), s3.uploads("failing")), (Vec::new(), 0));
}

#[test]
fn dead_letters_can_go_to_s3() {
    let s3 = s3();
    s3.bucket("letters");
    let folder = folder(
        "name: letters\ndead-letters: { sink: jsonl, path: s3://letters/dead.jsonl }\npipeline:\n  \
         - rows: { source: csv, path: in.csv, schema: { n: int64 }, on-error: dead-letter }\n  \
         - out: { from: rows, sink: csv, path: s3://letters/out.csv }\n",
    );
    std::fs::write(folder.path().join("in.csv"), "n\n1\nx\n").unwrap();
    let ran = ran(with_s3(program(folder.path(), &["run", "job.yaml"])));
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(s3.text("letters", "out.csv"), "n\n1\n");
    let letter: serde_json::Value = serde_json::from_str(&s3.text("letters", "dead.jsonl")).unwrap();
    assert_eq!(letter["message"], "in.csv:3: column n: got \"x\", wanted int64");
}

/// Serves one file to whoever asks for it, until the tests end.
fn web_server(path: &'static str, kind: &'static str, content: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            while lines.read_line(&mut head).unwrap_or(0) > 2 {}
            let answer = match head.split(' ').collect::<Vec<_>>()[..] {
                [method, asked, ..] if asked == path => {
                    let body = if method == "HEAD" { "" } else { content };
                    format!(
                        "200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        content.len()
                    )
                }
                _ => "404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(format!("HTTP/1.1 {answer}").as_bytes());
        }
    });
    port
}

#[test]
fn a_web_server_is_read_and_not_written() {
    let port = web_server("/data/file%201.csv", "text/csv", "n,word\n1,\"a\"\"b\"\n2,\n");
    let url = format!("http://127.0.0.1:{port}/data");
    let job = |name: &str, sink: &str| {
        format!(
            "name: web\npipeline:\n  - rows: {{ source: csv, path: '{url}/{name}' }}\n  - out: {{ from: rows, sink: jsonl, path: '{sink}' }}\n"
        )
    };
    let read = folder(&job("file%201.csv", "out"));
    let done = ran(program(read.path(), &["run", "job.yaml"]));
    assert_eq!(done.code, 0, "{}", done.err);
    assert_eq!(lines(&read.path().join("out")), [r#"{"n":1,"word":"a\"b"}"#, r#"{"n":2,"word":null}"#]);

    let message = |name: &str, sink: &str| {
        let ran = ran(program(folder(&job(name, sink)).path(), &["check", "job.yaml"]));
        assert_eq!(ran.code, 2, "{}", ran.err);
        ran.err
    };
    let gone = message("gone.csv", "out");
    assert!(gone.contains(&format!("cannot read {url}/gone.csv: no such object or bucket")), "{gone}");
    let written = message("file%201.csv", &format!("{url}/out"));
    assert!(
        written.contains("a web server cannot be written to: give a path, or an s3://, gs:// or az:// URL"),
        "{written}"
    );
    let many = message("*.csv", "out");
    assert!(many.contains("a web server does not list its files: give the URL of one file"), "{many}");
    let folder_of = message("", "out");
    assert!(folder_of.contains(&format!("{url}/ ends in /, as a folder: a web server does not list")), "{folder_of}");
    let query = message("file.csv?token=1", "out");
    assert!(query.contains("what follows ? or # in a URL is not sent"), "{query}");
}

/// As a server lists a folder, or asks for a login: rows could be made of it.
#[test]
fn a_web_page_is_no_data() {
    let port = web_server("/data", "Text/HTML; charset=utf-8", "<html>\n<li>a.csv</li>\n</html>\n");
    for format in ["csv", "jsonl", "parquet"] {
        let job = format!(
            "name: web\npipeline:\n  - rows: {{ source: {format}, path: 'http://127.0.0.1:{port}/data' }}\n  - out: {{ from: rows, sink: print }}\n"
        );
        let ran = ran(program(folder(&job).path(), &["run", "job.yaml"]));
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(
            ran.err.contains("the server answers with a web page (text/html), not with a file of data"),
            "{}",
            ran.err
        );
    }
}

#[test]
fn what_is_wrong_with_a_store_is_said_and_soon() {
    let s3 = s3();
    s3.bucket("there");
    let reads = |path: &str| {
        format!(
            "name: x\npipeline:\n  - rows: {{ source: csv, path: '{path}' }}\n  - out: {{ from: rows, sink: print }}\n"
        )
    };
    let writes =
        |path: &str| format!("name: x\npipeline:{NUMBERS}  - out: {{ from: numbers, sink: csv, path: '{path}' }}\n");
    for (job, wanted) in [
        (reads("s3://nowhere/x.csv"), "cannot list s3://nowhere/x.csv: no such object or bucket"),
        (reads("s3://there/x.csv"), "no file to read in s3://there/x.csv"),
        (writes("s3://nowhere/out"), "cannot list s3://nowhere/out: no such object or bucket"),
        (writes("s3://nowhere/out.csv"), "NoSuchBucket"),
    ] {
        let (_folder, ran) = run(&job, &[]);
        assert!(ran.code != 0 && ran.err.contains(wanted), "{wanted}\n{}", ran.err);
        assert!(ran.err.matches("caused by").count() <= 1, "each cause is told once:\n{}", ran.err);
    }

    // Nothing listens on these ports, so that every request is tried again until time is up.
    let dead = [("AWS_ENDPOINT", "http://127.0.0.1:1"), ("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")];
    let keys = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    let allowed = [("AWS_ALLOW_HTTP", "true")];
    let cases = [
        (
            reads("s3://there/x.csv"),
            [&dead[..], &keys, &allowed].concat(),
            "cannot read s3://there/x.csv: there is no answer",
        ),
        (
            writes("s3://there/out"),
            [&dead[..], &keys, &allowed].concat(),
            "cannot list s3://there/out: there is no answer",
        ),
        (writes("s3://there/out"), [&dead[..], &allowed].concat(), "no credentials: AWS_ACCESS_KEY_ID is not set"),
        (reads("s3://there/x.csv"), [&dead[..], &allowed].concat(), "no credentials: AWS_ACCESS_KEY_ID is not set"),
        (reads("http://127.0.0.1:1/x.csv"), Vec::new(), "cannot read http://127.0.0.1:1/x.csv: there is no answer"),
        (
            reads("s3://there/x.csv"),
            [&dead[..], &keys].concat(),
            "AWS_ENDPOINT is http://127.0.0.1:1, over which nothing is encrypted",
        ),
    ];
    std::thread::scope(|scope| {
        for (job, environment, wanted) in &cases {
            scope.spawn(move || {
                let (folder, started) = (folder(job), Instant::now());
                let mut command = program(folder.path(), &["run", "job.yaml"]);
                command.envs(environment.iter().copied());
                let ran = ran(command);
                assert!(ran.code != 0 && ran.err.contains(wanted), "{wanted}\n{}", ran.err);
                assert!(!ran.err.contains("max_retries"), "{}", ran.err);
                assert!(!job.contains("http:") || !ran.err.contains("AWS_"), "{}", ran.err);
                assert!(started.elapsed() < Duration::from_secs(60), "{wanted}: {:?}", started.elapsed());
            });
        }
    });
}
