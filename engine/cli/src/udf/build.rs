//! `wasmill udf build`: one self-contained .wasm.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wasmill_host::{Limits, SourceFile, source_section};
use wasmill_runtime::python_files::{self, PythonFilesError};
use wasmill_runtime::udf_file::Environment;

use super::{Project, not_started, parent, project};
use crate::args::BuildArgs;
use crate::environment::{environment, load_bytes, read_runner};
use crate::report::Failure;

const TARGET: &str = "wasm32-wasip2";

/// An interpreter needs more than the default of a compiled UDF.
pub(crate) const INTERPRETER_MEMORY_BYTES: usize = 256 << 20;

const RUSTUP_ADVICE: &str = "install Rust from https://rustup.rs";

pub(crate) fn build(args: &BuildArgs) -> Result<(), Failure> {
    match project(&args.path)? {
        Project::Rust(folder) => {
            if args.requirements.is_some() || !args.include.is_empty() {
                let message =
                    "--requirements and --include are for Python: a crate names its dependencies in Cargo.toml";
                return Err(Failure::Usage(message.into()));
            }
            let built = cargo_build(&folder)?;
            let bytes = std::fs::read(&built).map_err(Failure::file("read", &built))?;
            let stem = built.file_stem().map_or_else(|| "udf".into(), |stem| stem.to_string_lossy().into_owned());
            let output = args.output.clone().unwrap_or_else(|| folder.join(format!("{stem}.wasm")));
            finish(&environment()?, &stem, &bytes, &output)
        }
        Project::Python(program) => build_python(args, &program),
    }
}

fn build_python(args: &BuildArgs, program: &Path) -> Result<(), Failure> {
    let beside = parent(program).join("requirements.txt");
    let requirements = args.requirements.clone().or_else(|| beside.is_file().then_some(beside));
    let environment = environment()?;
    let runner = read_runner(&environment)?;
    let packages: Vec<PathBuf> = requirements.into_iter().chain(args.include.iter().cloned()).collect();
    let files =
        python_files::collect(program, &packages, environment.packages_dir.as_deref()).map_err(
            |error| match error {
                PythonFilesError::Pip { .. } | PythonFilesError::NoPython { .. } => Failure::Tool(error.to_string()),
                _ => Failure::Usage(error.to_string()),
            },
        )?;
    let stem = program.file_stem().map_or_else(|| "udf".into(), |stem| stem.to_string_lossy().into_owned());
    let cannot = |error| Failure::because(format!("cannot put {} into the Python runner", program.display()), error);
    let bytes = source_section::append(&runner, &files).map_err(cannot)?;
    let output = args.output.clone().unwrap_or_else(|| program.with_extension("wasm"));
    finish(&environment, &stem, &bytes, &output)
}

/// Nothing is written that does not load.
fn finish(environment: &Environment, name: &str, bytes: &[u8], output: &Path) -> Result<(), Failure> {
    let module = load_bytes(environment, name, bytes, Vec::<SourceFile>::new())?;
    let functions = module.describe(&limits(module.has_source())).map_err(Failure::Host)?;
    let names = functions.iter().map(|function| function.name.as_str()).collect::<Vec<_>>().join(", ");
    // Beside the target first, so that a job that starts now finds the old file or the new one.
    let folder = parent(output);
    let mut file = tempfile::Builder::new()
        .prefix(".")
        .suffix(".wasm")
        .tempfile_in(&folder)
        .map_err(Failure::file("write in", &folder))?;
    std::io::Write::write_all(file.as_file_mut(), bytes).map_err(Failure::file("write", output))?;
    let readable = readable(file.as_file());
    readable.map_err(Failure::file("write", output))?;
    file.persist(output).map_err(|error| Failure::file("write", output)(error.error))?;
    crate::print(&format!("{} ({} kB): {names}", output.display(), bytes.len().div_ceil(1000)))
}

/// A temporary file is for its owner only; a component is for all.
fn readable(file: &std::fs::File) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
    }
    file.sync_all()
}

/// What a UDF is given to describe itself.
pub(crate) fn limits(interpreter: bool) -> Limits {
    let default = Limits::default();
    let memory_bytes_max = if interpreter { INTERPRETER_MEMORY_BYTES } else { default.memory_bytes_max };
    Limits { memory_bytes_max, ..default }
}

/// Builds the crate and tells where its component is.
fn cargo_build(folder: &Path) -> Result<PathBuf, Failure> {
    check_target(folder)?;
    let output = Command::new("cargo")
        .args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(not_started("cargo", RUSTUP_ADVICE))?;
    if !output.status.success() {
        return Err(Failure::Tool(format!("{} does not build: see above", folder.display())));
    }
    let manifest = folder.join("Cargo.toml");
    let manifest = manifest.canonicalize().map_err(Failure::file("find", &manifest))?;
    let components = components(&String::from_utf8_lossy(&output.stdout), &manifest);
    match components.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Failure::Usage(format!(
            "{} makes no component: it needs `crate-type = [\"cdylib\"]` under [lib] in its Cargo.toml",
            folder.display()
        ))),
        several => {
            let names = several.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            Err(Failure::Usage(format!("{} makes several components: {names}", folder.display())))
        }
    }
}

/// The .wasm files that cargo's messages tell of, of the package with this manifest.
fn components(messages: &str, manifest: &Path) -> Vec<PathBuf> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let own = artifacts.filter(|message| {
        message["reason"] == "compiler-artifact"
            && message["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest)
    });
    own.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| name.as_str().filter(|name| name.ends_with(".wasm")).map(PathBuf::from))
        .collect()
}

fn check_target(folder: &Path) -> Result<(), Failure> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(not_started("rustc", RUSTUP_ADVICE))?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if output.status.success() && libraries.is_dir() {
        return Ok(());
    }
    Err(Failure::Usage(format!("the Rust target {TARGET} is missing: rustup target add {TARGET}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_packages_own_component_counts() {
        let messages = "not json\n\
            {\"reason\":\"compiler-artifact\",\"manifest_path\":\"/v/Cargo.toml\",\"filenames\":[\"/t/v.wasm\"]}\n\
            {\"reason\":\"compiler-artifact\",\"manifest_path\":\"/p/Cargo.toml\",\"filenames\":[\"/t/p.wasm\",\"/t/p.d\"]}\n\
            {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(components(messages, Path::new("/p/Cargo.toml")), [PathBuf::from("/t/p.wasm")]);
        assert!(components(messages, Path::new("/q/Cargo.toml")).is_empty());
    }
}
