//! Writes calls that end a job into folders, and keeps the newest of them.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use arrow::datatypes::{DataType, Field};
use wasmill_host::{Access, data_type};
use xxhash_rust::xxh3::xxh3_128;

use crate::graph::{BoundCall, Place};
use crate::replay::record::{
    COMPONENT, Column, FRAME, Failure, Function, RECORD, RECORD_VERSION, RESOURCES, Record, SOURCE, STATES, State, Udf,
    plain_path, put_value,
};

/// All files of one record together.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// The part of a folder's name that comes from one of the user's names has this length at most.
const NAME_CHARS_MAX: usize = 60;

/// Where failed calls are recorded: `DIR/JOB/NODE-FUNCTION-SUBTASK-BUNDLE`.
#[derive(Debug, Clone)]
pub struct Failures {
    dir: PathBuf,
    records_max: usize,
}

/// Why a call is not recorded. The job fails by its own error all the same.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("it has {bytes} bytes with all that belongs to it, limit {RECORD_BYTES_MAX}")]
    Large { bytes: usize },
    #[error("its file {name:?} has a name that leads out of a folder")]
    Name { name: String },
}

/// What a call was given, kept until it is known whether it ends the job.
pub(crate) struct FailedCall {
    /// Number of the call.
    pub bundle: u64,
    /// Position of its first row.
    pub position: Option<u64>,
    /// Size of all that follows, which is left out if it is too much for a record.
    bytes: usize,
    frame: Vec<u8>,
    states: Vec<u8>,
}

impl FailedCall {
    /// `values` gives state, key and value of all that the function can ask for by host calls.
    pub(crate) fn new<'a>(
        bundle: u64,
        position: Option<u64>,
        frame: &[u8],
        values: impl Iterator<Item = (u32, u32, &'a [u8])>,
    ) -> FailedCall {
        let mut states = Vec::new();
        values.for_each(|(state, key, value)| put_value(state, key, value, &mut states));
        let bytes = frame.len() + states.len();
        match bytes > RECORD_BYTES_MAX {
            true => FailedCall { bundle, position, bytes, frame: Vec::new(), states: Vec::new() },
            false => FailedCall { bundle, position, bytes, frame: frame.to_vec(), states },
        }
    }
}

impl Failures {
    /// Keeps the newest `records_max` records of a job in `dir`, which is made when it is needed.
    pub fn new(dir: PathBuf, records_max: usize) -> Failures {
        Failures { dir, records_max }
    }

    /// Writes a record, all of it or nothing, in the place of one of the same call. Gives its folder.
    pub(crate) fn record(
        &self,
        call: &BoundCall,
        place: &Place,
        failed: &FailedCall,
        first_row: Option<String>,
        failure: Failure,
    ) -> Result<PathBuf, RecordError> {
        let io = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| RecordError::Io { doing, path, source }
        };
        let rest = RECORD_BYTES_MAX.checked_sub(failed.bytes).ok_or(RecordError::Large { bytes: failed.bytes })?;
        let folder = self.dir.join(plain(&place.job));
        std::fs::create_dir_all(&folder).map_err(io("make", &folder))?;
        let made = private_folder(&folder).map_err(io("write into", &folder))?;
        let component = write_files(call, made.path(), failed, rest)?;
        let record = record_of(call, place, failed, component, first_row, failure);
        let text = serde_json::to_vec_pretty(&record).expect("texts and numbers are JSON");
        write(&made.path().join(RECORD), &text)?;
        let (node, function) = (plain(&place.node), plain(&call.binding.function));
        let target = folder.join(format!("{node}-{function}-{}-{}", place.subtask, failed.bundle));
        if is_record(&target) {
            std::fs::remove_dir_all(&target).map_err(io("replace", &target))?;
        }
        std::fs::rename(made.path(), &target).map_err(io("write", &target))?;
        // It has another name now.
        let _ = made.keep();
        self.drop_oldest(&folder).map_err(io("remove older records in", &folder))?;
        Ok(std::path::absolute(&target).unwrap_or(target))
    }

    fn drop_oldest(&self, folder: &Path) -> io::Result<()> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            // Another task may be making one, which has another name in a moment.
            if entry.file_name().to_string_lossy().starts_with('.') || !is_record(&entry.path()) {
                continue;
            }
            records.push((entry.path().join(RECORD).metadata()?.modified()?, entry.path()));
        }
        records.sort();
        let more = records.len().saturating_sub(self.records_max);
        records[..more].iter().try_for_each(|(_, path)| std::fs::remove_dir_all(path))
    }
}

/// A folder of ours, and not what somebody else has put there.
fn is_record(path: &Path) -> bool {
    path.join(RECORD).is_file()
}

/// Rows are nobody else's business.
fn private_folder(within: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".record-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o700));
    }
    builder.tempdir_in(within)
}

/// A user's name as a part of a file's.
fn plain(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
    name.chars().take(NAME_CHARS_MAX).map(plain).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let io = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| RecordError::Io { doing, path, source }
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(io("make", parent))?;
    }
    std::fs::write(path, bytes).map_err(io("write", path))
}

