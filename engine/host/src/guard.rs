//! Enters the guest with a deadline, and makes of whatever comes back a fault that a user understands.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{FrameInfo, PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::context::{Context, HostTrap, Refused};
use crate::engine::Engine;
use crate::error::HostError;
use crate::fault::{Fault, FaultKind};
use crate::frame::Lie;

/// What the guest is doing when it is not running a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum During {
    Instantiate,
    LoadSource,
    Describe,
    LoadFunctions,
}

impl During {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            During::Instantiate => "instantiation",
            During::LoadSource => "load-source",
            During::Describe => "describe",
            During::LoadFunctions => "load-functions",
        }
    }
}

/// What a fault happened in, for its message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entered<'a> {
    Load,
    Bundle { function: &'a str, rows: usize },
}

/// What all calls into one UDF need.
#[derive(Debug, Clone)]
pub(crate) struct Guard {
    engine: Engine,
    udf: Arc<str>,
}

/// Deepest backtrace that is kept.
const BACKTRACE_FRAMES_MAX: usize = 32;
/// How often the innermost function stands in the kept part of a backtrace when its recursion has used up a stack.
const RECURSION_FRAMES_MIN: usize = 10;
/// Longest message of a guest's that is kept, in bytes.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 << 10;

impl Guard {
    pub(crate) fn new(engine: &Engine, udf: Arc<str>) -> Self {
        Self { engine: engine.clone(), udf }
    }

    /// Ticks until a deadline: rounded up, and one more for the tick that is half gone.
    pub(crate) fn ticks(&self, time: Duration) -> u64 {
        let tick = self.engine.inner.config.epoch_tick.as_nanos();
        u64::try_from(time.as_nanos().div_ceil(tick)).unwrap_or(u64::MAX / 2).saturating_add(1).min(u64::MAX / 2)
    }

    /// Makes ready for a call other than a bundle's.
    pub(crate) fn begin(&self, store: &mut Store<Context>, _during: During, seed: u64) {
        store.data_mut().begin(None, 0, 0, seed);
        let time = store.data().limits.load_time_max;
        store.set_epoch_deadline(self.ticks(time));
    }

    /// Ends such a call.
    pub(crate) fn end<R>(
        &self,
        store: &mut Store<Context>,
        during: During,
        answer: wasmtime::Result<R>,
    ) -> Result<R, HostError> {
        let answer = answer.map_err(|error| {
            if error.is::<PoolConcurrencyLimitError>() {
                let instances_max = self.engine.inner.config.instances_max;
                return HostError::InstancesExhausted { udf: self.udf.to_string(), instances_max };
            }
            let fault = self.fault(store.data_mut(), Entered::Load, error);
            HostError::Fault { during: during.as_str(), fault: Box::new(fault) }
        });
        store.data_mut().end(true);
        answer
    }

    /// The fault that an error of wasmtime's stands for.
    #[cold]
    pub(crate) fn fault(&self, context: &mut Context, entered: Entered<'_>, error: wasmtime::Error) -> Fault {
        let backtrace = error.downcast_ref::<WasmBacktrace>().map(backtrace_text).unwrap_or_default();
        let panicked = context.panicked.take();
        let mut location = String::new();
        let (kind, message) = if let Some(trap) = error.downcast_ref::<HostTrap>() {
            self.of_host_trap(context, entered, trap)
        } else if let Some(exit) = error.downcast_ref::<I32Exit>() {
            (FaultKind::Exit, format!("called exit with status {}: return from the function instead", exit.0))
        } else if let Some(refused) = refusal(context, &error) {
            (FaultKind::MemoryLimit, self.of_refusal(context, refused))
        } else if let Some(Trap::Interrupt) = error.downcast_ref() {
            (FaultKind::Deadline, self.of_deadline(context, entered))
        } else if overflowed_stack(&error) {
            (FaultKind::StackOverflow, "recursed deeper than its stack: recurse less deeply".to_string())
        } else if let Some((message, at)) = panicked {
            location = cut(at);
            (FaultKind::Panic, format!("panicked: {}", cut(message)))
        } else if let Some(trap) = error.downcast_ref::<Trap>() {
            (FaultKind::Trap, format!("trapped: {}", trap_text(*trap)))
        } else {
            (FaultKind::Lie, broke_contract(format_args!("{}", cause_text(&error))))
        };
        self.make(kind, entered, message, location, backtrace)
    }

