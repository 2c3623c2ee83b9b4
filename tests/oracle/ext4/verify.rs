//! The check of a file system against e2fsck: silent where e2fsck is, and not where it is not.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use imgbake::ext4::{self, Attributes, Ext4Error, Finding, Timestamp, Verified};
use imgbake::{Content, FileDisk, HostFile};

use super::image::{Image, plain, run};

const MIB: u64 = 1 << 20;

/// Numbers that are always the same.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }
}

/// What the check says of an image.
fn verify(path: &Path) -> Result<(Verified, Vec<Finding>), Ext4Error> {
    let disk = FileDisk::new(HostFile::open(path).unwrap());
    let mut findings = Vec::new();
    let verified = ext4::verify(&disk, &mut |finding| findings.push(finding))?;
    Ok((verified, findings))
}

/// The findings in words; none at all for an image that cannot be checked.
fn words(path: &Path) -> Vec<String> {
    match verify(path) {
        Ok((_, findings)) => findings.iter().map(ToString::to_string).collect(),
        Err(error) => vec![format!("error: {error}")],
    }
}

/// Whether e2fsck has nothing to say, and what it says. Its exit code alone does not tell: wrong checksums of
/// descriptors, with which the kernel mounts nothing, end in a 0.
fn e2fsck(path: &Path) -> (bool, String) {
    let output = Command::new("e2fsck")
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .arg("-fn")
        .arg(path)
        .output()
        .expect("install the package e2fsprogs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = |line: &&str| !line.is_empty() && !line.starts_with("Pass ") && !line.contains("% non-contiguous");
    (output.status.code() == Some(0) && said.lines().find(complaint).is_none(), said)
}

/// Both call the image clean.
pub fn clean(image: &Image, what: &str) {
    image.check();
    assert_eq!(words(&image.path), Vec::<String>::new(), "{what}");
}

/// Kinds of file systems, as options of mke2fs.
const KINDS: &[&[&str]] = &[
    &[],
    &["-O", "^64bit"],
    &["-O", "^metadata_csum"],
    &["-O", "^metadata_csum,uninit_bg"],
    &["-O", "^flex_bg"],
    &["-G", "1"],
    &["-O", "^metadata_csum,^extents,^64bit"],
    &["-I", "128"],
    &["-O", "sparse_super2,^resize_inode"],
    &["-O", "^resize_inode"],
    &["-O", "meta_bg,^resize_inode"],
    &["-O", "meta_bg,^resize_inode,^flex_bg"],
    &["-O", "^sparse_super,^resize_inode"],
    &["-O", "orphan_file,metadata_csum_seed"],
    &["-O", "casefold"],
    &["-O", "encrypt"],
    &["-O", "mmp"],
    &["-O", "large_dir"],
    &["-O", "^has_journal"],
    &["-O", "^filetype"],
    &["-O", "^dir_index"],
    &["-O", "^huge_file,^large_file"],
    &["-O", "^has_journal,^extents,^flex_bg,^metadata_csum,^64bit,^huge_file,^dir_nlink,^extra_isize"],
    &["-O", "^extents,^flex_bg,^metadata_csum,^64bit,^huge_file,^dir_nlink,^extra_isize"],
    &["-O", "inline_data"],
    &["-O", "inline_data,casefold", "-I", "512"],
    &["-O", "ea_inode"],
    &["-O", "bigalloc"],
    &["-O", "bigalloc,^resize_inode,inline_data,ea_inode", "-C", "65536"],
    &["-t", "ext2", "-r", "0"],
    &["-t", "ext2"],
    &["-t", "ext3"],
];

/// A tree with everything that mke2fs -d takes over.
fn tree(root: &Path) {
    std::fs::create_dir_all(root.join("etc/deep/er")).unwrap();
    std::fs::create_dir(root.join("many")).unwrap();
    for number in 0..400 {
        std::fs::write(root.join(format!("many/a-file-with-number-{number}")), vec![1; number * 10]).unwrap();
    }
    std::fs::write(root.join("etc/deep/er/file"), vec![9; 700_000]).unwrap();
    std::fs::hard_link(root.join("etc/deep/er/file"), root.join("etc/link")).unwrap();
    std::os::unix::fs::symlink("deep/er", root.join("etc/short")).unwrap();
    std::os::unix::fs::symlink("x".repeat(200), root.join("etc/long")).unwrap();
    run("coreutils", Command::new("mkfifo").arg(root.join("etc/fifo")));
}

/// Images of a kind: as mke2fs fills it, with its folders indexed by e2fsck, and after edits of ours.
pub fn images(size: u64, block_size: &str, kind: &[&str]) -> Vec<Image> {
    let source = tempfile::TempDir::new().unwrap();
    tree(source.path());
    let options = [&["-b", block_size, "-N", "4000", "-d", source.path().to_str().unwrap()], kind].concat();
    let filled = Image::make(size, &options);
    let indexed = filled.copy("indexed.img");
    let status = Command::new("/usr/sbin/e2fsck").arg("-fyD").arg(&indexed.path).output().unwrap().status;
    assert!(matches!(status.code(), Some(0 | 1)));
    vec![filled, indexed]
}

#[test]
fn clean_images_yield_nothing() {
    for block_size in ["1024", "2048", "4096"] {
        for kind in KINDS {
            // What differs between the two does not hang on the block size.
            let all = if block_size == "1024" { 0 } else { 1 };
            for image in images(40 * MIB, block_size, kind).split_off(all) {
                clean(&image, &format!("{block_size} {kind:?}"));
            }
        }
    }
}

#[test]
fn our_own_edits_yield_nothing() {
    for block_size in ["1024", "4096"] {
        let mut image = images(64 * MIB, block_size, &[]).remove(1);
        image.edit(200 * MIB, |editor| {
            editor.grow(200 * MIB).unwrap();
            editor.mkdir("/big", &plain(0o755)).unwrap();
            for number in 0..3000 {
                let path = format!("/big/an-entry-with-a-name-{number}");
                editor.write(&path, Content::Bytes(vec![7; number % 5000]), &plain(0o644)).unwrap();
            }
            editor.remove("/many").unwrap();
        });
        clean(&image, block_size);
    }
}

/// Of 2318: e2fsck says that such a time is likely one of before 1970, and calls the file system clean.
#[test]
fn a_late_time_is_a_time_like_any_other() {
    let mut image = Image::make(8 * MIB, &[]);
    let mtime = Timestamp { seconds: 11_000_000_000, nanoseconds: 1 };
    let late = Attributes { mtime, ..plain(0o644) };
    image.edit_here(|editor| editor.write("/late", Content::Bytes(vec![1]), &late).unwrap());
    image.check();
    assert_eq!(words(&image.path), Vec::<String>::new());
    assert_eq!(image.edit_here(|editor| editor.metadata("/late").unwrap().unwrap().mtime), mtime);
}

/// Damages by chance: bytes anywhere in what a file system uses. Every other time checksums are made to fit where that
/// is easy: superblock, descriptors, inodes.
#[test]
fn whatever_e2fsck_calls_clean_yields_nothing() {
    let rounds: usize = std::env::var("VERIFY_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let (mut damaged, mut missed) = (0, Vec::new());
    for (number, kind) in KINDS.iter().enumerate() {
        for image in images(40 * MIB, "1024", kind).split_off(1) {
            let (found, here) = damage(&image, rounds, number as u64 + 1);
            damaged += found;
            missed.extend(here.into_iter().map(|what| format!("{kind:?}: {what}")));
        }
    }
    eprintln!("{damaged} damaged, {} missed:\n{}", missed.len(), missed.join("\n"));
    assert!(missed.len() * 20 <= damaged, "{} of {damaged} missed", missed.len());
}

/// Damages copies of an image and has both look; answers how many e2fsck complains about, and those of them that the
/// check is silent about.
fn damage(image: &Image, rounds: usize, seed: u64) -> (usize, Vec<String>) {
    let used = metadata(image);
    let repair = Repair::new(image);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (mut damaged, mut missed, mut wrong) = (0, Vec::new(), Vec::new());
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&image.path).unwrap();
    for round in 0..rounds {
        let mut before = Vec::new();
        for _ in 0..1 + random.below(4) {
            let block = used[random.below(used.len())];
            let mut old = vec![0; 1024];
            file.read_exact_at(&mut old, block * 1024).unwrap();
            let mut new = old.clone();
            for _ in 0..1 + random.below(3) {
                // Rather where something stands than among zeros.
                let mut at = random.below(1024);
                for _ in 0..20 {
                    if old[at] != 0 {
                        break;
                    }
                    at = random.below(1024);
                }
                new[at] =
                    [0, 1, 0xff, 0x80, random.below(256) as u8, old[at] ^ 1, old[at].wrapping_add(1)][random.below(7)];
            }
            if round % 2 == 0 {
                repair.block(block, &mut new);
            }
            file.write_all_at(&new, block * 1024).unwrap();
            before.push((block, old));
        }
        let (silent, said) = e2fsck(&image.path);
        let words = words(&image.path);
        let unsupported = words.iter().any(|line| line.starts_with("error: ") && line.ends_with("is not supported"));
        if silent && !words.is_empty() && !unsupported {
            let changes: Vec<String> = before.iter().flat_map(|(block, old)| changes(&file, *block, old)).collect();
            wrong.push(format!("round {round}: {words:#?}\n{}", changes.join("\n")));
        }
        damaged += usize::from(!silent);
        if !silent && words.is_empty() {
            missed.push(said.lines().filter(|line| !line.starts_with("Pass")).take(4).collect::<Vec<_>>().join(" | "));
        }
        for (block, old) in before.into_iter().rev() {
            file.write_all_at(&old, block * 1024).unwrap();
        }
    }
    assert!(wrong.is_empty(), "e2fsck is silent, we are not:\n{}", wrong.join("\n"));
    (damaged, missed)
}

/// The bytes of a block that differ from what it was.
fn changes(file: &std::fs::File, block: u64, old: &[u8]) -> Vec<String> {
    let mut new = vec![0; old.len()];
    file.read_exact_at(&mut new, block * 1024).unwrap();
    let pairs = old.iter().zip(&new).enumerate().filter(|(_, (old, new))| old != new);
    pairs.map(|(at, (old, new))| format!("block {block} byte {at:#x}: {old:#04x} to {new:#04x}")).collect()
}

/// Makes checksums fit again.
struct Repair {
    uuid: [u8; 16],
    descriptor: usize,
    inode: usize,
    /// First block of each inode table, blocks of a table, inodes in it.
    tables: Vec<u64>,
    blocks: u64,
    inodes: u32,
    metadata: bool,
}

fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

impl Repair {
    fn new(image: &Image) -> Self {
        let text = run("e2fsprogs", Command::new("dumpe2fs").arg(&image.path));
        let tables = text.lines().filter_map(|line| line.trim().strip_prefix("Inode table at ")?.split('-').next());
        Self {
            uuid: *b"\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x00",
            descriptor: if image.field("Filesystem features").contains("64bit") { 64 } else { 32 },
            // Revision 0 has no field for it.
            inode: if text.contains("Inode size:") { image.field("Inode size").parse().unwrap() } else { 128 },
            tables: tables.map(|start| start.parse().unwrap()).collect(),
            blocks: image.field("Inode blocks per group").parse().unwrap(),
            inodes: image.field("Inodes per group").parse().unwrap(),
            metadata: image.field("Filesystem features").contains("metadata_csum"),
        }
    }

    fn block(&self, block: u64, bytes: &mut [u8]) {
        if !self.metadata {
            return;
        }
        let seed = crc(!0, &self.uuid);
        if block == 1 {
            let sum = crc(!0, &bytes[..1020]);
            bytes[1020..].copy_from_slice(&sum.to_le_bytes());
        } else if block == 2 {
            for (number, descriptor) in (0u32..).zip(bytes.chunks_exact_mut(self.descriptor)).take(self.tables.len()) {
                descriptor[0x1e..0x20].fill(0);
                let sum = crc(crc(seed, &number.to_le_bytes()), descriptor);
                descriptor[0x1e..0x20].copy_from_slice(&sum.to_le_bytes()[..2]);
            }
        } else if let Some((group, start)) =
            (0u32..).zip(&self.tables).find(|(_, start)| (**start..**start + self.blocks).contains(&block))
        {
            let per_block = u32::try_from(1024 / self.inode).unwrap();
            let first = group * self.inodes + u32::try_from(block - start).unwrap() * per_block + 1;
            for (number, inode) in (first..).zip(bytes.chunks_exact_mut(self.inode)) {
                if inode.iter().any(|byte| *byte != 0) {
                    let wide = inode.len() > 128 && u16::from_le_bytes([inode[0x80], inode[0x81]]) >= 4;
                    inode[0x7c..0x7e].fill(0);
                    if wide {
                        inode[0x82..0x84].fill(0);
                    }
                    let sum = crc(crc(crc(seed, &number.to_le_bytes()), &inode[0x64..0x68]), inode).to_le_bytes();
                    inode[0x7c..0x7e].copy_from_slice(&sum[..2]);
                    if wide {
                        inode[0x82..0x84].copy_from_slice(&sum[2..]);
                    }
                }
            }
        }
    }
}

/// Blocks that hold metadata, as far as debugfs tells: what precedes the first data, inode tables, folders.
fn metadata(image: &Image) -> Vec<u64> {
    let text = run("e2fsprogs", Command::new("dumpe2fs").arg(&image.path));
    let number = |text: &str| text.trim().trim_end_matches(',').parse::<u64>().ok();
    let mut blocks = vec![1, 2];
    for line in text.lines() {
        let range = line.split_once(" at ").map(|(_, rest)| rest.split(' ').next().unwrap_or(""));
        let Some(range) = range else { continue };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Some(first), Some(last)) = (number(first), number(last)) else { continue };
        // A table is long, and mostly empty.
        blocks.extend(first..=last.min(first + 60));
    }
    for path in ["/", "/many", "/etc", "/etc/deep", "/etc/deep/er/file", "<8>", "<7>"] {
        let list = image.debugfs(&format!("blocks {path}"));
        blocks.extend(list.split_whitespace().filter_map(number).take(20));
    }
    blocks.retain(|block| (block + 1) * 1024 <= std::fs::metadata(&image.path).unwrap().len());
    blocks
}

