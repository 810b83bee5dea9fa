//! Why a UDF could not be loaded, described or opened.

use std::path::PathBuf;

use crate::data_type::DataTypeError;
use crate::fault::Fault;
use crate::source_section::SourceSectionError;

/// Why there is no engine, module or instance.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The file of the component cannot be read.
    #[error("udf {udf:?}: cannot read {}: {source}", path.display())]
    File {
        /// Name of the UDF.
        udf: String,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The bytes are not Wasm at all.
    #[error("udf {udf:?} is not WebAssembly (it begins with {begins}): build it with `wasmill udf build`")]
    NotWasm {
        /// Name of the UDF.
        udf: String,
        /// The first bytes, for a person to recognise the file by.
        begins: String,
    },
    /// The files inside the component cannot be read.
    #[error("udf {udf:?}: {error}")]
    SourceSection {
        /// Name of the UDF.
        udf: String,
        /// What is wrong with them.
        error: SourceSectionError,
    },
    /// A core module, not a component.
    #[error(
        "udf {udf:?} is a core WebAssembly module, not a component: build it for wasm32-wasip2, or with `wasmill udf build`"
    )]
    CoreModule {
        /// Name of the UDF.
        udf: String,
    },
    /// A component of another world: an export of the contract is missing.
    #[error("udf {udf:?} is a component, but not a UDF: it has no export {missing}; it exports {exports}")]
    MissingExport {
        /// Name of the UDF.
        udf: String,
        /// What the contract wants.
        missing: String,
        /// What it has, or `nothing`.
        exports: String,
    },
    /// An import that nobody provides, or of another type than is provided.
    #[error("udf {udf:?} imports {import}, which a UDF cannot have: {reason}")]
    UnknownImport {
        /// Name of the UDF.
        udf: String,
        /// The import.
        import: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// A UDF of another version of the contract.
    #[error(
        "udf {udf:?} is built for contract wasmill:udf@{got}, this engine speaks {want}: rebuild it with the SDK of this engine"
    )]
    ContractVersion {
        /// Name of the UDF.
        udf: String,
        /// Its version.
        got: String,
        /// This engine's.
        want: &'static str,
    },
    /// Wasmtime refuses the component.
    #[error("udf {udf:?} does not compile: {problem}")]
    Compile {
        /// Name of the UDF.
        udf: String,
        /// What wasmtime says.
        problem: String,
    },
    /// The compile cache cannot be used.
    #[error("compile cache {}: {problem}: make it writable, or set WASMILL_CACHE_DIR to a directory that is", path.display())]
    Cache {
        /// The file or directory.
        path: PathBuf,
        /// What failed.
        problem: String,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The guest said that it cannot.
    #[error("udf {udf:?}{}: {message}", functions_text(.functions))]
    Problem {
        /// Name of the UDF.
        udf: String,
        /// Those that were being opened, or none.
        functions: Vec<String>,
        /// `load-source`, `describe` or `load-functions`.
        during: &'static str,
        /// One line that names the culprit.
        message: String,
        /// For a developer, or empty.
        traceback: String,
    },
    /// The guest failed in instantiation, `load-source`, `describe` or `load-functions`.
    #[error("{fault} (in {during})")]
    Fault {
        /// Which of them.
        during: &'static str,
        /// What happened.
        fault: Box<Fault>,
    },
    /// What `describe` or `load-functions` returned breaks the contract.
    #[error("udf {udf:?} answers {during} against the contract: {problem}: rebuild it with the SDK of this engine")]
    Declaration {
        /// Name of the UDF.
        udf: String,
        /// Which of them.
        during: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A binding names a function that the UDF does not have.
    #[error("udf {udf:?} has no function {function:?}: it has {has}")]
    UnknownFunction {
        /// Name of the UDF.
        udf: String,
        /// What was asked for.
        function: String,
        /// What there is, or `none`.
        has: String,
    },
    /// A column of a binding has a type that cannot cross.
    #[error("udf {udf:?} function {function:?}, column {column:?}: {problem}")]
    Column {
        /// Name of the UDF.
        udf: String,
        /// Name of the function.
        function: String,
        /// Name of the column.
        column: String,
        /// Why.
        problem: Box<DataTypeError>,
    },
    /// A limit or setting that cannot be had.
    #[error("{setting} is {got}: {advice}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What was asked for.
        got: String,
        /// What to do.
        advice: String,
    },
    /// All places for instances are taken.
    #[error("udf {udf:?}: all {instances_max} instances of this engine are in use: lower the parallelism")]
    InstancesExhausted {
        /// Name of the UDF.
        udf: String,
        /// The engine's limit.
        instances_max: u32,
    },
    /// Wasmtime itself failed.
    #[error("the WebAssembly engine failed in {during}: {problem}")]
    Engine {
        /// What it was doing.
        during: &'static str,
        /// What it says.
        problem: String,
    },
}

fn functions_text(functions: &[String]) -> String {
    match functions {
        [] => String::new(),
        [one] => format!(" function {one:?}"),
        several => format!(" functions {}", several.join(", ")),
    }
}
