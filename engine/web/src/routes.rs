//! The routes under `/v1`, and who may ask for them.

use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HOST, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wasmill_runtime::control::{ControlError, JobControl};

use crate::messages::{Nothing, Refusal, RefusalReason, SavepointRequest, StopAnswer, StopRequest, SwapRequest};
use crate::token::Token;

/// Longest body of a request.
const BODY_BYTES_MAX: usize = 64 << 10;

type Control = Arc<dyn JobControl>;

/// A body as it came, or why it did not.
type Body = Result<Bytes, BytesRejection>;

/// Answers for `control`, to who knows `token`.
pub(crate) fn router(control: Control, token: Token) -> Router {
    Router::new()
        .route("/v1/job", get(status))
        .route("/v1/job/checkpoint", post(checkpoint))
        .route("/v1/job/savepoint", post(savepoint))
        .route("/v1/job/stop", post(stop))
        .route("/v1/job/cancel", post(cancel))
        .route("/v1/job/swap", post(swap))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::new(token), guard))
        .with_state(control)
}

/// Lets a request pass that was sent to this machine by name, by someone who knows the token. Comes before all else, so that nobody
/// else learns what is here, and no body of theirs is read.
async fn guard(State(token): State<Arc<Token>>, request: Request, next: Next) -> Response {
    if !is_for_loopback(request.uri(), request.headers()) {
        let message = "the Host of the request is no name of this machine: ask for 127.0.0.1, [::1] or localhost";
        return refuse(StatusCode::FORBIDDEN, "host", message).into_response();
    }
    let given = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer);
    if !given.is_some_and(|given| token.is(given)) {
        let message = "the token is missing or wrong: send the header Authorization: Bearer TOKEN, with the token in the file of the job";
        let mut answer = refuse(StatusCode::UNAUTHORIZED, "token", message).into_response();
        answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    }
    next.run(request).await
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(token)
}

/// A browser that was led here by a name of somebody else's (DNS rebinding) says that name.
fn is_for_loopback(uri: &Uri, headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let is_loopback = |authority: &Authority| {
        let no_user = !authority.as_str().contains('@');
        no_user && ["127.0.0.1", "[::1]", "localhost"].iter().any(|name| authority.host().eq_ignore_ascii_case(name))
    };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    host.as_ref().is_some_and(is_loopback) && uri.authority().is_none_or(is_loopback)
}

async fn status(State(control): State<Control>) -> Response {
    ask(control, |control| Ok(control.status())).await
}

async fn checkpoint(State(control): State<Control>, body: Body) -> Result<Response, No> {
    let Nothing {} = read(body)?;
    Ok(ask(control, |control| control.checkpoint()).await)
}

async fn savepoint(State(control): State<Control>, body: Body) -> Result<Response, No> {
    let SavepointRequest { to } = read(body)?;
    whole_place("to", &to)?;
    Ok(ask(control, move |control| control.savepoint(&to)).await)
}

async fn stop(State(control): State<Control>, body: Body) -> Result<Response, No> {
    let StopRequest { drain, savepoint } = read(body)?;
    savepoint.as_ref().map_or(Ok(()), |to| whole_place("savepoint", to))?;
    let stop = move |control: &dyn JobControl| {
        let savepoint = control.stop(drain, savepoint.as_deref())?;
        Ok(StopAnswer { savepoint })
    };
    Ok(ask(control, stop).await)
}

async fn cancel(State(control): State<Control>, body: Body) -> Result<Response, No> {
    let Nothing {} = read(body)?;
    Ok(ask(control, |control| control.cancel().map(|()| Nothing {})).await)
}

async fn swap(State(control): State<Control>, body: Body) -> Result<Response, No> {
    let SwapRequest { udf, path } = read(body)?;
    if !Path::new(&path).is_absolute() {
        return Err(relative("path", &path));
    }
    Ok(ask(control, move |control| control.swap(&udf, Path::new(&path))).await)
}

async fn unknown(uri: Uri) -> No {
    let message = format!("there is no {}; docs/control.md lists what there is under /v1/job", uri.path());
    refuse(StatusCode::NOT_FOUND, "unknown", message)
}

async fn wrong_method() -> No {
    let message = "that is not asked for in this way: /v1/job takes GET, what is below it POST";
    refuse(StatusCode::METHOD_NOT_ALLOWED, "method", message)
}

/// What the job answers, on a thread that may wait.
async fn ask<T, F>(control: Control, call: F) -> Response
where
    T: Serialize + Send + 'static,
    F: FnOnce(&dyn JobControl) -> Result<T, ControlError> + Send + 'static,
{
    match tokio::task::spawn_blocking(move || call(control.as_ref())).await {
        Ok(Ok(value)) => json(StatusCode::OK, &value),
        Ok(Err(error)) => {
            let (status, kind) = match &error {
                ControlError::NotPossible(_) => (StatusCode::CONFLICT, "not-possible"),
                ControlError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused"),
                ControlError::Failed(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
                ControlError::Ended => (StatusCode::GONE, "ended"),
            };
            refuse(status, kind, error.to_string()).into_response()
        }
        Err(panic) => {
            let message = format!("the engine panicked over this request: {panic}; please report this");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, "failed", message).into_response()
        }
    }
}

/// The body as JSON; an empty one is `{}`.
fn read<T: DeserializeOwned>(body: Body) -> Result<T, No> {
    let body = body.map_err(|rejection| match rejection.status() {
        status @ StatusCode::PAYLOAD_TOO_LARGE => {
            refuse(status, "too-large", format!("the body is too long: {BODY_BYTES_MAX} bytes are possible"))
        }
        status => refuse(status, "bad-request", format!("the body cannot be read: {}", rejection.body_text())),
    })?;
    let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
    // By way of a map: a type would also be read from a list of its values.
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
    object
        .and_then(|object| serde_json::from_value(object.into()))
        .map_err(|error| refuse(StatusCode::BAD_REQUEST, "bad-request", format!("the body does not fit: {error}")))
}

/// Where a relative path starts is not the same for who asks and for the job.
fn whole_place(key: &str, place: &str) -> Result<(), No> {
    match place.is_empty() || place.contains("://") || Path::new(place).is_absolute() {
        true => Ok(()),
        false => Err(relative(key, place)),
    }
}

fn relative(key: &str, path: &str) -> No {
    let message =
        format!("{key} is \"{path}\", a relative path: give an absolute one, since the job may run in another folder");
    refuse(StatusCode::BAD_REQUEST, "bad-request", message)
}

/// Why a request is not answered.
struct No {
    status: StatusCode,
    kind: &'static str,
    message: String,
}

fn refuse(status: StatusCode, kind: &'static str, message: impl Into<String>) -> No {
    No { status, kind, message: message.into() }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        json(self.status, &Refusal { error: RefusalReason { kind: self.kind.to_owned(), message: self.message } })
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let text = serde_json::to_vec(value).expect("the messages are texts, numbers and lists of them");
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (status, headers, text).into_response()
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
