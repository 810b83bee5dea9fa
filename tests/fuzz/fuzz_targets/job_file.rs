#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| wasmill_fuzz::job_file::check(data));
