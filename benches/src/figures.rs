//! Figures: what was measured, as it stands in `docs/benchmarks.json`.

use std::path::Path;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::BenchError;
use crate::work::WORK;

/// Who did the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WayName {
    Wasmill,
    Process,
    Native,
}

/// In the order of the report's columns.
pub const WAYS: [WayName; 3] = [WayName::Wasmill, WayName::Process, WayName::Native];

impl WayName {
    /// As in `docs/benchmarks.json` and in Criterion's names.
    pub fn text(self) -> &'static str {
        match self {
            WayName::Wasmill => "wasmill",
            WayName::Process => "process",
            WayName::Native => "native",
        }
    }
}

/// One line of `docs/benchmarks.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    pub id: String,
    pub way: WayName,
    /// Rows of a call, or of a batch where nothing is called.
    pub bundle: usize,
    /// What tells figures of one id apart.
    pub stat: String,
    pub value: f64,
    pub unit: String,
}

impl Figure {
    pub(crate) fn new(id: &str, way: WayName, bundle: usize, stat: &str, value: f64, unit: &str) -> Figure {
        Figure { id: id.to_owned(), way, bundle, stat: stat.to_owned(), value, unit: unit.to_owned() }
    }
}

pub const ROWS_PER_SECOND: &str = "rows/s";

/// The parts of Criterion's `estimates.json` and `benchmark.json` that we read.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    /// Nanoseconds for one run.
    point_estimate: f64,
}

#[derive(Deserialize)]
struct Benchmark {
    throughput: Option<Throughput>,
}

#[derive(Deserialize)]
struct Throughput {
    /// Rows of one run.
    #[serde(rename = "Elements")]
    elements: Option<u64>,
}

/// The medians that Criterion wrote below `folder` since `since`: those of this run, not of one before.
///
/// # Errors
/// [`BenchError::File`], [`BenchError::Estimate`].
pub fn read_criterion(folder: &Path, since: SystemTime) -> Result<Vec<Figure>, BenchError> {
    let mut figures = Vec::new();
    for work in &WORK {
        for &bundle in work.bundles {
            for way in WAYS {
                let place = folder.join(work.name()).join(way.text()).join(bundle.to_string()).join("new");
                let Some(value) = rows_per_second(&place, since)? else { continue };
                figures.push(Figure::new(work.id, way, bundle, work.stat, value, ROWS_PER_SECOND));
            }
        }
    }
    Ok(figures)
}

fn rows_per_second(place: &Path, since: SystemTime) -> Result<Option<f64>, BenchError> {
    let path = place.join("estimates.json");
    let written = match std::fs::metadata(&path).and_then(|file| file.modified()) {
        Ok(written) => written,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BenchError::file(path)(error)),
    };
    if written < since {
        return Ok(None);
    }
    let estimates: Estimates = read_json(&path)?;
    let path = place.join("benchmark.json");
    let benchmark: Benchmark = read_json(&path)?;
    match benchmark.throughput.and_then(|throughput| throughput.elements) {
        Some(rows) => Ok(Some(rows as f64 * 1e9 / estimates.median.point_estimate)),
        None => Err(BenchError::Estimate { path, problem: "it has no throughput in elements".to_owned() }),
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T, BenchError> {
    let text = std::fs::read(path).map_err(BenchError::file(path))?;
    serde_json::from_slice(&text)
        .map_err(|error| BenchError::Estimate { path: path.to_owned(), problem: error.to_string() })
}

/// As `docs/benchmarks.json` has them: a figure a line.
pub fn to_json(figures: &[Figure]) -> String {
    let line = |figure| serde_json::to_string(figure).expect("a figure is plain text and numbers");
    format!("[\n  {}\n]\n", figures.iter().map(line).collect::<Vec<_>>().join(",\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn criterion(folder: &Path, place: &str, median: f64, rows: u64) {
        let place = folder.join(place).join("new");
        std::fs::create_dir_all(&place).unwrap();
        let estimates = format!(
            r#"{{"mean": {{"point_estimate": 1.0}}, "median": {{"point_estimate": {median}}}, "slope": null}}"#
        );
        std::fs::write(place.join("estimates.json"), estimates).unwrap();
        let benchmark = format!(r#"{{"group_id": "x", "throughput": {{"Elements": {rows}}}}}"#);
        std::fs::write(place.join("benchmark.json"), benchmark).unwrap();
    }

    #[test]
    fn medians_of_this_run_become_figures() {
        let folder = tempfile::tempdir().unwrap();
        criterion(folder.path(), "rust-add/process/1000", 2e9, 500_000);
        let figures = read_criterion(folder.path(), SystemTime::UNIX_EPOCH).unwrap();
        let line =
            r#"{"id":"rust-add","way":"process","bundle":1000,"stat":"median","value":250000.0,"unit":"rows/s"}"#;
        assert_eq!(to_json(&figures), format!("[\n  {line}\n]\n"));
        assert_eq!(serde_json::from_str::<Vec<Figure>>(&to_json(&figures)).unwrap(), figures);
        let later = SystemTime::now() + std::time::Duration::from_secs(60);
        assert_eq!(read_criterion(folder.path(), later).unwrap(), []);
    }

    #[test]
    fn an_estimate_that_cannot_be_read_names_its_file() {
        let folder = tempfile::tempdir().unwrap();
        criterion(folder.path(), "rust-add/native/1", 1.0, 1);
        let path = folder.path().join("rust-add/native/1/new/estimates.json");
        std::fs::write(&path, "{}").unwrap();
        let error = read_criterion(folder.path(), SystemTime::UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    }
}
