//! `wasmill udf new`: a project out of what is embedded in the program.

use std::path::Path;

use crate::args::Language;
use crate::report::Failure;

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

const NAME: &str = "{{name}}";

pub(crate) fn new(lang: Language, name: &str) -> Result<(), Failure> {
    let folder = Path::new(name);
    if folder.exists() {
        return Err(Failure::Usage(format!("{name} is there already: choose another name or remove it")));
    }
    let (template, sdk) = match lang {
        Language::Rust => (RUST_TEMPLATE, RUST_SDK),
        Language::Python => (PYTHON_TEMPLATE, PYTHON_SDK),
    };
    for (path, content) in template {
        write(folder, &target(path, name), &filled(content, name))?;
    }
    for (path, content) in sdk {
        write(folder, path, content)?;
    }
    let build = match lang {
        Language::Rust => format!("  wasmill udf build {name}      # {name}/{name}.wasm"),
        Language::Python => format!("  wasmill udf inspect {name}/{name}.py"),
    };
    crate::print(&format!("made {name}/\n  wasmill udf test {name}\n{build}\n"))
}

/// Where a file of the template goes: `{{name}}` in its path is the name, `.tmpl` at its end is dropped, and what begins with
/// `gitignore` begins with a dot.
fn target(path: &str, name: &str) -> String {
    let path = path.replace(NAME, name);
    let path = path.strip_suffix(".tmpl").unwrap_or(&path);
    let mut parts: Vec<&str> = path.split('/').collect();
    if let Some(last) = parts.last_mut()
        && *last == "gitignore"
    {
        *last = ".gitignore";
    }
    parts.join("/")
}

fn filled(content: &[u8], name: &str) -> Vec<u8> {
    match std::str::from_utf8(content) {
        Ok(text) => text.replace(NAME, name).into_bytes(),
        Err(_) => content.to_vec(),
    }
}

fn write(folder: &Path, path: &str, content: &[u8]) -> Result<(), Failure> {
    let path = folder.join(path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(Failure::file("make", parent))?;
    }
    std::fs::write(&path, content).map_err(Failure::file("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_templates_get_their_names() {
        assert_eq!(target("src/lib.rs", "legs"), "src/lib.rs");
        assert_eq!(target("Cargo.toml.tmpl", "legs"), "Cargo.toml");
        assert_eq!(target("gitignore.tmpl", "legs"), ".gitignore");
        assert_eq!(target("{{name}}.py", "legs"), "legs.py");
    }

    #[test]
    fn both_languages_are_embedded() {
        let has = |table: &[(&str, &[u8])], path: &str| table.iter().any(|(name, _)| *name == path);
        assert!(has(RUST_TEMPLATE, "Cargo.toml.tmpl") && has(RUST_TEMPLATE, "src/lib.rs"));
        assert!(has(RUST_SDK, "vendor/rust/Cargo.toml") && has(RUST_SDK, "vendor/macros/src/lib.rs"));
        assert!(PYTHON_TEMPLATE.iter().any(|(path, _)| path.ends_with(".py") || path.ends_with(".py.tmpl")));
        assert!(has(PYTHON_SDK, "vendor/python/wasmill/__init__.py"));
        assert!(!RUST_SDK.iter().any(|(path, _)| path.contains("/tests/")));
    }
}
