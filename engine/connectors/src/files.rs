//! Finding and opening input files: by path, directory, glob or URL.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::NamedTempFile;
use url::Url;
use wasmill_runtime::connector::{ConnectorError, Position, Split};

use crate::position::{self, TextPosition};
use crate::remote::{self, Object};

/// Directories are read this deep, so that a circle of links ends.
const DEPTH_MAX: usize = 32;

/// Files of one source at most.
const FILES_MAX: usize = 65_536;

/// A file to read.
#[derive(Debug, Clone)]
pub(crate) struct InputFile {
    /// As messages name it: the path as the job wrote it, or the URL.
    pub name: String,
    pub bytes: u64,
    place: Place,
}

#[derive(Debug, Clone)]
enum Place {
    Local(PathBuf),
    /// The file is what was fetched to learn the columns, kept until the rows are read.
    Remote(Object, Arc<Mutex<Option<NamedTempFile>>>),
}

impl InputFile {
    /// A split whose size is in bytes.
    pub(crate) fn split(&self) -> Split {
        Split { id: self.name.clone(), size: Some(self.bytes) }
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self.place, Place::Local(_))
    }

    /// The content behind `from`, or all of it, and where that begins. An object of a store is asked for from there on; a file of a
    /// web server is fetched as a whole.
    pub(crate) fn open_at(
        &self,
        from: Option<&Position>,
    ) -> Result<(Box<dyn Read + Send>, TextPosition), ConnectorError> {
        let at: TextPosition = match from {
            Some(from) => position::read(from, &self.name)?,
            None => TextPosition::default(),
        };
        let cannot = |error| cannot_read(&self.name, error);
        let (content, bytes): (Box<dyn Read + Send>, u64) = match &self.place {
            Place::Remote(object, _) if object.has_ranges() => (Box::new(object.stream(at.byte)), self.bytes),
            _ => {
                let mut file = self.open_file()?;
                let bytes = file.metadata().map_err(cannot)?.len();
                file.seek(SeekFrom::Start(at.byte)).map_err(cannot)?;
                (Box::new(file), bytes)
            }
        };
        let before = at.file_bytes.max(at.byte);
        match from {
            Some(from) if bytes < before => Err(position::shrunk(&self.name, from, bytes, "bytes", before)),
            _ => Ok((content, TextPosition { file_bytes: bytes, ..at })),
        }
    }

    /// The content from its start, to learn the columns from: the file will be opened again.
    pub(crate) fn peek(&self) -> Result<Box<dyn Read + Send>, ConnectorError> {
        match &self.place {
            Place::Remote(object, _) if object.has_ranges() => Ok(Box::new(object.stream(0))),
            _ => Ok(Box::new(self.peek_file()?)),
        }
    }

    /// The content as a file of this machine, for formats that do not read from start to end. A remote object is fetched as a
    /// whole, to a temporary file that goes when it is closed.
    pub(crate) fn open_file(&self) -> Result<File, ConnectorError> {
        match &self.place {
            Place::Local(path) => File::open(path).map_err(|error| cannot_read(&self.name, error)),
            Place::Remote(object, kept) => {
                let kept = kept.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(kept) = kept {
                    return kept.reopen().map_err(|error| cannot_read(&self.name, error));
                }
                let mut file = tempfile::tempfile().map_err(|error| cannot_read(&self.name, error))?;
                object.fetch_to(&mut file).map(|()| file)
            }
        }
    }

    /// As [`open_file`](Self::open_file); what is fetched is kept until then.
    pub(crate) fn peek_file(&self) -> Result<File, ConnectorError> {
        let Place::Remote(object, kept) = &self.place else { return self.open_file() };
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() {
            let mut file = NamedTempFile::new().map_err(|error| cannot_read(&self.name, error))?;
            object.fetch_to(file.as_file_mut())?;
            *kept = Some(file);
        }
        let file = kept.as_ref().expect("it was fetched above").reopen();
        file.map_err(|error| cannot_read(&self.name, error))
    }
}

/// The file that `split` is.
pub(crate) fn find<'a>(
    mut files: impl Iterator<Item = &'a InputFile>,
    split: &Split,
) -> Result<&'a InputFile, ConnectorError> {
    let found = files.find(|file| file.name == split.id);
    found.ok_or_else(|| ConnectorError::new(format!("{} is not a file of this source", split.id)))
}

/// `path` cannot be read, because of `error`.
pub(crate) fn cannot_read(name: &str, error: impl std::error::Error + Send + Sync + 'static) -> ConnectorError {
    ConnectorError::new(format!("cannot read {name}")).caused_by(error)
}

