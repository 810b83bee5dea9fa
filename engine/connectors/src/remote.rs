//! Objects behind URLs: `s3://`, `gs://`, `az://` and, to read, `http://` and `https://`, as object_store reaches them.
//!
//! Credentials and endpoints come from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`): they are no part of a job. A request that
//! gets no answer or is turned away for the moment is tried again for [`RETRY_TIME`], then the job fails.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{
    Attribute, BackoffConfig, ClientConfigKey, ClientOptions, GetOptions, GetRange, ObjectMeta, ObjectStore,
    ObjectStoreExt, ObjectStoreScheme, RetryConfig,
};
use tokio::runtime::Runtime;
use url::{Position, Url};
use wasmill_runtime::connector::ConnectorError;

/// How long a request is tried again before the job fails.
const RETRY_TIME: Duration = Duration::from_secs(15);

/// How long a web server may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// What is asked for at once of an object that is read from its start; first a little, since often only its first rows matter.
const FIRST_RANGE_BYTES: u64 = 1 << 20;
const RANGE_BYTES: u64 = 8 << 20;

/// A bucket, a container, or a web server.
pub(crate) struct Store {
    pub objects: Arc<dyn ObjectStore>,
    /// `None` where nothing can be written.
    pub uploads: Option<Arc<dyn MultipartStore>>,
    /// What comes before the keys in URLs.
    pub root: String,
    /// Which credentials there are not.
    missing: Option<&'static str>,
    /// Can a part of an object be asked for?
    ranges: bool,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.root)
    }
}

/// The result of `future`, which runs on threads that all connections share: they outlive a single call.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    Ok(runtime()?.block_on(future))
}

pub(crate) fn runtime() -> io::Result<&'static Runtime> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("wasmill-network")
            .enable_all()
            .build()
    });
    runtime.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))
}

/// The store that `url` is in, and the key of what it names there. Nothing is asked of the network.
pub(crate) fn open(url: &Url) -> Result<(Store, Path), ConnectorError> {
    if url.query().is_some() || url.fragment().is_some() {
        let message =
            format!("{url}: what follows ? or # in a URL is not sent: write %3F or %23 where it is part of a name");
        return Err(ConnectorError::new(message));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(ConnectorError::new(format!("{url} names no bucket or server: write {}://name/key", url.scheme())));
    }
    let (scheme, key) = ObjectStoreScheme::parse(url).map_err(|error| {
        let message =
            format!("{url}: no such scheme; a path, file://, s3://, gs://, az://, http:// and https:// are known");
        ConnectorError::new(message).caused_by(error)
    })?;
    let cannot = |error: object_store::Error| ConnectorError::new(format!("cannot use {url}")).caused_by(error);
    let root = root(url, &key);
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => {
            let builder = AmazonS3Builder::from_env().with_url(url.as_str()).with_retry(retry());
            refuse_plain_http(&builder)?;
            let missing = without_aws_credentials(&builder);
            Store::writable(builder.build().map_err(cannot)?, root, missing)
        }
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::from_env().with_url(url.as_str()).with_retry(retry());
            let missing = without_google_credentials(&builder);
            Store::writable(builder.build().map_err(cannot)?, root, missing)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::from_env().with_url(url.as_str()).with_retry(retry());
            Store::writable(builder.build().map_err(cannot)?, root, None)
        }
        ObjectStoreScheme::Http => {
            // The time of a whole request is not bounded, since a large file comes in one; silence is.
            let options = ClientOptions::new().with_allow_http(true).with_timeout_disabled();
            let builder = HttpBuilder::new().with_url(&url[..Position::BeforePath]).with_client_options(options);
            let objects = Arc::new(builder.with_retry(retry()).build().map_err(cannot)?);
            Store { objects, uploads: None, root, missing: None, ranges: false }
        }
        _ => return Err(ConnectorError::new(format!("{url} is no place of a network: give a path"))),
    };
    Ok((store, key))
}

