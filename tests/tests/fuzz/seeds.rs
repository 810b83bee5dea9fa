//! Good input to begin with: the golden vectors, in the form that the targets read, and the job files and checkpoints of this repository.

use std::path::{Path, PathBuf};

use arrow::datatypes::{DataType, TimeUnit};
use serde_json::Value;
use wasmill_host::data_type::{FieldType, parse};
use wasmill_host::fuzz::Column;
use wasmill_runtime::checkpoint::container::open;
use wasmill_tests::root;

use crate::checks::effects::KINDS;
use crate::checks::input::MAGIC_EFFECTS;
use crate::checks::plain::u32_at;
use crate::checks::snapshot::{BODY, CONTENTS};

type Seeds = Vec<(String, Vec<u8>)>;

/// By target, with a name each.
pub fn all() -> [(&'static str, Seeds); 5] {
    let vectors = std::fs::read(root().join("wit/vectors/frames.json")).unwrap();
    let vectors: Value = serde_json::from_slice(&vectors).unwrap();
    [
        ("frame", frames(&vectors)),
        ("effects", effects(&vectors)),
        ("describe", descriptions(&vectors)),
        ("job_file", jobs()),
        ("snapshot", snapshots()),
    ]
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn file_name(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

/// The bytes from which the targets make this type.
fn type_bytes(field: &FieldType) -> Vec<u8> {
    let child = |field: &arrow::datatypes::Field| {
        type_bytes(&FieldType { data_type: field.data_type().clone(), nullable: field.is_nullable() })
    };
    let mut bytes = match &field.data_type {
        DataType::Decimal128(precision, scale) => vec![11, precision - 1, *scale as u8],
        DataType::Timestamp(unit, zone) => {
            let unit = match unit {
                TimeUnit::Second => 0,
                TimeUnit::Millisecond => 1,
                TimeUnit::Microsecond => 2,
                TimeUnit::Nanosecond => 3,
            };
            let zone = match zone.as_deref() {
                None => 0,
                Some("UTC") => 1,
                Some("America/New_York") => 2,
                Some(_) => 3,
            };
            vec![16, unit + 4 * zone]
        }
        DataType::List(item) => [vec![17], child(item)].concat(),
        DataType::Struct(fields) => {
            [vec![18, fields.len() as u8], fields.iter().flat_map(|field| child(field)).collect()].concat()
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => [vec![19], child(&fields[0]), child(&fields[1])].concat(),
            other => panic!("{other}"),
        },
        other => vec![(0..20).find(|byte| simple(*byte).as_ref() == Some(other)).unwrap()],
    };
    bytes[0] |= if field.nullable { 0x80 } else { 0 };
    bytes
}

fn simple(byte: u8) -> Option<DataType> {
    let parametric = matches!(byte, 11 | 16..=19);
    (!parametric).then(|| crate::checks::input::Input::new(&[byte]).field_type().data_type)
}

fn count(count: usize) -> [u8; 2] {
    u16::try_from(count).unwrap().to_le_bytes()
}

/// A frame as it stands.
fn whole(frame: &[u8]) -> Vec<u8> {
    [&[0][..], &count(frame.len()), frame].concat()
}

/// A frame as header and slots.
fn in_slots(frame: &[u8]) -> Vec<u8> {
    let number = |at| u32_at(frame, at).unwrap() as usize;
    let mut bytes = vec![1, frame[8]];
    bytes.extend(count(number(12)));
    for slot in 0..number(4) {
        let (start, length) = (number(64 + 8 * slot), number(68 + 8 * slot));
        match length {
            0..128 => bytes.push(length as u8),
            _ => bytes.extend([0x80 | (length >> 8) as u8, length as u8]),
        }
        bytes.extend_from_slice(&frame[start..start + length]);
    }
    bytes
}

/// Each type with the column of its golden vector, alone in a frame; and each golden value.
fn frames(vectors: &Value) -> Seeds {
    let mut seeds = Vec::new();
    for case in list(&vectors["effects"]).iter().filter(|case| text(case, "name").starts_with("output of")) {
        let field = parse(text(case, "result")).unwrap();
        let column = Column::new(&field).unwrap();
        let frame = first_slots(&unhex(text(case, "hex")), column.slots());
        let rows = case["rows"].as_u64().unwrap() as usize;
        let head = [vec![0], type_bytes(&field), count(rows).to_vec()].concat();
        let name = file_name(text(case, "result"));
        let nullable = if field.nullable { "-or-null" } else { "" };
        seeds.push((format!("{name}{nullable}"), [head.clone(), in_slots(&frame)].concat()));
        seeds.push((format!("{name}{nullable}-whole"), [head, whole(&frame)].concat()));
    }
    for (number, case) in list(&vectors["values"]).iter().enumerate() {
        let field = parse(text(case, "type")).unwrap();
        let value = [vec![1], type_bytes(&field), unhex(text(case, "hex"))].concat();
        seeds.push((format!("value-{number}-{}", file_name(text(case, "type"))), value));
    }
    seeds
}

/// The frame with its first slots only.
fn first_slots(frame: &[u8], slots: usize) -> Vec<u8> {
    let number = |at| u32_at(frame, at).unwrap() as usize;
    assert_eq!(number(0), MAGIC_EFFECTS as usize);
    let ranges = (0..slots).map(|slot| (number(64 + 8 * slot), number(68 + 8 * slot)));
    let slots: Vec<&[u8]> = ranges.map(|(start, length)| &frame[start..start + length]).collect();
    crate::checks::input::frame(0, number(12), &slots)
}

/// Each golden answer with what it answers to. One with the status `more` is followed by itself with the status `done`.
fn effects(vectors: &Value) -> Seeds {
    let mut seeds = Vec::new();
    for case in list(&vectors["effects"]) {
        let number = |key: &str| case[key].as_u64().unwrap() as usize;
        let kind = KINDS.iter().position(|kind| kind.as_str() == text(case, "kind")).unwrap();
        let mut head = vec![kind as u8];
        if number("operation") > 0 {
            head.push(number("operation") as u8 - 1);
        }
        head.extend([count(number("rows")), count(number("keys"))].concat());
        head.extend(type_bytes(&parse(text(case, "result")).unwrap()));
        head.push(list(&case["states"]).len() as u8);
        for state in list(&case["states"]) {
            head.extend(type_bytes(&parse(text(state, "type")).unwrap()));
            head.push(u8::from(text(state, "access") == "call"));
        }
        let frame = unhex(text(case, "hex"));
        let name = file_name(text(case, "name"));
        let mut done = frame.clone();
        done[8] = 0;
        let more = frame[8] == 1;
        let frames =
            |form: fn(&[u8]) -> Vec<u8>| if more { [form(&frame), form(&done)].concat() } else { form(&frame) };
        seeds.push((name.clone(), [head.clone(), frames(in_slots)].concat()));
        seeds.push((format!("{name}-whole"), [head, frames(whole)].concat()));
    }
    seeds
}

const DESCRIBED: [(&str, &str); 12] = [
    ("scalar", "scalar\tgrade\tutf8?\tHow late a flight is.\nargument\tdelay\tint64?\nargument\tlimit\tint64"),
    ("vectorized", "vectorized\tkm\tfloat64\nargument\ta\tdecimal(10,2)\nargument\tb\ttimestamp(us,UTC)"),
    ("table", "table\tsplit\tstruct<word: utf8, \"a b\": list<int32?>>\nargument\tline\tany"),
    ("filter", "filter\tover\tbool?\nargument\ta\tbinary\ncolumn\tseen\tbool"),
    ("filter-of-text", "filter\tover\tutf8"),
    ("map-untyped", "map\tsame\t\targument comes out\nargument\trow\tany"),
    ("reduce", "reduce\tlargest\tstruct<a: int64>\nargument\trow\tstruct<a: int64>\ncolumn\treduced\tstruct<a: int64>"),
    ("reduce-untyped", "reduce\tlargest\nargument\trow\tany"),
    (
        "aggregate",
        "aggregate\tmean\tfloat64?\nargument\tx\tfloat64\ncolumn\taccumulator\tstruct<n: int64, sum: float64>",
    ),
    ("aggregate-by-call", "aggregate\tmean\tint8\ncall\taccumulator\tint8"),
    (
        "process",
        "process\tcount\tmap<utf8, date>\ncall\ta\tlist<time>\ncolumn\tb\tmap<int32, struct<>>\ncolumn\ta\tint8?",
    ),
    ("several", "scalar\ta\tint8\nscalar\tb\tint16\nscalar\ta\tint32\nargument\tx\tuint8\nargument\tx\tuint16"),
];

fn descriptions(vectors: &Value) -> Seeds {
    let described = DESCRIBED.iter().map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()));
    let types = list(&vectors["types"]).iter().enumerate();
    let types = types.map(|(number, case)| (format!("type-{number}"), text(case, "text").as_bytes().to_vec()));
    described.chain(types).collect()
}

/// Every `.yaml` below a folder of the repository that holds sources.
fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
}

