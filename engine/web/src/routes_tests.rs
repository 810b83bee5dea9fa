use std::sync::Mutex;

use axum::http::Method;
use serde_json::{Value, json};
use tower::ServiceExt;
use wasmill_runtime::control::{JobState, JobStatus, Taken};

use super::*;

/// Writes down what it is asked, and answers as it was told.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    error: Option<ControlError>,
    panics: bool,
}

impl Fake {
    fn answer(&self, asked: String) -> Result<Taken, ControlError> {
        assert!(!self.panics, "as it was told");
        self.asked.lock().unwrap().push(asked);
        match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(Taken { id: 7, location: "/kept/7".into(), bytes: 1234, millis: 5 }),
        }
    }
}

impl JobControl for Fake {
    fn status(&self) -> JobStatus {
        let _ = self.answer("status".into());
        JobStatus {
            name: "x".into(),
            state: JobState::Running,
            uptime_millis: 1500,
            restarts: 0,
            checkpoint: None,
            nodes: Vec::new(),
            udfs: Vec::new(),
        }
    }

    fn checkpoint(&self) -> Result<Taken, ControlError> {
        self.answer("checkpoint".into())
    }

    fn savepoint(&self, to: &str) -> Result<Taken, ControlError> {
        self.answer(format!("savepoint to {to:?}"))
    }

    fn stop(&self, drain: bool, savepoint: Option<&str>) -> Result<Option<Taken>, ControlError> {
        self.answer(format!("stop, drain {drain}, savepoint {savepoint:?}")).map(|taken| savepoint.map(|_| taken))
    }

    fn cancel(&self) -> Result<(), ControlError> {
        self.answer("cancel".into()).map(|_| ())
    }

    fn swap(&self, udf: &str, path: &Path) -> Result<Taken, ControlError> {
        self.answer(format!("swap {udf} {}", path.display()))
    }
}

struct Asked<'a> {
    method: Method,
    path: &'a str,
    host: Option<&'a str>,
    token: Option<&'a str>,
    body: &'a str,
}

/// A request that is as it should be.
fn good<'a>(method: Method, path: &'a str, body: &'a str) -> Asked<'a> {
    Asked { method, path, host: Some("127.0.0.1:4711"), token: Some("good"), body }
}

/// Sends `asked` to `fake`; with a token `good`, it is the one that is wanted.
fn answer(fake: &Arc<Fake>, asked: &Asked<'_>) -> (u16, Value) {
    let token = Token::random().unwrap();
    let mut request = Request::builder().method(asked.method.clone()).uri(asked.path);
    if let Some(host) = asked.host {
        request = request.header(HOST, host);
    }
    if let Some(given) = asked.token {
        let header = if given == "good" { format!("Bearer {}", token.secret()) } else { given.to_owned() };
        request = request.header(AUTHORIZATION, header);
    }
    let request = request.body(axum::body::Body::from(asked.body.to_owned())).unwrap();
    let router = router(Arc::<Fake>::clone(fake), token);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let answer = router.oneshot(request).await.unwrap();
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(answer.headers()[CACHE_CONTROL], "no-store");
        let status = answer.status();
        assert_eq!(answer.headers().contains_key(WWW_AUTHENTICATE), status == StatusCode::UNAUTHORIZED);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        (status.as_u16(), serde_json::from_slice(&body).unwrap())
    })
}

/// Status and kind of a refusal, which has a message.
fn refused(fake: &Arc<Fake>, asked: &Asked<'_>) -> (u16, String) {
    let (status, body) = answer(fake, asked);
    let refusal: Refusal = serde_json::from_value(body).unwrap();
    assert!(refusal.error.message.len() > 10, "{refusal:?}");
    (status, refusal.error.kind)
}