fn retry() -> RetryConfig {
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: RETRY_TIME }
}

/// `url` without `key`, which ends it.
fn root(url: &Url, key: &Path) -> String {
    let parts: Vec<&str> = url.path().split('/').filter(|part| !part.is_empty()).collect();
    let above = parts.len().saturating_sub(key.parts().count());
    let mut root = format!("{}/", &url[..Position::BeforePath]);
    parts[..above].iter().for_each(|part| root += &format!("{part}/"));
    root
}

/// object_store would try for its whole retry time, and say that a builder is wrong.
fn refuse_plain_http(builder: &AmazonS3Builder) -> Result<(), ConnectorError> {
    let is_set = |key| builder.get_config_value(&key);
    let endpoint = is_set(AmazonS3ConfigKey::S3Endpoint).or(is_set(AmazonS3ConfigKey::Endpoint)).unwrap_or_default();
    let allowed = is_set(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)).is_some_and(|value| value == "true");
    if endpoint.starts_with("http://") && !allowed {
        return Err(ConnectorError::new(format!(
            "AWS_ENDPOINT is {endpoint}, over which nothing is encrypted: give https://, or set AWS_ALLOW_HTTP=true"
        )));
    }
    Ok(())
}

fn without_aws_credentials(builder: &AmazonS3Builder) -> Option<&'static str> {
    use AmazonS3ConfigKey as Key;
    let known = [
        Key::AccessKeyId,
        Key::SecretAccessKey,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
    ];
    let unsigned = builder.get_config_value(&Key::SkipSignature).is_some_and(|value| value == "true");
    let any = unsigned || known.iter().any(|key| builder.get_config_value(key).is_some());
    (!any).then_some(
        "AWS_ACCESS_KEY_ID is not set, so that this machine was asked for the credentials of its role: set it and \
         AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket",
    )
}

fn without_google_credentials(builder: &GoogleCloudStorageBuilder) -> Option<&'static str> {
    use GoogleConfigKey as Key;
    let known = [Key::ServiceAccount, Key::ServiceAccountKey, Key::ApplicationCredentials];
    let unsigned = builder.get_config_value(&Key::SkipSignature).is_some_and(|value| value == "true");
    let any = unsigned || known.iter().any(|key| builder.get_config_value(key).is_some());
    (!any).then_some(
        "GOOGLE_APPLICATION_CREDENTIALS is not set, so that the credentials of the gcloud command or of this machine were \
         asked for: set it to a file of credentials",
    )
}

/// An error of object_store, told once: each of its causes says again what the next one says.
#[derive(Debug)]
pub(crate) struct Told(pub object_store::Error);

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_settings(&self.0.to_string()))
    }
}

/// The text of an error without the library's own settings, `, max_retries: 18446744073709551615, retry_timeout: 15s `.
fn without_settings(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(", max_retries: ") {
        plain += before;
        rest = after.find(" - ").map_or("", |end| &after[end..]);
    }
    plain + rest
}

impl std::error::Error for Told {
    /// The last cause, such as `connection refused`, where it is not told yet.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let mut last: &(dyn std::error::Error + 'static) = &self.0;
        while let Some(cause) = last.source() {
            last = cause;
        }
        (!self.0.to_string().contains(&last.to_string())).then_some(last)
    }
}

pub(crate) fn told(error: object_store::Error) -> io::Error {
    io::Error::other(Told(error))
}

/// Was it the credentials of the machine's role, from where clouds have them, that could not be had?
fn is_of_metadata(error: &object_store::Error) -> bool {
    let text = error.to_string();
    ["//169.254.", "/latest/api/token", "/latest/meta-data/", "metadata.google.internal", "/computeMetadata/"]
        .iter()
        .any(|place| text.contains(place))
}

/// Did no answer come at all?
fn is_silence(error: &object_store::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return matches!(http.kind(), HttpErrorKind::Connect | HttpErrorKind::Timeout);
        }
        cause = error.source();
    }
    false
}

