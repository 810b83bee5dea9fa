//! Looks for something that is not the guest's.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Read;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Instant, SystemTime};

use wasmill_udf::prelude::*;

/// Tries `WHAT:WHERE`; what came of it. An error says that it could not.
#[udf]
pub fn attempts(what: &str) -> String {
    let (verb, on) = what.split_once(':').unwrap_or((what, ""));
    let found = match verb {
        "read" => std::fs::read(on).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        "write" => std::fs::write(on, "was here").map(|()| "written".to_owned()),
        "append" => std::fs::OpenOptions::new().append(true).open(on).map(|_| "opened".to_owned()),
        "remove" => std::fs::remove_file(on).map(|()| "removed".to_owned()),
        "make" => std::fs::create_dir_all(on).map(|()| "made".to_owned()),
        "link" => std::fs::hard_link(on, "link").map(|()| "linked".to_owned()),
        "list" => std::fs::read_dir(on).map(|entries| format!("{} entries", entries.count())),
        "variables" => Ok(format!("{:?}", std::env::vars().collect::<Vec<_>>())),
        "arguments" => Ok(format!("{:?}", std::env::args().collect::<Vec<_>>())),
        "folder" => std::env::current_dir().map(|path| path.display().to_string()),
        "stdin" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| format!("{text:?}"))
        }
        "thread" => std::thread::Builder::new().spawn(|| ()).map(|_| "a thread".to_owned()),
        "process" => std::process::Command::new(on).output().map(|_| "a process".to_owned()),
        "listen" => TcpListener::bind(on).map(|_| "listening".to_owned()),
        "connect" => TcpStream::connect(on).map(|_| "connected".to_owned()),
        "datagram" => UdpSocket::bind(on).map(|_| "bound".to_owned()),
        "resolve" => on.to_socket_addrs().map(|found| format!("{} addresses", found.count())),
        "exit" => std::process::exit(on.parse().unwrap_or(0)),
        "abort" => std::process::abort(),
        other => Ok(format!("{other} is no attempt")),
    };
    found.unwrap_or_else(|error| format!("error: {error}"))
}

/// How long work took, by both clocks: a clock that moves would let a guest time what others do.
#[udf]
pub fn clocks(_what: &str) -> String {
    let (begun, wall) = (Instant::now(), SystemTime::now());
    let mut sum = 0u64;
    for i in 0..5_000_000u64 {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(i));
    }
    let wall = wall.elapsed().map_or_else(|error| error.to_string(), |time| format!("{} ns", time.as_nanos()));
    format!("{} ns, {wall}", begun.elapsed().as_nanos())
}

/// Something random.
#[udf]
pub fn random(what: &str) -> String {
    RandomState::new().hash_one(what).to_string()
}

/// Writes into the memory of its resource, which it was given to read.
pub struct Scribbles {
    before: u8,
    after: u8,
}

#[udf]
impl Scribbles {
    fn open(context: &OpenContext<'_>) -> Result<Self> {
        let resource = context.resource("granted.txt")?.as_ptr();
        // SAFETY: none, which is the point: the memory of something borrowed is written. It is not empty.
        unsafe {
            let before = std::ptr::read_volatile(resource);
            std::ptr::write_volatile(resource.cast_mut(), b'X');
            Ok(Self { before, after: std::ptr::read_volatile(resource) })
        }
    }

    /// The first letter of the resource, as this instance found it and as it left it.
    fn scribbles(&self, _what: &str) -> String {
        [self.before, self.after].map(char::from).iter().collect()
    }
}
