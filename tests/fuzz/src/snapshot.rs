//! A file of a checkpoint: its envelope, and a manifest, state by key or rows on their way in it.

use std::panic::PanicHookInfo;
use std::sync::Once;

use serde_json::Value;
use wasmill_runtime::batch::Batch;
use wasmill_runtime::checkpoint::container::{Content, open, seal};
use wasmill_runtime::checkpoint::manifest::Manifest;
use wasmill_runtime::fuzz::{read_keyed, read_rows, write_keyed, write_rows};

/// Of all inputs, the first byte says what the rest is said to be; and whether it is the file or the body of one, in an envelope that
/// is right: no fuzzer finds a checksum.
pub const CONTENTS: [Content; 3] = [Content::Manifest, Content::Keyed, Content::Rows];
pub const BODY: u8 = 4;

/// No event time: [`Batch::event_times`].
const NO_TIME: i64 = i64::MIN;

pub fn check(data: &[u8]) {
    let Some((form, rest)) = data.split_first() else { return };
    quiet();
    let content = CONTENTS[usize::from(form % 4) % 3];
    let file = if form & BODY == 0 { rest.to_vec() } else { seal(content, rest) };
    if let Ok(body) = open(content, &file) {
        assert_eq!(seal(content, body), file, "an envelope is of one form");
    }
    match content {
        Content::Manifest => check_manifest(&file),
        Content::Keyed => check_keyed(&file),
        Content::Rows => check_rows(&file),
    }
}

fn check_manifest(file: &[u8]) {
    let Ok(manifest) = Manifest::read(file) else { return };
    // Floats are none of ours, and their last digit may change on the way through text.
    if manifest.nodes.iter().flat_map(|node| &node.subtasks).any(|subtask| has_float(&subtask.own)) {
        return;
    }
    let again = Manifest::read(&manifest.write()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, manifest);
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(fields) => fields.values().any(has_float),
        _ => false,
    }
}

fn check_keyed(file: &[u8]) {
    let Ok(keyed) = read_keyed(file) else { return };
    for (name, values) in &keyed.states {
        values.to_data().validate_full().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(values.len(), keyed.keys.len(), "{name}");
    }
    let written = write_keyed(&keyed).unwrap_or_else(|error| panic!("{error}"));
    let again = read_keyed(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again, keyed);
    assert_eq!(write_keyed(&again).as_ref(), Ok(&written));
}

fn check_rows(file: &[u8]) {
    let Ok(batches) = read_rows(file) else { return };
    if batches.is_empty() {
        return;
    }
    let written = write_rows(&batches).unwrap_or_else(|error| panic!("{error}"));
    let again = read_rows(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.len(), batches.len());
    for (again, batch) in again.iter().zip(&batches) {
        batch.rows().columns().iter().for_each(|column| {
            column.to_data().validate_full().unwrap_or_else(|error| panic!("{}: {error}", column.data_type()));
        });
        assert_eq!(again.rows(), batch.rows());
        assert_eq!(times(again), times(batch));
        assert_eq!(again.row_kinds(), batch.row_kinds());
        let positions = |batch: &Batch| (0..batch.num_rows()).map(|row| batch.positions().get(row)).collect::<Vec<_>>();
        assert_eq!(positions(again), positions(batch));
    }
}

/// Times of which none is one are as good as none.
fn times(batch: &Batch) -> Option<&[i64]> {
    batch.event_times().map(|times| &times[..]).filter(|times| times.iter().any(|time| *time != NO_TIME))
}

/// Arrow panics on what no writer writes, and the readers catch that: it is no failure, and not worth a line each.
fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        let expected = |info: &PanicHookInfo<'_>| {
            info.location()
                .is_some_and(|place| ["/arrow-", "/flatbuffers-"].iter().any(|from| place.file().contains(from)))
        };
        std::panic::set_hook(Box::new(move |info| {
            if !expected(info) {
                before(info);
            }
        }));
    });
}
