//! `wasmill udf test`: the project's own tests, in this machine's own process.

use std::path::Path;
use std::process::{Command, Stdio};

use super::{not_started, parent, python};
use crate::report::Failure;

pub(crate) fn test(path: &Path) -> Result<(), Failure> {
    let found = std::fs::metadata(path).map_err(Failure::file("find", path))?;
    let folder = if found.is_dir() { path.to_owned() } else { parent(path) };
    if folder.join("Cargo.toml").is_file() {
        let mut command = Command::new("cargo");
        command.arg("test").current_dir(&folder);
        return finish(&mut command, "cargo", "install Rust from https://rustup.rs");
    }
    let mut command = python();
    let has_pytest = python()
        .args(["-c", "import pytest"])
        .current_dir(&folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(not_started("python3", "install Python 3, or name it in PYTHON"))?
        .success();
    if has_pytest {
        command.args(["-m", "pytest"]);
        if found.is_file() {
            command.arg(path.file_name().unwrap_or(path.as_os_str()));
        }
    } else {
        command.args(["-m", "unittest", "discover", "-p"]);
        let pattern = if found.is_file() { path.file_name() } else { None };
        command.arg(pattern.unwrap_or("test*.py".as_ref()));
    }
    // The SDK that the project was made with, for tools that do not read its pyproject.toml.
    if folder.join("vendor/python").is_dir() {
        let rest = std::env::var_os("PYTHONPATH").unwrap_or_default();
        let paths = std::iter::once("vendor/python".into()).chain(std::env::split_paths(&rest));
        let joined =
            std::env::join_paths(paths).map_err(|error| Failure::because("PYTHONPATH cannot be extended", error))?;
        command.env("PYTHONPATH", joined);
    }
    command.current_dir(&folder);
    finish(&mut command, "python3", "install Python 3, or name it in PYTHON")
}

fn finish(command: &mut Command, tool: &str, advice: &str) -> Result<(), Failure> {
    let status = command.status().map_err(not_started(tool, advice))?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::Tool("the tests failed: see above".into())),
    }
}
