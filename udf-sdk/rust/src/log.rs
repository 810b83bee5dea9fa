//! Lines for the job's log; the host adds job, operator, subtask and UDF.
//!
//! ```
//! wasmill_udf::log::info!("{} airports", 1458);
//! ```

pub use crate::host::Level;
#[doc(inline)]
pub use crate::{
    __log_debug as debug, __log_error as error, __log_info as info, __log_trace as trace, __log_warn as warn,
};

/// Writes a line.
pub fn line(level: Level, message: std::fmt::Arguments<'_>) {
    match message.as_str() {
        Some(text) => crate::host::log(level, text),
        None => crate::host::log(level, &message.to_string()),
    }
}

/// Writes a line of level trace, as `println!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_trace {
    ($($message:tt)+) => { $crate::log::line($crate::log::Level::Trace, ::std::format_args!($($message)+)) };
}

/// Writes a line of level debug, as `println!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_debug {
    ($($message:tt)+) => { $crate::log::line($crate::log::Level::Debug, ::std::format_args!($($message)+)) };
}

/// Writes a line of level info, as `println!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_info {
    ($($message:tt)+) => { $crate::log::line($crate::log::Level::Info, ::std::format_args!($($message)+)) };
}

/// Writes a line of level warn, as `println!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_warn {
    ($($message:tt)+) => { $crate::log::line($crate::log::Level::Warn, ::std::format_args!($($message)+)) };
}

/// Writes a line of level error, as `println!` does.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_error {
    ($($message:tt)+) => { $crate::log::line($crate::log::Level::Error, ::std::format_args!($($message)+)) };
}
