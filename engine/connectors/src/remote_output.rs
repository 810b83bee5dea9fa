//! A folder of an object store.
//!
//! A file is a multipart upload: its parts are sent while it is written, nobody sees it until the upload is completed, and that is
//! the commit. What a crash leaves are uploads that nobody sees: those that a checkpoint names are completed by whoever goes on from
//! it, the others are for the store to clear up by a rule of its own.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{MultipartId, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use wasmill_runtime::connector::ConnectorError;

use crate::file_sink::EncodeError;
use crate::output::{Output, Prepare, Scope, Unfinished};
use crate::remote::{Store, Told, block_on, runtime, told};

/// The first thousand parts have this size, so that a file of 8 GB has parts of one size, as some stores want. Later ones are
/// larger, since a store takes [`PARTS_MAX`] of them.
const PART_BYTES: usize = 8 << 20;

/// S3's limit. Such a file has 430 GiB.
const PARTS_MAX: usize = 10_000;

fn part_bytes(index: usize) -> usize {
    PART_BYTES * (1 + index / 1000)
}

#[derive(Debug)]
pub(crate) struct RemoteOutput {
    store: Arc<Store>,
    folder: Path,
    uploads: Arc<Uploads>,
}

/// What was begun and is neither finished nor aborted.
type Uploads = Mutex<Vec<(Path, MultipartId)>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What finishes a file, as its committable says it.
#[derive(Debug, Serialize, Deserialize)]
struct Prepared {
    name: String,
    upload: MultipartId,
    parts: Vec<String>,
    bytes: u64,
}

fn parse(prepared: &str) -> Result<Prepared, ConnectorError> {
    serde_json::from_str(prepared)
        .map_err(|error| ConnectorError::new(format!("{prepared:?} is no upload")).caused_by(error))
}

impl RemoteOutput {
    pub(crate) fn new(store: Arc<Store>, folder: Path) -> Result<RemoteOutput, ConnectorError> {
        if store.uploads.is_none() {
            let message = format!(
                "path: {}: a web server cannot be written to: give a path, or an s3://, gs:// or az:// URL",
                store.url(&folder)
            );
            return Err(ConnectorError::new(message));
        }
        Ok(RemoteOutput { store, folder, uploads: Arc::default() })
    }

    fn key(&self, name: &str) -> Path {
        self.folder.clone().join(name)
    }

    fn multipart(&self) -> Arc<dyn MultipartStore> {
        Arc::clone(self.store.uploads.as_ref().expect("new refused stores without uploads"))
    }

    fn is_there(&self, key: &Path) -> Result<Option<u64>, ConnectorError> {
        match block_on(self.store.objects.head(key)) {
            Ok(Ok(meta)) => Ok(Some(meta.size)),
            Ok(Err(object_store::Error::NotFound { .. })) => Ok(None),
            Ok(Err(error)) => Err(self.store.failed(&format!("cannot look at {}", self.store.url(key)), error)),
            Err(error) => Err(ConnectorError::new("there is no network").caused_by(error)),
        }
    }
}

impl Output for RemoteOutput {
    fn place(&self, name: Option<&str>) -> String {
        name.map_or_else(|| self.store.url(&self.folder), |name| self.store.url(&self.key(name)))
    }

    /// Some schemes have several names.
    fn identity(&self) -> String {
        let url = self.store.url(&self.folder);
        match url.split_once("://") {
            Some(("s3a", rest)) => format!("s3://{rest}"),
            Some(("adl" | "azure" | "abfs" | "abfss", rest)) => format!("az://{rest}"),
            _ => url,
        }
    }

    fn refuse(&self) -> Option<String> {
        None
    }

    /// Folders of an object store need not be made.
    fn enter(&self, _: &Scope<'_>) -> Result<(), ConnectorError> {
        Ok(())
    }

    /// Unfinished uploads cannot be told from those of a job that runs.
    fn clear(&self, _: &dyn Fn(&str) -> bool) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn names(&self, one: Option<&str>) -> Result<Vec<String>, ConnectorError> {
        if let Some(name) = one {
            return Ok(self.is_there(&self.key(name))?.map(|_| name.to_owned()).into_iter().collect());
        }
        let listed = self.store.objects.list_with_delimiter(Some(&self.folder));
        let found = self.store.listed(&self.folder, &self.place(None), listed)?;
        Ok(found.objects.iter().filter_map(|meta| meta.location.filename().map(str::to_owned)).collect())
    }

    fn create(&self, name: &str) -> Result<Unfinished, ConnectorError> {
        let upload = Upload {
            store: self.multipart(),
            uploads: Arc::clone(&self.uploads),
            key: self.key(name),
            id: None,
            buffer: Vec::new(),
            parts: Vec::new(),
            sending: None,
            bytes: 0,
        };
        let upload = Arc::new(Mutex::new(upload));
        let content = Box::new(Content(Arc::clone(&upload)));
        let end = Box::new(End { upload, name: name.to_owned() });
        Ok(Unfinished { place: self.place(Some(name)), content, end })
    }

    fn name_of(&self, prepared: &str) -> Option<String> {
        serde_json::from_str::<Prepared>(prepared).ok().map(|prepared| prepared.name)
    }

