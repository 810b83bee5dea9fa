//! What the machine has: directories, the Python runner, the engine.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use wasmill_host::{Engine, EngineConfig, SourceFile, UdfModule};
use wasmill_runtime::connector::ConnectorRegistry;
use wasmill_runtime::udf_file::Environment;

use crate::report::Failure;

const RUNNER: &str = "python-runner.wasm";

/// The engine with its cache, and where the Python runner is, if anywhere.
pub(crate) fn environment() -> Result<Environment, Failure> {
    // Python wants this much to end a recursion by itself, before the stack does.
    let stack_bytes_max = 2 << 20;
    let cache_dir = cache_dir(|name| env::var_os(name));
    let packages_dir = cache_dir.as_ref().map(|folder| folder.join("packages"));
    let config = EngineConfig { cache_dir, stack_bytes_max, ..EngineConfig::default() };
    let engine = Engine::new(config).map_err(Failure::Host)?;
    Ok(Environment { engine, python_runner: python_runner()?, packages_dir })
}

/// Where failed calls are recorded unless the job says otherwise; without a cache, nowhere.
pub(crate) fn failures_dir() -> Option<PathBuf> {
    cache_dir(|name| env::var_os(name)).map(|folder| folder.join("failures"))
}

/// Every connector that there is.
pub(crate) fn connectors() -> ConnectorRegistry {
    let mut registry = ConnectorRegistry::default();
    wasmill_connectors::register(&mut registry);
    registry
}

/// `$WASMILL_CACHE_DIR`, else `$XDG_CACHE_HOME/wasmill`, else `~/.cache/wasmill`; without any, nothing is kept.
fn cache_dir(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("WASMILL_CACHE_DIR")
        .or_else(|| set("XDG_CACHE_HOME").map(|home| home.join("wasmill")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/wasmill")))
}

/// `$WASMILL_PYTHON_RUNNER`, else beside the program or in `../lib/wasmill` of an installation, else in the `target/wasmill` of a
/// working copy.
fn python_runner() -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = env::var_os("WASMILL_PYTHON_RUNNER").map(PathBuf::from) {
        return match path.is_file() {
            true => Ok(Some(path)),
            false => Err(Failure::Usage(format!("WASMILL_PYTHON_RUNNER is {}: there is no such file", path.display()))),
        };
    }
    let Ok(program) = env::current_exe() else { return Ok(None) };
    let program = program.canonicalize().unwrap_or(program);
    let Some(folder) = program.parent() else { return Ok(None) };
    let places =
        [folder.join(RUNNER), folder.join("../lib/wasmill").join(RUNNER), folder.join("../wasmill").join(RUNNER)];
    Ok(places.into_iter().find(|path| path.is_file()))
}

/// The bytes of the Python runner.
pub(crate) fn read_runner(environment: &Environment) -> Result<Vec<u8>, Failure> {
    match &environment.python_runner {
        Some(path) => std::fs::read(path).map_err(Failure::file("read", path)),
        None => Err(Failure::Usage(format!(
            "Python UDFs need the Python runner ({RUNNER}), and there is none: build it with `make python-runner`, or name it in \
             WASMILL_PYTHON_RUNNER"
        ))),
    }
}

/// The UDF that a .wasm or .py file is, under the file's name.
pub(crate) fn load(environment: &Environment, file: &Path) -> Result<UdfModule, Failure> {
    let bytes = std::fs::read(file).map_err(Failure::file("read", file))?;
    let name = file.file_stem().map_or_else(|| "udf".into(), |stem| stem.to_string_lossy().into_owned());
    match file.extension().and_then(|extension| extension.to_str()) {
        Some("py") => {
            let runner = read_runner(environment)?;
            let path = file.file_name().map_or_else(|| name.clone(), |name| name.to_string_lossy().into_owned());
            load_bytes(environment, &name, &runner, vec![SourceFile { path, content: bytes.into() }])
        }
        _ => load_bytes(environment, &name, &bytes, Vec::new()),
    }
}

/// A component, with the files inside it or with `files` for its interpreter.
pub(crate) fn load_bytes(
    environment: &Environment,
    name: &str,
    bytes: &[u8],
    files: Vec<SourceFile>,
) -> Result<UdfModule, Failure> {
    let module = environment.engine.load(name, bytes).map_err(Failure::Host)?;
    Ok(if files.is_empty() { module } else { module.with_source(files) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_lies_where_users_expect_it() {
        let dir = |set: &[(&str, &str)]| {
            let set: Vec<(String, OsString)> =
                set.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            cache_dir(move |name| set.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()))
        };
        let all = [("WASMILL_CACHE_DIR", "/c"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")];
        assert_eq!(dir(&all), Some("/c".into()));
        assert_eq!(dir(&all[1..]), Some("/x/wasmill".into()));
        assert_eq!(dir(&all[2..]), Some("/h/.cache/wasmill".into()));
        assert_eq!(dir(&[("WASMILL_CACHE_DIR", ""), ("HOME", "/h")]), Some("/h/.cache/wasmill".into()));
        assert_eq!(dir(&[]), None);
    }
}
