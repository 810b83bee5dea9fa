//! The built program in a folder of a test's own: where it finds nothing of the user's, and other tests do not find it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{built, root};

/// No measure, only a guard against waiting for ever.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A command of the program in `folder`, whose folder `runtime` has what tells of running jobs.
pub fn program(folder: &Path, arguments: &[&str]) -> Command {
    let runtime = folder.join("runtime");
    std::fs::create_dir_all(&runtime).expect("a test's folder can be written to");
    let mut command = Command::new(built("target/release/wasmill"));
    command.current_dir(folder).env("XDG_RUNTIME_DIR", runtime).env("TMPDIR", folder);
    command.env("WASMILL_CACHE_DIR", root().join("target/test-cache")).env_remove("RUST_BACKTRACE");
    command.args(arguments).stdin(Stdio::null());
    command
}

/// What a command says: exit code, standard output and error.
pub fn ask(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = program(folder, arguments).output().expect("the program can be started");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes texts");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

/// `wasmill run` of `job.yaml`, which is killed with the test.
pub struct Job(Child);

impl Job {
    pub fn start(folder: &Path, arguments: &[&str]) -> Job {
        let mut command = program(folder, &[&["run", "-q", "job.yaml"], arguments].concat());
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Job(child.expect("the program can be started"))
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("a child can be waited for").is_none()
    }

    /// Waits for its end, which comes: its exit code, and what it said.
    pub fn ended(mut self) -> (i32, String) {
        let began = Instant::now();
        while self.is_running() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut text = String::new();
        let mut error = self.0.stderr.take().expect("it is piped");
        std::io::Read::read_to_string(&mut error, &mut text).expect("the program writes texts");
        (self.0.wait().ok().and_then(|status| status.code()).unwrap_or(-1), text)
    }

    /// Waits until `is` is true, while the job runs.
    pub fn until(&mut self, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(self.is_running(), "it has ended too soon");
            assert!(began.elapsed() < PATIENCE, "nothing comes of it");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The rows that a `jsonl` sink has committed in `folder`.
pub fn committed(folder: &Path) -> Vec<Value> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut lines = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        // A file that is there is whole; hidden ones are in the making.
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("part-")) {
            let text = std::fs::read_to_string(&path).expect("a committed file stays");
            lines.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line is JSON")));
        }
    }
    lines
}
