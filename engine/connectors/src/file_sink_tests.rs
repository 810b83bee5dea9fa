use std::error::Error;
use std::io;

use super::*;
use crate::csv_sink::Csv;
use crate::file_writer::cannot_write;
use crate::formats::{JsonLines, Parquet};
use crate::options::testing::build;
use crate::parquet_source::ParquetSource;
use crate::rows::testing::read;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use tempfile::TempDir;
use wasmill_runtime::connector::Source;

fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("v", column)]).unwrap()
}

fn sink(dir: &Path, yaml: &str) -> Result<FileSink, ConnectorError> {
    build(dir, yaml, |mut context| {
        let format: Arc<dyn Format> = match context.options.required_string("format").unwrap().as_str() {
            "parquet" => Arc::new(Parquet::new(&mut context)?),
            "csv" => Arc::new(Csv::new(&mut context)?),
            _ => Arc::new(JsonLines),
        };
        FileSink::new(context, format)
    })
}

fn parquet(dir: &Path, more: &str) -> FileSink {
    sink(dir, &format!("format: parquet\npath: out\n{more}")).unwrap()
}

/// A run with a batch for each subtask, up to the commit.
fn prepare(sink: &FileSink, batches: &[RecordBatch]) -> Vec<Committable> {
    sink.start().unwrap();
    let mut prepared = Vec::new();
    for (index, rows) in batches.iter().enumerate() {
        let mut writer = sink.writer(&rows.schema(), Subtask { index, parallelism: batches.len() }, &[]).unwrap();
        writer.write(rows).unwrap();
        writer.flush().unwrap();
        prepared.extend(writer.prepare().unwrap());
    }
    prepared
}

/// As a run that ends well.
fn commit(sink: &FileSink, prepared: &[Committable]) {
    sink.commit(prepared).unwrap();
    sink.finish().unwrap();
}

/// The name of a file that is not committed.
fn hidden(out: &Path) -> String {
    names(out).into_iter().find(|name| name.contains(".inprogress-")).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn count(dir: &Path) -> usize {
    let source = build(dir, "path: out", ParquetSource::new).unwrap();
    read(&source, 100).unwrap().batches.iter().map(|(_, rows)| rows.num_rows()).sum()
}

fn dir() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    (dir, out)
}

#[test]
fn files_appear_at_the_commit_and_not_before() {
    let (dir, out) = dir();
    let sink = parquet(dir.path(), "");
    let prepared = prepare(&sink, &[rows(0..10), rows(0..0), rows(10..15)]);
    assert!(names(&out).iter().all(|name| name.starts_with('.')), "{:?}", names(&out));
    sink.commit(&prepared).unwrap();
    sink.finish().unwrap();
    assert_eq!(names(&out), ["part-0-0.parquet", "part-2-0.parquet"]);
    assert_eq!(count(dir.path()), 15);
    sink.commit(&prepared).unwrap();
    assert_eq!(names(&out), ["part-0-0.parquet", "part-2-0.parquet"]);
}

#[test]
fn a_sink_without_rows_leaves_its_columns() {
    for (format, content) in [("parquet", None), ("csv", Some("v\n")), ("jsonl", Some(""))] {
        let (dir, out) = dir();
        let sink = sink(dir.path(), &format!("format: {format}\npath: out")).unwrap();
        let prepared = prepare(&sink, &[rows(0..0), rows(0..0)]);
        sink.commit(&prepared).unwrap();
        sink.finish().unwrap();
        sink.finish().unwrap();
        assert_eq!(names(&out), [format!("part-0-0.{format}")]);
        match content {
            Some(content) => {
                assert_eq!(std::fs::read_to_string(out.join(format!("part-0-0.{format}"))).unwrap(), content)
            }
            None => {
                assert_eq!(build(dir.path(), "path: out", ParquetSource::new).unwrap().schema().field(0).name(), "v")
            }
        }
    }
}

