use std::collections::HashMap;

use super::*;
use crate::file_sink::{FileSink, Target};
use crate::file_writer::Roll;
use crate::formats::JsonLines;
use crate::remote::testing::{content, store};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use object_store::PutResult;
use object_store::memory::InMemory;
use wasmill_runtime::connector::{Committable, Sink, Subtask};

fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("v", column)]).unwrap()
}

/// A sink of JSON lines in a folder of `store`.
fn sink(store: &Arc<Store>, file: Option<&str>, overwrite: bool) -> FileSink {
    let output = RemoteOutput::new(Arc::clone(store), Path::from("out")).unwrap();
    FileSink::to(target(output, file), overwrite)
}

fn target(output: RemoteOutput, file: Option<&str>) -> Target {
    let roll = Roll { bytes_max: 128 << 20, time_max: None };
    Target { format: Arc::new(JsonLines), output: Arc::new(output), file: file.map(str::to_owned), roll }
}

fn prepare(sink: &FileSink, batches: &[RecordBatch]) -> Vec<Committable> {
    sink.start().unwrap();
    let mut prepared = Vec::new();
    for (index, rows) in batches.iter().enumerate() {
        let mut writer = sink.writer(&rows.schema(), Subtask { index, parallelism: batches.len() }, &[]).unwrap();
        writer.write(rows).unwrap();
        prepared.extend(writer.prepare().unwrap());
    }
    prepared
}

fn names(store: &Store) -> Vec<String> {
    content(store).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn objects_appear_at_the_commit_and_not_before() {
    let store = store(&[]);
    let sink = sink(&store, None, false);
    let prepared = prepare(&sink, &[rows(0..2), rows(0..0), rows(2..3)]);
    assert_eq!(names(&store), [] as [&str; 0]);
    sink.commit(&prepared).unwrap();
    let all = [("out/part-0-0.jsonl", "{\"v\":0}\n{\"v\":1}\n"), ("out/part-2-0.jsonl", "{\"v\":2}\n")];
    let all = all.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    assert_eq!(content(&store), all);
    sink.commit(&prepared).unwrap();
    assert_eq!(content(&store), all);
    assert_eq!((sink.location(), sink.claim()), ("mem://out".to_owned(), Some("mem://out".to_owned())));
}

#[test]
fn a_sink_without_rows_leaves_an_empty_object() {
    let store = store(&[]);
    let sink = sink(&store, Some("x.jsonl"), false);
    let prepared = prepare(&sink, &[rows(0..0)]);
    sink.commit(&prepared).unwrap();
    sink.finish().unwrap();
    sink.finish().unwrap();
    assert_eq!(content(&store), [("out/x.jsonl".to_owned(), Vec::new())]);
    assert_eq!(sink.location(), "mem://out/x.jsonl");
}

#[test]
fn earlier_output_is_replaced_when_asked() {
    let before = [
        ("out/part-0-0.csv", "old"),
        ("out/part-7-0.jsonl", "old"),
        ("out/notes.txt", "mine"),
        ("out/deep/part-0-0.csv", "not mine"),
    ];
    let store = store(&before);
    let error = sink(&store, None, false).start().unwrap_err().to_string();
    assert!(error.starts_with("mem://out/part-0-0.csv is there already, from an earlier run"), "{error}");
    let sink = sink(&store, None, true);
    let prepared = prepare(&sink, &[rows(0..1)]);
    assert_eq!(names(&store).len(), 4, "until the commit the old output stays");
    sink.commit(&prepared).unwrap();
    assert_eq!(names(&store), ["out/deep/part-0-0.csv", "out/notes.txt", "out/part-0-0.jsonl"]);
    let file = self::sink(&store, Some("notes.txt"), false).start().unwrap_err().to_string();
    assert!(file.starts_with("mem://out/notes.txt is there already"), "{file}");
}

#[test]
fn a_second_job_is_seen() {
    let store = store(&[]);
    let (first, second) = (sink(&store, None, false), sink(&store, None, false));
    let prepared = [prepare(&first, &[rows(0..1)]), prepare(&second, &[rows(1..2)])];
    first.commit(&prepared[0]).unwrap();
    let error = second.commit(&prepared[1]).unwrap_err().to_string();
    assert!(error.starts_with("mem://out/part-0-0.jsonl appeared while the job ran"), "{error}");
}

/// A store that counts what goes on, and loses answers.
#[derive(Debug, Default)]
struct Counting {
    inner: InMemory,
    parts: Mutex<HashMap<String, Vec<usize>>>,
    aborted: Mutex<Vec<String>>,
    fail_part: Option<usize>,
    lose_answer: bool,
}

#[async_trait]
impl MultipartStore for Counting {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.inner.create_multipart(path).await
    }

    async fn put_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part: usize,
        data: PutPayload,
    ) -> object_store::Result<PartId> {
        if self.fail_part == Some(part) {
            return Err(object_store::Error::NotImplemented { operation: "part".into(), implementer: "test".into() });
        }
        lock(&self.parts).entry(id.clone()).or_default().push(data.content_length());
        self.inner.put_part(path, id, part, data).await
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> object_store::Result<PutResult> {
        let result = self.inner.complete_multipart(path, id, parts).await;
        match self.lose_answer {
            true => Err(object_store::Error::NotFound { path: path.to_string(), source: "no such upload".into() }),
            false => result,
        }
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        lock(&self.aborted).push(path.to_string());
        self.inner.abort_multipart(path, id).await
    }
}

