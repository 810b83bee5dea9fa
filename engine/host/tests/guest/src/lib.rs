//! Looks for a way out of the sandbox, and says what it found.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io::Read;
use std::net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use wasmill_udf::{export, udf};

/// Milliseconds since the epoch, by the wall clock.
#[udf]
fn now(_x: i64) -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(-1, |time| time.as_millis() as i64)
}

/// Sleeps so many milliseconds; how many the monotonic clock says have gone by.
#[udf]
fn sleeps(milliseconds: i64) -> i64 {
    let begun = Instant::now();
    std::thread::sleep(Duration::from_millis(milliseconds as u64));
    begun.elapsed().as_millis() as i64
}

/// Something random.
#[udf]
fn random(x: i64) -> i64 {
    RandomState::new().hash_one(x) as i64
}

/// Ends the process.
#[udf]
fn exits(status: i64) -> i64 {
    std::process::exit(status as i32)
}

/// Says something on both streams, the last of it without a newline.
#[udf]
fn prints(x: i64) -> i64 {
    println!("row {x}");
    eprintln!("trouble with {x}");
    print!("half a line of {x}, ");
    x
}

/// Prints more than anybody wants to read.
#[udf]
fn floods(lines: i64) -> i64 {
    for line in 0..lines {
        println!("line {line}");
    }
    lines
}

/// What is there? An error says that it is not.
#[udf]
fn looks(what: String) -> String {
    let found = match what.as_str() {
        "variables" => Ok(format!("{}", std::env::vars().count())),
        "arguments" => Ok(format!("{}", std::env::args().count())),
        "stdin" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| format!("{text:?}"))
        }
        "thread" => std::thread::Builder::new().spawn(|| ()).map(|_| "a thread".to_owned()),
        "write" => std::fs::write("/tmp/wasmill-was-here", "x").map(|()| "written".to_owned()),
        "listen" => TcpListener::bind("127.0.0.1:0").map(|_| "listening".to_owned()),
        "connect" => TcpStream::connect("127.0.0.1:1").map(|_| "connected".to_owned()),
        "datagram" => UdpSocket::bind("127.0.0.1:0").map(|_| "bound".to_owned()),
        "resolve" => ("localhost", 1).to_socket_addrs().map(|found| format!("{}", found.count())),
        path => std::fs::read(path).map(|bytes| format!("{} bytes", bytes.len())),
    };
    found.unwrap_or_else(|error| format!("error: {error}"))
}

export!(now, sleeps, random, exits, prints, floods, looks);
