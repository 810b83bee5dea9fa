//! Checkpoints in an object store: a real S3 API on loopback (moto, from requirements.txt).
//!
//! Where a store is, is said by the environment of a process: each test runs itself again, with the environment of the case.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmill_connectors::checkpoint_storage;
use wasmill_runtime::checkpoint::storage::{CheckpointStorage, StorageError};
use wasmill_tests::s3::s3;

/// Set in the processes that do what a test is about.
const INSIDE: &str = "WASMILL_TEST_INSIDE";

fn storage(location: &str) -> Arc<dyn CheckpointStorage> {
    checkpoint_storage(Path::new("."), location).unwrap()
}

/// This program, to run the test `name` with the environment of S3, or `more` of it.
fn inside(name: &str, what: &str, more: &[(&str, &str)]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("AWS_") || name.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(name);
        }
    }
    command.args(["--exact", name, "--nocapture"]).envs(s3().environment()).env(INSIDE, what);
    command.envs(more.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn well(mut command: Command) {
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn objects_are_put_listed_read_and_deleted() {
    if std::env::var_os(INSIDE).is_none() {
        s3().bucket("kept");
        well(inside("objects_are_put_listed_read_and_deleted", "", &[]));
        assert_eq!(s3().keys("kept"), ["jobs/x/chk-1/manifest", "jobs/x/chk-10/state"]);
        assert_eq!(s3().uploads("kept"), 0);
        return;
    }
    let storage = storage("s3://kept/jobs/x/");
    let claim = storage.claim().unwrap();
    assert_eq!(storage.list("").unwrap(), [] as [&str; 0]);
    let large: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    storage.put("chk-1/manifest", b"one").unwrap();
    storage.put("chk-1/empty", b"").unwrap();
    storage.put("chk-10/state", &large).unwrap();
    assert_eq!(storage.list("").unwrap(), ["chk-1/empty", "chk-1/manifest", "chk-10/state"]);
    assert_eq!(storage.list("chk-1/").unwrap(), ["chk-1/empty", "chk-1/manifest"]);
    assert!(storage.get("chk-10/state").unwrap() == large);
    assert_eq!(storage.get("chk-1/empty").unwrap(), b"");
    storage.put("chk-1/manifest", b"another").unwrap();
    assert_eq!(storage.get("chk-1/manifest").unwrap(), b"another");
    storage.delete("chk-1/empty").unwrap();
    storage.delete("chk-1/empty").unwrap();
    let error = storage.get("chk-1/empty").unwrap_err();
    assert!(matches!(error, StorageError::Missing { .. }), "{error:?}");
    assert_eq!(error.to_string(), "there is no s3://kept/jobs/x/chk-1/empty");
    drop(claim);
}

/// Waits for the claim of the process that `command` starts.
fn holder(mut command: Command, bucket: &str) -> Child {
    let mut process = command.spawn().unwrap();
    let started = Instant::now();
    while s3().keys(bucket).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "no claim within a minute");
        assert!(process.try_wait().unwrap().is_none(), "the holder has ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    process
}

#[test]
fn a_claim_stays_when_its_process_is_killed_and_says_what_to_remove() {
    const NAME: &str = "a_claim_stays_when_its_process_is_killed_and_says_what_to_remove";
    match std::env::var(INSIDE).as_deref() {
        Ok("hold") => {
            let _claim = storage("s3://claimed/x").claim().unwrap();
            std::thread::sleep(Duration::from_secs(600));
        }
        Ok(process) => {
            let error = storage("s3a://claimed/x").claim().err().unwrap();
            assert!(matches!(error, StorageError::Taken { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.starts_with(&format!("s3a://claimed/x is taken: process {process} on ")), "{text}");
            assert!(text.ends_with("if it is dead, remove s3a://claimed/x/.claim"), "{text}");
        }
        Err(_) => {
            s3().bucket("claimed");
            let mut holder = holder(inside(NAME, "hold", &[]), "claimed");
            let id = holder.id().to_string();
            well(inside(NAME, &id, &[]));
            holder.kill().unwrap();
            holder.wait().unwrap();
            well(inside(NAME, &id, &[]));
        }
    }
}

/// What imitates S3 may take no conditions; two jobs are told apart all the same, unless they start at one moment.
#[test]
fn a_store_without_conditions_is_asked_first() {
    if std::env::var_os(INSIDE).is_none() {
        s3().bucket("plain");
        let environment = [("AWS_CONDITIONAL_PUT", "disabled")];
        well(inside("a_store_without_conditions_is_asked_first", "", &environment));
        assert_eq!(s3().keys("plain"), [] as [&str; 0]);
        return;
    }
    let (first, second) = (storage("s3://plain/x"), storage("s3://plain/x"));
    let claim = first.claim().unwrap();
    assert!(matches!(second.claim().err(), Some(StorageError::Taken { .. })));
    drop(claim);
    drop(second.claim().unwrap());
}

#[test]
fn what_is_wrong_with_a_store_is_said() {
    const NAME: &str = "what_is_wrong_with_a_store_is_said";
    match std::env::var(INSIDE).as_deref() {
        Ok("dead") => {
            let error = storage("s3://kept/x").put("a", b"").unwrap_err();
            let text = error.to_string();
            assert!(text.starts_with("cannot write s3://kept/x/a: there is no answer"), "{text}");
        }
        Ok(_) => {
            let storage = storage("s3://nowhere/x");
            let texts =
                [storage.put("a", b"").unwrap_err(), storage.claim().err().unwrap(), storage.list("").unwrap_err()];
            for text in texts.map(|error| error.to_string()) {
                assert!(text.contains("s3://nowhere/x") && text.contains("no such object or bucket"), "{text}");
            }
        }
        Err(_) => {
            well(inside(NAME, "nowhere", &[]));
            well(inside(NAME, "dead", &[("AWS_ENDPOINT", "http://127.0.0.1:1")]));
        }
    }
}
