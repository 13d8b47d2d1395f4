#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| bips::testing::fuzz::request(data));
