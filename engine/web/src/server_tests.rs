use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use wasmill_runtime::control::{ControlError, JobState, JobStatus, Taken};

use super::*;

/// A job whose checkpoints take a while.
#[derive(Default)]
struct Slow {
    asked: AtomicBool,
}

const WHILE: Duration = Duration::from_millis(300);

impl JobControl for Slow {
    fn status(&self) -> JobStatus {
        JobStatus {
            name: "slow".into(),
            state: JobState::Running,
            uptime_millis: 0,
            restarts: 0,
            checkpoint: None,
            nodes: Vec::new(),
            udfs: Vec::new(),
        }
    }

    fn checkpoint(&self) -> Result<Taken, ControlError> {
        self.asked.store(true, Ordering::Relaxed);
        std::thread::sleep(WHILE);
        Ok(Taken { id: 1, location: "/kept/1".into(), bytes: 0, millis: 0 })
    }

    fn savepoint(&self, _: &str) -> Result<Taken, ControlError> {
        Err(ControlError::Ended)
    }

    fn stop(&self, _: bool, _: Option<&str>) -> Result<Option<Taken>, ControlError> {
        Err(ControlError::Ended)
    }

    fn cancel(&self) -> Result<(), ControlError> {
        Err(ControlError::Ended)
    }

    fn swap(&self, _: &str, _: &Path) -> Result<Taken, ControlError> {
        Err(ControlError::Ended)
    }
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn start(control: Arc<dyn JobControl>) -> Server {
    Listener::bind(loopback()).unwrap().serve(control).unwrap()
}

fn send(address: SocketAddr, token: &str, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let text =
        format!("{request} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn it_answers_until_it_is_dropped() {
    let server = start(Arc::new(Slow::default()));
    let address = server.address();
    let good = answer(send(address, server.token().secret(), "GET /v1/job"));
    assert!(good.starts_with("HTTP/1.1 200 OK\r\n") && good.contains(r#""name":"slow""#), "{good}");
    assert!(answer(send(address, "wrong", "GET /v1/job")).starts_with("HTTP/1.1 401 "));
    assert!(!format!("{server:?}").contains(server.token().secret()));
    drop(server);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn an_answer_on_its_way_still_comes_when_the_server_ends() {
    let control = Arc::new(Slow::default());
    let server = start(Arc::<Slow>::clone(&control));
    let asked = send(server.address(), server.token().secret(), "POST /v1/job/checkpoint");
    while !control.asked.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(server);
    let answered = answer(asked);
    assert!(answered.contains(r#""location":"/kept/1""#), "{answered}");
}

/// Connections that say nothing neither keep the server nor, for long, the others.
#[test]
fn silent_connections_do_not_keep_it() {
    let server = start(Arc::new(Slow::default()));
    let silent: Vec<TcpStream> =
        (0..CONNECTIONS_MAX - 1).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let good = answer(send(server.address(), server.token().secret(), "GET /v1/job"));
    assert!(good.starts_with("HTTP/1.1 200 "), "{good}");
    let started = Instant::now();
    drop(server);
    assert!(started.elapsed() < END_TIME_MAX * 3, "{:?}", started.elapsed());
    drop(silent);
}

#[test]
fn where_it_cannot_listen_is_said() {
    let all: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let error = Listener::bind(all).unwrap_err();
    assert!(matches!(error, ServeError::NotLoopback { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot listen on 0.0.0.0:0: only loopback is possible"), "{error}");
    let server = start(Arc::new(Slow::default()));
    let error = Listener::bind(server.address()).unwrap_err();
    assert!(matches!(error, ServeError::Bind { .. }), "{error:?}");
}
