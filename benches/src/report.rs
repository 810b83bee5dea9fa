//! `docs/benchmarks.md`: a table for each id, with ratios.

use std::fmt::Write;

use crate::figures::{Figure, WayName};
use crate::process::IN_FLIGHT_BUNDLES_MAX;
use crate::work::{BUNDLES, Floor, WORK, Work};

/// Where and how it was measured.
pub struct Setting {
    /// `Some CPU, 2 cores`.
    pub machine: String,
    /// `Python 3.11.7`: of the worker process and of CPython in-process.
    pub python: String,
    /// Short runs: less certain figures.
    pub quick: bool,
}

/// The whole page.
pub fn page(figures: &[Figure], setting: &Setting) -> String {
    let mut page = String::from("# Benchmarks\n\n");
    let command = if setting.quick { "make bench QUICK=1" } else { "make bench" };
    let _infallible = write!(
        page,
        "Written by `{command}` on {} ({} outside of Wasmill); the figures are also in `benchmarks.json`. Medians, in million rows a \
         second. All columns are from one run; compare columns, not runs.\n\n\
         - **Wasmill**: a job, generator → UDF → blackhole, from the first rows that reach the sink to the last. Bundle 1 is `execution-mode: thread`.\n\
         - **worker process**: the same rows to a CPython process and back, Arrow batches over a Unix socket, up to \
         {IN_FLIGHT_BUNDLES_MAX} bundles in flight. It is up before the time begins and may use a second core. It runs the Python \
         function, also where Wasmill runs a Rust one.\n\
         - **native**: no boundary: for Rust the function over the generator's Arrow arrays, for Python the function in CPython, \
         from Arrow to Arrow, with plain objects as state. The ratio is to its fastest bundle.\n",
        setting.machine, setting.python,
    );
    for work in &WORK {
        page.push_str(&table(work, figures));
    }
    page
}

fn table(work: &Work, figures: &[Figure]) -> String {
    let find = |way: WayName, bundle: usize| {
        let same = |figure: &&Figure| {
            figure.id == work.id && figure.stat == work.stat && figure.way == way && figure.bundle == bundle
        };
        figures.iter().find(same).map(|figure| figure.value)
    };
    let floor = BUNDLES.iter().filter_map(|&bundle| find(WayName::Native, bundle)).reduce(f64::max);
    let native = match work.floor {
        Floor::Rust(_) => "native Rust",
        Floor::Python(_) => "native CPython",
    };
    let mut table = format!(
        "\n## `{}`: {}\n\n\
         | bundle | Wasmill | worker process | {native} | Wasmill ÷ process | Wasmill ÷ native |\n\
         |---:|---:|---:|---:|---:|---:|\n",
        work.id, work.title
    );
    for bundle in BUNDLES {
        let [wasmill, process, native] =
            [WayName::Wasmill, WayName::Process, WayName::Native].map(|way| find(way, bundle));
        if wasmill.or(process).or(native).is_none() {
            continue;
        }
        let cells =
            [millions(wasmill), millions(process), millions(native), ratio(wasmill, process), ratio(wasmill, floor)];
        let _infallible = writeln!(table, "| {bundle} | {} |", cells.join(" | "));
    }
    table
}

/// Three digits that count.
fn millions(rows_per_second: Option<f64>) -> String {
    rows_per_second.map_or_else(|| "–".to_owned(), |value| digits(value / 1e6))
}

fn ratio(value: Option<f64>, to: Option<f64>) -> String {
    match (value, to) {
        (Some(value), Some(to)) => format!("{} ×", digits(value / to)),
        _ => "–".to_owned(),
    }
}

fn digits(value: f64) -> String {
    match value {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        0.1.. => format!("{value:.3}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(way: WayName, bundle: usize, value: f64) -> Figure {
        Figure { id: "python-add".into(), way, bundle, stat: "median".into(), value, unit: "rows/s".into() }
    }

    #[test]
    fn a_table_has_ratios_to_the_process_and_to_the_fastest_floor() {
        let figures = [
            figure(WayName::Wasmill, 1, 400_000.0),
            figure(WayName::Native, 1, 1_000_000.0),
            figure(WayName::Wasmill, 1000, 4_000_000.0),
            figure(WayName::Process, 1000, 800_000.0),
            figure(WayName::Native, 1000, 20_000_000.0),
        ];
        let setting = Setting { machine: "a machine".into(), python: "Python 3".into(), quick: true };
        let page = page(&figures, &setting);
        assert!(page.contains("| 1 | 0.400 | – | 1.00 | – | 0.0200 × |\n"), "{page}");
        assert!(page.contains("| 1000 | 4.00 | 0.800 | 20.0 | 5.00 × | 0.200 × |\n"), "{page}");
        assert!(page.contains("make bench QUICK=1"), "{page}");
        assert!(!page.contains("| 10 |"), "{page}");
    }
}