impl Store {
    /// A store in which objects can be written too.
    pub(crate) fn writable<S: ObjectStore + MultipartStore>(
        store: S,
        root: String,
        missing: Option<&'static str>,
    ) -> Store {
        let store = Arc::new(store);
        let objects: Arc<dyn ObjectStore> = Arc::<S>::clone(&store);
        Store { objects, uploads: Some(store), root, missing, ranges: true }
    }

    /// The URL of the object `key`.
    pub(crate) fn url(&self, key: &Path) -> String {
        format!("{}{key}", self.root)
    }

    /// What became of `doing`, such as `cannot read s3://bucket/key`, and what can be done about it.
    pub(crate) fn failed(&self, doing: &str, error: object_store::Error) -> ConnectorError {
        use object_store::Error;
        let advice = match &error {
            Error::NotFound { .. } => "no such object or bucket".to_owned(),
            Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                let who = self.missing.unwrap_or("check the credentials in the environment, and what they allow");
                format!("access is denied: {who}")
            }
            Error::Precondition { .. } => "it was replaced while it was read".to_owned(),
            error if is_silence(error) => match self.missing {
                Some(missing) => format!("no credentials: {missing}"),
                None => {
                    let endpoint = match self.root.split("://").next() {
                        Some("s3" | "s3a") => ", also that in AWS_ENDPOINT if it is set,",
                        Some("az" | "azure" | "adl" | "abfs" | "abfss") => {
                            ", also that in AZURE_ENDPOINT if it is set,"
                        }
                        _ => "",
                    };
                    format!("there is no answer: is the address right{endpoint} and is there a network?")
                }
            },
            error if is_of_metadata(error) && self.missing.is_some() => {
                format!("no credentials: {}", self.missing.unwrap_or_default())
            }
            _ => return ConnectorError::new(doing).caused_by(Told(error)),
        };
        ConnectorError::new(format!("{doing}: {advice}")).caused_by(Told(error))
    }

    fn unreadable(&self, url: &str, error: object_store::Error) -> ConnectorError {
        self.failed(&format!("cannot read {url}"), error)
    }

    /// The result of `future`, which lists `folder`; `url` is for messages.
    pub(crate) fn listed<T>(
        &self,
        folder: &Path,
        url: &str,
        future: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ConnectorError> {
        let doing = format!("cannot list {url}");
        let error = match block_on(future) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(error) => return Err(ConnectorError::new(doing).caused_by(error)),
        };
        if is_silence(&error) {
            return Err(self.failed(&doing, error));
        }
        // What is wrong with a list has no type; what is wrong with an object has.
        let probed = block_on(self.objects.head(&folder.clone().join("wasmill-probe")));
        match probed {
            Ok(Err(typed)) => Err(ConnectorError { source: Some(Box::new(Told(error))), ..self.failed(&doing, typed) }),
            _ => Err(self.failed(&doing, error)),
        }
    }
}

/// An object to read.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub store: Arc<Store>,
    pub meta: ObjectMeta,
}

impl Object {
    pub(crate) fn url(&self) -> String {
        self.store.url(&self.meta.location)
    }

    pub(crate) fn has_ranges(&self) -> bool {
        self.store.ranges
    }

    /// Reads it from the byte `from` on, a few MiB ahead.
    pub(crate) fn stream(&self, from: u64) -> impl Read + Send + use<> {
        Stream { object: self.clone(), at: from, chunk: Bytes::new() }
    }

    /// A part of it, as it was when it was listed.
    async fn range(&self, from: u64, to: u64) -> object_store::Result<Bytes> {
        let options = GetOptions {
            range: Some(GetRange::Bounded(from..to)),
            if_match: self.meta.e_tag.clone(),
            ..GetOptions::default()
        };
        self.store.objects.get_opts(&self.meta.location, options).await?.bytes().await
    }

