//! How errors are told.

use std::borrow::Cow;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wasmill_host::HostError;
use wasmill_runtime::connector::ConnectorError;
use wasmill_runtime::error::{JobError, Problem, ProblemKind};
use wasmill_runtime::value::OptionError;

/// What a command ends with, if not well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The job file cannot be a job.
    #[error("{}", problems_text(.file, .problems))]
    Invalid { file: PathBuf, problems: Vec<Problem> },
    #[error("{0}")]
    Job(#[source] Box<JobError>),
    /// Stopped by Ctrl-C; the text says what became of the rows.
    #[error("{0}")]
    Interrupted(String),
    #[error("{0}")]
    Host(#[source] HostError),
    /// A running job cannot be reached, or found.
    #[error("{0}")]
    Control(Box<dyn Error + Send + Sync>),
    /// The command asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// A tool that was run said itself what is wrong.
    #[error("{0}")]
    Tool(String),
    #[error("cannot {doing} {}", .path.display())]
    File { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{message}")]
    Other { message: String, source: Option<Box<dyn Error + Send + Sync>> },
}

impl Failure {
    pub(crate) fn file(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Failure {
        move |source| Failure::File { doing, path: path.to_owned(), source }
    }

    pub(crate) fn because(message: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Failure {
        Failure::Other { message: message.into(), source: Some(Box::new(source)) }
    }

    /// 1: it failed; 2: it was never possible; 130: interrupted, as shells count signals.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Failure::Invalid { .. } | Failure::Usage(_) => ExitCode::from(2),
            Failure::Interrupted(_) => ExitCode::from(130),
            _ => ExitCode::FAILURE,
        }
    }

    /// Everything that there is to say, with the causes, without a backtrace of ours.
    pub(crate) fn text(&self) -> String {
        let mut text = match self {
            Failure::Invalid { .. } => return self.to_string(),
            _ => format!("error: {self}"),
        };
        let causes = match self {
            Failure::Job(error) => chain(error.behind()),
            Failure::Host(error) => chain(error.source()),
            Failure::Control(error) => chain(error.source()),
            other => chain(other.source()),
        };
        let host = match self {
            Failure::Host(error) => Some(error),
            Failure::Job(error) => match &**error {
                JobError::Host { error, .. } => Some(&**error),
                _ => None,
            },
            _ => None,
        };
        for line in host.map_or("", traceback).lines() {
            text.push_str(&format!("\n  {line}"));
        }
        for cause in causes {
            text.push_str(&format!("\n  caused by: {cause}"));
        }
        text
    }
}

/// Text that comes from UDFs and data cannot move the cursor, colour the terminal or forge its title.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match text.contains(harmful) {
        false => Cow::Borrowed(text),
        true => text.chars().flat_map(|c| if harmful(c) { c.escape_default().collect() } else { vec![c] }).collect(),
    }
}

/// Where in the guest a load failed, innermost first or last as its language has it.
fn traceback(error: &HostError) -> &str {
    match error {
        HostError::Problem { traceback, .. } => traceback,
        HostError::Fault { fault, .. } => &fault.backtrace,
        _ => "",
    }
}

fn chain(mut cause: Option<&(dyn Error + 'static)>) -> Vec<String> {
    let mut causes = Vec::new();
    while let Some(error) = cause {
        // The text of an option's error is the connector's own already.
        if error.downcast_ref::<OptionError>().is_none() {
            causes.push(error.to_string());
        }
        cause = error.source();
    }
    causes.dedup();
    causes
}

fn connector_causes(error: &ConnectorError) -> Vec<String> {
    chain(error.source())
}

fn problem_causes(kind: &ProblemKind) -> Vec<String> {
    match kind {
        ProblemKind::Connector { error, .. } => connector_causes(error),
        ProblemKind::Host { error } => chain(error.source()),
        other => chain(other.source()),
    }
}

/// `error: job.yaml:3:5: node "x" …`, a line for each, in the order of the file.
fn problems_text(file: &Path, problems: &[Problem]) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| (problem.at.line, problem.at.column));
    let mut lines = Vec::new();
    for problem in &sorted {
        let place = if problem.at.is_known() {
            format!("{}:{}", file.display(), problem.at)
        } else {
            file.display().to_string()
        };
        lines.push(format!("error: {place}: {}", problem.kind));
        if let ProblemKind::Host { error } = &problem.kind {
            lines.extend(traceback(error).lines().map(|line| format!("  {line}")));
        }
        lines.extend(problem_causes(&problem.kind).into_iter().map(|cause| format!("  caused by: {cause}")));
    }
    if sorted.len() > 1 {
        lines.push(format!("{} problems in {}", sorted.len(), file.display()));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_do_nothing() {
        assert_eq!(plain("ä\tb\nc"), "ä\tb\nc");
        assert_eq!(plain("\u{1b}]0;title\u{7}x\r"), "\\u{1b}]0;title\\u{7}x\\r");
    }
}
