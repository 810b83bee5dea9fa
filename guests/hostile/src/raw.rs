//! Asks the interfaces of WASI themselves for too much, past the standard library.

use std::cell::Cell;

use wasmill_udf::prelude::*;

#[link(wasm_import_module = "wasi:cli/stdout@0.2.6")]
unsafe extern "C" {
    #[link_name = "get-stdout"]
    fn get_stdout() -> i32;
}

#[link(wasm_import_module = "wasi:cli/stdin@0.2.6")]
unsafe extern "C" {
    #[link_name = "get-stdin"]
    fn get_stdin() -> i32;
}

#[link(wasm_import_module = "wasi:io/streams@0.2.6")]
unsafe extern "C" {
    #[link_name = "[method]output-stream.write-zeroes"]
    fn write_zeroes(stream: i32, length: i64, answer: *mut u64);
    #[link_name = "[method]output-stream.write"]
    fn write(stream: i32, bytes: *const u8, length: usize, answer: *mut u64);
    #[link_name = "[method]output-stream.blocking-write-and-flush"]
    fn blocking_write_and_flush(stream: i32, bytes: *const u8, length: usize, answer: *mut u64);
    #[link_name = "[method]input-stream.blocking-read"]
    fn blocking_read(stream: i32, length: i64, answer: *mut u64);
}

#[link(wasm_import_module = "wasi:io/poll@0.2.6")]
unsafe extern "C" {
    #[link_name = "poll"]
    fn poll(pollables: *const i32, count: usize, answer: *mut u64);
}

#[link(wasm_import_module = "wasi:clocks/monotonic-clock@0.2.6")]
unsafe extern "C" {
    #[link_name = "subscribe-duration"]
    fn subscribe_duration(duration: i64) -> i32;
}

#[link(wasm_import_module = "wasi:random/random@0.2.6")]
unsafe extern "C" {
    #[link_name = "get-random-bytes"]
    fn get_random_bytes(length: i64, answer: *mut u64);
}

/// Asks for `what`; nothing comes of it.
#[udf]
pub fn asks(what: &str) -> String {
    let answer = Cell::new([0u64; 4]);
    let to = answer.as_ptr().cast::<u64>();
    let huge = i64::MAX;
    // SAFETY: lists have the lengths that are said, where they are not lies which the host has to find out; answers have room.
    unsafe {
        match what {
            "zeroes" => write_zeroes(get_stdout(), huge, to),
            "random" => get_random_bytes(huge, to),
            "stdin" => blocking_read(get_stdin(), huge, to),
            "write" => {
                let bytes = vec![b'w'; 8 << 20];
                write(get_stdout(), bytes.as_ptr(), bytes.len(), to);
            }
            "write-blocking" => {
                let bytes = vec![b'w'; 8 << 20];
                blocking_write_and_flush(get_stdout(), bytes.as_ptr(), bytes.len(), to);
            }
            "outside" => write(get_stdout(), 16 as *const u8, u32::MAX as usize, to),
            "handles" => while std::hint::black_box(get_stdout()) >= 0 {},
            "pollables" => while std::hint::black_box(subscribe_duration(huge)) >= 0 {},
            "polls" => {
                let same = vec![subscribe_duration(huge); 1 << 20];
                poll(same.as_ptr(), same.len(), to);
            }
            "no-handle" => write_zeroes(i32::MAX, 1, to),
            other => return format!("{other} is nothing to ask for"),
        }
    }
    format!("{:x}", answer.get()[0] & 0xff)
}
