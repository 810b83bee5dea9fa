//! Finds checkpoints and savepoints by what a person says of them.

use std::path::Path;
use std::sync::Arc;

use wasmill_connectors::checkpoint_storage;
use wasmill_runtime::checkpoint::restore::{self, Restored};
use wasmill_runtime::checkpoint::storage::CheckpointStorage;

use crate::report::Failure;

/// The place of that name; a path is relative to `base`.
pub(crate) fn open(place: &str, base: &Path) -> Result<Arc<dyn CheckpointStorage>, Failure> {
    checkpoint_storage(base, place)
        .map_err(|error| Failure::because(format!("cannot use {place} for checkpoints"), error))
}

/// What is in a place that was named on the command line: the savepoint, the newest checkpoint, or that of this number. `doing` says
/// what it is wanted for, `go on from` or the like.
pub(crate) fn find(place: &str, number: Option<u64>, doing: &str) -> Result<Restored, Failure> {
    // As any path on a command line, relative to where the command is given.
    let storage = open(place, Path::new("."))?;
    let failed = |error| Failure::because(format!("cannot {doing} {place}"), error);
    let Some(number) = number else {
        let found = Restored::newest(&storage).map_err(failed)?;
        return found.ok_or_else(|| Failure::Usage(format!("there is no checkpoint and no savepoint in {place}")));
    };
    let there = restore::numbers(&storage).map_err(failed)?;
    if there.contains(&number) {
        return Restored::checkpoint(&storage, number).map_err(failed);
    }
    let what = match there.as_slice() {
        [] => match Restored::newest(&storage).map_err(failed)? {
            Some(_) => "it is a savepoint: leave out --checkpoint".to_owned(),
            None => "there is none, and no savepoint".to_owned(),
        },
        some => {
            let list = some.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
            format!("there {} {list}", if some.len() == 1 { "is only" } else { "are" })
        }
    };
    Err(Failure::Usage(format!("{place} has no checkpoint {number}: {what}")))
}