#[test]
fn output_of_an_earlier_run_is_not_touched_unless_asked() {
    let (dir, out) = dir();
    let first = parquet(dir.path(), "");
    commit(&first, &prepare(&first, &[rows(0..10), rows(10..20)]));
    let error = parquet(dir.path(), "").start().unwrap_err().to_string();
    assert!(
        error.contains("part-") && error.ends_with("remove it, give another path, or set overwrite: true"),
        "{error}"
    );

    std::fs::write(out.join("notes.txt"), "mine").unwrap();
    let second = parquet(dir.path(), "overwrite: true");
    let prepared = prepare(&second, &[rows(0..5)]);
    assert_eq!(count_parts(&out), 2, "until the commit the old output stays");
    commit(&second, &prepared);
    assert_eq!(names(&out), ["notes.txt", "part-0-0.parquet"]);
    std::fs::remove_file(out.join("notes.txt")).unwrap();
    assert_eq!(count(dir.path()), 5);
}

#[test]
fn a_directory_never_holds_a_mixture_of_formats() {
    let (dir, out) = dir();
    let first = sink(dir.path(), "{format: csv, path: out}").unwrap();
    commit(&first, &prepare(&first, &[rows(0..1), rows(1..2)]));
    std::fs::write(out.join("part-0-0.txt"), "mine").unwrap();
    let error = sink(dir.path(), "{format: jsonl, path: out}").unwrap().start().unwrap_err().to_string();
    assert!(error.contains("part-0-0.csv is there already, from an earlier run"), "{error}");
    let second = sink(dir.path(), "{format: jsonl, path: out, overwrite: true}").unwrap();
    let prepared = prepare(&second, &[rows(0..1)]);
    assert_eq!(count_parts(&out), 3, "until the commit the old output stays");
    commit(&second, &prepared);
    assert_eq!(names(&out), ["part-0-0.jsonl", "part-0-0.txt"]);
}

#[test]
fn a_second_job_in_the_directory_is_seen() {
    let (dir, out) = dir();
    let (first, second) = (parquet(dir.path(), ""), parquet(dir.path(), ""));
    let prepared = prepare(&first, &[rows(0..1)]);
    std::fs::write(out.join("part-0-0.parquet"), "of another job").unwrap();
    let error = first.commit(&prepared).unwrap_err().to_string();
    assert!(
        error.contains("part-0-0.parquet appeared while the job ran: does another job write to that place"),
        "{error}"
    );
    std::fs::remove_file(out.join("part-0-0.parquet")).unwrap();
    let error = second.start().unwrap_err().to_string();
    let wanted = format!("another job is writing to {} now (it holds a lock on .parts.writing-", out.display());
    assert!(error.starts_with(&wanted), "{error}");
    assert!(error.ends_with("there): wait for its end, or give each job its own path"), "{error}");
    commit(&first, &prepared);
    assert_eq!(names(&out), ["part-0-0.parquet"]);
    assert_eq!(count(dir.path()), 1);
}

#[test]
fn of_two_jobs_at_one_time_none_loses_its_rows() {
    for more in ["", "overwrite: true"] {
        let (dir, out) = dir();
        let (first, second) = (parquet(dir.path(), more), parquet(dir.path(), more));
        let prepared = prepare(&first, &[rows(0..3), rows(3..5)]);
        second.start().unwrap_err();
        // As the runtime may do with a sink that did not start.
        second.abort(&[]);
        second.start().unwrap_err();
        commit(&first, &prepared);
        assert_eq!((names(&out), count(dir.path())), (vec!["part-0-0.parquet".into(), "part-1-0.parquet".into()], 5));
        // When the first has ended the second may start.
        assert_eq!(second.start().is_ok(), !more.is_empty());
        second.abort(&[]);
        assert_eq!(names(&out).len(), 2);
    }
}

#[test]
fn a_commit_takes_no_other_file_for_its_own() {
    for more in ["", "overwrite: true"] {
        let (dir, out) = dir();
        let first = parquet(dir.path(), more);
        let prepared = prepare(&first, &[rows(0..3)]);
        std::fs::remove_file(out.join(hidden(&out))).unwrap();
        std::fs::write(out.join("part-0-0.parquet"), "of another job").unwrap();
        first.commit(&prepared).unwrap_err();
        std::fs::remove_file(out.join("part-0-0.parquet")).unwrap();
        let error = first.commit(&prepared).unwrap_err().to_string();
        assert!(error.contains("it is gone: did someone clear up in that directory? Run the job again"), "{error}");
    }
}