    /// The fault of an answer that is not true.
    #[cold]
    pub(crate) fn lie(&self, entered: Entered<'_>, lie: &Lie) -> Fault {
        self.make(FaultKind::Lie, entered, broke_contract(format_args!("{lie}")), String::new(), String::new())
    }

    /// A fault without a place in the guest.
    #[cold]
    pub(crate) fn plain(&self, kind: FaultKind, entered: Entered<'_>, message: String) -> Fault {
        self.make(kind, entered, message, String::new(), String::new())
    }

    #[cold]
    pub(crate) fn output_limit(&self, context: &Context, entered: Entered<'_>) -> Fault {
        self.plain(FaultKind::OutputLimit, entered, self.of_output(context, entered))
    }

    fn make(
        &self,
        kind: FaultKind,
        entered: Entered<'_>,
        message: String,
        location: String,
        backtrace: String,
    ) -> Fault {
        let function = match entered {
            Entered::Load => String::new(),
            Entered::Bundle { function, .. } => function.to_string(),
        };
        Fault { kind, udf: self.udf.clone(), function, message, location, backtrace }
    }

    fn of_host_trap(&self, context: &Context, entered: Entered<'_>, trap: &HostTrap) -> (FaultKind, String) {
        let message = match trap.kind {
            FaultKind::OutputLimit => self.of_output(context, entered),
            FaultKind::Deadline => self.of_deadline(context, entered),
            FaultKind::CallLimit => {
                let limit = context.limits.host_calls_per_bundle_max;
                format!(
                    "called the host more than {limit} times{}: use get-many and put-many, or lower bundle.size",
                    rows_text(entered)
                )
            }
            FaultKind::Lie => broke_contract(format_args!("{}", trap.message)),
            _ => trap.message.clone(),
        };
        (trap.kind, message)
    }

    fn of_output(&self, context: &Context, entered: Entered<'_>) -> String {
        let limit = bytes_text(context.limits.output_bytes_max);
        let rows = rows_text(entered);
        format!(
            "sent out more than {limit}{rows}: emit less for a row, lower bundle.size, or raise udfs.{}.output.max",
            self.udf
        )
    }

    fn of_refusal(&self, context: &Context, refused: Refused) -> String {
        match refused {
            Refused::Memory(bytes) => {
                let limit = bytes_text(context.limits.memory_bytes_max);
                format!("asked for {} of memory, limit {limit}: raise udfs.{}.memory.max", bytes_text(bytes), self.udf)
            }
            Refused::Table(elements) => {
                format!(
                    "asked for tables of {elements} elements, limit {}: use fewer function pointers",
                    context.limits.table_elements_max
                )
            }
        }
    }

    /// What to add to a row's error when memory was refused while it ran.
    #[cold]
    pub(crate) fn refusal_note(&self, context: &Context) -> Option<String> {
        context.limiter.refused.map(|refused| self.of_refusal(context, refused))
    }

    fn of_deadline(&self, context: &Context, entered: Entered<'_>) -> String {
        match entered {
            Entered::Load => {
                let limit = time_text(context.limits.load_time_max);
                format!(
                    "ran longer than {limit} to load: do less at import and in open, or raise udfs.{}.load.timeout",
                    self.udf
                )
            }
            Entered::Bundle { .. } => {
                let (limit, rows) = (time_text(context.limits.call_time_max), rows_text(entered));
                format!(
                    "ran longer than {limit}{rows}: make it faster, lower bundle.size, or raise udfs.{}.timeout",
                    self.udf
                )
            }
        }
    }
}

/// Memory that was refused is the cause of what the guest did next: it aborted, or was never made.
fn refusal(context: &Context, error: &wasmtime::Error) -> Option<Refused> {
    let refused = context.limiter.refused?;
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) | None => Some(refused),
        Some(_) => None,
    }
}

