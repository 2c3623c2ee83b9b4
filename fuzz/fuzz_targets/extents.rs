//! Inodes, extent trees and trees of block numbers.
#![no_main]

use imgbake_fuzz::Kind;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    imgbake_fuzz::run(&[Kind::Inode, Kind::Tree], bytes);
});