#[test]
fn jobs_that_start_at_one_moment_come_one_after_the_other() {
    let (dir, out) = dir();
    for _ in 0..20 {
        let sinks: Vec<FileSink> = (0..4).map(|_| parquet(dir.path(), "overwrite: true")).collect();
        let started: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = sinks.iter().map(|sink| scope.spawn(|| sink.start().is_ok())).collect();
            threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
        });
        assert_eq!(started, 1);
        drop(sinks);
        assert_eq!(names(&out), [] as [&str; 0]);
    }
}

#[test]
fn files_of_several_jobs_may_lie_in_one_directory() {
    let (dir, out) = dir();
    let one = |name: &str| sink(dir.path(), &format!("{{format: jsonl, path: out/{name}.jsonl}}")).unwrap();
    let (a, b, parts) = (one("a"), one("b"), parquet(dir.path(), ""));
    let prepared = [prepare(&a, &[rows(0..1)]), prepare(&b, &[rows(1..2)]), prepare(&parts, &[rows(2..3)])];
    for busy in [one("a"), one("part-3-0")] {
        let error = busy.start().unwrap_err().to_string();
        assert!(error.starts_with("another job is writing to "), "{error}");
    }
    for (sink, prepared) in [&a, &b, &parts].into_iter().zip(&prepared) {
        commit(sink, prepared);
    }
    assert_eq!(names(&out), ["a.jsonl", "b.jsonl", "part-0-0.parquet"]);
}

#[test]
fn a_sink_that_does_not_start_leaves_no_marker() {
    let (dir, out) = dir();
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("part-0-0.csv"), "").unwrap();
    let sink = parquet(dir.path(), "");
    sink.start().unwrap_err();
    assert_eq!(names(&out), ["part-0-0.csv"]);
}

fn count_parts(out: &Path) -> usize {
    names(out).iter().filter(|name| name.starts_with("part-")).count()
}

#[test]
fn a_job_that_fails_leaves_the_old_output_and_nothing_else() {
    let (dir, out) = dir();
    let first = parquet(dir.path(), "");
    commit(&first, &prepare(&first, &[rows(0..10)]));
    let second = parquet(dir.path(), "overwrite: true");
    prepare(&second, &[rows(0..5), rows(0..5)]);
    second.abort(&[]);
    assert_eq!(names(&out), ["part-0-0.parquet"]);
    assert_eq!(count(dir.path()), 10);
}

#[test]
fn what_a_crash_left_is_removed_by_the_next_run() {
    let (dir, out) = dir();
    drop(prepare(&parquet(dir.path(), ""), &[rows(0..5)]));
    std::fs::write(out.join(".part-7-0.parquet.inprogress-0123456789abcdef"), "half").unwrap();
    std::fs::write(out.join(".part-7-0.csv.inprogress-0123456789abcdef"), "of an earlier format").unwrap();
    std::fs::write(out.join(".part-x.parquet.inprogress-0123456789abcdef"), "not ours").unwrap();
    std::fs::write(out.join(".parts.writing-0123456789abcdef"), "").unwrap();
    parquet(dir.path(), "").start().unwrap();
    assert_eq!(names(&out), [".part-x.parquet.inprogress-0123456789abcdef"]);
}

#[test]
fn a_path_with_the_extension_is_one_file() {
    let (dir, _) = dir();
    let single = || sink(dir.path(), "{format: jsonl, path: deep/dead.jsonl, overwrite: true}").unwrap();
    let first = single();
    let prepared = prepare(&first, &[rows(0..2)]);
    assert!(!dir.path().join("deep/dead.jsonl").exists());
    commit(&first, &prepared);
    assert_eq!(names(&dir.path().join("deep")), ["dead.jsonl"]);
    assert_eq!(std::fs::read_to_string(first.location()).unwrap(), "{\"v\":0}\n{\"v\":1}\n");
    let error =
        first.writer(&rows(0..1).schema(), Subtask { index: 0, parallelism: 2 }, &[]).err().unwrap().to_string();
    assert!(
        error.ends_with("dead.jsonl is one file, but 2 subtasks write: give a directory as path, or parallelism: 1"),
        "{error}"
    );
    let second = single();
    commit(&second, &prepare(&second, &[rows(5..6)]));
    assert_eq!(std::fs::read_to_string(first.location()).unwrap(), "{\"v\":5}\n");
    let careful = sink(dir.path(), "{format: jsonl, path: deep/dead.jsonl}").unwrap();
    assert!(careful.start().unwrap_err().to_string().contains("overwrite: true"));
}

