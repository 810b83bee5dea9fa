//! What goes over the wire, beside the types of [`wasmill_runtime::control`].

use serde::{Deserialize, Serialize};
use wasmill_runtime::control::Taken;

/// Body of `POST /v1/job/savepoint`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SavepointRequest {
    /// An absolute path or a URL; empty: where the job keeps its own.
    pub to: String,
}

/// Body of `POST /v1/job/stop`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRequest {
    /// Fire every window and timer first, as if the sources had ended.
    pub drain: bool,
    /// Where to take a savepoint, as in [`SavepointRequest`]; `None`: take none.
    pub savepoint: Option<String>,
}

/// Answer of `POST /v1/job/stop`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    pub savepoint: Option<Taken>,
}

/// Body of `POST /v1/job/swap`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapRequest {
    pub udf: String,
    /// Absolute.
    pub path: String,
}

/// Body of `POST /v1/job/checkpoint` and `POST /v1/job/cancel`, which can be left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nothing {}

/// Every answer whose status is not 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: RefusalReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalReason {
    /// For programs: `not-possible`.
    pub kind: String,
    /// For a person.
    pub message: String,
}
