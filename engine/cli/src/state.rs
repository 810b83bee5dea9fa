//! `wasmill state`: what a checkpoint or savepoint holds, as tables and files.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, TimestampMillisecondArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde_json::{Value, json};
use wasmill_runtime::checkpoint::inspect;
use wasmill_runtime::checkpoint::manifest::{FileRef, Manifest, NodeManifest, SnapshotKind};
use wasmill_runtime::checkpoint::restore::Restored;
use wasmill_runtime::connector::{ConnectorContext, ConnectorError, Sink, Subtask};
use wasmill_runtime::value::Options;

use crate::args::StateArgs;
use crate::checkpoints;
use crate::environment::connectors;
use crate::progress::count;
use crate::report::{Failure, plain};
use crate::show;

/// How a key's null is written, in tables and as `--key`.
const NULL: &str = "NULL";

pub(crate) fn state(args: &StateArgs) -> Result<(), Failure> {
    let found = checkpoints::find(&args.place, args.checkpoint, "read the state in")?;
    let text = match &args.node {
        None => overview(&found),
        Some(name) => one(&found, name, args)?,
    };
    crate::print(&plain(&text))
}

fn one(found: &Restored, name: &str, args: &StateArgs) -> Result<String, Failure> {
    let manifest = &found.manifest;
    let Some(node) = manifest.node(name) else {
        let there = manifest.nodes.iter().map(|node| node.id.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Failure::Usage(format!("{} has no node \"{name}\": there are {there}", found.location())));
    };
    if !is_keyed(node) && (args.output.is_some() || !args.key.is_empty()) && keeps(node).is_some() {
        let message = format!(
            "node \"{name}\" ({}) has no keys: --output and --key are for nodes with state by key; without them it is shown",
            node.does
        );
        return Err(Failure::Usage(message));
    }
    match (is_keyed(node), &args.output) {
        (true, None) => keys(found, node, args),
        (true, Some(output)) => export(found, node, &args.key, output),
        (false, _) if keeps(node).is_some() => Ok(words(node)),
        (false, _) => {
            let those = manifest.nodes.iter().filter(|node| keeps(node).is_some()).map(|node| node.id.as_str());
            let those = those.collect::<Vec<_>>().join(", ");
            Err(Failure::Usage(format!(
                "node \"{name}\" ({}) has no state: those that have some are {those}",
                node.does
            )))
        }
    }
}

// ---- all of it ----

fn overview(found: &Restored) -> String {
    let manifest = &found.manifest;
    let kind = match manifest.kind {
        SnapshotKind::Checkpoint => "checkpoint",
        SnapshotKind::Savepoint => "savepoint",
    };
    let end = if manifest.finished { ", the job's end" } else { "" };
    let mut text = format!(
        "job {}, {kind} {} of {}{end}, in {}\n\n",
        manifest.job,
        manifest.checkpoint,
        when(manifest.taken_at),
        found.location()
    );
    let rows: Vec<Vec<String>> = manifest.nodes.iter().filter_map(overview_row).collect();
    match rows.is_empty() {
        true => text.push_str("no node has state\n"),
        false => text.push_str(&crate::table(
            &["NODE", "DOES", "SUBTASKS", "KEYS", "KEY", "STATE", &format!("{:>14}", "BYTES")],
            &rows,
        )),
    }
    text + &on_their_way(manifest)
}

fn overview_row(node: &NodeManifest) -> Option<Vec<String>> {
    let what = keeps(node)?;
    let typed = |columns: &[(String, String)]| {
        columns.iter().map(|(name, data_type)| format!("{name}: {data_type}")).collect::<Vec<_>>().join(", ")
    };
    let (keys, key, states) = match is_keyed(node) {
        true => (key_count(node), typed(&node.key), typed(&node.states)),
        false => (String::new(), String::new(), what),
    };
    let bytes = files(node).map(|file| file.bytes).sum();
    let subtasks = node.subtasks.len().to_string();
    Some(vec![node.id.clone(), node.does.clone(), subtasks, keys, key, states, format!("{:>14}", count(bytes))])
}

/// Where files build on each other only reading them tells how many keys there are: a later one may tell of a key again, or that it
/// is gone.
fn key_count(node: &NodeManifest) -> String {
    let rows = node.subtasks.iter().flat_map(|subtask| &subtask.keyed).map(|file| file.rows).sum();
    let exact = node.subtasks.iter().all(|subtask| subtask.keyed.len() <= 1);
    format!("{}{}", if exact { "" } else { "<= " }, count(rows))
}