    fn finish(&self, prepared: &str) -> Result<(), ConnectorError> {
        let Prepared { name, upload, parts, bytes } = parse(prepared)?;
        let key = self.key(&name);
        let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
        let (store, doing) = (self.multipart(), format!("cannot complete {}", self.store.url(&key)));
        let completed = block_on(store.complete_multipart(&key, &upload, parts))
            .map_err(|error| ConnectorError::new(&doing).caused_by(error))?;
        match completed {
            Ok(_) => {}
            // The answer to an earlier try was lost on its way.
            Err(object_store::Error::NotFound { .. }) if self.is_there(&key)? == Some(bytes) => {}
            Err(error @ object_store::Error::NotFound { .. }) => {
                let message =
                    format!("{doing}: its upload is gone: did another program, or a rule of the bucket, abort it?");
                return Err(ConnectorError::new(message).caused_by(Told(error)));
            }
            Err(error) => return Err(self.store.failed(&doing, error)),
        }
        lock(&self.uploads).retain(|(_, open)| *open != upload);
        Ok(())
    }

    fn is_taken(&self, prepared: &str) -> Result<bool, ConnectorError> {
        let Prepared { name, bytes, .. } = parse(prepared)?;
        Ok(self.is_there(&self.key(&name))?.is_some_and(|found| found != bytes))
    }

    /// Stores say in several ways that an upload was completed before, some without a type: an object of its name and size tells.
    fn recover(&self, prepared: &str) -> Result<(), ConnectorError> {
        let Err(error) = self.finish(prepared) else { return Ok(()) };
        let Prepared { name, upload, bytes, .. } = parse(prepared)?;
        if !self.is_there(&self.key(&name)).is_ok_and(|found| found == Some(bytes)) {
            return Err(error);
        }
        lock(&self.uploads).retain(|(_, open)| *open != upload);
        Ok(())
    }

    fn remove(&self, name: &str) -> Result<(), ConnectorError> {
        let key = self.key(name);
        match block_on(self.store.objects.delete(&key)) {
            Ok(Ok(()) | Err(object_store::Error::NotFound { .. })) => Ok(()),
            Ok(Err(error)) => Err(self.store.failed(&format!("cannot remove {}", self.store.url(&key)), error)),
            Err(error) => Err(ConnectorError::new("there is no network").caused_by(error)),
        }
    }

    fn settle(&self) -> Result<(), ConnectorError> {
        Ok(())
    }

    fn release(&self) {}

    fn abort(&self, keep: &[&str]) {
        let kept: Vec<MultipartId> =
            keep.iter().filter_map(|prepared| parse(prepared).ok()).map(|prepared| prepared.upload).collect();
        let mut uploads = lock(&self.uploads);
        let (kept, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *uploads).into_iter().partition(|(_, id)| kept.contains(id));
        *uploads = kept;
        drop(uploads);
        let store = self.multipart();
        // All at once, so that a store that does not answer is waited for only once.
        let _ = block_on(join_all(open.iter().map(|(key, id)| store.abort_multipart(key, id))));
    }
}

/// A file on its way: while one part is sent, the next is filled.
struct Upload {
    store: Arc<dyn MultipartStore>,
    uploads: Arc<Uploads>,
    key: Path,
    id: Option<MultipartId>,
    buffer: Vec<u8>,
    parts: Vec<String>,
    sending: Option<JoinHandle<object_store::Result<PartId>>>,
    bytes: u64,
}

impl Upload {
    fn id(&mut self) -> io::Result<MultipartId> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let id = block_on(self.store.create_multipart(&self.key))?.map_err(told)?;
        lock(&self.uploads).push((self.key.clone(), id.clone()));
        self.id = Some(id.clone());
        Ok(id)
    }

    /// The number of the part that is being filled.
    fn index(&self) -> usize {
        self.parts.len() + usize::from(self.sending.is_some())
    }

    fn wait(&mut self) -> io::Result<()> {
        let Some(sending) = self.sending.take() else { return Ok(()) };
        let part = block_on(sending)?.map_err(io::Error::other)?.map_err(told)?;
        self.parts.push(part.content_id);
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        self.wait()?;
        let index = self.parts.len();
        if index >= PARTS_MAX {
            let message =
                format!("a file of more than {PARTS_MAX} parts: raise the parallelism, so that there are more files");
            return Err(io::Error::other(message));
        }
        let (store, key, id) = (Arc::clone(&self.store), self.key.clone(), self.id()?);
        let part = PutPayload::from(std::mem::take(&mut self.buffer));
        self.sending = Some(runtime()?.spawn(async move { store.put_part(&key, &id, index, part).await }));
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let size = part_bytes(self.index());
            let room = size.saturating_sub(self.buffer.len()).min(bytes.len());
            self.buffer.extend_from_slice(&bytes[..room]);
            bytes = &bytes[room..];
            if self.buffer.len() >= size {
                self.send()?;
            }
        }
        Ok(())
    }
}

impl Drop for Upload {
    /// A part that arrives after its upload was aborted would stay with the store.
    fn drop(&mut self) {
        if let Some(sending) = self.sending.take() {
            let _ = block_on(sending);
        }
    }
}

struct Content(Arc<Mutex<Upload>>);

impl Write for Content {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes).map(|()| bytes.len())
    }

    /// A part has a size below which it cannot be sent, but the last one, which [`Prepare`] sends.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct End {
    upload: Arc<Mutex<Upload>>,
    name: String,
}

impl Prepare for End {
    fn prepare(self: Box<Self>) -> Result<String, EncodeError> {
        let mut upload = lock(&self.upload);
        if !upload.buffer.is_empty() {
            upload.send()?;
        }
        upload.wait()?;
        let prepared = Prepared {
            name: self.name.clone(),
            upload: upload.id()?,
            parts: std::mem::take(&mut upload.parts),
            bytes: upload.bytes,
        };
        Ok(serde_json::to_string(&prepared)?)
    }
}

#[cfg(test)]
#[path = "remote_output_tests.rs"]
mod tests;
