//! The superblock, the group descriptors and the bitmaps.
#![no_main]

use imgbake_fuzz::Kind;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    imgbake_fuzz::run(&[Kind::Superblock, Kind::Descriptor, Kind::Bitmap], bytes);
});