    /// Fetches it as a whole.
    pub(crate) fn fetch_to(&self, file: &mut File) -> Result<(), ConnectorError> {
        let result = if self.store.ranges { self.fetch_ranges(file) } else { self.fetch_at_once(file) };
        let rewound = |error: io::Error| ConnectorError::new(format!("cannot keep {}", self.url())).caused_by(error);
        result.and_then(|()| file.rewind().map_err(rewound))
    }

    fn fetch_ranges(&self, file: &mut File) -> Result<(), ConnectorError> {
        let url = self.url();
        let no_room = |error: io::Error| {
            let place = std::env::temp_dir();
            ConnectorError::new(format!("cannot keep {url} in {}", place.display())).caused_by(error)
        };
        let mut stream = self.stream(0);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(read) => file.write_all(&buffer[..read]).map_err(no_room)?,
                Err(error) => return Err(ConnectorError::new(format!("cannot read {url}")).caused_by(error)),
            }
        }
    }

    fn fetch_at_once(&self, file: &mut File) -> Result<(), ConnectorError> {
        let fetched = block_on(async {
            let silent = |_| io::Error::from(io::ErrorKind::TimedOut);
            let got = tokio::time::timeout(SILENCE_MAX, self.store.objects.get(&self.meta.location)).await;
            let got = got.map_err(silent)?.map_err(told)?;
            // What a server lists of a folder, or says of an error or a login, is no data, though CSV could be read from it.
            let kind = got.attributes.get(&Attribute::ContentType).map(|kind| kind.to_ascii_lowercase());
            if kind.is_some_and(|kind| kind.starts_with("text/html")) {
                let message = "the server answers with a web page (text/html), not with a file of data: give the URL of the file \
                               itself, as a download";
                return Err(io::Error::other(message));
            }
            let mut stream = got.into_stream();
            while let Some(bytes) = tokio::time::timeout(SILENCE_MAX, stream.next()).await.map_err(silent)? {
                file.write_all(&bytes.map_err(told)?)?;
            }
            Ok(())
        });
        fetched.flatten().map_err(|error| ConnectorError::new(format!("cannot read {}", self.url())).caused_by(error))
    }
}

struct Stream {
    object: Object,
    /// Where the next part begins.
    at: u64,
    chunk: Bytes,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() && self.at < self.object.meta.size {
            let length = if self.at == 0 { FIRST_RANGE_BYTES } else { RANGE_BYTES };
            let to = (self.at + length).min(self.object.meta.size);
            let url = self.object.url();
            let chunk = block_on(self.object.range(self.at, to))?;
            self.chunk = chunk.map_err(|error| io::Error::other(self.object.store.failed(&url, error)))?;
            self.at = to;
        }
        let length = self.chunk.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}

/// What `url` means: an object, or else all objects below it, or else those that match it as a glob.
pub(crate) fn list(url: &Url) -> Result<Vec<Object>, ConnectorError> {
    let (store, key) = open(url)?;
    if !store.ranges && url.path().ends_with('/') {
        let message =
            format!("{url} ends in /, as a folder: a web server does not list its files: give the URL of one file");
        return Err(ConnectorError::new(message));
    }
    list_store(&Arc::new(store), &key, url.as_str())
}

/// As [`list`]; `url` is for messages.
pub(crate) fn list_store(store: &Arc<Store>, key: &Path, url: &str) -> Result<Vec<Object>, ConnectorError> {
    let object = |meta: ObjectMeta| Object { store: Arc::clone(store), meta };
    let text = plain(key);
    if !text.contains(['*', '?', '[']) && !key.as_ref().is_empty() {
        let head = async { tokio::time::timeout(SILENCE_MAX, store.objects.head(key)).await };
        match block_on(head) {
            Ok(Ok(Ok(meta))) => return Ok(vec![object(meta)]),
            Ok(Ok(Err(object_store::Error::NotFound { .. }))) if store.ranges => {}
            Ok(Ok(Err(error))) => return Err(store.unreadable(url, error)),
            Ok(Err(silent)) => return Err(ConnectorError::new(format!("cannot read {url}")).caused_by(silent)),
            Err(error) => return Err(ConnectorError::new(format!("cannot read {url}")).caused_by(error)),
        }
    }
    if !store.ranges {
        let message = format!("{url}: a web server does not list its files: give the URL of one file");
        return Err(ConnectorError::new(message));
    }
    below(store, key, &text, url).map(|found| found.into_iter().map(object).collect())
}