#[test]
fn each_route_asks_the_job() {
    let taken = json!({ "id": 7, "location": "/kept/7", "bytes": 1234, "millis": 5 });
    let status = json!({ "name": "x", "state": "running", "uptime_millis": 1500, "restarts": 0, "checkpoint": null, "nodes": [], "udfs": [] });
    let cases = [
        (Method::GET, "/v1/job", "", "status", status),
        (Method::POST, "/v1/job/checkpoint", "", "checkpoint", taken.clone()),
        (Method::POST, "/v1/job/checkpoint", "{}", "checkpoint", taken.clone()),
        (Method::POST, "/v1/job/savepoint", r#"{"to":"/s"}"#, r#"savepoint to "/s""#, taken.clone()),
        (Method::POST, "/v1/job/savepoint", r#"{"to":"s3://b/s"}"#, r#"savepoint to "s3://b/s""#, taken.clone()),
        (Method::POST, "/v1/job/savepoint", "", r#"savepoint to """#, taken.clone()),
        (Method::POST, "/v1/job/stop", "", "stop, drain false, savepoint None", json!({ "savepoint": null })),
        (
            Method::POST,
            "/v1/job/stop",
            r#"{"drain":true,"savepoint":""}"#,
            r#"stop, drain true, savepoint Some("")"#,
            json!({ "savepoint": taken }),
        ),
        (Method::POST, "/v1/job/cancel", "", "cancel", json!({})),
        (Method::POST, "/v1/job/swap", r#"{"udf":"u","path":"/u.wasm"}"#, "swap u /u.wasm", taken.clone()),
    ];
    for (method, path, body, asked, wanted) in cases {
        let fake = Arc::new(Fake::default());
        assert_eq!(answer(&fake, &good(method, path, body)), (200, wanted), "{path} {body}");
        assert_eq!(*fake.asked.lock().unwrap(), [asked]);
    }
}

#[test]
fn what_the_job_refuses_has_a_status_and_a_kind() {
    let cases = [
        (ControlError::NotPossible("it cannot, ever".into()), 409, "not-possible", "it cannot, ever"),
        (ControlError::Refused("other types".into()), 422, "refused", "other types"),
        (ControlError::Failed("the disk is full".into()), 500, "failed", "the disk is full"),
        (ControlError::Ended, 410, "ended", "the job has ended"),
    ];
    for (error, status, kind, message) in cases {
        let fake = Arc::new(Fake { error: Some(error), ..Fake::default() });
        let wanted = json!({ "error": { "kind": kind, "message": message } });
        for path in ["checkpoint", "savepoint", "stop", "cancel"] {
            let got = answer(&fake, &good(Method::POST, &format!("/v1/job/{path}"), ""));
            assert_eq!(got, (status, wanted.clone()), "{path}");
        }
    }
    let fake = Arc::new(Fake { panics: true, ..Fake::default() });
    assert_eq!(refused(&fake, &good(Method::GET, "/v1/job", "")), (500, "failed".into()));
}

/// Nobody without the token learns anything, not even what there is.
#[test]
fn the_token_is_wanted_everywhere() {
    let fake = Arc::new(Fake::default());
    let wrong = format!("Bearer {}", "0".repeat(64));
    for (method, path) in
        [(Method::GET, "/v1/job"), (Method::POST, "/v1/job/cancel"), (Method::GET, "/none"), (Method::PUT, "/v1/job")]
    {
        for token in [None, Some(""), Some("Bearer"), Some("Bearer "), Some(wrong.as_str()), Some("Basic Z29vZDpnb29k")]
        {
            let asked = Asked { token, ..good(method.clone(), path, "") };
            assert_eq!(refused(&fake, &asked), (401, "token".into()), "{path} {token:?}");
        }
    }
    assert_eq!(*fake.asked.lock().unwrap(), [] as [&str; 0]);
}

/// As a page in a browser would ask, whose own name means 127.0.0.1 (DNS rebinding).
#[test]
fn only_names_of_this_machine_are_asked_for() {
    let fake = Arc::new(Fake::default());
    for host in ["127.0.0.1", "127.0.0.1:80", "localhost:1234", "LOCALHOST", "[::1]:5"] {
        assert_eq!(answer(&fake, &Asked { host: Some(host), ..good(Method::GET, "/v1/job", "") }).0, 200, "{host}");
    }
    let others = [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost.evil.example:80",
        "127.0.0.1@evil",
        "evil@127.0.0.1",
        "",
        "::1",
        "10.0.0.1",
    ];
    for host in others.map(Some).into_iter().chain([None]) {
        let asked = Asked { host, ..good(Method::GET, "/v1/job", "") };
        assert_eq!(refused(&fake, &asked), (403, "host".into()), "{host:?}");
    }
    assert_eq!(refused(&fake, &good(Method::GET, "http://evil.example/v1/job", "")), (403, "host".into()));
    assert_eq!(answer(&fake, &good(Method::GET, "http://localhost/v1/job", "")).0, 200);
}

#[test]
fn what_does_not_fit_is_refused() {
    let fake = Arc::new(Fake::default());
    let long = format!("{{\"to\":\"/{}\"}}", "x".repeat(BODY_BYTES_MAX));
    let cases = [
        (Method::GET, "/", "", 404, "unknown"),
        (Method::GET, "/v1/job/", "", 404, "unknown"),
        (Method::POST, "/v1/job/fly", "", 404, "unknown"),
        (Method::POST, "/v1/job", "", 405, "method"),
        (Method::GET, "/v1/job/stop", "", 405, "method"),
        (Method::POST, "/v1/job/stop", "{", 400, "bad-request"),
        (Method::POST, "/v1/job/stop", "[]", 400, "bad-request"),
        (Method::POST, "/v1/job/stop", r#"{"drian":true}"#, 400, "bad-request"),
        (Method::POST, "/v1/job/stop", r#"{"savepoint":"here"}"#, 400, "bad-request"),
        (Method::POST, "/v1/job/savepoint", r#"{"to":"here"}"#, 400, "bad-request"),
        (Method::POST, "/v1/job/savepoint", &long, 413, "too-large"),
        (Method::POST, "/v1/job/swap", "", 400, "bad-request"),
        (Method::POST, "/v1/job/swap", r#"{"udf":"u","path":"u.wasm"}"#, 400, "bad-request"),
        (Method::POST, "/v1/job/cancel", r#"{"now":true}"#, 400, "bad-request"),
    ];
    for (method, path, body, status, kind) in cases {
        assert_eq!(refused(&fake, &good(method, path, body)), (status, kind.into()), "{path} {body:.40}");
    }
    assert_eq!(*fake.asked.lock().unwrap(), [] as [&str; 0]);
}

/// docs/control.md has a row ``| `POST /v1/job/stop` | … `` for each route.
#[test]
fn every_route_is_documented() {
    let text = include_str!("../../../docs/control.md");
    let documented: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`')?.0.split_once(' '))
        .filter(|(_, path)| path.starts_with('/'))
        .collect();
    assert_eq!(documented.len(), 6);
    for (method, path) in documented {
        let asked = good(method.parse().unwrap(), path, "");
        let (status, _) = answer(&Arc::new(Fake::default()), &asked);
        assert!(status == 200 || status == 400, "{method} {path}: {status}");
    }
}