/// The files that `path` means, in the order of their paths; at least one. `path` is a file, a directory (with everything
/// below it but hidden files, whose names begin with `.` or `_`), a glob or a URL. Relative paths are relative to `base`.
pub(crate) fn list(base: &Path, path: &str) -> Result<Vec<InputFile>, ConnectorError> {
    let mut files = match url_of(path)? {
        Some(url) if url.scheme() == "file" => {
            let local = local_path(&url)?;
            list_local(&local, &local.to_string_lossy(), path)?
        }
        Some(url) => remote::list(&url)?.into_iter().map(fetched).collect(),
        None => list_local(&base.join(path), path, path)?,
    };
    files.sort_by(|a, b| a.name.cmp(&b.name));
    if files.is_empty() {
        return Err(ConnectorError::new(format!("no file to read in {path}")));
    }
    if files.len() > FILES_MAX {
        let message = format!("{path} has {} files, limit {FILES_MAX}: read it in parts, by a glob", files.len());
        return Err(ConnectorError::new(message));
    }
    Ok(files)
}

/// The URL that `path` is, if it is one.
pub(crate) fn url_of(path: &str) -> Result<Option<Url>, ConnectorError> {
    if !path.contains("://") {
        return Ok(None);
    }
    Url::parse(path).map(Some).map_err(|error| ConnectorError::new(format!("{path} is not a URL")).caused_by(error))
}

/// The path that a `file://` URL means.
pub(crate) fn local_path(url: &Url) -> Result<PathBuf, ConnectorError> {
    url.to_file_path()
        .map_err(|()| ConnectorError::new(format!("{url} is not a file of this machine: write file:///path")))
}

fn list_local(path: &Path, name: &str, given: &str) -> Result<Vec<InputFile>, ConnectorError> {
    let mut files = Vec::new();
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => walk(path, name.trim_end_matches('/'), 0, &mut files)?,
        Ok(found) if !found.is_file() => return Err(ConnectorError::new(format!("{name} is no regular file"))),
        Ok(found) => files.push(local(path.to_owned(), name.to_owned(), found.len())),
        Err(_) if given.contains(['*', '?', '[']) => return list_glob(path, name, given),
        Err(error) => return Err(cannot_read(name, error)),
    }
    Ok(files)
}

fn local(path: PathBuf, name: String, bytes: u64) -> InputFile {
    InputFile { name, bytes, place: Place::Local(path) }
}

fn walk(path: &Path, name: &str, depth: usize, files: &mut Vec<InputFile>) -> Result<(), ConnectorError> {
    if depth > DEPTH_MAX {
        return Err(ConnectorError::new(format!(
            "{name} is {DEPTH_MAX} directories deep: is there a circle of links?"
        )));
    }
    for entry in std::fs::read_dir(path).map_err(|error| cannot_read(name, error))? {
        let entry = entry.map_err(|error| cannot_read(name, error))?;
        let file_name = entry.file_name().to_string_lossy().into_owned();
        if file_name.starts_with(['.', '_']) {
            continue;
        }
        let name = format!("{name}/{file_name}");
        let found = std::fs::metadata(entry.path()).map_err(|error| cannot_read(&name, error))?;
        if found.is_dir() {
            walk(&entry.path(), &name, depth + 1, files)?;
        } else if files.len() <= FILES_MAX {
            files.push(local(entry.path(), name, found.len()));
        }
    }
    Ok(())
}

/// `pattern` is the whole path; what stands before `given` in it is the base, in which nothing is special.
fn list_glob(pattern: &Path, name: &str, given: &str) -> Result<Vec<InputFile>, ConnectorError> {
    let whole = pattern.to_string_lossy();
    let base = whole.strip_suffix(name).unwrap_or("");
    let bad = |error: glob::PatternError| ConnectorError::new(format!("{given} is not a glob")).caused_by(error);
    let escaped = format!("{}{name}", glob::Pattern::escape(base));
    let options =
        glob::MatchOptions { require_literal_separator: true, require_literal_leading_dot: true, ..Default::default() };
    let mut files = Vec::new();
    for path in glob::glob_with(&escaped, options).map_err(bad)? {
        let path = path.map_err(|error| cannot_read(given, error))?;
        let name = path.to_string_lossy();
        let name = name.strip_prefix(base).unwrap_or(&name).to_owned();
        let found = std::fs::metadata(&path).map_err(|error| cannot_read(&name, error))?;
        if found.is_dir() {
            walk(&path, &name, 0, &mut files)?;
        } else {
            files.push(local(path, name, found.len()));
        }
    }
    Ok(files)
}

