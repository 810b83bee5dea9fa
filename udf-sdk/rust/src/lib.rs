//! Write UDFs for Wasmill in plain Rust.
//!
//! ```
//! use wasmill_udf::{export, udf};
//!
//! /// How a flight went.
//! #[udf]
//! fn grade(dep_delay: Option<i32>, arr_delay: Option<i32>) -> Option<String> {
//!     let delay = arr_delay.or(dep_delay)?;
//!     Some(if delay <= 15 { "on time" } else { "late" }.to_owned())
//! }
//!
//! export!(grade);
//! # fn main() { assert_eq!(grade(Some(3), None).as_deref(), Some("on time")); }
//! ```
//!
//! `cargo build --release --target wasm32-wasip2` makes a component of it. README.md beside this crate shows each kind of function, and
//! [`testing`] how to test them without Wasm.
//!
//! A bundle of rows comes in as one frame of Arrow buffers and its effects leave as another (`wit/README.md`); nothing is copied for a
//! `&str` argument, and nothing is allocated per row for types of a fixed width:
//!
//! ```text
//!   frame ─▶ Bundle ─▶ Input::get(row) ─▶ your function ─▶ ToColumn::push ─▶ Effects ─▶ frame
//!                          │                    │
//!                    borrowed views       Err = row error
//! ```

#[cfg(target_endian = "big")]
compile_error!("frames are little-endian");

pub mod column;
pub mod context;
pub mod data_type;
#[doc(hidden)]
pub mod effects;
#[doc(hidden)]
pub mod frame;
#[doc(hidden)]
pub mod function;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod guest;
#[doc(hidden)]
pub mod host;
#[doc(hidden)]
pub mod instance;
#[doc(hidden)]
pub mod kinds;
pub mod log;
pub mod row;
pub mod state;
#[cfg(not(target_family = "wasm"))]
pub mod testing;
pub mod value;

pub use column::{BinaryColumn, Column, Utf8Column};
pub use context::{Context, OpenContext, RowKind};
pub use kinds::aggregate::Aggregate;
pub use kinds::process::Process;
pub use row::Row;
pub use state::{States, ValueState};
pub use value::{Date, Decimal, List, Micros, Millis, Nanos, NoZone, Seconds, Time, Timestamp, Utc, Zone};
pub use wasmill_udf_macros::{Row, States, udf};

/// Why a row, or `open`, failed; only its text is kept. `?` makes one of any error, and `.into()` of any text.
pub type Error = Box<dyn std::error::Error>;

/// What a function gives that may fail.
pub type Result<T = (), E = Error> = std::result::Result<T, E>;

/// Everything that a file of UDFs needs.
pub mod prelude {
    pub use crate::{
        Aggregate, BinaryColumn, Column, Context, Date, Decimal, OpenContext, Process, Result, Row, RowKind, States,
        Time, Timestamp, Utf8Column, ValueState, export, log, udf,
    };
}

/// Makes the functions of a crate its component's: `export!(grade, Distance, Summary);`, once in a crate.
#[macro_export]
macro_rules! export {
    ($($function:ty),+ $(,)?) => {
        #[doc(hidden)]
        pub static WASMILL_FUNCTIONS: &[$crate::instance::Entry] = &[$($crate::instance::Entry::of::<$function>()),+];

        #[cfg(target_family = "wasm")]
        const _: () = {
            /// What the component offers and asks for, for the linker.
            #[unsafe(link_section = "component-type:wasmill-udf:0.1.0")]
            #[used]
            static COMPONENT_TYPE: [u8; $crate::guest::COMPONENT_TYPE.len()] = $crate::guest::component_type();

            #[unsafe(export_name = "wasmill:udf/control@0.1.0#describe")]
            extern "C" fn describe() -> *const u8 {
                $crate::guest::describe(WASMILL_FUNCTIONS)
            }

            #[unsafe(export_name = "wasmill:udf/control@0.1.0#load-source")]
            extern "C" fn load_source(files: *mut u8, count: usize) -> *const u8 {
                $crate::guest::load_source(files, count)
            }

            #[unsafe(export_name = "wasmill:udf/control@0.1.0#load-functions")]
            #[allow(clippy::too_many_arguments)]
            extern "C" fn load_functions(
                job: *mut u8,
                job_length: usize,
                operator: *mut u8,
                operator_length: usize,
                subtask: u32,
                parallelism: u32,
                bindings: *mut u8,
                binding_count: usize,
                resources: *mut u8,
                resource_count: usize,
            ) -> *const u8 {
                // SAFETY: the host calls this by the canonical ABI, with lists that it allocated by `cabi_realloc`.
                unsafe {
                    $crate::guest::load_functions(
                        WASMILL_FUNCTIONS,
                        (job, job_length),
                        (operator, operator_length),
                        (subtask, parallelism),
                        (bindings, binding_count),
                        (resources, resource_count),
                    )
                }
            }

            #[unsafe(export_name = "wasmill:udf/bundle@0.1.0#run-frame")]
            extern "C" fn run_frame(bundle: *mut u8, length: usize) -> *const u8 {
                // SAFETY: as above.
                unsafe { $crate::guest::run_frame(bundle, length) }
            }

            #[unsafe(export_name = "wasmill:udf/bundle@0.1.0#resume-frame")]
            extern "C" fn resume_frame(replies: *mut u8, length: usize) -> *const u8 {
                // SAFETY: as above.
                unsafe { $crate::guest::resume_frame(replies, length) }
            }

            #[unsafe(export_name = "cabi_realloc")]
            unsafe extern "C" fn realloc(old: *mut u8, old_size: usize, align: usize, size: usize) -> *mut u8 {
                // SAFETY: as above.
                unsafe { $crate::guest::realloc(old, old_size, align, size) }
            }
        };
    };
}

#[doc(hidden)]
pub mod __private {
    pub use crate::context::{OpenContext, error_text};
    pub use crate::data_type::{DataType, Field, Shape};
    pub use crate::frame::{FrameError, FrameWriter, Slots};
    pub use crate::function::{Access, Binding, Bound, Description, Function, Kind, Meta, Problem, StateDeclaration};
    pub use crate::kinds::one_to_one::OneToOne;
    pub use crate::kinds::reduce::Reduce;
    pub use crate::kinds::table::Table;
    pub use crate::kinds::vectorized::{RowOf, Vectorized};
    pub use crate::kinds::{aggregate, one_to_one, process, reduce, table, vectorized};
    pub use crate::row::{Input, argument, field_of, may_miss, missing};
    pub use crate::state::AnyState;
    pub use crate::value::{
        Codec, CodecError, ColumnWriter, FromColumn, ListItem, NonNull, NullFound, Nulls, Reader, ToColumn, Typed,
        Validity, field,
    };
}

/// The examples of README.md are tests too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