/// What a checkpoint prepares, and the number of the part that comes next.
fn checkpoint(writer: &mut dyn SinkWriter) -> (Vec<Committable>, u64) {
    let prepared = writer.checkpoint().unwrap();
    let state: serde_json::Value = serde_json::from_str(&prepared.state.0).unwrap();
    (prepared.committables, state["next_part"].as_u64().unwrap())
}

#[test]
fn each_checkpoint_ends_a_part_and_one_without_rows_writes_none() {
    for format in ["parquet", "csv", "jsonl"] {
        let (dir, out) = dir();
        let sink = sink(dir.path(), &format!("{{format: {format}, path: out}}")).unwrap();
        sink.start().unwrap();
        let mut writer = sink.writer(&rows(0..1).schema(), Subtask { index: 2, parallelism: 3 }, &[]).unwrap();
        for (written, visible) in [(0, 0), (5, 1), (0, 1), (0, 1), (7, 2)] {
            writer.write(&rows(0..written)).unwrap();
            let (prepared, next) = checkpoint(writer.as_mut());
            assert_eq!((prepared.len(), next), (usize::from(written > 0), visible));
            sink.commit(&prepared).unwrap();
            assert_eq!(count_parts(&out), visible as usize);
        }
        writer.write(&rows(0..1)).unwrap();
        commit(&sink, &writer.prepare().unwrap());
        assert_eq!(names(&out), [0, 1, 2].map(|part| format!("part-2-{part}.{format}")));
    }
}

#[test]
fn a_part_that_has_its_size_is_followed_by_another() {
    let wide: ArrayRef = Arc::new(StringArray::from_iter_values((0..5000).map(|row| format!("{row:0100}"))));
    let wide = RecordBatch::try_from_iter([("v", wide)]).unwrap();
    for (format, more, parts) in [
        ("csv", "roll.size: 100KiB", 4),
        ("jsonl", "roll.size: 200k", 3),
        ("parquet", "{roll.size: 1MiB, compression: none}", 1),
        ("parquet", "{roll.size: 100KiB, compression: none}", 5),
        ("jsonl", "roll.time: 1h", 1),
        ("jsonl", "roll.time: 1ms", 10),
        ("csv", "{}", 1),
    ] {
        let (dir, out) = dir();
        let more = more.trim_matches(['{', '}']).replace(", ", "\n");
        let sink = sink(dir.path(), &format!("format: {format}\npath: out\n{more}")).unwrap();
        sink.start().unwrap();
        let mut writer = sink.writer(&wide.schema(), Subtask { index: 0, parallelism: 1 }, &[]).unwrap();
        for batch in 0..10 {
            writer.write(&wide.slice(500 * batch, 500)).unwrap();
            if more.contains("1ms") {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
        commit(&sink, &writer.prepare().unwrap());
        let wanted: Vec<String> = (0..parts).map(|part| format!("part-0-{part}.{format}")).collect();
        assert_eq!(names(&out), wanted, "{format} {more}");
    }
}

#[test]
fn one_file_does_not_roll() {
    let (dir, _) = dir();
    let message = |yaml: &str| sink(dir.path(), yaml).unwrap_err().to_string();
    let wanted = "is given, but path is one file, x.csv: remove it, or give a directory as path";
    assert_eq!(message("{format: csv, path: out/x.csv, roll.size: 1MiB}"), format!("roll.size: {wanted}"));
    assert_eq!(message("{format: csv, path: out/x.csv, roll.time: 1h}"), format!("roll.time: {wanted}"));
    assert_eq!(message("{format: csv, path: out, roll.size: 0}"), "roll.size: is 0; at least one byte is wanted");
    assert_eq!(message("{format: csv, path: out, roll.time: 0s}"), "roll.time: is 0; at least 1ms is wanted");
    assert_eq!(sink(dir.path(), "{format: csv, path: out}").unwrap().refuse_checkpoints(), None);
    let one = sink(dir.path(), "{format: csv, path: out/x.csv}").unwrap();
    let refused = one.refuse_checkpoints().unwrap();
    let wanted = format!("give a directory, such as {}, where", dir.path().join("out/x").display());
    assert!(refused.starts_with("path: x.csv is one file, which can") && refused.contains(&wanted), "{refused}");
    one.start().unwrap();
    let mut writer = one.writer(&rows(0..1).schema(), Subtask { index: 0, parallelism: 1 }, &[]).unwrap();
    assert_eq!(writer.checkpoint().unwrap_err().to_string(), refused);
    assert_eq!(one.resume(&[], &[]).unwrap_err().to_string(), refused);
}

#[test]
fn a_sink_can_be_run_again() {
    let (dir, out) = dir();
    let sink = parquet(dir.path(), "overwrite: true");
    for run in 1..4 {
        commit(&sink, &prepare(&sink, &[rows(0..run), rows(0..run)]));
        assert_eq!((names(&out).len(), count(dir.path())), (2, 2 * run as usize));
    }
    commit(&sink, &prepare(&sink, &[rows(0..0)]));
    assert_eq!((names(&out).len(), count(dir.path())), (1, 0));
}

fn everything() -> RecordBatch {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("i", Arc::new(Int64Array::from(vec![Some(1), None]))),
        ("f", Arc::new(Float64Array::from(vec![1.5, f64::NAN]))),
        ("b", Arc::new(BooleanArray::from(vec![true, false]))),
        ("s", Arc::new(StringArray::from(vec!["a,\"b\"\nc", "é"]))),
        ("x", Arc::new(BinaryArray::from_vec(vec![&[0, 255], b""]))),
        ("d", Arc::new(Date32Array::from(vec![0, 1]))),
        ("t", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000]))),
        ("z", Arc::new(TimestampMicrosecondArray::from(vec![0, 1]).with_timezone("+01:00"))),
        ("n", Arc::new(Decimal128Array::from(vec![100, -5]).with_precision_and_scale(9, 2).unwrap())),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn written(yaml: &str) -> String {
    let (dir, out) = dir();
    let sink = sink(dir.path(), &format!("path: out\n{yaml}")).unwrap();
    commit(&sink, &prepare(&sink, &[everything()]));
    std::fs::read_to_string(out.join(&names(&out)[0])).unwrap()
}