/// Everything beside `replay.json`, of at most `rest` bytes beside the call itself. Tells whether the component is there: it is left
/// out where it does not fit, or is not what the job has loaded any more.
fn write_files(call: &BoundCall, folder: &Path, failed: &FailedCall, mut rest: usize) -> Result<bool, RecordError> {
    let udf = &call.udf;
    let resources = udf.resources.iter().map(|file| (RESOURCES, &file.name, &file.content));
    let source = udf.module.source().iter().map(|file| (SOURCE, &file.path, &file.content));
    let files: Vec<_> = resources.chain(source).collect();
    let bytes: usize = files.iter().map(|(.., content)| content.len()).sum();
    rest = rest.checked_sub(bytes).ok_or(RecordError::Large { bytes: failed.bytes + bytes })?;
    for (within, name, content) in files {
        let path = plain_path(name).ok_or_else(|| RecordError::Name { name: name.clone() })?;
        write(&folder.join(within).join(path), content)?;
    }
    write(&folder.join(FRAME), &failed.frame)?;
    if call.loaded.states.iter().any(|state| state.access == Access::Call) {
        write(&folder.join(STATES), &failed.states)?;
    }
    let fits = udf.path.metadata().is_ok_and(|file| file.len() <= rest as u64);
    if udf.module.has_source() || !fits {
        return Ok(false);
    }
    // What cannot be read now is told when it is wanted.
    let Ok(component) = std::fs::read(&udf.path) else { return Ok(false) };
    if xxh3_128(&component) != udf.hash {
        return Ok(false);
    }
    write(&folder.join(COMPONENT), &component)?;
    Ok(true)
}

fn record_of(
    call: &BoundCall,
    place: &Place,
    failed: &FailedCall,
    component: bool,
    first_row: Option<String>,
    failure: Failure,
) -> Record {
    let udf = &call.udf;
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Record {
        version: RECORD_VERSION,
        wasmill: env!("CARGO_PKG_VERSION").to_owned(),
        recorded_at_millis: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        job: place.job.clone(),
        node: place.node.clone(),
        subtask: number(place.subtask),
        parallelism: number(place.parallelism),
        bundle: failed.bundle,
        first_row,
        udf: Udf {
            name: udf.name.clone(),
            path: std::path::absolute(&udf.path).unwrap_or_else(|_| udf.path.clone()),
            hash: format!("{:032x}", udf.hash),
            component,
            source: udf.module.source().iter().map(|file| file.path.clone()).collect(),
            resources: udf.resources.iter().map(|file| file.name.clone()).collect(),
            real_clock: udf.capabilities.real_clock,
            real_random: udf.capabilities.real_random,
            memory_bytes_max: udf.limits.memory_bytes_max as u64,
            call_millis_max: millis(udf.limits.call_time_max),
            load_millis_max: millis(udf.limits.load_time_max),
            output_bytes_max: udf.limits.output_bytes_max as u64,
        },
        function: function_of(call),
        failure,
    }
}

fn function_of(call: &BoundCall) -> Function {
    let columns = |fields: &[Field]| {
        let column = |field: &Field| Column {
            name: field.name().clone(),
            data_type: notation(field.data_type(), field.is_nullable()),
        };
        fields.iter().map(column).collect()
    };
    let states = call.loaded.states.iter().map(|state| State {
        name: state.name.clone(),
        data_type: notation(&state.data_type, false),
        by_call: state.access == Access::Call,
    });
    Function {
        name: call.binding.function.clone(),
        kind: call.kind.as_str().to_owned(),
        arguments: columns(&call.binding.arguments),
        key: columns(&call.binding.key),
        result: call.loaded.result.to_string(),
        wanted_result: call.binding.result.as_ref().map(ToString::to_string),
        states: states.collect(),
        parameters: call.binding.parameters.clone(),
    }
}

/// Opening the function has shown that the type has one.
fn notation(data_type: &DataType, nullable: bool) -> String {
    data_type::display(data_type, nullable).unwrap_or_else(|_| data_type.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_what_is_no_record_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let other = folder.path().join("notes");
        std::fs::create_dir(&other).unwrap();
        for (age, name) in [(30, "a"), (10, "b"), (20, "c")] {
            let dir = folder.path().join(name);
            std::fs::create_dir(&dir).unwrap();
            let file = std::fs::File::create(dir.join(RECORD)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
        }
        Failures::new(folder.path().to_owned(), 2).drop_oldest(folder.path()).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["b", "c", "notes"]);
    }

    #[test]
    fn a_call_that_is_too_large_is_not_kept() {
        let failed = FailedCall::new(1, None, &vec![0; RECORD_BYTES_MAX + 1], std::iter::empty());
        assert_eq!((failed.bytes, failed.frame.len()), (RECORD_BYTES_MAX + 1, 0));
    }

    #[test]
    fn names_make_one_part_of_a_path() {
        assert_eq!(plain("a/../b c-ä"), "a____b_c-_");
    }
}
