//! What a Python UDF takes along: its own file, and pure-Python code as modules, folders, zips, wheels or requirements.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use wasmill_host::SourceFile;
use xxhash_rust::xxh3::xxh3_128;

/// Endings of files with machine code, which no sandbox runs.
const NATIVE: [&str; 4] = ["so", "pyd", "dylib", "dll"];

/// Folders are read this deep, so that a circle of links ends.
const DEPTH_MAX: usize = 32;

/// All files of a UDF together: more than an instance could hold.
const BYTES_MAX: u64 = 256 << 20;

/// Why the files of a Python UDF cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum PythonFilesError {
    #[error("cannot read {}: {error}", .path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{} is no readable zip file: {problem}", .path.display())]
    Zip { path: PathBuf, problem: String },
    #[error("{} is no module (.py), folder, zip, wheel (.whl) or list of requirements (.txt)", .path.display())]
    Kind { path: PathBuf },
    /// Named by package, since the file's name often says little.
    #[error(
        "package \"{package}\" needs native code ({file}), which does not run in WebAssembly: use a pure-Python package in its place"
    )]
    Native { package: String, file: String },
    #[error("two files would be called {name}: leave one out")]
    Twice { name: String },
    #[error("{} is deeper than {DEPTH_MAX} folders: is there a circle of links?", .path.display())]
    Deep { path: PathBuf },
    #[error("its files are larger than {} MiB together: leave out what it does not import", BYTES_MAX >> 20)]
    Large,
    #[error("pip could not install what {} asks for:\n{said}", .requirements.display())]
    Pip { requirements: PathBuf, said: String },
    #[error("cannot run {program} to install what {} asks for ({error}): install Python 3 with pip, or name it in PYTHON", .requirements.display())]
    NoPython { program: String, requirements: PathBuf, error: io::Error },
    #[error("cannot keep the packages of {} in {}: {error}", .requirements.display(), .folder.display())]
    Keep { requirements: PathBuf, folder: PathBuf, error: io::Error },
}

/// The program and everything with it: the program first, the rest in the order of their paths. What a list of requirements asks
/// for is installed by pip once, and kept in `packages_dir` under the hash of the list.
pub fn collect(
    program: &Path,
    packages: &[PathBuf],
    packages_dir: Option<&Path>,
) -> Result<Vec<SourceFile>, PythonFilesError> {
    let mut collector = Collector::default();
    collector.file(program, file_name(program))?;
    for package in packages {
        match package.extension().and_then(|extension| extension.to_str()) {
            _ if package.is_dir() => collector.packages(package)?,
            Some("zip" | "whl") => collector.zip(package)?,
            Some("txt" | "in") => collector.requirements(package, packages_dir)?,
            Some("py") => collector.file(package, file_name(package))?,
            Some(ending) if NATIVE.contains(&ending) => return Err(native(&file_name(package), &[])),
            _ if !package.exists() => return Err(unreadable(package)(io::ErrorKind::NotFound.into())),
            _ => return Err(PythonFilesError::Kind { path: package.clone() }),
        }
    }
    let mut files = collector.files;
    files[1..].sort_by(|a, b| a.path.cmp(&b.path));
    let mut seen = BTreeSet::new();
    match files.iter().find(|file| !seen.insert(&file.path)) {
        Some(file) => Err(PythonFilesError::Twice { name: file.path.clone() }),
        None => Ok(files),
    }
}

#[derive(Default)]
struct Collector {
    files: Vec<SourceFile>,
    bytes: u64,
}

impl Collector {
    fn push(&mut self, path: String, content: Vec<u8>) -> Result<(), PythonFilesError> {
        self.bytes += content.len() as u64;
        if self.bytes > BYTES_MAX {
            return Err(PythonFilesError::Large);
        }
        self.files.push(SourceFile { path, content: content.into() });
        Ok(())
    }

    fn file(&mut self, path: &Path, name: String) -> Result<(), PythonFilesError> {
        let content = std::fs::read(path).map_err(unreadable(path))?;
        self.push(name, content)
    }

    /// Everything below a folder that a program can import or read.
    fn packages(&mut self, folder: &Path) -> Result<(), PythonFilesError> {
        let mut found = Vec::new();
        walk(folder, "", 0, &mut found)?;
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(file) = names.iter().find(|name| is_native(name)) {
            return Err(native(file, &records(folder, &names)?));
        }
        found.into_iter().try_for_each(|(name, path)| self.file(&path, name))
    }

