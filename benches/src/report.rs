//! `docs/benchmarks.md`: a table for each id, with ratios and what must be reached.

use std::fmt::Write;

use crate::figures::{Figure, ROWS_PER_SECOND, WayName};
use crate::plots::PLOTS;
use crate::process::IN_FLIGHT_BUNDLES_MAX;
use crate::targets::{Goal, judge, limit};
use crate::values;
use crate::work::WORK;

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
        "Written by `{command}` on {} ({} outside of Wasmill); the figures are also in `benchmarks.json`. Medians. The columns of a \
         row were measured right after each other; compare columns, not runs. What to choose by these figures is in `tuning.md`.\n\n\
         - **Wasmill**: a job, generator → UDF → blackhole, from the first rows that reach the sink to the last, held to one core. \
         Bundle 1 is `execution-mode: thread`.\n\
         - **worker process**: the same rows to a CPython process and back, Arrow batches over a Unix socket, up to \
         {IN_FLIGHT_BUNDLES_MAX} bundles in flight. It is up before the time begins and may use a second core. It runs the Python \
         function, also where Wasmill runs a Rust one (for `rust-vectorized`, Arrow's kernels by pyarrow).\n\
         - **native**: no boundary: for Rust the function over the generator's Arrow arrays, for Python the function in CPython, \
         from Arrow to Arrow, with plain objects as state. It gets batches of the row's size too: its own pace is that of its largest.\n\n",
        setting.machine, setting.python,
    );
    for (name, title, _) in PLOTS {
        let _infallible = writeln!(page, "![{title}: rows a second over bundle size]({name})\n");
    }
    let mut done: Vec<&str> = Vec::new();
    for figure in figures {
        if !done.contains(&figure.id.as_str()) {
            done.push(&figure.id);
            page.push_str(&if figure.id == values::ID { by_type(figures) } else { table(&figure.id, figures) });
        }
    }
    page
}

/// What is no piece of [`WORK`].
const TITLES: [(&str, &str); 10] = [
    (
        "latency-rust",
        "from the generator to the sink at 100 rows/s, default settings, Rust `i + 1`. The time runs from the moment at \
     which the generator's reader hands a row to the job to that at which the sink gets it. Worker process: a row sent and its answer \
     awaited; native: the call alone",
    ),
    ("latency-python", "As `latency-rust`, with Python `i + 1`"),
    (
        "start",
        "from the start of the process `wasmill run` to its first row of output, warm cache, Python `i + 1`. Worker process: \
     until its first answer",
    ),
    (
        "memory",
        "Resident memory. `job`: the most of all of `wasmill run` with a Python UDF; `instance`: each further Python instance with \
     its task; `growth`: in the second half of 10 M rows (4 M with QUICK), reached within 1 MB. Pages that are mapped several times count once. \
     Worker process: itself alone",
    ),
    (
        "checkpoint-overhead",
        "Rust, mean per key, a million keys in no order: the pace with a checkpoint every second ÷ that without any, in pairs",
    ),
    (
        "checkpoint-slow-udf",
        "Rust, a millisecond of work a row, bundles of 1000, `checkpoint.bundle: persist`, unaligned: from the barrier to the manifest",
    ),
    (
        "snapshot",
        "Bytes of a checkpoint ÷ its time, from the barrier to the manifest: Rust, mean per key, 10 M keys (1 M with QUICK). Native: as \
         many bytes to the same disk in one file, synced",
    ),
    (
        "restore",
        "From the start of the job to its first row, keys of the checkpoint ÷ that time; 10 M keys (1 M with QUICK)",
    ),
    (
        "disk-state",
        "Rust, mean per key, keys in no order, 10 M of them about twice each: with `state.backend.type: disk` and 128 MiB for it. Native: with `memory`. \
         An eighth of the keys and of the memory with QUICK",
    ),
    ("scaling", "Pace on two cores ÷ on one: two splits, parallelism 2"),
];

fn title(id: &str) -> &'static str {
    let work = WORK.iter().find(|work| work.id == id).map(|work| work.title);
    work.or_else(|| TITLES.iter().find(|(of, _)| *of == id).map(|(_, title)| *title)).unwrap_or_default()
}

