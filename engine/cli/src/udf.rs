//! `wasmill udf …`

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod inspect;
pub(crate) mod new;
pub(crate) mod test;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Failure;

/// What a path holds.
enum Project {
    /// Folder of a Rust crate.
    Rust(PathBuf),
    /// A Python file.
    Python(PathBuf),
}

/// A crate's folder or manifest, a Python file, or a folder with one Python file that is no test.
fn project(path: &Path) -> Result<Project, Failure> {
    let found = std::fs::metadata(path).map_err(Failure::file("find", path))?;
    if found.is_file() {
        return match (path.file_name().and_then(|name| name.to_str()), path.extension()) {
            (Some("Cargo.toml"), _) => Ok(Project::Rust(parent(path))),
            (_, Some(extension)) if extension == "py" => Ok(Project::Python(path.to_owned())),
            _ => Err(Failure::Usage(format!("{} is neither a Python file nor a Cargo.toml", path.display()))),
        };
    }
    if path.join("Cargo.toml").is_file() {
        return Ok(Project::Rust(path.to_owned()));
    }
    let entries = std::fs::read_dir(path).map_err(Failure::file("list", path))?;
    let mut programs = Vec::new();
    for entry in entries {
        let file = entry.map_err(Failure::file("list", path))?.path();
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_test = name.starts_with("test_") || name.ends_with("_test.py") || name == "conftest.py";
        if name.ends_with(".py") && !is_test {
            programs.push(file);
        }
    }
    programs.sort();
    match programs.as_slice() {
        [one] => Ok(Project::Python(one.clone())),
        [] => Err(Failure::Usage(format!("{} has neither a Cargo.toml nor a Python file", path.display()))),
        several => {
            let names = several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            Err(Failure::Usage(format!("{} has several Python files: name one of {names}", path.display())))
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A tool that is not there is the user's to install.
pub(crate) fn not_started(tool: &str, advice: &str) -> impl FnOnce(std::io::Error) -> Failure {
    let message = format!("cannot run {tool}: {advice}");
    move |error| Failure::because(message, error)
}

/// `$PYTHON`, else `python3`.
pub(crate) fn python() -> Command {
    Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}
