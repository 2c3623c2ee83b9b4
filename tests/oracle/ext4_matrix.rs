//! The kinds of ext4 that distributions make, in all block sizes, fresh and filled: hundreds of random
//! edits and growth, judged by e2fsck from every copy of the superblock, by resize2fs's counts, by the
//! kernel and by ext4-view.

use std::os::unix::fs::FileExt as _;
use std::process::Command;

use imgbake::Content;

use super::image::{Image, plain, run};
use super::model::{Body, Model, Node, Random};

const MIB: u64 = 1 << 20;
/// Debian 12 and Ubuntu 22.04.
const BOOKWORM: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

fn bookworm(more: &str) -> String {
    format!("{BOOKWORM}{more}")
}

/// A kind of file system.
struct Kind<'a> {
    features: &'a str,
    options: &'a [&'a str],
    /// Whether the crate ext4-view reads it: it knows neither small inodes nor large folders.
    view: bool,
    /// Whether it has a resize inode: without one small blocks leave little room to grow.
    resizable: bool,
}

impl<'a> Kind<'a> {
    fn new(features: &'a str) -> Self {
        Self { features, options: &[], view: true, resizable: true }
    }

    /// Edits, grows and edits again a file system of this kind, and has everybody look at it.
    fn judge(&self) {
        for (number, (block_size, filled)) in
            (1..).zip([("1024", true), ("2048", false), ("4096", false), ("4096", true)])
        {
            judge_one(self, block_size, filled, 0x9e37_79b9_7f4a_7c15u64.rotate_left(number * 7));
        }
    }
}

fn judge_one(kind: &Kind, block_size: &str, filled: bool, seed: u64) {
    let mut options = vec!["-O", kind.features, "-b", block_size, "-N", "12000"];
    options.extend(kind.options);
    let source = tempfile::TempDir::new().unwrap();
    let mut model = Model::default();
    if filled {
        fill(source.path());
        model = Model::read_host(source.path());
        // mke2fs takes whole seconds over.
        model.nodes.iter_mut().for_each(|node| node.attributes.mtime.nanoseconds = 0);
        options.extend(["-d", source.path().to_str().unwrap()]);
    }
    let mut image = Image::make(72 * MIB, &options);
    if filled {
        // Makes htrees; says 1 because it did.
        let status = Command::new("/usr/sbin/e2fsck").args(["-fyD"]).arg(&image.path).output().unwrap().status;
        assert!(matches!(status.code(), Some(0 | 1)));
    }
    let mut random = Random(seed);
    let host = image.host_file("content", &(0..1_000_000u32).map(|at| (at / 3 % 255) as u8).collect::<Vec<_>>());

    image.edit_here(|editor| {
        editor.mkdir("/big", &plain(0o755)).unwrap();
        for number in 0..3000 {
            let path = format!("/big/entry-{number}");
            editor.write(&path, Content::Bytes(vec![]), &plain(0o644)).unwrap();
            model.names.insert(path, model.nodes.len() + 1);
        }
        model.names.insert("/big".into(), model.nodes.len());
        model.nodes.push(Node { body: Body::Directory, attributes: plain(0o755) });
        model.nodes.push(Node { body: Body::File(vec![]), attributes: plain(0o644) });
        // They are separate files in the image, and one in the model only because they are alike.
        let first = model.nodes.len();
        for number in 0..3000 {
            model.nodes.push(model.nodes[first - 1].clone());
            model.names.insert(format!("/big/entry-{number}"), first + number);
        }
        model.edit(editor, &mut random, &host, 300);
        model.compare_editor(editor);
    });
    image.check();
    look(&mut image, &model, kind);

    let odd = if kind.resizable || block_size != "1024" { 533 * MIB + 12_345 } else { 125 * MIB };
    let resized = image.copy("resized.img");
    image.edit(odd, |editor| {
        model.edit(editor, &mut random, &host, 50);
        editor.grow(odd).unwrap();
        model.edit(editor, &mut random, &host, 250);
    });
    image.check();
    look(&mut image, &model, kind);
    compare_growth(&image, &resized, odd);
    check_backups(&image, block_size);
}

fn look(image: &mut Image, model: &Model, kind: &Kind) {
    if kind.view {
        model.compare_view(&image.path);
    }
    model.compare_kernel(image);
    image.edit_here(|editor| model.compare_editor(editor));
}