    fn zip(&mut self, path: &Path) -> Result<(), PythonFilesError> {
        let bad =
            |error: zip::result::ZipError| PythonFilesError::Zip { path: path.to_owned(), problem: error.to_string() };
        let file = std::fs::File::open(path).map_err(unreadable(path))?;
        let mut archive = zip::ZipArchive::new(io::BufReader::new(file)).map_err(bad)?;
        let mut found: Vec<SourceFile> = Vec::new();
        for index in 0..archive.len() {
            let entry = archive.by_index(index).map_err(bad)?;
            let Some(name) = entry.enclosed_name() else {
                let problem = format!("it has the path {:?}, which leads out of it", entry.name());
                return Err(PythonFilesError::Zip { path: path.to_owned(), problem });
            };
            let name = name.to_string_lossy().replace('\\', "/");
            if entry.is_dir() || name.split('/').any(is_left_out) {
                continue;
            }
            let mut content = Vec::new();
            // One byte more than is possible tells what is too large from what just fits.
            entry.take(BYTES_MAX + 1).read_to_end(&mut content).map_err(unreadable(path))?;
            found.push(SourceFile { path: name, content: content.into() });
        }
        if let Some(file) = found.iter().find(|file| is_native(&file.path)) {
            let record = |file: &SourceFile| {
                let package = package_of_record(&file.path)?;
                Some((package.to_owned(), String::from_utf8_lossy(&file.content).into_owned()))
            };
            let records: Vec<(String, String)> = found.iter().filter_map(record).collect();
            return Err(native(&file.path, &records));
        }
        found.into_iter().try_for_each(|file| self.push(file.path, file.content.to_vec()))
    }

    fn requirements(&mut self, path: &Path, packages_dir: Option<&Path>) -> Result<(), PythonFilesError> {
        let text = std::fs::read_to_string(path).map_err(unreadable(path))?;
        let asks = text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
        if !asks {
            return Ok(());
        }
        let keep = |folder: &Path| {
            let (requirements, folder) = (path.to_owned(), folder.to_owned());
            move |error| PythonFilesError::Keep { requirements, folder, error }
        };
        let temporary = match packages_dir {
            Some(folder) => {
                std::fs::create_dir_all(folder).map_err(keep(folder))?;
                tempfile::tempdir_in(folder).map_err(keep(folder))?
            }
            None => tempfile::tempdir().map_err(keep(&std::env::temp_dir()))?,
        };
        // The same list may mean other packages where its lines name files beside it.
        let Some(kept) = packages_dir.filter(|_| !names_files(&text)) else {
            install(path, temporary.path())?;
            return self.packages(temporary.path());
        };
        let kept = kept.join(format!("{:032x}", xxh3_128(text.as_bytes())));
        if !kept.is_dir() {
            install(path, temporary.path())?;
            if let Err(error) = std::fs::rename(temporary.path(), &kept)
                && !kept.is_dir()
            {
                // Not another process that was first.
                return Err(keep(&kept)(error));
            }
        }
        self.packages(&kept)
    }
}

/// Options (`-r`, `-e`, `--find-links`) and paths make a list depend on more than its text.
fn names_files(requirements: &str) -> bool {
    requirements.lines().map(str::trim).any(|line| line.starts_with(['-', '.', '/']) || line.contains("file:"))
}

