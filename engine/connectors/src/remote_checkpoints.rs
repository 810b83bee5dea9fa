//! Checkpoints in a folder of an object store.
//!
//! An object appears whole when its last byte has arrived, and stays: nothing more is needed for `put`. What a crash leaves are at
//! most parts of an upload that nobody sees, for the store to clear up by a rule of its own.
//!
//! The claim is the object `.claim`, made on the condition that there is none; it says whose it is, and is removed when the claim is
//! dropped. A store has no lock that goes with a process, and a claim that ran out by itself would let a job that only stood still for
//! a while meet its successor. So a claim whose process was killed stays, and a person removes it. A store without conditional writes
//! (some that imitate S3) is asked first and written to then: of two jobs that start within a second, both may believe to be alone.

use std::io::Read;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart};
use serde::{Deserialize, Serialize};
use wasmill_runtime::checkpoint::storage::{CheckpointStorage, Claim, StorageError, check_name, check_prefix};
use wasmill_runtime::connector::ConnectorError;

use crate::remote::{Object, Store, block_on};
use crate::writing_marker::run_name;

/// What is longer is sent in parts of this size, several at a time: a request has a time limit.
const PART_BYTES: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 4;

const CLAIM: &str = ".claim";

#[derive(Debug)]
pub(crate) struct RemoteCheckpoints {
    store: Arc<Store>,
    folder: Path,
}

/// What the claim says of its holder.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// Tells this claim from every other.
    id: String,
    process: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    since: String,
}

impl Holder {
    fn new() -> Holder {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let since: DateTime<Utc> =
            DateTime::from_timestamp(i64::try_from(since).unwrap_or_default(), 0).unwrap_or_default();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        Holder { id: run_name(), process: std::process::id(), host, since }
    }
}

struct Held {
    store: Arc<Store>,
    key: Path,
    holder: Holder,
}

impl Claim for Held {}

impl Drop for Held {
    /// Only if nobody has taken the claim for dead and replaced it.
    fn drop(&mut self) {
        if matches!(read_claim(&self.store, &self.key), Ok(Some(found)) if found == self.holder) {
            let _ = block_on(self.store.objects.delete(&self.key));
        }
    }
}

impl RemoteCheckpoints {
    pub(crate) fn new(store: Arc<Store>, folder: Path) -> Result<RemoteCheckpoints, ConnectorError> {
        if store.uploads.is_none() {
            let place = store.url(&folder);
            let message = format!(
                "{place}: a web server cannot be written to: give a directory, or an s3://, gs:// or az:// URL"
            );
            return Err(ConnectorError::new(message));
        }
        Ok(RemoteCheckpoints { store, folder })
    }

    fn key(&self, name: &str) -> Path {
        name.split('/').filter(|part| !part.is_empty()).fold(self.folder.clone(), |key, part| key.join(part))
    }

    fn send_parts(&self, key: &Path, content: &[u8]) -> std::io::Result<object_store::Result<()>> {
        block_on(async {
            let upload = self.store.objects.put_multipart(key).await?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            for part in content.chunks(PART_BYTES) {
                if let Err(error) = parts.wait_for_capacity(PARTS_AT_ONCE).await {
                    // Why it failed is known; what cannot be aborted either is the store's to clear up.
                    let _ = parts.abort().await;
                    return Err(error);
                }
                parts.put(Bytes::copy_from_slice(part));
            }
            parts.finish().await.map(|_| ())
        })
    }
}

impl CheckpointStorage for RemoteCheckpoints {
    fn put(&self, name: &str, content: &[u8]) -> Result<(), StorageError> {
        check_name(name)?;
        let key = self.key(name);
        let sent = match content.len() {
            0..=PART_BYTES => {
                let payload = PutPayload::from_bytes(Bytes::copy_from_slice(content));
                block_on(self.store.objects.put(&key, payload)).map(|sent| sent.map(|_| ()))
            }
            _ => self.send_parts(&key, content),
        };
        done(&self.store, "write", &key, sent)
    }

