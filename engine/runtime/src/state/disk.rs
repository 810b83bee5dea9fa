//! Keys that are not in memory: a store on disk that lasts as long as the task. What it holds is in checkpoints too, so that it need
//! survive nothing.
//!
//! The store is fjall: an LSM tree in Rust alone, which takes random writes at the pace of sequential ones, answers for keys that it
//! has not from a filter in memory, and can be read as it was while writing goes on. A B-tree on disk (redb, LMDB)
//! would write a page for every key; RocksDB does the same as fjall and wants a C++ compiler and ten minutes of it.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fjall::config::{FilterPolicy, PinningPolicy};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch};
use lsm_tree::{AbstractTree, Guard, IterGuardImpl, SeqNo};
use tempfile::TempDir;

use super::StateError;
use crate::shared::locked;

/// Of the folder of a store, in that for all of them.
const PREFIX: &str = "wasmill-state-";
/// In a store's folder: held as long as the store is in use.
const LOCK: &str = "lock";

/// Of the memory for a subtask's state, the parts that the store has: for blocks that it has read, and for writes that it gathers in
/// each of its two tables. An entry takes three times its own bytes there; a smaller part means more files, each synced.
const CACHE_PART: u64 = 4;
const MEMTABLE_PART: u64 = 8;
const MEMTABLE_BYTES_MIN: u64 = 64 << 10;
/// Tables that wait in memory to be written, of each kind.
const MEMTABLES_MAX: usize = 2;
const PATIENCE: Duration = Duration::from_secs(60);

/// Encoded states by key, and a log of those that have changed.
pub(crate) struct Store {
    database: Database,
    values: Keyspace,
    /// A log: the epoch, big-endian, and the key; the value that the key had when it came here.
    changed: Keyspace,
    /// Of a table that is gathered in memory, by fjall's own count.
    memtable_bytes: u64,
    /// Behind the others: removed when they are closed.
    _lock: File,
    dir: TempDir,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.dir.path().display())
    }
}

/// What is to be written at once.
#[derive(Default)]
pub(crate) struct Writes {
    pub put: Vec<(Vec<u8>, Vec<u8>)>,
    pub removed: Vec<Vec<u8>>,
    /// Of those that are put, for checkpoints that are told of changes.
    pub log: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Store {
    /// A new, empty one in `parent`, which takes about `memory_bytes`, without what others left there that were killed.
    pub(crate) fn create(parent: &Path, memory_bytes: u64) -> Result<Store, StateError> {
        let failed = |error: std::io::Error| StateError::Folder { dir: parent.to_owned(), error };
        let dir = folder(parent)?;
        sweep(parent);
        // Locked before it bears its name: nobody takes it for one that was left.
        let unnamed = dir.path().join("new-lock");
        let lock = File::create(&unnamed).map_err(failed)?;
        lock.lock().map_err(failed)?;
        std::fs::rename(&unnamed, dir.path().join(LOCK)).map_err(failed)?;
        let store = |error| StateError::Store { dir: dir.path().to_owned(), error: Box::new(error) };
        let database = Database::builder(dir.path().join("store"))
            .cache_size(memory_bytes / CACHE_PART)
            // One that writes tables, while the other merges them, which may take long.
            .worker_threads(2)
            // Nothing of it is needed after a crash.
            .manual_journal_persist(true)
            .max_journaling_size(64 << 20)
            .open()
            .map_err(store)?;
        let memtable = (memory_bytes / MEMTABLE_PART).max(MEMTABLE_BYTES_MIN);
        // Kept in memory, about two bytes a key: a filter that is read from disk for each key costs a hundred times what it saves.
        let options = || KeyspaceCreateOptions::default().max_memtable_size(memtable);
        let values = || {
            options()
                .filter_block_pinning_policy(PinningPolicy::all(true))
                .filter_block_partitioning_policy(PinningPolicy::all(false))
                .index_block_pinning_policy(PinningPolicy::all(true))
                .index_block_partitioning_policy(PinningPolicy::all(false))
        };
        // Read from its beginning only.
        let changed = || options().filter_policy(FilterPolicy::disabled());
        let values = database.keyspace("values", values).map_err(store)?;
        let changed = database.keyspace("changed", changed).map_err(store)?;
        Ok(Store { database, values, changed, memtable_bytes: memtable, _lock: lock, dir })
    }

    fn failed(&self, error: fjall::Error) -> StateError {
        StateError::Store { dir: self.dir.path().to_owned(), error: Box::new(error) }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<fjall::UserValue>, StateError> {
        self.values.get(key).map_err(|error| self.failed(error))
    }

    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool, StateError> {
        self.values.contains_key(key).map_err(|error| self.failed(error))
    }

    pub(crate) fn write(&self, writes: Writes, epoch: u64) -> Result<(), StateError> {
        let count = writes.put.len() + writes.removed.len() + writes.log.len();
        let mut batch = OwnedWriteBatch::with_capacity(self.database.clone(), count);
        writes.put.into_iter().for_each(|(key, value)| batch.insert(&self.values, key, value));
        writes.removed.into_iter().for_each(|key| batch.remove(&self.values, key));
        let logged = |key: Vec<u8>| [&epoch.to_be_bytes(), key.as_slice()].concat();
        writes.log.into_iter().for_each(|(key, value)| batch.insert(&self.changed, logged(key), value));
        self.commit(batch)
    }

    /// Writes, and waits until the disk has taken what is gathered in memory: fjall waits by the number of its files alone, and closes
    /// a table that is full only when one of its threads has time for that.
    fn commit(&self, batch: OwnedWriteBatch) -> Result<(), StateError> {
        batch.commit().map_err(|error| self.failed(error))?;
        let began = Instant::now();
        let full = |keyspace: &Keyspace| {
            keyspace.sealed_memtable_count() > MEMTABLES_MAX
                || keyspace.tree.active_memtable().size() > self.memtable_bytes * 3 / 2
        };
        // A store that failed says so at the next write.
        while (full(&self.values) || full(&self.changed)) && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// At most `count` keys that begin with `prefix` and come behind `after`, with their values.
    pub(crate) fn page(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        count: usize,
    ) -> Result<Vec<(fjall::UserKey, fjall::UserValue)>, StateError> {
        use std::ops::Bound;
        let from = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let found = self.values.tree.range::<&[u8], _>((from, Bound::Unbounded), SeqNo::MAX, None).take(count);
        let mut page = Vec::new();
        for entry in found {
            let (key, value) = entry.into_inner().map_err(|error| self.failed(error.into()))?;
            if !key.starts_with(prefix) {
                break;
            }
            page.push((key, value));
        }
        Ok(page)
    }

    /// What a checkpoint is told, as it is now.
    pub(crate) fn view(self: &Arc<Store>, told: Told) -> View {
        let first = Mutex::new(Some(self.entries(told)));
        View { store: Arc::clone(self), told, first }
    }

    /// Entries as they are now, whatever is written meanwhile.
    ///
    /// fjall's own views are not used, nowhere: as long as one is open, and for thousands of others after that, all that is gathered in
    /// memory stays there. An iterator of the tree below keeps no more than it reads.
    fn entries(&self, told: Told) -> Entries {
        match told {
            Told::All { .. } => self.values.tree.iter(self.database.visible_seqno(), None),
            // Nobody writes to these any more.
            Told::Changed { from, to } => {
                let range = from.to_be_bytes()..(to + 1).to_be_bytes();
                self.changed.tree.range(range, SeqNo::MAX, None)
            }
        }
    }
}

type Entries = Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send>;

/// Which keys a checkpoint is told of. What was logged before `from` is not asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    All {
        from: u64,
    },
    /// Those logged in these epochs.
    Changed {
        from: u64,
        to: u64,
    },
}

/// The store as it was at a barrier.
pub(crate) struct View {
    store: Arc<Store>,
    told: Told,
    /// Until it is read. The last words of a task may be read again: then nobody writes to the store any more.
    first: Mutex<Option<Entries>>,
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "View({:?}, {:?})", self.store, self.told)
    }
}