/// The objects below `key`, or those that it, written as `text`, matches.
fn below(store: &Store, key: &Path, text: &str, url: &str) -> Result<Vec<ObjectMeta>, ConnectorError> {
    let is_special = |part: &str| part.contains(['*', '?', '[']);
    let not_a_glob = |error| ConnectorError::new(format!("{url} is not a glob")).caused_by(error);
    let glob = is_special(text).then(|| glob::Pattern::new(text)).transpose().map_err(not_a_glob)?;
    let prefix: Path = match glob {
        None => key.clone(),
        Some(_) => text.split('/').take_while(|part| !is_special(part)).collect::<Vec<_>>().join("/").into(),
    };
    let listed = store.objects.list(Some(&prefix)).try_collect::<Vec<_>>();
    let found = store.listed(&prefix, url, listed)?;
    let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
    let hidden = |meta: &ObjectMeta| {
        let mut parts = meta.location.prefix_match(key).into_iter().flatten();
        parts.any(|part| part.as_ref().starts_with(['.', '_']))
    };
    // Some programs keep an empty object for each folder.
    let is_folder =
        |meta: &ObjectMeta| meta.size == 0 && found.iter().any(|other| is_below(&other.location, &meta.location));
    let wanted = |meta: &&ObjectMeta| match &glob {
        Some(glob) => glob.matches_with(&plain(&meta.location), options) && !is_folder(meta),
        None => meta.location != *key && !hidden(meta) && !is_folder(meta),
    };
    Ok(found.iter().filter(wanted).cloned().collect())
}

fn is_below(path: &Path, folder: &Path) -> bool {
    path != folder && path.prefix_matches(folder)
}

/// Object stores encode some characters in their paths, those of a glob among them.
fn plain(key: &Path) -> String {
    let text = key.as_ref();
    [("%2A", "*"), ("%3F", "?"), ("%5B", "["), ("%5D", "]")]
        .iter()
        .fold(text.to_owned(), |text, (code, character)| text.replace(code, character))
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// Objects in memory under `mem://`.
    pub(crate) fn store(content: &[(&str, &str)]) -> Arc<Store> {
        let store = Arc::new(Store::writable(object_store::memory::InMemory::new(), "mem://".into(), None));
        for (name, text) in content {
            block_on(store.objects.put(&(*name).into(), (*text).to_owned().into())).unwrap().unwrap();
        }
        store
    }

    /// The same objects, of which a part cannot be asked for.
    pub(crate) fn without_ranges(store: &Store) -> Arc<Store> {
        let Store { objects, root, .. } = store;
        Arc::new(Store {
            objects: Arc::clone(objects),
            uploads: None,
            root: root.clone(),
            missing: None,
            ranges: false,
        })
    }

    pub(crate) fn meta(store: &Store, key: &str) -> ObjectMeta {
        block_on(store.objects.head(&key.into())).unwrap().unwrap()
    }

    /// The names of all objects, and what is in them.
    pub(crate) fn content(store: &Store) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for meta in block_on(store.objects.list(None).try_collect::<Vec<_>>()).unwrap().unwrap() {
            let bytes = block_on(async { store.objects.get(&meta.location).await.unwrap().bytes().await.unwrap() });
            all.push((meta.location.to_string(), bytes.unwrap().to_vec()));
        }
        all.sort();
        all
    }
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