#[test]
fn csv_text() {
    let text = "i,f,b,s,x,d,t,z,n\n1,1.5,true,\"a,\"\"b\"\"\nc\",00ff,1970-01-01,1970-01-01T00:00:00,1970-01-01T01:00:00+01:00,1.00\n\
                ,NaN,false,é,\"\",1970-01-02,1970-01-01T00:00:01.500,1970-01-01T01:00:00.000001+01:00,-0.05\n";
    assert_eq!(written("format: csv"), text);
    assert!(written("format: csv\nheader: false\ndelimiter: ;\nnull-literal: NA").contains("\nNA;NaN;false"));
}

#[test]
fn json_text() {
    let text = "{\"i\":1,\"f\":1.5,\"b\":true,\"s\":\"a,\\\"b\\\"\\nc\",\"x\":\"00ff\",\"d\":\"1970-01-01\",\"t\":\"1970-01-01T00:00:00\",\
                \"z\":\"1970-01-01T01:00:00+01:00\",\"n\":1.00}\n{\"i\":null,\"f\":null,\"b\":false,\"s\":\"é\",\"x\":\"\",\"d\":\"1970-01-02\",\
                \"t\":\"1970-01-01T00:00:01.500\",\"z\":\"1970-01-01T01:00:00.000001+01:00\",\"n\":-0.05}\n";
    assert_eq!(written("format: jsonl"), text);
}

#[test]
fn parquet_comes_back_in_every_compression() {
    for compression in ["zstd", "snappy", "none"] {
        let (dir, _) = dir();
        let sink = parquet(dir.path(), &format!("compression: {compression}"));
        commit(&sink, &prepare(&sink, &[everything()]));
        let source = build(dir.path(), "path: out", ParquetSource::new).unwrap();
        let rows = read(&source, 100).unwrap().rows();
        // NaN is no NaN, so columns are compared by their text.
        assert_eq!(format!("{:?}", rows.columns()), format!("{:?}", everything().columns()), "{compression}");
    }
    let error = sink(Path::new("."), "{format: parquet, path: x, compression: zip}").unwrap_err();
    assert_eq!(error.to_string(), "compression: is \"zip\"; one of zstd, snappy, none is wanted");
}

