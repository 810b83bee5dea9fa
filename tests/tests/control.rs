//! Commands that reach a running job, by the built program: `wasmill jobs`, `stop` and the others, and what stands behind them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs::Permissions;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use wasmill_tests::{built, root};

const PATIENCE: Duration = Duration::from_secs(60);

/// The folders of a user, in which jobs run and find each other.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("runtime")).unwrap();
        Home { folder }
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(built("target/release/wasmill"));
        command.current_dir(self.folder.path()).env("XDG_RUNTIME_DIR", self.folder.path().join("runtime"));
        command.env("TMPDIR", self.folder.path()).env("WASMILL_CACHE_DIR", root().join("target/test-cache"));
        // What would send requests elsewhere must not.
        command.env("http_proxy", "http://127.0.0.1:1").env("ALL_PROXY", "http://127.0.0.1:1").args(arguments);
        command
    }

    /// What a command says: exit code, standard output and error.
    fn ask(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.program(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn announced(&self) -> PathBuf {
        self.folder.path().join("runtime/wasmill")
    }

    /// The files of jobs that run.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.announced()) else { return Vec::new() };
        let files = entries.map(|entry| entry.unwrap().path());
        let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
        files.sort();
        files
    }

    /// Starts a job called `name` that goes on for long; with an end that it does not reach, if `rows` is given.
    fn run(&self, name: &str, rows: Option<u32>, arguments: &[&str]) -> Job {
        let rows = rows.map_or_else(String::new, |rows| format!("rows: {rows}, "));
        let file = format!("{name}.yaml");
        let text = format!(
            "name: {name}\npipeline:\n  - numbers: {{ source: generator, {rows}rate: 100, fields: {{ n: {{ sequence: {{}} }} }} }}\n  \
             - out: {{ from: numbers, sink: jsonl, path: out-{name}, overwrite: true }}\n"
        );
        std::fs::write(self.folder.path().join(&file), text).unwrap();
        let arguments = [&["run", "--quiet", file.as_str()], arguments].concat();
        let process = self.program(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Job { process }
    }

    /// As [`run`](Self::run); returns when the job can be found.
    fn found(&self, name: &str, rows: Option<u32>, arguments: &[&str]) -> (Job, Value) {
        let mut job = self.run(name, rows, arguments);
        let end = format!("{name}-{}.json", job.process.id());
        let started = Instant::now();
        loop {
            let file = self.files().into_iter().find(|path| path.ends_with(&end));
            if let Some(text) = file.and_then(|file| std::fs::read(file).ok()) {
                return (job, serde_json::from_slice(&text).unwrap());
            }
            if job.process.try_wait().unwrap().is_some() {
                panic!("{name} has ended: {}", job.ended().1);
            }
            assert!(started.elapsed() < PATIENCE, "{name} is not found");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the job has written rows on their way to a file.
    fn after_rows(&self, name: &str) {
        let started = Instant::now();
        loop {
            let (_, out, _) = self.ask(&["jobs"]);
            let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            // JOB PID STATE UP (a number and s) READ …
            let read = line.split_whitespace().nth(5).and_then(|read| read.replace(',', "").parse().ok());
            if read.unwrap_or(0) > 10 {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{out}");
        }
    }
}

struct Job {
    process: Child,
}

impl Job {
    /// How the process ended, which it does soon, and what it said.
    fn ended(&mut self) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(started.elapsed() < PATIENCE, "the job goes on");
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut text = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (status, text)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Status and body of the answer to a request, made by hand.
fn http(found: &Value, request: &str, headers: &str, body: &str) -> (u16, Value) {
    let mut stream = TcpStream::connect(found["address"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let text = format!("{request} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap())
}

/// The headers that a request to the job needs.
fn headers(found: &Value) -> String {
    format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", found["token"].as_str().unwrap())
}

fn lines(folder: &Path) -> usize {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.map(|file| std::fs::read_to_string(file).unwrap().lines().count()).sum()
}

#[test]
fn a_job_is_listed_and_stopped_with_what_it_has_read() {
    let home = Home::new();
    assert_eq!(home.ask(&["jobs"]), (0, "no job runs\n".into(), String::new()));
    let (mut job, found) = home.found("endless", None, &[]);
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&home.announced()), mode(&home.files()[0])), (0o700, 0o600));
    assert_eq!(found["pid"], job.process.id());
    assert_eq!(found["job_file"], home.folder.path().join("endless.yaml").to_str().unwrap());
    home.after_rows("endless");
    let (code, out, _) = home.ask(&["jobs"]);
    let row = out.lines().nth(1).unwrap();
    assert!(code == 0 && row.starts_with(&format!("endless  {}  running  ", job.process.id())), "{out}");
    assert!(row.ends_with("endless.yaml") && row.contains("  none  "), "{out}");

    let (code, out, err) = home.ask(&["stop", "endless"]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(
        err.contains("error: job \"endless\": this job takes no checkpoints: set execution.checkpointing.dir"),
        "{err}"
    );
    assert!(err.contains("(--no-savepoint)"), "{err}");
    assert!(job.process.try_wait().unwrap().is_none(), "what is refused changes nothing");

    let id = format!("endless-{}", job.process.id());
    assert_eq!(home.ask(&["stop", &id, "--no-savepoint"]), (0, String::new(), format!("{id} has ended\n")));
    let (status, text) = job.ended();
    assert!(status.success(), "{text}");
    assert!(lines(&home.folder.path().join("out-endless")) > 10);
    assert_eq!(home.files(), [] as [PathBuf; 0]);
}

#[test]
fn a_job_with_an_end_commits_nothing_when_it_is_stopped() {
    let home = Home::new();
    let (mut job, _) = home.found("short", Some(1_000_000), &[]);
    home.after_rows("short");
    assert_eq!(home.ask(&["stop", "short", "--no-savepoint"]).0, 0);
    let (status, text) = job.ended();
    assert_eq!(status.code(), Some(130));
    assert!(text.contains("stopped by a command before the end; nothing was committed"), "{text}");
}

#[test]
fn what_is_cancelled_commits_nothing() {
    let home = Home::new();
    let (mut job, _) = home.found("endless", None, &[]);
    home.after_rows("endless");
    let (code, out, err) = home.ask(&["cancel", "endless"]);
    assert_eq!((code, out, err), (0, String::new(), format!("endless-{} has ended\n", job.process.id())));
    let (status, text) = job.ended();
    assert_eq!(status.code(), Some(130), "{text}");
    assert_eq!(lines(&home.folder.path().join("out-endless")), 0);
}

#[test]
fn a_job_that_takes_no_checkpoints_says_so() {
    let home = Home::new();
    let (_job, _) = home.found("plain", None, &[]);
    std::fs::write(home.folder.path().join("u.py"), "").unwrap();
    for command in [
        &["checkpoint", "plain"][..],
        &["savepoint", "plain"],
        &["savepoint", "plain", "--to", "here"],
        &["stop", "plain", "--drain", "--no-savepoint"],
        &["swap", "plain", "u", "u.py"],
    ] {
        let (code, out, err) = home.ask(command);
        assert_eq!((code, out.as_str()), (1, ""), "{command:?}: {err}");
        assert!(err.contains("this job takes no checkpoints: set execution.checkpointing.dir"), "{command:?}: {err}");
    }
    let (code, _, err) = home.ask(&["swap", "plain", "u", "gone.py"]);
    assert!(code == 1 && err.contains("cannot read gone.py"), "{err}");
}

#[test]
fn a_job_that_takes_checkpoints_is_saved_when_asked() {
    let home = Home::new();
    let place = |name: &str| home.folder.path().join(name).display().to_string();
    let keeps = ["--set", "execution.checkpointing.dir=kept"];
    let (mut job, _) = home.found("saved", None, &keeps);
    home.after_rows("saved");
    let (code, out, err) = home.ask(&["checkpoint", "saved"]);
    assert_eq!((code, out.trim()), (0, place("kept").as_str()), "{err}");
    assert!(
        err.starts_with(&format!("saved-{}: checkpoint ", job.process.id())) && err.contains(" bytes in "),
        "{err}"
    );
    let (code, out, err) = home.ask(&["savepoint", "saved"]);
    assert!(code == 0 && out.starts_with(&place("kept/savepoints/savepoint-")), "{out}{err}");
    let (code, out, err) = home.ask(&["savepoint", "saved", "--to", "mine"]);
    assert_eq!((code, out.trim()), (0, place("mine").as_str()), "{err}");
    let (code, out, err) = home.ask(&["savepoint", "saved", "--to", "mine"]);
    assert!(code == 1 && out.is_empty() && err.contains("is not empty (savepoint.manifest is there)"), "{err}");
    std::fs::write(home.folder.path().join("u.py"), "").unwrap();
    let (code, _, err) = home.ask(&["swap", "saved", "u", "u.py"]);
    assert!(code == 1 && err.contains("no UDF is called \"u\"; there are none"), "{err}");
    assert!(job.process.try_wait().unwrap().is_none());

    let (code, out, err) = home.ask(&["stop", "saved"]);
    assert!(
        code == 0 && out.starts_with(&place("kept/savepoints/savepoint-")) && err.ends_with(" has ended\n"),
        "{out}{err}"
    );
    let (status, text) = job.ended();
    assert!(status.success(), "{text}");
    let rows = lines(&home.folder.path().join("out-saved"));
    assert!(rows > 10);

    let elsewhere = ["--set", "execution.checkpointing.dir=again", "--from", out.trim()];
    let (mut again, _) = home.found("saved", None, &elsewhere);
    home.after_rows("saved");
    assert_eq!(home.ask(&["stop", "saved", "--no-savepoint"]).0, 0);
    let (status, text) = again.ended();
    assert!(status.success(), "{text}");
    assert!(lines(&home.folder.path().join("out-saved")) > rows, "it goes on behind what is there");
}

#[test]
fn jobs_are_found_by_name_and_told_apart_by_process() {
    let home = Home::new();
    let (code, _, err) = home.ask(&["stop", "twin"]);
    assert_eq!(code, 2);
    assert!(err.contains("no job called \"twin\" runs, and no other does"), "{err}");
    let (mut one, _) = home.found("twin", None, &["--set", "nodes.out.path=one"]);
    let (mut two, _) = home.found("twin", None, &["--set", "nodes.out.path=two"]);
    let ids = [&one, &two].map(|job| format!("twin-{}", job.process.id()));
    let (code, _, err) = home.ask(&["stop", "twin", "--no-savepoint"]);
    assert_eq!(code, 2);
    assert!(
        err.contains("several jobs called \"twin\" run: say which of ") && ids.iter().all(|id| err.contains(id)),
        "{err}"
    );
    let (code, _, err) = home.ask(&["cancel", "other"]);
    assert_eq!(code, 2);
    assert!(err.contains("no job called \"other\" runs; there are twin-"), "{err}");
    assert_eq!(home.ask(&["stop", &ids[1], "--no-savepoint"]).0, 0);
    assert!(two.ended().0.success());
    assert!(one.process.try_wait().unwrap().is_none());
    let (_, out, _) = home.ask(&["jobs"]);
    assert_eq!(out.lines().count(), 2, "{out}");
    assert_eq!(home.ask(&["cancel", "twin"]).0, 0);
    one.ended();
}

#[test]
fn who_does_not_know_the_token_is_refused() {
    let home = Home::new();
    let (mut job, found) = home.found("guarded", None, &[]);
    for token in ["", "Authorization: Bearer 0123\r\n", "Authorization: Basic eA==\r\n"] {
        for request in ["GET /v1/job", "POST /v1/job/cancel", "GET /"] {
            let (status, answer) = http(&found, request, &format!("Host: 127.0.0.1\r\n{token}"), "");
            assert_eq!((status, &answer["error"]["kind"]), (401, &json!("token")), "{request} {token}");
        }
    }
    let rebound = headers(&found).replace("localhost", "evil.example");
    let (status, answer) = http(&found, "POST /v1/job/cancel", &rebound, "");
    assert_eq!((status, &answer["error"]["kind"]), (403, &json!("host")));
    let (status, answer) = http(&found, "GET /v1/job", &headers(&found), "");
    assert_eq!((status, &answer["name"], &answer["state"]), (200, &json!("guarded"), &json!("running")));
    let nodes = answer["nodes"].as_array().unwrap();
    assert_eq!(
        (&nodes[0]["name"], &nodes[0]["inputs"], &nodes[1]["inputs"]),
        (&json!("numbers"), &json!([]), &json!(["numbers"]))
    );
    assert!(job.process.try_wait().unwrap().is_none());
    let (status, answer) = http(&found, "POST /v1/job/stop", &headers(&found), "{\"drain\": false}");
    assert_eq!((status, answer), (200, json!({ "savepoint": null })));
    assert!(job.ended().0.success());
}

#[test]
fn files_of_jobs_that_are_gone_are_removed() {
    let home = Home::new();
    let (mut job, found) = home.found("killed", None, &[]);
    job.process.kill().unwrap();
    job.process.wait().unwrap();
    assert_eq!(home.files().len(), 1);
    let (code, _, err) = home.ask(&["stop", "killed"]);
    assert!(code == 2 && err.contains("no job called \"killed\" runs"), "{err}");
    assert_eq!(home.files(), [] as [PathBuf; 0]);

    // The number of its process has gone to another one since, and its port to nobody.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut stale = found.clone();
    stale["pid"] = json!(std::process::id());
    stale["address"] = json!(listener.local_addr().unwrap().to_string());
    drop(listener);
    let file = home.announced().join(format!("killed-{}.json", std::process::id()));
    std::fs::write(&file, stale.to_string()).unwrap();
    let (code, _, err) = home.ask(&["cancel", "killed"]);
    assert!(code == 1 && err.contains("has ended: nobody listens on 127.0.0.1:"), "{err}");
    assert!(!file.exists());
    std::fs::write(&file, stale.to_string()).unwrap();
    assert_eq!(home.ask(&["jobs"]).1, "no job runs\n");
    assert!(!file.exists());
}

/// Something that is no job, but has the port of one, and takes a while to go away.
#[test]
fn a_job_that_goes_away_meanwhile() {
    let home = Home::new();
    let (job, found) = home.found("leaving", None, &[]);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut other = found.clone();
    other["address"] = json!(listener.local_addr().unwrap().to_string());
    std::fs::write(&home.files()[0], other.to_string()).unwrap();
    let asked = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 100]).unwrap();
        assert!(read > 0);
        drop(job);
    });
    let (code, _, err) = home.ask(&["checkpoint", "leaving"]);
    assert_eq!(code, 1);
    assert!(err.contains("went away before it answered: its own output says why"), "{err}");
    asked.join().unwrap();
}

#[test]
fn where_a_job_listens_can_be_said() {
    let home = Home::new();
    let mut off = home.run("off", Some(20), &["--control", "off"]);
    let (status, text) = off.ended();
    assert_eq!((status.success(), text.as_str()), (true, ""));
    assert!(!home.announced().exists());

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let (_job, found) = home.found("fixed", None, &["--control", &free]);
    assert_eq!(found["address"], json!(free));
    let mut second = home.run("second", None, &["--control", &free]);
    let (status, text) = second.ended();
    assert_eq!(status.code(), Some(1));
    assert!(text.contains(&format!("error: cannot listen on {free}\n  caused by: ")), "{text}");
    let mut open = home.run("open", None, &["--control", "0.0.0.0:0"]);
    let (status, text) = open.ended();
    assert!(status.code() == Some(2) && text.contains("an address of loopback is possible"), "{text}");
}

/// Commands are a convenience: without a place to announce itself, a job runs.
#[test]
fn a_job_that_cannot_be_found_runs_all_the_same() {
    let home = Home::new();
    std::fs::create_dir(home.announced()).unwrap();
    std::fs::set_permissions(home.announced(), Permissions::from_mode(0o755)).unwrap();
    let mut job = home.run("open", Some(20), &[]);
    let (status, text) = job.ended();
    assert!(status.success(), "{text}");
    assert!(
        text.starts_with("warning: no command will reach this job") && text.contains("can be entered by other users"),
        "{text}"
    );
    let (code, _, err) = home.ask(&["jobs"]);
    assert!(code == 1 && err.contains("can be entered by other users: remove it, or set XDG_RUNTIME_DIR"), "{err}");
}
