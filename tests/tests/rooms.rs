//! The walls that ARCHITECTURE.md names: dependencies point one way, and some words are not spoken in some rooms.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::path::{Path, PathBuf};

use wasmill_tests::root;

/// Each crate and the rooms that it may depend on.
const WALLS: [(&str, &[&str]); 7] = [
    ("udf-sdk/macros", &[]),
    ("udf-sdk/rust", &["wasmill-udf-macros"]),
    ("engine/host", &[]),
    ("engine/runtime", &["wasmill-host"]),
    ("engine/connectors", &["wasmill-host", "wasmill-runtime"]),
    ("engine/web", &["wasmill-runtime"]),
    ("engine/cli", &["wasmill-host", "wasmill-runtime", "wasmill-connectors", "wasmill-web"]),
];

/// Words that a room never speaks.
const UNSPOKEN: [(&str, &[&str]); 3] = [
    ("engine/runtime", &["wasmtime", "parquet", "object_store", "axum", "hyper", "tokio"]),
    ("engine/host", &["crossbeam", "datafusion", "Watermark", "Barrier"]),
    ("engine/connectors", &["wasmtime"]),
];

const NO_CRATE: [&str; 4] = ["common", "core", "types", "utils"];

/// Names of the rooms among a manifest's dependencies of one kind.
fn dependencies(manifest: &Path, section: &str) -> Vec<String> {
    let text = std::fs::read_to_string(manifest).unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
    let mut names = Vec::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line == section;
        } else if inside && let Some((name, _)) = line.split_once(['=', '.']) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "target" | ".git" | ".venv") {
            files(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    for (room, allowed) in WALLS {
        let rooms: Vec<String> = dependencies(&root().join(room).join("Cargo.toml"), "[dependencies]")
            .into_iter()
            .filter(|name| name.starts_with("wasmill"))
            .collect();
        assert!(!rooms.is_empty() || allowed.is_empty() || room == "engine/runtime", "{room}: no dependency was read");
        for name in rooms {
            assert!(allowed.contains(&name.as_str()), "{room} must not depend on {name}");
        }
    }
}

#[test]
fn rooms_do_not_speak_others_words() {
    for (room, words) in UNSPOKEN {
        let mut sources = Vec::new();
        files(&root().join(room).join("src"), ".rs", &mut sources);
        sources.push(root().join(room).join("Cargo.toml"));
        assert!(sources.len() > 5, "{room}: its sources were not found");
        for source in sources {
            let text = std::fs::read_to_string(&source).unwrap();
            let text = text.split("#[cfg(test)]").next().unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for (number, line) in code.enumerate() {
                for word in words {
                    assert!(!line.contains(word), "{}: line of code {number} says {word}", source.display());
                }
            }
        }
    }
}

#[test]
fn no_crate_has_a_name_for_leftovers() {
    let mut manifests = Vec::new();
    files(root(), "Cargo.toml", &mut manifests);
    assert!(manifests.len() >= 10);
    for manifest in manifests {
        let text = std::fs::read_to_string(&manifest).unwrap();
        for name in NO_CRATE {
            assert!(!text.contains(&format!("name = \"wasmill-{name}\"")), "{}", manifest.display());
        }
    }
}

/// Sources in every language stay readable in one sitting.
#[test]
fn no_file_is_longer_than_800_lines() {
    for ending in [".rs", ".py", ".c", ".h"] {
        let mut sources = Vec::new();
        files(root(), ending, &mut sources);
        for source in sources {
            let lines = std::fs::read_to_string(&source).unwrap().lines().count();
            assert!(lines <= 800, "{} has {lines} lines", source.display());
        }
    }
}
