#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tensorgate_fuzz::v2(data));