#[test]
fn columns_that_a_format_cannot_hold_are_named() {
    let field = |notation: &str| {
        let field = wasmill_host::data_type::parse(notation).unwrap().to_field("c");
        Arc::new(arrow::datatypes::Schema::new(vec![field]))
    };
    let refused = |format: &str, notation: &str| {
        sink(Path::new("."), &format!("{{format: {format}, path: x}}"))
            .unwrap()
            .accept(&field(notation))
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        refused("csv", "list<int64>").unwrap_err(),
        "column c of type list<int64> cannot be a CSV field: drop it, or use jsonl or parquet"
    );
    assert_eq!(
        refused("jsonl", "map<int64, utf8>").unwrap_err(),
        "column c of type map<int64, utf8>: in JSON the keys of a map are utf8"
    );
    for format in ["csv", "parquet"] {
        let sink = sink(Path::new("."), &format!("{{format: {format}, path: x}}")).unwrap();
        let error = sink.accept(&Arc::new(arrow::datatypes::Schema::empty())).unwrap_err().to_string();
        assert!(error.starts_with("there are no columns, without which "), "{error}");
    }
    assert!(refused("parquet", "list<struct<>>").unwrap_err().contains("no struct without fields"));
    assert_eq!(refused("jsonl", "map<utf8, list<int64?>>"), Ok(()));
    assert_eq!(refused("parquet", "map<int64, struct<a: decimal(38,10)?>>"), Ok(()));
}

#[test]
fn places_that_cannot_be_written_are_named() {
    let (dir, _) = dir();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = sink(dir.path(), "{format: csv, path: file/out}").unwrap().start().unwrap_err();
    assert!(error.to_string().starts_with("cannot make the directory "), "{error}");
    assert!(error.to_string().ends_with("file/out") && error.source().is_some(), "{error}");
    let error = sink(dir.path(), "{format: csv, path: 'http://host/x'}").unwrap_err().to_string();
    assert!(
        error.starts_with("path: http://host/x: a web server cannot be written to: give a path, or an s3://"),
        "{error}"
    );
    let error = sink(dir.path(), "{format: csv, path: ''}").unwrap_err().to_string();
    assert_eq!(error, "path: is empty: give a file, a directory or a URL");
    let refused = |yaml: &str| sink(dir.path(), yaml).unwrap().accept(&rows(0..1).schema()).unwrap_err().to_string();
    let file = dir.path().join("file").display().to_string();
    assert_eq!(
        refused("{format: csv, path: file}"),
        format!(
            "path: {file} is a file, where a directory is wanted: give another path, or one that ends in .csv for one file"
        )
    );
    assert!(
        refused("{format: csv, path: file/deep/out.csv}")
            .ends_with("is a file, where a directory is wanted: give another path")
    );
    assert_eq!(sink(dir.path(), "format: csv").unwrap_err().to_string(), "path: is missing");
}

/// A disk that is full after some bytes.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_error_in_every_format() {
    let csv = build(Path::new("."), "{}", |mut context| Csv::new(&mut context)).unwrap();
    let parquet = build(Path::new("."), "{}", |mut context| Parquet::new(&mut context)).unwrap();
    let formats: [&dyn Format; 3] = [&csv, &parquet, &JsonLines];
    for format in formats {
        for room in [0, 3, 100] {
            let rows = rows(0..10_000);
            let result = format.encoder(&rows.schema(), Box::new(Full(room))).and_then(|mut encoder| {
                encoder.write(&rows)?;
                encoder.finish()
            });
            let error = cannot_write("out/x", result.unwrap_err());
            assert_eq!(error.to_string(), "cannot write out/x");
            let mut chain = vec![];
            let mut cause: Option<&dyn Error> = error.source();
            while let Some(error) = cause {
                chain.push(error.to_string());
                cause = error.source();
            }
            let chain = chain.join(": ");
            assert!(
                chain.contains("no storage space") || chain.contains("StorageFull"),
                "{} {room}: {chain}",
                format.extension()
            );
        }
    }
}