fn jobs() -> Seeds {
    let mut files = Vec::new();
    ["guests", "benches"].iter().for_each(|folder| yaml_files(&root().join(folder), &mut files));
    let mut seeds: Seeds = Vec::new();
    for path in files {
        seeds.push((file_name(path.file_stem().unwrap().to_str().unwrap()), std::fs::read(&path).unwrap()));
    }
    for page in ["README.md", "docs/jobs.md", "docs/connectors.md", "docs/tuning.md"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        for (number, block) in text.split("```yaml\n").skip(1).enumerate() {
            let block = block.split("\n```").next().unwrap();
            seeds.push((format!("{}-{number}", file_name(page)), block.as_bytes().to_vec()));
        }
    }
    seeds
}

/// Every file of the checkpoints in `tests/snapshots`, as it is and as a body.
fn snapshots() -> Seeds {
    let mut seeds = Vec::new();
    let mut folders = vec![root().join("tests/snapshots")];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let Some(content) =
                path.extension().and_then(|ending| ["manifest", "keyed", "rows"].iter().position(|of| *of == ending))
            else {
                continue;
            };
            let (form, file) = (content as u8, std::fs::read(&path).unwrap());
            let name = file_name(&path.strip_prefix(root().join("tests/snapshots")).unwrap().display().to_string());
            let body = open(CONTENTS[content], &file).unwrap();
            seeds.push((format!("{name}-body"), [&[form | BODY], body].concat()));
            seeds.push((name, [&[form], &file[..]].concat()));
        }
    }
    seeds
}
