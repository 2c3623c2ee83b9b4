//! The check of file systems with features that few have, against e2fsck: clusters, inline contents, attribute values
//! in inodes of their own, an orphan file, protection against several users.

use super::features::{fill, pattern, set_xattr};
use super::image::Image;
use super::verify::{block, breaks, clean, images, inode, poke};

const MIB: u64 = 1 << 20;

#[test]
fn what_the_kernel_stores_yields_nothing() {
    let kinds: [&[&str]; 5] = [
        &["-O", "inline_data"],
        &["-O", "inline_data", "-I", "1024"],
        &["-O", "ea_inode"],
        &["-O", "bigalloc"],
        &["-O", "bigalloc,inline_data,ea_inode", "-C", "65536"],
    ];
    for block_size in ["1024", "2048", "4096"] {
        for kind in kinds {
            let mut image = Image::make(64 * MIB, &[&["-b", block_size, "-N", "4000"], kind].concat());
            let large = kind.iter().any(|option| option.contains("ea_inode"));
            let filled = image.as_root(|root| {
                fill(root);
                for number in 0..40 {
                    let path = root.join(format!("with-attributes-{number}"));
                    std::fs::write(&path, pattern(number * 40)).unwrap();
                    set_xattr(&path, "user.small", &pattern(number));
                    set_xattr(&path, "user.middle", &pattern(if number % 2 == 0 { 300 } else { 10 * number }));
                    if large {
                        set_xattr(&path, "user.large", &pattern(if number % 3 == 0 { 5000 } else { 100 * number }));
                    }
                }
            });
            if filled {
                clean(&image, &format!("{block_size} {kind:?}"));
            }
        }
    }
}

/// Where an inode begins.
fn place(image: &Image, path: &str) -> u64 {
    let text = image.debugfs(&format!("imap {path}"));
    let (block, offset) = text.split_once("located at block ").unwrap().1.split_once(", offset 0x").unwrap();
    block.parse::<u64>().unwrap() * 1024 + u64::from_str_radix(offset.trim(), 16).unwrap()
}

#[test]
fn damaged_inline_contents_are_named() {
    let image = images(16 * MIB, "1024", &["-O", "inline_data,^metadata_csum"]).remove(0);
    let folder = inode(&image, "/etc/deep");
    let inode = place(&image, "/etc/deep");
    breaks(&image, &["sif /etc/deep size 50"], &format!("inode {folder} has an impossible size: 50"));
    breaks(&image, &["sif /etc/deep flags 0x10001000"], "is stored inline, and is marked as having an index");
    poke(&image, inode + 0x28, &[11], "calls folder inode 11 its parent");
    poke(&image, inode + 0x28, &[0, 0], "has no second entry for its parent");
    poke(&image, inode + 0x2c, &[0xff, 0xff, 0xff], "which does not exist");
    poke(&image, inode + 0x30, &[3], &format!("block 0 of folder inode {folder} has a malformed entry"));
    poke(&image, inode + 0xa3, &[0], "is stored inline and has no attribute for its contents");
}

#[test]
fn damaged_values_of_attributes_are_named() {
    let image = images(16 * MIB, "1024", &["-O", "ea_inode,^metadata_csum"]).remove(0);
    let text = image.debugfs("ffi");
    let value: u32 = text.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let host = image.host_file("value", &pattern(6000));
    image.debugfs_w(&format!("ea_set -f {} /etc/link user.large", host.path().display()));
    // debugfs forgets to count the value's space.
    let image = image.repaired();
    clean(&image, "a large value");
    let owner = inode(&image, "/etc/link");
    let hash = format!("inode {owner} has an extended attribute with a wrong hash");
    let cases = [
        (format!("sif <{value}> version 7"), format!("inode {value} says that it has ")),
        (format!("sif <{value}> flags 0x80000"), "is in an inode that is not for values".into()),
        (format!("sif <{value}> atime 5"), hash),
        (format!("sif <{value}> links_count 2"), format!("inode {value} says that it has 2 links, and has 1")),
        (format!("sif <{owner}> blocks 2"), format!("inode {owner} says that it has 2 blocks, and has ")),
    ];
    for (request, wanted) in &cases {
        breaks(&image, &[request], wanted);
    }
}

#[test]
fn damaged_clusters_are_named() {
    let image = images(64 * MIB, "1024", &["-O", "bigalloc", "-C", "4096"]).remove(0);
    let file = inode(&image, "/etc/deep/er/file");
    let used = block(&image, "/etc/deep/er/file", 4);
    let (first, last) = (used / 4 * 4, used / 4 * 4 + 3);
    breaks(&image, &[&format!("sif <{file}> blocks 2")], &format!("inode {file} says that it has 2 blocks, and has "));
    breaks(&image, &[&format!("freeb {used}")], &format!("block bitmap calls free what is in use: {first} to {last}"));
    breaks(&image, &[&format!("sif <{file}> block[5] {}", first + 1)], "in their clusters otherwise than in the file");
    breaks(&image, &[&format!("sif <{file}> block[5] {}", block(&image, "/etc/long", 0))], "which is taken already");
    breaks(
        &image,
        &["set_bg 0 free_blocks_count 3", "set_bg 0 checksum calc"],
        "group 0 says that it has 3 free blocks",
    );
}

#[test]
fn damaged_orphan_files_are_named() {
    let image = images(16 * MIB, "1024", &["-O", "orphan_file"]).remove(0);
    let file: u32 = image.field("Orphan file inode").parse().unwrap();
    let at = block(&image, &format!("<{file}>"), 1) * 1024;
    poke(&image, at + 1016, b"x", "of the orphan file has no magic number");
    poke(&image, at + 1020, b"x", "of the orphan file has a wrong checksum");
    breaks(&image, &["feature orphan_present"], "has `orphan_present`, and the orphan file lists none");
    breaks(&image, &[&format!("sif <{file}> size 1000")], "is the orphan file, and ends within a block");
    breaks(&image, &[&format!("sif <{file}> links_count 0")], &format!("inode {file} is not in use"));
}

#[test]
fn a_damaged_block_for_mmp_is_named() {
    let image = images(16 * MIB, "1024", &["-O", "mmp"]).remove(0);
    let at = image.field("MMP block number").parse::<u64>().unwrap() * 1024;
    poke(&image, at, b"x", "the superblock has a malformed block for `mmp`");
    poke(&image, at + 0x20, b"x", "the superblock has a malformed block for `mmp`");
    breaks(&image, &["ssv mmp_block 999999"], "the superblock has its block for `mmp` at block 999999");
}