impl View {
    /// Visits keys and their values, by epoch and key. A key that has changed in several epochs comes once for each, the newest last.
    pub(crate) fn each<E: From<StateError>>(
        &self,
        mut visit: impl FnMut(u64, &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let store = &self.store;
        let first = locked(&self.first).take();
        for entry in first.unwrap_or_else(|| store.entries(self.told)) {
            let (key, value) = entry.into_inner().map_err(|error| store.failed(error.into()))?;
            match (self.told, key.split_first_chunk::<8>()) {
                (Told::Changed { .. }, Some((epoch, key))) => visit(u64::from_be_bytes(*epoch), key, &value)?,
                _ => visit(0, &key, &value)?,
            }
        }
        let (Told::All { from } | Told::Changed { from, .. }) = self.told;
        if from > 0 {
            self.forget_before(from)?;
        }
        Ok(())
    }

    /// Removes what was logged in older epochs.
    fn forget_before(&self, from: u64) -> Result<(), StateError> {
        const AT_ONCE: usize = 10_000;
        let store = &self.store;
        let mut batch = store.database.batch();
        for entry in store.entries(Told::Changed { from: 0, to: from - 1 }) {
            batch.remove(&store.changed, entry.key().map_err(|error| store.failed(error.into()))?);
            if batch.len() >= AT_ONCE {
                let full = std::mem::replace(&mut batch, store.database.batch());
                store.commit(full)?;
            }
        }
        store.commit(batch)
    }
}

/// A new folder for a store.
fn folder(parent: &Path) -> Result<TempDir, StateError> {
    let made =
        std::fs::create_dir_all(parent).and_then(|()| tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent));
    made.map_err(|error| StateError::Folder { dir: parent.to_owned(), error })
}

/// Could a store be made in `parent`?
pub(crate) fn try_folder(parent: &Path) -> Result<(), StateError> {
    folder(parent).map(drop)
}

/// Removes stores whose process was killed. What cannot be removed stays: it is in nobody's way.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    let left = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for dir in left.map(|entry| entry.path()) {
        if is_abandoned(&dir) {
            let _next_time = std::fs::remove_dir_all(&dir);
        }
    }
}

fn is_abandoned(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}