/// A tree with everything that mke2fs -d takes over.
fn fill(root: &std::path::Path) {
    std::fs::create_dir_all(root.join("etc/deep/er")).unwrap();
    std::fs::create_dir(root.join("many")).unwrap();
    for number in 0..400 {
        std::fs::write(root.join(format!("many/a-file-with-number-{number}")), vec![1; number * 10]).unwrap();
    }
    std::fs::write(root.join("etc/deep/er/file"), vec![9; 700_000]).unwrap();
    std::fs::hard_link(root.join("etc/deep/er/file"), root.join("etc/link")).unwrap();
    std::os::unix::fs::symlink("deep/er", root.join("etc/short")).unwrap();
    std::os::unix::fs::symlink("x".repeat(200), root.join("etc/long")).unwrap();
}

/// The counts that resize2fs comes to.
fn compare_growth(image: &Image, resized: &Image, size: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(&resized.path).unwrap();
    file.set_len(size).unwrap();
    drop(file);
    resized.check();
    run("e2fsprogs", Command::new("resize2fs").arg("-f").arg(&resized.path));
    for field in ["Block count", "Inode count", "Reserved block count", "Inodes per group", "Filesystem features"] {
        assert_eq!(image.field(field), resized.field(field), "{field}");
    }
    if image.field("Filesystem features").contains("resize_inode") {
        assert_eq!(image.field("Reserved GDT blocks"), resized.field("Reserved GDT blocks"));
    }
}

/// Every copy of superblock and descriptors must do in the place of the first. (`e2fsck -b` is no judge: it
/// takes all groups of a copy for initialised.)
fn check_backups(image: &Image, block_size: &str) {
    let block_size: u64 = block_size.parse().unwrap();
    let text = run("e2fsprogs", Command::new("dumpe2fs").arg(&image.path));
    let first = u64::from(block_size == 1024);
    let mut backups = 0;
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("Backup superblock at ")) {
        let number = |text: &str| text.trim().parse::<u64>().unwrap();
        let (backup, rest) = line.split_once(", Group descriptors at ").unwrap();
        let (start, end) = rest.split_once('-').map(|(start, end)| (number(start), number(end))).unwrap();
        let restored = image.copy("restored.img");
        let file = std::fs::OpenOptions::new().read(true).write(true).open(&restored.path).unwrap();
        let copy = |from: u64, to: u64, len: u64| {
            let mut bytes = vec![0; usize::try_from(len).unwrap()];
            file.read_exact_at(&mut bytes, from).unwrap();
            file.write_all_at(&bytes, to).unwrap();
        };
        copy(number(backup) * block_size, 1024, 1024);
        copy(start * block_size, (first + 1) * block_size, (end + 1 - start) * block_size);
        restored.check();
        backups += 1;
    }
    assert!(backups > 0);
}

#[test]
fn debian_12() {
    Kind::new(BOOKWORM).judge();
}

#[test]
fn debian_13() {
    Kind::new(&bookworm(",metadata_csum_seed,orphan_file")).judge();
}

#[test]
fn raspberry_pi_os() {
    Kind::new(&bookworm(",^huge_file,^64bit")).judge();
}

#[test]
fn without_checksums() {
    Kind::new(&bookworm(",^huge_file,^64bit,^metadata_csum")).judge();
}

#[test]
fn checksums_of_descriptors_only() {
    Kind::new(&bookworm(",^metadata_csum,uninit_bg")).judge();
}

#[test]
fn checksums_of_small_descriptors_only() {
    Kind::new(&bookworm(",^metadata_csum,uninit_bg,^64bit")).judge();
}

#[test]
fn small_inodes() {
    Kind { options: &["-I", "128"], view: false, ..Kind::new(&bookworm(",^extra_isize")) }.judge();
}

#[test]
fn without_flex_bg_or_journal() {
    Kind::new(&bookworm(",^flex_bg,^has_journal")).judge();
}

#[test]
fn without_directory_indexes() {
    Kind::new(&bookworm(",^dir_index")).judge();
}

#[test]
fn with_backups_everywhere() {
    Kind { resizable: false, ..Kind::new(&bookworm(",^sparse_super,^resize_inode")) }.judge();
}

#[test]
fn with_large_folders() {
    Kind { view: false, ..Kind::new(&bookworm(",large_dir,^dir_nlink")) }.judge();
}