/// Whether the guest recursed too deep. It has two stacks: the one of calls, which wasmtime watches, and the one that its compiler keeps
/// in linear memory. That one grows down to address 0, so its end is an access out of bounds, with one function over and over above it.
fn overflowed_stack(error: &wasmtime::Error) -> bool {
    match error.downcast_ref() {
        Some(Trap::StackOverflow) => true,
        Some(Trap::MemoryOutOfBounds) => {
            let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return false };
            let frames = backtrace.frames();
            let times = |index: u32| frames.iter().filter(|frame| frame.func_index() == index).count();
            frames.first().is_some_and(|frame| times(frame.func_index()) >= RECURSION_FRAMES_MIN)
        }
        _ => false,
    }
}

/// What an error says, without the backtrace that wasmtime puts before it: a fault has a place for that.
fn cause_text(error: &wasmtime::Error) -> String {
    let said: Vec<String> = error.chain().map(ToString::to_string).collect();
    let is_cause = |text: &&String| !text.starts_with("error while executing at wasm backtrace");
    said.iter().filter(is_cause).map(String::as_str).collect::<Vec<_>>().join(": ")
}

fn broke_contract(how: std::fmt::Arguments<'_>) -> String {
    // It can name a column, and the guest has chosen that name.
    format!("broke the contract: {}: rebuild it with the SDK of this engine", cut(how.to_string()))
}

fn rows_text(entered: Entered<'_>) -> String {
    match entered {
        Entered::Load => String::new(),
        Entered::Bundle { rows: 1, .. } => " for a bundle of 1 row".to_string(),
        Entered::Bundle { rows, .. } => format!(" for a bundle of {rows} rows"),
    }
}

fn trap_text(trap: Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ").unwrap_or(&text).to_string()
}

fn backtrace_text(backtrace: &WasmBacktrace) -> String {
    let mut text = String::new();
    let frames = backtrace.frames();
    let nameless = |frame: &FrameInfo| frame.symbols().is_empty() && frame.func_name().is_none();
    if !frames.is_empty() && frames.iter().all(nameless) {
        let numbers = frames.iter().take(BACKTRACE_FRAMES_MAX).map(|frame| frame.func_index().to_string());
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        return format!("functions {numbers}, which have no names: build with `strip = false` to see them");
    }
    for frame in frames.iter().take(BACKTRACE_FRAMES_MAX) {
        // Guests are built without names to be small: their number is what a tool can look up.
        let number = format!("function {}", frame.func_index());
        let mut line = |name: Option<&str>, file: Option<&str>, at: Option<u32>| {
            let name = name.unwrap_or(&number);
            let written = match (file, at) {
                (Some(file), Some(at)) => writeln!(text, "{name} at {file}:{at}"),
                _ => writeln!(text, "{name}"),
            };
            written.expect("writing to a String cannot fail");
        };
        if frame.symbols().is_empty() {
            line(frame.func_name(), None, None);
        }
        for symbol in frame.symbols() {
            line(symbol.name().or(frame.func_name()), symbol.file(), symbol.line());
        }
    }
    cut(text)
}

/// A text of the guest's, no longer than a person reads and a dead letter should carry.
pub(crate) fn cut(text: String) -> String {
    if text.len() > MESSAGE_BYTES_MAX { cut_text(&text) } else { text }
}

/// As [`cut`], without a copy of what is dropped.
pub(crate) fn cut_text(text: &str) -> String {
    if text.len() <= MESSAGE_BYTES_MAX {
        return text.to_string();
    }
    let end = (0..=MESSAGE_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// `96 MiB`, `1.5 KiB`, `17 B`.
pub(crate) fn bytes_text(bytes: usize) -> String {
    let (unit, name) = match bytes {
        0..1024 => return format!("{bytes} B"),
        1024..1_048_576 => (1024, "KiB"),
        1_048_576..1_073_741_824 => (1_048_576, "MiB"),
        _ => (1_073_741_824, "GiB"),
    };
    if bytes.is_multiple_of(unit) {
        format!("{} {name}", bytes / unit)
    } else {
        format!("{:.1} {name}", bytes as f64 / unit as f64)
    }
}

fn time_text(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{} s", time.as_secs()) } else { format!("{} ms", time.as_millis()) }
}