fn files(node: &NodeManifest) -> impl Iterator<Item = &FileRef> {
    node.subtasks.iter().flat_map(|subtask| subtask.keyed.iter().chain(&subtask.bundle))
}

fn is_keyed(node: &NodeManifest) -> bool {
    node.subtasks.iter().any(|subtask| !subtask.keyed.is_empty())
}

/// What a node keeps, in words; `None`: nothing that anyone would ask for.
fn keeps(node: &NodeManifest) -> Option<String> {
    if is_keyed(node) {
        return Some("state by key".to_owned());
    }
    let own = || node.subtasks.iter().map(|subtask| &subtask.own);
    let length = |name: &str| own().filter_map(|own| own.get(name)?.as_array()).map(Vec::len).sum::<usize>();
    if own().any(|own| own.get("open").is_some_and(Value::is_array)) {
        return Some(format!("positions: {} splits begun, {} ended", length("open"), length("ended")));
    }
    let prepared: usize = node.subtasks.iter().map(|subtask| subtask.prepared.len()).sum();
    let writes = prepared > 0 || own().any(|own| own.get("writer").is_some());
    writes.then(|| format!("{prepared} parts prepared"))
}

fn on_their_way(manifest: &Manifest) -> String {
    let rows = |files: &mut dyn Iterator<Item = &FileRef>| files.map(|file| file.rows).sum::<u64>();
    let channels = rows(&mut manifest.channels.iter().filter_map(|channel| channel.file.as_ref()));
    let subtasks = manifest.nodes.iter().flat_map(|node| &node.subtasks);
    let bundles = rows(&mut subtasks.filter_map(|subtask| subtask.bundle.as_ref()));
    match channels + bundles {
        0 => String::new(),
        _ => format!("\nrows on their way: {} in channels, {} in open bundles\n", count(channels), count(bundles)),
    }
}

fn when(millis: i64) -> String {
    let time = TimestampMillisecondArray::from(vec![millis]);
    // Debug is ISO 8601 here, with a T.
    time.value_as_datetime(0).map_or_else(|| format!("{millis} ms"), |time| format!("{time:?}Z"))
}

// ---- positions and parts ----

/// What each subtask says of itself.
fn words(node: &NodeManifest) -> String {
    let subtask = |(index, subtask): (usize, &wasmill_runtime::checkpoint::manifest::SubtaskManifest)| {
        let mut shown = json!({ "subtask": index, "own": unpacked(subtask.own.clone()) });
        if !subtask.prepared.is_empty() {
            let prepared = subtask.prepared.iter().map(|part| unpacked(Value::String(part.0.clone())));
            shown["prepared"] = prepared.collect();
        }
        shown
    };
    let subtasks: Value = node.subtasks.iter().enumerate().map(subtask).collect();
    format!("{:#}\n", json!({ "node": node.id, "does": node.does, "subtasks": subtasks }))
}

/// Connectors' own words are texts, mostly JSON in themselves: a person wants to read that, not its quotes.
fn unpacked(value: Value) -> Value {
    match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(inner @ (Value::Object(_) | Value::Array(_))) => inner,
            _ => Value::String(text),
        },
        Value::Array(values) => values.into_iter().map(unpacked).collect(),
        Value::Object(fields) => {
            Value::Object(fields.into_iter().map(|(name, value)| (name, unpacked(value))).collect())
        }
        other => other,
    }
}

// ---- state by key ----

/// Calls `each` with the states of a subtask at a time, and only those of `key` if it is given.
fn each_part(
    found: &Restored,
    node: &NodeManifest,
    key: &[String],
    mut each: impl FnMut(RecordBatch) -> Result<(), Failure>,
) -> Result<(), Failure> {
    if !key.is_empty() && key.len() != node.key.len() {
        let columns = node.key.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let message = format!(
            "--key is given {} times, and the key of node \"{}\" has {} columns: give a value for each of ({columns}), in this order",
            key.len(),
            node.id,
            node.key.len(),
        );
        return Err(Failure::Usage(message));
    }
    for part in inspect::parts(found, &node.id) {
        let part =
            part.map_err(|error| Failure::because(format!("cannot read the state of node \"{}\"", node.id), error))?;
        each(if key.is_empty() { part } else { of_key(&part, key).map_err(cannot_show(node))? })?;
    }
    Ok(())
}