fn fetched(object: Object) -> InputFile {
    InputFile { name: object.url(), bytes: object.meta.size, place: Place::Remote(object, Arc::default()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use object_store::ObjectStoreExt;
    use std::error::Error;

    fn names(files: &[InputFile]) -> Vec<&str> {
        files.iter().map(|file| file.name.as_str()).collect()
    }

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::Builder::new().prefix("a[b]").tempdir().unwrap();
        for name in ["in/b.csv", "in/a.csv", "in/sub/c.csv", "in/.hidden.csv", "in/_SUCCESS", "in/d.txt"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        dir
    }

    #[test]
    fn files_come_in_the_order_of_their_paths() {
        let dir = tree();
        let list = |path: &str| list(dir.path(), path).unwrap();
        assert_eq!(names(&list("in/b.csv")), ["in/b.csv"]);
        assert_eq!(names(&list("in")), ["in/a.csv", "in/b.csv", "in/d.txt", "in/sub/c.csv"]);
        assert_eq!(names(&list("in/")), ["in/a.csv", "in/b.csv", "in/d.txt", "in/sub/c.csv"]);
        assert_eq!(names(&list("in/*.csv")), ["in/a.csv", "in/b.csv"]);
        assert_eq!(names(&list("in/**/*.csv")), ["in/a.csv", "in/b.csv", "in/sub/c.csv"]);
        assert_eq!(list("in/b.csv")[0].bytes, 8);
    }

    #[test]
    fn a_file_url_is_a_path() {
        let dir = tree();
        let url = Url::from_file_path(dir.path().join("in/a.csv")).unwrap();
        let files = list(Path::new("/nowhere"), url.as_str()).unwrap();
        let mut text = String::new();
        files[0].open_at(None).unwrap().0.read_to_string(&mut text).unwrap();
        assert_eq!(text, "in/a.csv");
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tree();
        let message = |path: &str| list(dir.path(), path).unwrap_err().to_string();
        let error = list(dir.path(), "gone.csv").unwrap_err();
        assert_eq!(error.to_string(), "cannot read gone.csv");
        assert!(error.source().unwrap().to_string().contains("No such file"));
        assert_eq!(message("in/*.parquet"), "no file to read in in/*.parquet");
        assert_eq!(message("in/[.csv"), "in/[.csv is not a glob");
        assert!(message("ftp://x/y").contains("no such scheme"));
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(message("empty"), "no file to read in empty");
    }

    #[cfg(unix)]
    #[test]
    fn a_circle_of_links_ends() {
        let dir = tree();
        std::os::unix::fs::symlink(dir.path().join("in"), dir.path().join("in/sub/circle")).unwrap();
        let error = list(dir.path(), "in").unwrap_err();
        assert!(error.to_string().contains("circle of links") || error.source().is_some(), "{error}");
    }

    #[test]
    fn an_object_is_read_from_a_position() {
        let store = remote::testing::store(&[("x.csv", "0123456789")]);
        let whole = remote::testing::without_ranges(&store);
        for store in [&store, &whole] {
            let object = |store| Object { store: Arc::clone(store), meta: remote::testing::meta(store, "x.csv") };
            let file = fetched(object(store));
            let read = |at: TextPosition| file.open_at(Some(&position::write(&at)));
            let text = |byte: u64| {
                let mut text = String::new();
                let (mut content, at) = read(TextPosition { row: 1, byte, line: 2, file_bytes: 9 }).unwrap();
                assert_eq!(at, TextPosition { row: 1, byte, line: 2, file_bytes: 10 });
                content.read_to_string(&mut text).unwrap();
                text
            };
            assert_eq!((text(0), text(4), text(10)), ("0123456789".into(), "456789".into(), String::new()));
            for at in
                [TextPosition { byte: 11, ..Default::default() }, TextPosition { file_bytes: 11, ..Default::default() }]
            {
                let error = read(at).err().unwrap().to_string();
                assert!(error.starts_with("mem://x.csv has 10 bytes, and had at least 11 when the"), "{error}");
            }
        }
    }

    #[test]
    fn what_was_fetched_to_learn_the_columns_is_not_fetched_again() {
        let store = remote::testing::store(&[("x.csv", "content")]);
        let object = remote::list_store(&store, &"x.csv".into(), "x.csv").unwrap().remove(0);
        let file = fetched(object);
        let text = |mut file: File| std::io::read_to_string(&mut file).unwrap();
        assert_eq!(
            (text(file.peek_file().unwrap()), text(file.peek_file().unwrap())),
            ("content".into(), "content".into())
        );
        remote::block_on(store.objects.delete(&"x.csv".into())).unwrap().unwrap();
        assert_eq!(text(file.open_file().unwrap()), "content");
        assert_eq!(file.open_file().unwrap_err().to_string(), "cannot read mem://x.csv");
    }
}