    fn get(&self, name: &str) -> Result<Vec<u8>, StorageError> {
        check_name(name)?;
        let key = self.key(name);
        read(&self.store, &key)?.ok_or_else(|| StorageError::Missing { place: self.store.url(&key) })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>, StorageError> {
        let folder = self.key(check_prefix(prefix)?);
        let url = self.store.url(&folder);
        let listed = self.store.objects.list(Some(&folder)).try_collect::<Vec<_>>();
        let found = self.store.listed(&folder, &url, listed).map_err(|error| because(url, error))?;
        let mut names: Vec<String> = found
            .iter()
            .filter_map(|meta| {
                let parts = meta.location.prefix_match(&self.folder)?;
                let name = parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/");
                check_name(&name).is_ok().then_some(name)
            })
            .collect();
        names.sort();
        Ok(names)
    }

    fn delete(&self, name: &str) -> Result<(), StorageError> {
        check_name(name)?;
        let key = self.key(name);
        match block_on(self.store.objects.delete(&key)) {
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(()),
            deleted => done(&self.store, "delete", &key, deleted),
        }
    }

    fn location(&self, name: Option<&str>) -> String {
        self.store.url(&name.map_or_else(|| self.folder.clone(), |name| self.key(name)))
    }

    fn claim(&self) -> Result<Box<dyn Claim>, StorageError> {
        let (key, holder) = (self.folder.clone().join(CLAIM), Holder::new());
        let text = serde_json::to_vec(&holder).expect("texts and numbers are JSON");
        let put = |mode: PutMode| {
            let payload = PutPayload::from(text.clone());
            block_on(self.store.objects.put_opts(&key, payload, PutOptions::from(mode)))
        };
        let mut made = put(PutMode::Create);
        if let Ok(Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })) = made {
            match read_claim(&self.store, &key)? {
                Some(found) => return Err(self.taken(&key, &found)),
                None => made = put(PutMode::Overwrite),
            }
        }
        match made {
            Ok(Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })) => {
                match read_claim(&self.store, &key)? {
                    // The answer to an earlier try of the same request was lost on its way.
                    Some(found) if found == holder => {}
                    Some(found) => return Err(self.taken(&key, &found)),
                    None => {
                        let place = self.location(None);
                        let by = "another job held it until now: try again".to_owned();
                        return Err(StorageError::Taken { place, by });
                    }
                }
            }
            made => done(&self.store, "write", &key, made.map(|made| made.map(|_| ())))?,
        }
        Ok(Box::new(Held { store: Arc::clone(&self.store), key, holder }))
    }
}

impl RemoteCheckpoints {
    fn taken(&self, key: &Path, by: &Holder) -> StorageError {
        let Holder { process, host, since, .. } = by;
        let host = host.as_ref().map_or_else(String::new, |host| format!(" on {host}"));
        let by = format!(
            "process {process}{host} has kept its checkpoints there since {since}: stop it, or give each job a place of its own; \
             if it is dead, remove {}",
            self.store.url(key)
        );
        StorageError::Taken { place: self.location(None), by }
    }
}

/// What the object `key` holds, if there is one.
fn read(store: &Arc<Store>, key: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    let meta = match block_on(store.objects.head(key)) {
        Ok(Ok(meta)) => meta,
        Ok(Err(object_store::Error::NotFound { .. })) => return Ok(None),
        failed => return done(store, "read", key, failed.map(|failed| failed.map(|_| ()))).map(|()| None),
    };
    let object = Object { store: Arc::clone(store), meta };
    let mut content = Vec::with_capacity(usize::try_from(object.meta.size).unwrap_or_default());
    match object.stream(0).read_to_end(&mut content) {
        Ok(_) => Ok(Some(content)),
        Err(error) => {
            let url = store.url(key);
            Err(StorageError::io(format!("cannot read {url}"), url).caused_by(error))
        }
    }
}

fn read_claim(store: &Arc<Store>, key: &Path) -> Result<Option<Holder>, StorageError> {
    let Some(text) = read(store, key)? else { return Ok(None) };
    let holder = serde_json::from_slice(&text).map_err(|error| {
        let url = store.url(key);
        let what = format!("{url} is no claim of a job: remove it, or choose another place for checkpoints");
        StorageError::io(what, url).caused_by(error)
    })?;
    Ok(Some(holder))
}

fn because(place: String, error: ConnectorError) -> StorageError {
    StorageError::Io { what: error.message, place, source: error.source }
}

/// What became of a request that was to `doing` the object `key`.
fn done(
    store: &Store,
    doing: &str,
    key: &Path,
    result: std::io::Result<object_store::Result<()>>,
) -> Result<(), StorageError> {
    let place = store.url(key);
    match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(because(place.clone(), store.failed(&format!("cannot {doing} {place}"), error))),
        Err(error) => {
            Err(StorageError::io(format!("cannot {doing} {place}: there is no network"), place).caused_by(error))
        }
    }
}

#[cfg(test)]
#[path = "remote_checkpoints_tests.rs"]
mod tests;
