//! What a Python UDF takes along: its own file, and pure-Python code by requirement, file, folder or zip.

use std::path::Path;
use std::process::Stdio;

use wasmill_host::SourceFile;

use super::{not_started, python};
use crate::report::Failure;

/// Endings of files with machine code.
const NATIVE: [&str; 4] = ["so", "pyd", "dylib", "dll"];

const PYTHON_ADVICE: &str = "install Python 3, or name it in PYTHON";

/// The program and everything with it: the program first, the rest in the order of their paths.
pub(crate) fn files(
    program: &Path,
    requirements: Option<&Path>,
    include: &[std::path::PathBuf],
) -> Result<Vec<SourceFile>, Failure> {
    let mut files = vec![file(program, &file_name(program))?];
    if let Some(requirements) = requirements
        && asks_for_something(requirements)?
    {
        let folder = temporary()?;
        install(requirements, folder.path())?;
        refuse_native(folder.path())?;
        collect(folder.path(), "", &mut files)?;
    }
    for path in include {
        match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.is_dir() => {
                refuse_native(path)?;
                collect(path, "", &mut files)?;
            }
            Some("zip" | "whl") => {
                let folder = temporary()?;
                unzip(path, folder.path())?;
                refuse_native(folder.path())?;
                collect(folder.path(), "", &mut files)?;
            }
            _ => files.push(file(path, &file_name(path))?),
        }
    }
    files[1..].sort_by(|a, b| a.path.cmp(&b.path));
    match files.windows(2).find(|pair| pair[0].path == pair[1].path) {
        Some(pair) => Err(Failure::Usage(format!("two files would be called {}: leave one out", pair[0].path))),
        None => Ok(files),
    }
}

fn temporary() -> Result<tempfile::TempDir, Failure> {
    tempfile::tempdir().map_err(|error| Failure::because("cannot make a temporary folder", error))
}

fn file(path: &Path, name: &str) -> Result<SourceFile, Failure> {
    let content = std::fs::read(path).map_err(Failure::file("read", path))?;
    Ok(SourceFile { path: name.to_owned(), content: content.into() })
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| "udf.py".into(), |name| name.to_string_lossy().into_owned())
}

/// A file of comments needs no pip.
fn asks_for_something(requirements: &Path) -> Result<bool, Failure> {
    let text = std::fs::read_to_string(requirements).map_err(Failure::file("read", requirements))?;
    Ok(text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')))
}

fn install(requirements: &Path, into: &Path) -> Result<(), Failure> {
    let output = python()
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"])
        .arg(into)
        .arg("-r")
        .arg(requirements)
        .stdin(Stdio::null())
        .output()
        .map_err(not_started("python3", PYTHON_ADVICE))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::Tool(format!("pip could not install what {} asks for:\n{}", requirements.display(), said.trim_end())))
}

fn unzip(path: &Path, into: &Path) -> Result<(), Failure> {
    let output = python()
        .args(["-m", "zipfile", "-e"])
        .arg(path)
        .arg(into)
        .stdin(Stdio::null())
        .output()
        .map_err(not_started("python3", PYTHON_ADVICE))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(Failure::Tool(format!("{} is no readable zip file", path.display()))),
    }
}

/// Everything below `folder` that a program can import or read; not what only tools of the machine use.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<SourceFile>) -> Result<(), Failure> {
    for entry in std::fs::read_dir(folder).map_err(Failure::file("list", folder))? {
        let entry = entry.map_err(Failure::file("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let skipped = name == "__pycache__"
            || name.ends_with(".pyc")
            || name.starts_with('.')
            || prefix.is_empty() && (name == "bin" || name.ends_with(".dist-info"));
        if skipped {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else {
            files.push(file(&entry.path(), &path)?);
        }
    }
    Ok(())
}

/// Machine code does not run in WebAssembly: the package that brings it is named.
fn refuse_native(folder: &Path) -> Result<(), Failure> {
    let Some(native) = find_native(folder, "")? else { return Ok(()) };
    let package = owner(folder, &native)?.unwrap_or_else(|| native.split('/').next().unwrap_or(&native).to_owned());
    Err(Failure::Usage(format!(
        "package \"{package}\" needs native code ({native}), which does not run in WebAssembly: use a pure-Python package in its place"
    )))
}

fn find_native(folder: &Path, prefix: &str) -> Result<Option<String>, Failure> {
    let entries = std::fs::read_dir(folder).map_err(Failure::file("list", folder))?;
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(Failure::file("list", folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find_native(&path, &format!("{name}/"))? {
                return Ok(Some(found));
            }
        } else if path
            .extension()
            .and_then(|extension| extension.to_str())
            .is_some_and(|ending| NATIVE.contains(&ending))
        {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// The package whose RECORD lists `file`: folders are often called otherwise than the package that brings them.
fn owner(folder: &Path, file: &str) -> Result<Option<String>, Failure> {
    for entry in std::fs::read_dir(folder).map_err(Failure::file("list", folder))? {
        let entry = entry.map_err(Failure::file("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(package) = name.strip_suffix(".dist-info") else { continue };
        // A package without a RECORD owns no file that could be told.
        let record = std::fs::read_to_string(entry.path().join("RECORD")).unwrap_or_default();
        if record.lines().any(|line| line.starts_with(&format!("{file},"))) {
            return Ok(Some(package.split('-').next().unwrap_or(package).to_owned()));
        }
    }
    Ok(None)
}
