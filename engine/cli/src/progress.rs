//! Progress of a running job: a bar on a terminal, a line every few seconds elsewhere.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use wasmill_runtime::graph::JobGraph;
use wasmill_runtime::metrics::JobMetrics;

const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows how far a job has come. Everything that is to be read while it runs goes through [`line`](Progress::line).
pub(crate) struct Progress {
    job: String,
    sources: Vec<String>,
    started: Instant,
    shown: Shown,
}

enum Shown {
    Nothing,
    Bar(ProgressBar),
    /// When the last line was.
    Lines(Mutex<Instant>),
}

impl Progress {
    pub(crate) fn new(graph: &JobGraph, quiet: bool) -> Progress {
        let sources = graph.nodes().iter().filter(|node| node.inputs().is_empty());
        let shown = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5))),
            (false, false) => Shown::Lines(Mutex::new(Instant::now())),
        };
        let sources = sources.map(|node| node.name().to_owned()).collect();
        Progress { job: graph.name().to_owned(), sources, started: Instant::now(), shown }
    }

    /// What the metrics say, if it is time.
    pub(crate) fn show(&self, metrics: &JobMetrics) {
        let (done, total) = (metrics.progress.done.get(), metrics.progress.total.get());
        match &self.shown {
            Shown::Nothing => {}
            Shown::Bar(bar) => {
                if bar.length().is_none() && total > 0 || bar.message().is_empty() {
                    bar.set_style(style(total > 0));
                    if total > 0 {
                        bar.set_length(total);
                    }
                }
                bar.set_message(format!("{}: {}", self.job, self.text(metrics)));
                bar.set_position(if total > 0 { done.min(total) } else { done });
            }
            Shown::Lines(last) => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.elapsed() >= LINE_EVERY {
                    *last = Instant::now();
                    let part = done
                        .saturating_mul(100)
                        .checked_div(total)
                        .map_or(String::new(), |part| format!(", {} %", part.min(100)));
                    eprintln!("{}: {}{part}", self.job, self.text(metrics));
                }
            }
        }
    }

    fn text(&self, metrics: &JobMetrics) -> String {
        let read: u64 = self.sources.iter().filter_map(|name| metrics.node(name)).map(|node| node.rows_out.get()).sum();
        format!("{} rows read, {} rows/s", count(read), rate(read, self.started.elapsed().as_secs_f64()))
    }

    /// A line of its own to standard error, above the bar.
    pub(crate) fn line(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(|| eprintln!("{text}")),
            _ => eprintln!("{text}"),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

fn style(sized: bool) -> ProgressStyle {
    let template = if sized { "{bar:30} {percent:>3} %  {msg}  {eta} left" } else { "{spinner} {msg}  {elapsed}" };
    ProgressStyle::with_template(template).expect("the templates above are well formed")
}

/// `1,234,567`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Rows a second, whole.
pub(crate) fn rate(rows: u64, seconds: f64) -> String {
    count((rows as f64 / seconds.max(1e-6)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(rate(10, 2.0), "5");
        assert_eq!(rate(10, 0.0), "10,000,000");
    }
}
