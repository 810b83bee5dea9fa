//! Where checkpoints can be kept: a directory of this machine, or a folder of an object store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasmill_runtime::checkpoint::storage::CheckpointStorage;
use wasmill_runtime::connector::ConnectorError;

use crate::files;
use crate::local_checkpoints::LocalCheckpoints;
use crate::remote;
use crate::remote_checkpoints::RemoteCheckpoints;

/// The place that `location` names: a path (from `base`, if relative) or `file://` URL is a directory, made when it is first written
/// to; `s3://`, `gs://` and `az://` URLs are folders of object stores. Touches nothing yet.
///
/// In a directory each write goes to a hidden file, which is synced, renamed, and its directory synced; object_store's own local
/// files are not synced, which is why they are not used. In an object store an object appears whole by itself, and stays.
///
/// The claim on a directory is a lock, which goes with the process. That on an object store is an object, `.claim`, which stays when
/// the process is killed: the next claim is refused then, and says what to remove.
pub fn checkpoint_storage(base: &Path, location: &str) -> Result<Arc<dyn CheckpointStorage>, ConnectorError> {
    if location.is_empty() {
        return Err(ConnectorError::new(
            "the place of checkpoints is empty: give a directory, or an s3://, gs:// or az:// URL",
        ));
    }
    let directory = match files::url_of(location)? {
        None => base.join(location),
        Some(url) if url.scheme() == "file" => files::local_path(&url)?,
        Some(url) => {
            let (store, folder) = remote::open(&url)?;
            return Ok(Arc::new(RemoteCheckpoints::new(Arc::new(store), folder)?));
        }
    };
    let directory: PathBuf = std::path::absolute(&directory).map_err(|error| {
        ConnectorError::new(format!("cannot find out where {} is", directory.display())).caused_by(error)
    })?;
    // However it is spelt, one directory is one place. Where there is none yet, nothing is to be told from it.
    let directory = directory.canonicalize().unwrap_or(directory);
    Ok(Arc::new(LocalCheckpoints::new(directory)))
}