/// Damages a copy of `image` by requests to debugfs; e2fsck complains, and so does the check, in words with `wanted`.
pub fn breaks(image: &Image, requests: &[&str], wanted: &str) {
    let broken = image.copy("broken.img");
    let script = broken.folder().join("script");
    std::fs::write(&script, requests.join("\n") + "\n").unwrap();
    run("e2fsprogs", Command::new("debugfs").args(["-w", "-f"]).arg(script).arg(&broken.path));
    complain(&broken, &format!("{requests:?}"), wanted);
}

/// Damages a copy of `image` by writing bytes at an offset.
pub fn poke(image: &Image, offset: u64, bytes: &[u8], wanted: &str) {
    let broken = image.copy("broken.img");
    let file = std::fs::OpenOptions::new().write(true).open(&broken.path).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    complain(&broken, &format!("{bytes:?} at {offset}"), wanted);
}

fn complain(broken: &Image, what: &str, wanted: &str) {
    let (silent, said) = e2fsck(&broken.path);
    assert!(!silent, "{what}: e2fsck is silent\n{said}");
    let words = words(&broken.path);
    assert!(words.iter().any(|line| line.contains(wanted)), "{what}: `{wanted}` is not in {words:#?}\n{said}");
}

/// The number that debugfs gives for a path.
pub fn inode(image: &Image, path: &str) -> u32 {
    let text = image.debugfs(&format!("stat {path}"));
    text.strip_prefix("Inode: ").unwrap().split_whitespace().next().unwrap().parse().unwrap()
}

