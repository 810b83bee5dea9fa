//! How a running job is reached from outside: HTTP on loopback, with a token, and a file that says where.
//!
//! ```text
//! wasmill run ──▶ Server ──▶ dyn JobControl           wasmill stop x ──▶ discovery::running
//!                   └──▶ discovery::announce ──▶ file ──────────────────────┘ address, token
//! ```
//!
//! docs/control.md has every route with its bodies and answers; [`messages`] are the same as types, and
//! [`wasmill_runtime::control`] is what stands behind them. A job runs as well without this crate.
//!
//! # Why these libraries
//!
//! hyper and tokio are in the program already: object_store speaks HTTP through them. axum is a thin layer over hyper by the same
//! people (MIT), adds four small crates, and is what the web page and the rest of the REST interface will want. Connections are accepted here
//! and not by `axum::serve`, which sets no bound on how many there are, nor on the time in which a request must come.
//!
//! # Who may ask
//!
//! Whoever may read the file of the job, which is its user: other users of the machine reach the port, and do not know the token. A
//! page in a browser does not know it either, and one that makes its own name mean 127.0.0.1 sends that name along as `Host`.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that panics has failed"))]

pub mod discovery;
pub mod messages;
mod routes;
mod server;
mod token;

pub use server::{Listener, ServeError, Server};
pub use token::Token;
