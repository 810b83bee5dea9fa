//! Finding and opening input files: by path, directory, glob or URL.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use object_store::{ObjectStore, ObjectStoreExt};
use url::Url;
use wasmill_runtime::connector::{ConnectorError, Split};

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
    Remote(Arc<dyn ObjectStore>, object_store::path::Path),
}

impl InputFile {
    /// A split whose size is in bytes.
    pub(crate) fn split(&self) -> Split {
        Split { id: self.name.clone(), size: Some(self.bytes) }
    }

    pub(crate) fn is_local(&self) -> bool {
        matches!(self.place, Place::Local(_))
    }

    /// The content, from its start. A remote object is fetched to a nameless temporary file first, so that every format reads it
    /// the same way and a connection that breaks does so here.
    pub(crate) fn open(&self) -> Result<File, ConnectorError> {
        match &self.place {
            Place::Local(path) => File::open(path).map_err(|error| cannot_read(&self.name, error)),
            Place::Remote(store, key) => block_on(fetch(store.as_ref(), key))
                .and_then(|result| result)
                .map_err(|error| cannot_read(&self.name, error)),
        }
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

async fn fetch(store: &dyn ObjectStore, key: &object_store::path::Path) -> std::io::Result<File> {
    let mut file = tempfile::tempfile()?;
    let mut stream = store.get(key).await.map_err(std::io::Error::other)?.into_stream();
    while let Some(bytes) = stream.next().await {
        file.write_all(&bytes.map_err(std::io::Error::other)?)?;
    }
    file.rewind()?;
    Ok(file)
}

fn block_on<T>(future: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(future))
}

/// The files that `path` means, in the order of their paths; at least one. `path` is a file, a directory (with everything
/// below it but hidden files, whose names begin with `.` or `_`), a glob or a URL. Relative paths are relative to `base`.
pub(crate) fn list(base: &Path, path: &str) -> Result<Vec<InputFile>, ConnectorError> {
    let mut files = match url_of(path)? {
        Some(url) if url.scheme() == "file" => {
            let local = local_path(&url)?;
            list_local(&local, &local.to_string_lossy(), path)?
        }
        Some(url) => list_remote(&url)?,
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

/// The cargo feature that brings each scheme.
fn feature_of(scheme: &str) -> Option<(&'static str, bool)> {
    Some(match scheme {
        "s3" | "s3a" => ("aws", cfg!(feature = "aws")),
        "gs" => ("gcp", cfg!(feature = "gcp")),
        "az" | "adl" | "azure" | "abfs" | "abfss" => ("azure", cfg!(feature = "azure")),
        "http" | "https" => ("http", cfg!(feature = "http")),
        _ => return None,
    })
}

fn list_remote(url: &Url) -> Result<Vec<InputFile>, ConnectorError> {
    let scheme = url.scheme();
    match feature_of(scheme) {
        Some((_, true)) => {}
        Some((feature, false)) => {
            let message = format!(
                "this build has no support for {scheme}://…: build it with --features {feature}, or copy {url} here"
            );
            return Err(ConnectorError::new(message));
        }
        None => {
            let message = format!("{url}: no such scheme; a path, file://, s3://, gs://, az:// and https:// are known");
            return Err(ConnectorError::new(message));
        }
    }
    let settings = std::env::vars().map(|(key, value)| (key.to_ascii_lowercase(), value));
    let (store, key) = object_store::parse_url_opts(url, settings).map_err(|error| cannot_read(url.as_str(), error))?;
    let root = url.as_str().strip_suffix(key.as_ref()).unwrap_or(url.as_str()).to_owned();
    list_store(&Arc::from(store), &key, &root).map_err(|error| cannot_read(url.as_str(), error))
}

/// The object `key`, or else all objects below it, or else those that it matches as a glob. `root` comes before the names.
fn list_store(
    store: &Arc<dyn ObjectStore>,
    key: &object_store::path::Path,
    root: &str,
) -> std::io::Result<Vec<InputFile>> {
    let file = |meta: object_store::ObjectMeta| InputFile {
        name: format!("{root}{}", meta.location),
        bytes: meta.size,
        place: Place::Remote(Arc::clone(store), meta.location),
    };
    let text = percent_decoded(key);
    let glob =
        text.contains(['*', '?', '[']).then(|| glob::Pattern::new(&text)).transpose().map_err(std::io::Error::other)?;
    let prefix: object_store::path::Path = match &glob {
        None => key.clone(),
        Some(_) => {
            text.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect::<Vec<_>>().join("/").into()
        }
    };
    let found = block_on(async {
        if glob.is_none()
            && let Ok(meta) = store.head(key).await
        {
            return Ok(vec![meta]);
        }
        store.list(Some(&prefix)).try_collect::<Vec<_>>().await
    })?
    .map_err(std::io::Error::other)?;
    let hidden =
        |meta: &object_store::ObjectMeta| meta.location.filename().is_some_and(|name| name.starts_with(['.', '_']));
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let wanted = |meta: &object_store::ObjectMeta| match &glob {
        Some(glob) => glob.matches_with(meta.location.as_ref(), options),
        None => meta.location == *key || !hidden(meta),
    };
    Ok(found.into_iter().filter(wanted).map(file).collect())
}

/// Object stores encode the characters of a glob in their paths.
fn percent_decoded(key: &object_store::path::Path) -> String {
    key.as_ref().replace("%2A", "*").replace("%3F", "?").replace("%5B", "[").replace("%5D", "]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;
    use std::io::Read;

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
        files[0].open().unwrap().read_to_string(&mut text).unwrap();
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

    #[cfg(not(feature = "aws"))]
    #[test]
    fn a_scheme_that_is_not_built_in_says_what_to_do() {
        let message = list(Path::new("."), "s3://bucket/x.parquet").unwrap_err().to_string();
        assert!(message.starts_with("this build has no support for s3://…: build it with --features aws"), "{message}");
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
    fn objects_are_listed_and_fetched() {
        let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
        for name in ["in/b.csv", "in/a.csv", "in/_SUCCESS", "other/x.csv"] {
            block_on(store.put(&name.into(), name.to_owned().into())).unwrap().unwrap();
        }
        let found = |key: &str| list_store(&store, &key.into(), "mem://").unwrap();
        assert_eq!(names(&found("in")), ["mem://in/a.csv", "mem://in/b.csv"]);
        assert_eq!(names(&found("in/b.csv")), ["mem://in/b.csv"]);
        assert_eq!(names(&found("*/*.csv")), ["mem://in/a.csv", "mem://in/b.csv", "mem://other/x.csv"]);
        let mut text = String::new();
        found("in/b.csv")[0].open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "in/b.csv");
    }
}