fn cannot_show(node: &NodeManifest) -> impl Fn(ArrowError) -> Failure {
    let message = format!("cannot show the state of node \"{}\"", node.id);
    move |error| Failure::because(message.clone(), error)
}

/// The rows whose first columns have these values, as they are shown.
fn of_key(rows: &RecordBatch, key: &[String]) -> Result<RecordBatch, ArrowError> {
    let options = FormatOptions::default().with_null(NULL);
    let columns: Vec<ArrayFormatter<'_>> = rows.columns()[..key.len()]
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<_, _>>()?;
    let fits = |row: usize| columns.iter().zip(key).all(|(column, wanted)| column.value(row).to_string() == *wanted);
    let wanted: BooleanArray = (0..rows.num_rows()).map(|row| Some(fits(row))).collect();
    filter_record_batch(rows, &wanted)
}

/// The first keys, and how many there are.
fn keys(found: &Restored, node: &NodeManifest, args: &StateArgs) -> Result<String, Failure> {
    let (mut shown, mut total) = (Vec::new(), 0);
    each_part(found, node, &args.key, |part| {
        shown.push(part.slice(0, args.rows.saturating_sub(total).min(part.num_rows())));
        total += part.num_rows();
        Ok(())
    })?;
    let table = show::table_of(&shown).map_err(cannot_show(node))?;
    let left = total.saturating_sub(args.rows);
    let more = if left > 0 { format!(", {} more (--rows, --output)", count(left as u64)) } else { String::new() };
    let of = if args.key.is_empty() { "" } else { " of that value" };
    Ok(format!("{table}\n{} keys{of} of node {} ({}){more}\n", count(total as u64), node.id, node.does))
}

fn export(found: &Restored, node: &NodeManifest, key: &[String], output: &str) -> Result<String, Failure> {
    let failed = |error: ConnectorError| Failure::because(format!("cannot export the state to {output}"), error);
    let connector = match Path::new(output).extension().and_then(|ending| ending.to_str()) {
        Some(known @ ("parquet" | "jsonl" | "csv")) => known,
        _ => {
            let message = format!("--output {output}: a file whose name ends in .parquet, .jsonl or .csv is wanted");
            return Err(Failure::Usage(message));
        }
    };
    if Path::new(output).exists() {
        return Err(Failure::Usage(format!("--output: {output} is there already: remove it, or name another file")));
    }
    let mut options = Options::default();
    options.set("path", wasmill_runtime::value::Value::text(output));
    let context = ConnectorContext { base: Path::new("."), options: &mut options };
    let sink = connectors().sink(connector, context).map_err(failed)?;
    let rows = write(&*sink, found, node, key, &failed).inspect_err(|_| sink.abort(&[]))?;
    sink.finish().map_err(failed)?;
    Ok(format!("{} keys of node {} are in {output}\n", count(rows), node.id))
}

/// As a job writes its output: nothing is seen of it before all of it is there.
fn write(
    sink: &dyn Sink,
    found: &Restored,
    node: &NodeManifest,
    key: &[String],
    failed: &dyn Fn(ConnectorError) -> Failure,
) -> Result<u64, Failure> {
    let mut writer = None;
    let mut rows = 0;
    each_part(found, node, key, |part| {
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(begin(sink, &part.schema()).map_err(failed)?),
        };
        rows += part.num_rows() as u64;
        writer.write(&part).map_err(failed)
    })?;
    if let Some(writer) = writer {
        let prepared = writer.prepare().map_err(failed)?;
        sink.commit(&prepared).map_err(failed)?;
    }
    Ok(rows)
}

fn begin(
    sink: &dyn Sink,
    schema: &SchemaRef,
) -> Result<Box<dyn wasmill_runtime::connector::SinkWriter>, ConnectorError> {
    sink.accept(schema)?;
    sink.start()?;
    sink.writer(&Arc::clone(schema), Subtask { index: 0, parallelism: 1 }, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_connectors_are_read_as_json_where_they_are_some() {
        let told = json!({ "position": "{\"row\":7,\"in\":\"[1]\"}", "id": "[x", "n": ["{}", 5, "5"] });
        let shown = json!({ "position": { "row": 7, "in": "[1]" }, "id": "[x", "n": [{}, 5, "5"] });
        assert_eq!(unpacked(told), shown);
    }

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(when(0), "1970-01-01T00:00:00Z");
        assert_eq!(when(i64::MAX), format!("{} ms", i64::MAX));
    }
}
