//! `wasmill-embed WIT WORLD IN.so OUT.so`: appends a `component-type` section to a WebAssembly shared library.
//!
//! componentize-py links extension modules with wit-component, which merges the worlds of all libraries that carry such a
//! section. So a C extension can import and export functions of a WIT world itself, past the Python bindings.
//! `WIT` is a folder: the package that holds the world, and `deps/` with those that it refers to.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wasm_encoder::Section as _;

#[derive(Debug, thiserror::Error)]
enum EmbedError {
    #[error("usage: wasmill-embed WIT WORLD IN.so OUT.so")]
    Usage,
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{}: no WebAssembly module", .0.display())]
    NotWasm(PathBuf),
    #[error("{}: {reason}", path.display())]
    Wit { path: PathBuf, reason: String },
}

fn main() -> ExitCode {
    match embed(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wasmill-embed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn embed(arguments: &[String]) -> Result<(), EmbedError> {
    let [wit, world, input, output] = arguments else {
        return Err(EmbedError::Usage);
    };
    let section = component_type(Path::new(wit), world)?;
    let mut module = read(Path::new(input))?;
    wasm_encoder::CustomSection { name: format!("component-type:{world}").into(), data: section.into() }
        .append_to(&mut module);
    std::fs::write(output, module).map_err(|source| EmbedError::File { path: output.into(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, EmbedError> {
    let module = std::fs::read(path).map_err(|source| EmbedError::File { path: path.into(), source })?;
    if module.starts_with(b"\0asm\x01\0\0\0") { Ok(module) } else { Err(EmbedError::NotWasm(path.into())) }
}

/// The world as the binary that wit-component reads back from the section.
fn component_type(wit: &Path, world: &str) -> Result<Vec<u8>, EmbedError> {
    let failed = |reason: String| EmbedError::Wit { path: wit.into(), reason };
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(wit).map_err(|error| failed(format!("{error:#}")))?;
    let world = resolve.select_world(&[package], Some(world)).map_err(|error| failed(format!("{error:#}")))?;
    wit_component::metadata::encode(&resolve, world, wit_component::StringEncoding::UTF8, None)
        .map_err(|error| failed(format!("{error:#}")))
}
