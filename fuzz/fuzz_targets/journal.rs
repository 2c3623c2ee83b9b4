//! The journal of a file system that was not unmounted.
#![no_main]

use imgbake_fuzz::Kind;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    imgbake_fuzz::run(&[Kind::Journal], bytes);
});
