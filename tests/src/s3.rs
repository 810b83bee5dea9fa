//! A real S3 API on loopback: moto, from requirements.txt.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::root;

/// Says its port, and ends when its standard input does, that is with the process of the tests.
const MOTO: &str = "
import os, sys, threading
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
";

const START_MAX: Duration = Duration::from_secs(60);

/// An S3 without rights: every request is answered.
pub struct S3 {
    port: u16,
    _process: (Child, ChildStdin),
}

/// The one of this process, started when it is first asked for.
pub fn s3() -> &'static S3 {
    static S3: OnceLock<S3> = OnceLock::new();
    S3.get_or_init(|| {
        let python = root().join(".venv/bin/python");
        assert!(python.exists(), "{} is not there: run `make setup`", python.display());
        let mut process = Command::new(python)
            .args(["-c", MOTO])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let input = process.stdin.take().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let (sender, port) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = output.read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = port.recv_timeout(START_MAX).expect("moto starts within a minute");
        let port = line.trim().parse().expect("moto says its port: is it installed (`make setup`)?");
        S3 { port, _process: (process, input) }
    })
}

impl S3 {
    /// What leads a program here.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }

    /// Status and body of the answer.
    pub fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let port = self.port;
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    /// Makes a bucket.
    pub fn bucket(&self, name: &str) {
        assert_eq!(self.ask("PUT", &format!("/{name}")).0, 200);
    }

    /// What is in a bucket.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let (status, body) = self.ask("GET", &format!("/{bucket}?list-type=2"));
        assert_eq!(status, 200, "{body}");
        elements(&body, "Key")
    }

    /// How many uploads are begun there, and not completed.
    pub fn uploads(&self, bucket: &str) -> usize {
        let (status, body) = self.ask("GET", &format!("/{bucket}?uploads"));
        assert_eq!(status, 200, "{body}");
        elements(&body, "UploadId").len()
    }

    /// The content of an object.
    pub fn text(&self, bucket: &str, key: &str) -> String {
        let (status, body) = self.ask("GET", &format!("/{bucket}/{key}"));
        assert_eq!(status, 200, "{body}");
        body
    }
}

fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).map(|rest| rest.split(&close).next().unwrap().to_owned()).collect()
}
