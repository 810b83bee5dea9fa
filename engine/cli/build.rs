//! Embeds what `wasmill udf new` writes: the templates and the SDKs that a new project brings along.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() {
    let here = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = here.join("../..");
    // Table in the program, folder here, path in the table; `tests` of the SDKs need tools that a project has no use for.
    let tables = [
        ("RUST_TEMPLATE", vec![(here.join("templates/rust"), "")]),
        ("PYTHON_TEMPLATE", vec![(here.join("templates/python"), "")]),
        (
            "RUST_SDK",
            vec![(root.join("udf-sdk/rust"), "vendor/rust/"), (root.join("udf-sdk/macros"), "vendor/macros/")],
        ),
        ("PYTHON_SDK", vec![(root.join("udf-sdk/python/src"), "vendor/python/")]),
    ];
    let mut code = String::new();
    for (name, folders) in tables {
        writeln!(code, "pub(crate) const {name}: &[(&str, &[u8])] = &[").expect("writing to a String cannot fail");
        for (folder, prefix) in folders {
            println!("cargo:rerun-if-changed={}", folder.display());
            if !folder.exists() {
                continue;
            }
            let mut files = Vec::new();
            walk(&folder, "", &mut files);
            files.sort();
            for (path, name) in files {
                let name = format!("{prefix}{name}");
                writeln!(code, "    ({name:?}, include_bytes!({:?})),", path.display().to_string())
                    .expect("writing to a String cannot fail");
            }
        }
        code.push_str("];\n");
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it")).join("embedded.rs");
    std::fs::write(&out, code).expect("cargo's output folder can be written");
}

fn walk(folder: &Path, prefix: &str, files: &mut Vec<(PathBuf, String)>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let name = entry.file_name().to_string_lossy().into_owned();
        let skipped = matches!(name.as_str(), "target" | "__pycache__" | ".pytest_cache") || name.ends_with(".pyc");
        // The top folders of the SDKs have tests; those of the templates are the point.
        if skipped || (name == "tests" && prefix.is_empty() && !folder.ends_with("templates/python")) {
            continue;
        }
        let path = entry.path();
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            walk(&path, &format!("{name}/"), files);
        } else {
            files.push((path, name));
        }
    }
}