/// The block that holds block `number` of a file.
pub fn block(image: &Image, path: &str, number: u64) -> u64 {
    image.debugfs(&format!("bmap {path} {number}")).trim().parse().unwrap()
}

#[test]
fn damage_by_debugfs_is_named() {
    let image = images(16 * MIB, "1024", &[]).remove(1);
    let (file, deep, link, folder) = (
        inode(&image, "/etc/deep/er/file"),
        inode(&image, "/etc/deep"),
        inode(&image, "/etc/short"),
        inode(&image, "/etc"),
    );
    let used = block(&image, "/etc/deep/er/file", 3);
    let other = block(&image, "/etc/long", 0);
    let free: u64 = image.debugfs("ffb 1 12000").trim().rsplit(' ').next().unwrap().parse().unwrap();
    let cases: Vec<(Vec<String>, String)> = vec![
        (vec![format!("sif <{file}> links_count 5")], format!("inode {file} says that it has 5 links, and has 2")),
        (vec![format!("sif <{file}> blocks 9")], format!("inode {file} says that it has 9 blocks, and has ")),
        (vec![format!("sif <{file}> size 5")], format!("inode {file} has an impossible size: 5")),
        (
            vec![format!("sif <{file}> dtime 1700000000")],
            format!("inode {file} is in use, and has a time of its deletion"),
        ),
        (vec![format!("sif <{file}> mode 0070644")], format!("inode {file} is of no known kind")),
        (vec![format!("sif <{file}> flags 0x1")], format!("inode {file} has extents, and is not marked so")),
        (vec![format!("sif <{file}> flags 0x83000")], format!("inode {file} is marked as an AFS inode")),
        (vec![format!("sif <{file}> block[0] 5")], format!("inode {file} has a malformed extent tree")),
        (vec![format!("sif <{file}> block[5] 0x7fffffff")], format!("inode {file} has its extent at block")),
        (vec![format!("sif <{file}> block[3] 7")], format!("inode {file} ")),
        (vec![format!("sif <{file}> block[5] {other}")], "which is taken already".into()),
        (vec![format!("sif <{file}> block[5] 2")], "blocks that are taken already".into()),
        (vec![format!("sif <{file}> file_acl 5")], "the extended attribute block 5 has a malformed header".into()),
        (vec![format!("sif <{file}> file_acl 999999")], "has its extended attributes at block 999999".into()),
        (vec![format!("sif <{file}> extra_isize 333")], format!("inode {file} has an impossible extra_isize: 333")),
        (vec![format!("sif <{link}> size 3")], format!("inode {link} is a symbolic link with a malformed target")),
        (vec!["sif /etc/fifo size 3".into()], "has a size, which its kind cannot have".into()),
        (vec!["sif /etc/fifo flags 0x80000".into()], "is marked as having contents, which its kind cannot have".into()),
        (vec![format!("sif <{folder}> size 1000")], format!("inode {folder} has an impossible size: 1000")),
        (vec!["sif <2> mode 0100644".into()], "folder inode 2 is the root, and is no folder".into()),
        (vec!["sif <7> block[DIND] 0".into()], "inode 7 does not list the blocks kept for growth".into()),
        (vec!["sif <8> mode 0".into()], "inode 8 is the journal's".into()),
        (
            vec!["set_bg 1 itable_unused 65000".into(), "set_bg 1 checksum calc".into()],
            "group 1 has an impossible number of unused inodes".into(),
        ),
        (vec!["sif <9> mode 0100644".into()], "inode 9 is reserved, and has a kind".into()),
        (vec!["ssv r_blocks_count 16000".into()], "the superblock has an impossible r_blocks_count: 16000".into()),
        (vec!["ssv reserved_gdt_blocks 300".into()], "reserved_gdt_blocks".into()),
        (vec!["ssv inodes_count 77".into()], "inodes_count".into()),
        (
            vec!["set_bg 1 free_blocks_count 3".into(), "set_bg 1 checksum calc".into()],
            "group 1 says that it has 3 free blocks".into(),
        ),
        (
            vec!["set_bg 1 free_inodes_count 3".into(), "set_bg 1 checksum calc".into()],
            "group 1 says that it has 3 free inodes".into(),
        ),
        (
            vec!["set_bg 1 used_dirs_count 77".into(), "set_bg 1 checksum calc".into()],
            "group 1 says that it has 77 folders".into(),
        ),
        (
            vec!["set_bg 1 inode_table 999999".into(), "set_bg 1 checksum calc".into()],
            "group 1 has its inode table at block 999999".into(),
        ),
        (
            vec!["set_bg 1 block_bitmap 1".into(), "set_bg 1 checksum calc".into()],
            "group 1 claims block 1, which is taken".into(),
        ),
        (vec!["set_bg 1 checksum 77".into()], "group 1 has a wrong checksum".into()),
        (vec![format!("freeb {used}")], format!("block bitmap calls free what is in use: {used}")),
        (vec![format!("setb {free}")], format!("block bitmap calls used what is free: {free}")),
        (vec![format!("freei <{file}>")], format!("inode bitmap calls free what is in use: {file}")),
        (vec!["seti <1900>".into()], "inode bitmap calls used what is free: 1900".into()),
        (
            vec![format!("clri <{file}>")],
            format!(
                "`file` in folder inode {} stands for inode {file}, which is not in use",
                inode(&image, "/etc/deep/er")
            ),
        ),
        (vec!["unlink /etc/fifo".into()], "is in use, and has no name".into()),
        (vec!["unlink /etc/deep".into()], format!("folder inode {deep} cannot be reached from the root")),
        (vec!["link /etc/deep /etc/deep/er/round".into()], "`round` in folder inode".into()),
        (vec!["link /etc/deep /again".into()], "stands for a folder that has a name already".into()),
    ];
    for (requests, wanted) in &cases {
        breaks(&image, &requests.iter().map(String::as_str).collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn damage_of_bytes_is_named() {
    let checked = images(16 * MIB, "1024", &[]).remove(1);
    let plain = images(16 * MIB, "1024", &["-O", "^metadata_csum"]).remove(1);
    poke(&checked, 1024 + 0x78, b"x", "the superblock has a wrong checksum");
    let place = |image: &Image, path: &str, number: u64| block(image, path, number) * 1024;
    let file = inode(&checked, "/many/a-file-with-number-7");
    let text = checked.debugfs(&format!("imap <{file}>"));
    let (at, offset) = text.split_once("located at block ").unwrap().1.split_once(", offset 0x").unwrap();
    let at = at.parse::<u64>().unwrap() * 1024 + u64::from_str_radix(offset.trim(), 16).unwrap();
    poke(&checked, at + 4, b"x", &format!("inode {file} has a wrong checksum"));
    poke(&checked, place(&checked, "/etc", 0) + 9, b"x", "block 0 of folder inode");
    let leaf = place(&checked, "/many", 2);
    poke(&checked, leaf + 1000, b"x", "block 2 of folder inode");
    poke(&checked, place(&checked, "/many", 0) + 0x28, &[0xff; 4], "part of the index");
    poke(&checked, place(&checked, "<8>", 0), b"x", "the journal cannot be read");

    let root = place(&plain, "/many", 0);
    poke(&plain, root + 0x1c, &[9], "has an index with a malformed root");
    poke(&plain, root + 0x20, &[1], "is a malformed part of the index");
    poke(&plain, root + 0x22, &[1], "is not mentioned by the index");
    poke(&plain, root + 0x28, &[0xff; 4], "is in the wrong block for its hash");
    poke(&plain, root + 0x2c, &[0xff], "mentions a block past the folder's end");
    poke(&plain, root + 0x2c, &[1], "for the second time");
    poke(&plain, root, &[77, 0, 0, 0], "does not begin with an entry for itself");
    poke(&plain, root + 12, &[11, 0, 0, 0], "calls folder inode 11 its parent");
    poke(&plain, root + 12 + 8, b"x", "has no second entry for its parent");
    let etc = place(&plain, "/etc", 0);
    let mut bytes = vec![0; 1024];
    std::fs::File::open(&plain.path).unwrap().read_exact_at(&mut bytes, etc).unwrap();
    let find = |name: &[u8]| etc + bytes.windows(name.len()).position(|window| window == name).unwrap() as u64;
    poke(&plain, find(b"short"), b"a/b", "holds a byte that no name can hold");
    poke(&plain, find(b"short") - 1, &[1], "has a file type that is not its inode's");
    poke(&plain, find(b"short") - 4, &[7], "has a malformed entry");
    poke(&plain, find(b"short") - 8, &[0xff, 0xff, 0xff, 0], "which does not exist");
    poke(&plain, find(b"short") - 8, &[2, 0, 0, 0], "stands for inode 2, the root");
    poke(&plain, find(b"link"), b"long", "is there twice");
    let bitmap: u64 = {
        let text = run("e2fsprogs", Command::new("dumpe2fs").arg(&plain.path));
        let line = text.lines().find_map(|line| line.split_once("Inode bitmap at ")).unwrap().1;
        line.split([' ', ',']).next().unwrap().parse().unwrap()
    };
    poke(&plain, bitmap * 1024 + 1023, &[0x7f], "has bits behind its end that are not set");
}

#[test]
fn damaged_attributes_are_named() {
    let image = images(16 * MIB, "1024", &["-I", "128", "-O", "^metadata_csum"]).remove(0);
    let value = image.host_file("value", &[b'v'; 100]);
    for path in ["/etc/link", "/etc"] {
        image.debugfs_w(&format!("ea_set -f {} {path} user.attribute", value.path().display()));
    }
    clean(&image, "attributes");
    let text = image.debugfs("stat /etc");
    let place: u64 = text.split_once("File ACL: ").unwrap().1.split_whitespace().next().unwrap().parse().unwrap();
    let here = format!("the extended attribute block {place} ");
    poke(&image, place * 1024 + 4, &[3], &format!("{here}says that it has 3 inodes that share it, and has 1"));
    poke(&image, place * 1024, &[3], &format!("{here}has a malformed header"));
    poke(&image, place * 1024 + 32 + 1, &[0], &format!("{here}has an extended attribute of an unknown kind"));
    poke(&image, place * 1024 + 32 + 2, &[0, 0], &format!("{here}has extended attributes that overlap"));
    poke(&image, place * 1024 + 32 + 2, &[0xff, 3], &format!("{here}has an extended attribute that does not fit"));
    poke(&image, place * 1024 + 32 + 12, &[1], &format!("{here}has an extended attribute with a wrong hash"));
}

#[test]
fn orphans_are_named() {
    let image = images(16 * MIB, "1024", &[]).remove(0);
    let number = inode(&image, "/etc/fifo");
    let requests = ["unlink /etc/fifo", &format!("sif <{number}> links_count 0"), &format!("ssv last_orphan {number}")];
    breaks(&image, &requests, &format!("inode {number} was deleted while it was still open (an orphan)"));
}

/// A file system of 1 MiB without checksums, to be made worse.
fn small() -> (Image, std::fs::File) {
    let image = Image::make(MIB, &["-b", "1024", "-N", "2000", "-O", "^metadata_csum,^has_journal,^resize_inode"]);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&image.path).unwrap();
    (image, file)
}

/// What stands behind superblock and descriptors: block, blocks.
const REST: std::ops::Range<u64> = 3..1024;

#[test]
fn nonsense_everywhere_is_survived() {
    let (image, file) = small();
    let mut random = Random(7);
    for round in 0..40 {
        for block in REST {
            let bytes: Vec<u8> = match round % 4 {
                0 => (0..1024).map(|_| random.below(256) as u8).collect(),
                1 => vec![0xff; 1024],
                // Small numbers, so that much points to what there is.
                2 => (0..256).flat_map(|_| (random.below(1024) as u32).to_le_bytes()).collect(),
                _ => (0..512).flat_map(|_| [[0x0a, 0xf3], [4, 0], [1, 0], [0, 0x40]][random.below(4)]).collect(),
            };
            file.write_all_at(&bytes, block * 1024).unwrap();
        }
        let words = words(&image.path);
        assert!(!words.is_empty() && words.len() < 5000, "{}", words.len());
    }
}

/// An inode of 256 bytes: mode, links, flags, size in blocks and block field.
fn craft(mode: u16, flags: u32, blocks: u32, map: &[u32]) -> Vec<u8> {
    let mut inode = vec![0; 256];
    inode[..2].copy_from_slice(&mode.to_le_bytes());
    inode[4..8].copy_from_slice(&(blocks * 1024).to_le_bytes());
    inode[0x1a] = 2;
    inode[0x1c..0x20].copy_from_slice(&(blocks * 2).to_le_bytes());
    inode[0x20..0x24].copy_from_slice(&flags.to_le_bytes());
    for (slot, word) in inode[0x28..0x64].chunks_exact_mut(4).zip(map) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
    inode[0x80] = 32;
    inode
}

#[test]
fn many_owners_of_one_tree_take_no_longer_than_one() {
    const EXTENTS: u32 = 0x8_0000;
    let (image, file) = small();
    let text = run("e2fsprogs", Command::new("dumpe2fs").arg(&image.path));
    let table = text.split_once("Inode table at ").unwrap().1.split('-').next().unwrap().parse::<u64>().unwrap();
    // A node of an extent tree whose entries all lead to itself, a block of block numbers likewise, a full folder.
    let header = |entries: u32, most: u32, depth: u32| [entries << 16 | 0xf30a, depth << 16 | most, 0];
    let node: Vec<u32> = header(84, 84, 1).into_iter().chain((0..84).flat_map(|at| [at, 900, 0])).collect();
    let folder: Vec<u32> = (0..64).flat_map(|at| [12 + at, 0x0201_0010, 0x61 + at, 0]).collect();
    let words_of = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    file.write_all_at(&words_of(&node), 900 * 1024).unwrap();
    file.write_all_at(&words_of(&[901; 256]), 901 * 1024).unwrap();
    file.write_all_at(&words_of(&folder), 902 * 1024).unwrap();
    let root: Vec<u32> = header(4, 4, 2).into_iter().chain((0..4).flat_map(|at| [at * 1000, 900, 0])).collect();
    let all: Vec<u32> = header(1, 4, 0).into_iter().chain([0, 900, 3]).collect();
    let kinds = [
        craft(0x81a4, EXTENTS, 4000, &root),
        craft(0x81a4, 0, 4000, &[901; 15]),
        craft(0x41ed, EXTENTS | 0x1000, 900, &all),
        craft(0x41ed, 0x1000, 900, &[902; 15]),
    ];
    for kind in &kinds {
        for number in 11..1900 {
            file.write_all_at(kind, table * 1024 + number * 256).unwrap();
        }
        let words = words(&image.path);
        assert!(words.iter().any(|line| line.contains("and 1")), "{words:#?}");
    }
}

/// A file system of 1 TiB fits into little memory, and so does one that lists none of its inodes as unused.
#[test]
fn a_large_file_system_needs_little_memory() {
    for options in [&[][..], &["-O", "^metadata_csum", "-E", "lazy_itable_init=0"]] {
        let image = Image::make(1 << 40, options);
        let command =
            format!("ulimit -v 300000; exec {} verify --fs -q {}", env!("CARGO_BIN_EXE_imgbake"), image.path.display());
        let cache = image.folder().join("cache");
        let said = run("dash", Command::new("sh").arg("-c").arg(command).env("IMGBAKE_CACHE_DIR", cache));
        assert_eq!(said, "");
    }
}