fn install(requirements: &Path, into: &Path) -> Result<(), PythonFilesError> {
    let program = std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into());
    let output = Command::new(&program)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"])
        .arg(into)
        .arg("-r")
        .arg(requirements)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| PythonFilesError::NoPython {
            program: program.to_string_lossy().into_owned(),
            requirements: requirements.to_owned(),
            error,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
    Err(PythonFilesError::Pip { requirements: requirements.to_owned(), said })
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> PythonFilesError + use<> {
    let path = path.to_owned();
    move |error| PythonFilesError::Read { path: path.clone(), error }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Caches and hidden files, which only tools of the machine use.
fn is_left_out(name: &str) -> bool {
    name == "__pycache__" || name.ends_with(".pyc") || name.starts_with('.')
}

/// Name and path of each file, in the order of their names.
fn walk(folder: &Path, prefix: &str, depth: usize, found: &mut Vec<(String, PathBuf)>) -> Result<(), PythonFilesError> {
    if depth > DEPTH_MAX {
        return Err(PythonFilesError::Deep { path: folder.to_owned() });
    }
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut entries = entries.map_err(unreadable(folder))?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Programs that pip puts beside the packages.
        if is_left_out(&name) || prefix.is_empty() && name == "bin" {
            continue;
        }
        let path = entry.path();
        if path.is_dir() {
            walk(&path, &format!("{prefix}{name}/"), depth + 1, found)?;
        } else {
            found.push((format!("{prefix}{name}"), path));
        }
    }
    Ok(())
}

fn is_native(file: &str) -> bool {
    Path::new(file).extension().and_then(|extension| extension.to_str()).is_some_and(|ending| NATIVE.contains(&ending))
}

/// The package whose list of files this is.
fn package_of_record(name: &str) -> Option<&str> {
    let package = name.strip_suffix(".dist-info/RECORD")?;
    Some(package.split('-').next().unwrap_or(package))
}

/// By package, the list of its files.
fn records(folder: &Path, names: &[&str]) -> Result<Vec<(String, String)>, PythonFilesError> {
    let mut records = Vec::new();
    for name in names {
        let Some(package) = package_of_record(name) else { continue };
        let path = folder.join(name);
        records.push((package.to_owned(), std::fs::read_to_string(&path).map_err(unreadable(&path))?));
    }
    Ok(records)
}

/// Folders are often called otherwise than the package that brings them, which its RECORD tells.
fn native(file: &str, records: &[(String, String)]) -> PythonFilesError {
    let listed =
        |text: &str| text.lines().any(|line| line.strip_prefix(file).is_some_and(|rest| rest.starts_with(',')));
    let owner = records.iter().find(|(_, text)| listed(text)).map(|(package, _)| package.as_str());
    let package = owner.unwrap_or_else(|| file.split(['/', '.']).next().unwrap_or(file));
    PythonFilesError::Native { package: package.to_owned(), file: file.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        folder
    }

    fn names(folder: &tempfile::TempDir, packages: &[&str]) -> Result<Vec<String>, String> {
        let packages: Vec<PathBuf> = packages.iter().map(|name| folder.path().join(name)).collect();
        let files = collect(&folder.path().join("udf.py"), &packages, None);
        files
            .map(|files| files.into_iter().map(|file| file.path).collect())
            .map_err(|error| error.to_string().replace(&folder.path().display().to_string(), ""))
    }

    fn zip(path: &Path, files: &[(&str, &str)]) {
        let mut archive = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
        for (name, content) in files {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(content.as_bytes()).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn modules_folders_and_zips_travel_with_the_program() {
        let folder = folder(&[
            ("udf.py", ""),
            ("helper.py", ""),
            ("lib/shapes/__init__.py", ""),
            ("lib/shapes/__pycache__/x.cpython-311.pyc", ""),
            ("lib/shapes-1.dist-info/METADATA", ""),
            ("lib/bin/tool", ""),
        ]);
        zip(&folder.path().join("z.zip"), &[("inzip/__init__.py", "x = 1"), ("inzip/.hidden", "")]);
        assert_eq!(
            names(&folder, &["helper.py", "lib", "z.zip"]).unwrap(),
            ["udf.py", "helper.py", "inzip/__init__.py", "shapes-1.dist-info/METADATA", "shapes/__init__.py"]
        );
    }

    #[test]
    fn what_cannot_travel_is_named() {
        let folder = folder(&[
            ("udf.py", ""),
            ("image.png", ""),
            ("x.so", ""),
            ("bad.zip", "no zip"),
            ("numpy_like/_core.so", ""),
            ("lib/fast/_speed.so", ""),
            ("lib/fast_things-2.0.dist-info/RECORD", "fast/_speed.so,sha256=1,2\n"),
            ("twice/udf.py", ""),
        ]);
        zip(&folder.path().join("out.zip"), &[("../x.py", "")]);
        zip(&folder.path().join("native.whl"), &[("a/_b.so", ""), ("pack-1.dist-info/RECORD", "a/_b.so,,\n")]);
        let native = |package: &str, file: &str| {
            format!(
                "package \"{package}\" needs native code ({file}), which does not run in WebAssembly: use a pure-Python package in its place"
            )
        };
        let cases = [
            (
                "image.png",
                "/image.png is no module (.py), folder, zip, wheel (.whl) or list of requirements (.txt)".into(),
            ),
            ("x.so", native("x", "x.so")),
            ("numpy_like", native("_core", "_core.so")),
            ("lib", native("fast_things", "fast/_speed.so")),
            ("native.whl", native("pack", "a/_b.so")),
            ("twice", "two files would be called udf.py: leave one out".into()),
            ("gone", "cannot read /gone: entity not found".into()),
        ];
        for (package, message) in cases {
            assert_eq!(names(&folder, &[package]).unwrap_err(), message);
        }
        for (package, message) in [("bad.zip", "is no readable zip file"), ("out.zip", "leads out of it")] {
            let error = names(&folder, &[package]).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_list_of_comments_needs_no_pip() {
        let folder = folder(&[("udf.py", ""), ("requirements.txt", "# nothing\n\n")]);
        assert_eq!(names(&folder, &["requirements.txt"]).unwrap(), ["udf.py"]);
    }

    #[test]
    fn requirements_are_installed_once() {
        let folder = folder(&[("udf.py", ""), ("requirements.txt", "some-package==1\n")]);
        let kept = folder.path().join("kept");
        let ready = kept.join(format!("{:032x}", xxh3_128(b"some-package==1\n")));
        std::fs::create_dir_all(&ready).unwrap();
        std::fs::write(ready.join("some_package.py"), "").unwrap();
        let files = collect(&folder.path().join("udf.py"), &[folder.path().join("requirements.txt")], Some(&kept));
        let names: Vec<String> = files.unwrap().into_iter().map(|file| file.path).collect();
        assert_eq!(names, ["udf.py", "some_package.py"]);
        assert!(names_files("-r other.txt") && names_files("./local") && !names_files("a==1\nb>2 # c"));
    }
}
