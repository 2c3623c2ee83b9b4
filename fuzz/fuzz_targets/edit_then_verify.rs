//! Edits to whole images, untouched or damaged anywhere; what is true of an untouched one must stay true.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    imgbake_fuzz::run(&[], bytes);
});