fn counting(counting: Counting) -> (Arc<Counting>, FileSink) {
    let counting = Arc::new(counting);
    let mut store = Store::writable(InMemory::new(), "mem://".into(), None);
    store.uploads = Some(Arc::clone(&counting) as Arc<dyn MultipartStore>);
    let output = RemoteOutput::new(Arc::new(store), Path::from("out")).unwrap();
    (counting, FileSink::to(target(output, None), false))
}

fn wide(count: usize) -> RecordBatch {
    let column: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1000); count]));
    RecordBatch::try_from_iter([("v", column)]).unwrap()
}

#[test]
fn a_large_file_goes_in_parts_of_one_size() {
    let (counting, sink) = counting(Counting::default());
    let prepared = prepare(&sink, &[wide(20_000)]);
    sink.commit(&prepared).unwrap();
    let parts = lock(&counting.parts).values().next().unwrap().clone();
    let line = "{\"v\":\"\"}\n".len() + 1000;
    assert_eq!(parts, [PART_BYTES, PART_BYTES, 20_000 * line - 2 * PART_BYTES]);
    assert_eq!([part_bytes(999), part_bytes(1000), part_bytes(9999)], [PART_BYTES, 2 * PART_BYTES, 10 * PART_BYTES]);
}

#[test]
fn a_job_that_fails_leaves_no_upload() {
    let (counted, sink) = counting(Counting { fail_part: Some(1), ..Counting::default() });
    let mut writer = sink.writer(&wide(1).schema(), Subtask { index: 0, parallelism: 1 }, &[]).unwrap();
    let written = writer.write(&wide(30_000)).and_then(|()| writer.prepare().map(|_| ()));
    assert_eq!(written.unwrap_err().to_string(), "cannot write mem://out/part-0-0.jsonl");
    sink.abort(&[]);
    sink.abort(&[]);
    assert_eq!(*lock(&counted.aborted), ["out/part-0-0.jsonl"]);

    let (counted, sink) = counting(Counting::default());
    let prepared = prepare(&sink, &[wide(1), wide(1)]);
    sink.commit(&prepared[..1]).unwrap();
    sink.abort(&[]);
    assert_eq!(*lock(&counted.aborted), ["out/part-1-0.jsonl"], "what is committed stays");
}

#[test]
fn an_upload_that_is_gone_is_an_error_unless_its_object_is_there() {
    let (_, sink) = counting(Counting { lose_answer: true, ..Counting::default() });
    let prepared = prepare(&sink, &[rows(0..1)]);
    let error = sink.commit(&prepared).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot complete mem://out/part-0-0.jsonl: its upload is gone: did another program"),
        "{error}"
    );
}