fn table(id: &str, figures: &[Figure]) -> String {
    let own = || figures.iter().filter(|figure| figure.id == id);
    let unit = own().next().map_or("", |figure| figure.unit.as_str());
    let unit = if unit == ROWS_PER_SECOND { "million rows/s" } else { unit };
    let mut table = format!(
        "\n## `{id}`\n\n{}. Figures are in {unit}.\n\n\
         | bundle | stat | Wasmill | worker process | native | ÷ process | ÷ native | target | reached |\n\
         |---:|---|---:|---:|---:|---:|---:|---|---|\n",
        title(id)
    );
    let mut rows: Vec<(usize, &str)> = Vec::new();
    let mut missed = false;
    for figure in own() {
        let row = (figure.bundle, figure.stat.as_str());
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    for (bundle, stat) in rows {
        let find = |way| own().find(|figure| figure.bundle == bundle && figure.stat == stat && figure.way == way);
        let [wasmill, process, native] = [WayName::Wasmill, WayName::Process, WayName::Native].map(find);
        let judged = judge(figures, id, stat, bundle);
        missed |= judged.iter().any(|(_, reached)| !reached);
        let goals = judged.iter().map(|(goal, _)| words(*goal, wasmill)).collect::<Vec<_>>().join("; ");
        let reached = judged.iter().map(|(_, reached)| if *reached { "yes" } else { "**no**" });
        let cells = [
            cell(wasmill),
            cell(process),
            cell(native),
            ratio(wasmill, process),
            ratio(wasmill, native),
            goals,
            reached.collect::<Vec<_>>().join("; "),
        ];
        let _infallible = writeln!(table, "| {bundle} | {stat} | {} |", cells.join(" | "));
    }
    if let Some(why) = limit(id).filter(|_| missed) {
        let _infallible = writeln!(table, "\nWhat limits it: {why}");
    }
    table
}

/// What a value costs: a type a line.
fn by_type(figures: &[Figure]) -> String {
    let mut table = format!(
        "\n## `{}`\n\nPython: what a value costs on its way into a function and out of it, by its type, in ns. In bundles of 1000, \
         beyond what a bool costs in and the call itself, so that a few ns are nothing. A struct's fields are read when they are asked \
         for: here when it goes out. Beside it pyarrow in CPython: `to_pylist()`, and `pyarrow.array()` of the list.\n\n\
         | type | in | out | pyarrow in | pyarrow out | both ÷ pyarrow |\n\
         |---|---:|---:|---:|---:|---:|\n",
        values::ID
    );
    let own = |way| figures.iter().filter(move |figure| figure.id == values::ID && figure.way == way);
    for data_type in own(WayName::Wasmill).filter_map(|figure| figure.stat.strip_suffix(" in")) {
        let both = |way| {
            ["in", "out"].map(|direction| {
                let stat = format!("{data_type} {direction}");
                own(way).find(|figure| figure.stat == stat).map(|figure| figure.value.max(0.0))
            })
        };
        let (own, pyarrow) = (both(WayName::Wasmill), both(WayName::Native));
        let whole = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
        let cells = own.iter().chain(&pyarrow).map(whole).collect::<Vec<_>>().join(" | ");
        let ratio = match (own, pyarrow) {
            ([Some(into), Some(out)], [Some(by_into), Some(by_out)]) => {
                format!("{} ×", digits((into + out) / (by_into + by_out)))
            }
            _ => "–".to_owned(),
        };
        let _infallible = writeln!(table, "| `{data_type}` | {cells} | {ratio} |");
    }
    table
}

fn words(goal: Goal, figure: Option<&Figure>) -> String {
    let scaled = |value: f64| match figure {
        Some(figure) if figure.unit == ROWS_PER_SECOND => value / 1e6,
        _ => value,
    };
    match goal {
        Goal::AtLeast(least) => format!("≥ {}", scaled(least)),
        Goal::AtMost(most) => format!("≤ {}", scaled(most)),
        Goal::OfNative(share) => format!("≥ {share} × native"),
    }
}

/// Millions of rows, else the value itself.
fn cell(figure: Option<&Figure>) -> String {
    figure.map_or_else(
        || "–".to_owned(),
        |figure| digits(if figure.unit == ROWS_PER_SECOND { figure.value / 1e6 } else { figure.value }),
    )
}

fn ratio(value: Option<&Figure>, to: Option<&Figure>) -> String {
    match (value, to) {
        (Some(value), Some(to)) => format!("{} ×", digits(value.value / to.value)),
        _ => "–".to_owned(),
    }
}

/// Three digits that count.
fn digits(value: f64) -> String {
    match value.abs() {
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
    fn values_have_a_line_for_each_type() {
        let figure = |way, stat: &str, value| Figure::new(values::ID, way, 1000, stat, value, "ns");
        let figures = [
            figure(WayName::Wasmill, "list<int64> in", 60.32),
            figure(WayName::Wasmill, "list<int64> out", 80.0),
            figure(WayName::Native, "list<int64> in", 120.0),
            figure(WayName::Native, "list<int64> out", 40.0),
        ];
        let setting = Setting { machine: "a machine".into(), python: "Python 3".into(), quick: true };
        let page = page(&figures, &setting);
        assert!(page.contains("| `list<int64>` | 60 | 80 | 120 | 40 | 0.877 × |\n"), "{page}");
    }

    #[test]
    fn a_table_has_ratios_of_its_rows_and_what_they_must_reach() {
        let figures = [
            figure(WayName::Wasmill, 1, 400_000.0),
            figure(WayName::Native, 1, 1_000_000.0),
            figure(WayName::Wasmill, 1000, 4_000_000.0),
            figure(WayName::Process, 1000, 800_000.0),
            figure(WayName::Native, 1000, 20_000_000.0),
        ];
        let setting = Setting { machine: "a machine".into(), python: "Python 3".into(), quick: true };
        let page = page(&figures, &setting);
        assert!(page.contains("| 1 | median | 0.400 | – | 1.00 | – | 0.400 × | ≥ 0.4 | yes |\n"), "{page}");
        assert!(
            page.contains("| 1000 | median | 4.00 | 0.800 | 20.0 | 5.00 × | 0.200 × | ≥ 4.5 | **no** |\n"),
            "{page}"
        );
        assert!(page.contains("make bench QUICK=1"), "{page}");
        assert!(!page.contains("| 10 |"), "{page}");
    }
}
