//! The kinds of ext4 that there are, in all block sizes, empty, half full, full and torn: thousands of random
//! edits, judged by e2fsck, debugfs, the kernel and ext4-view; and growth, judged by resize2fs's counts and by
//! every copy of the superblock.

use std::os::unix::fs::FileExt as _;
use std::process::Command;

use imgbake::ext4::Editor;
use proptest::test_runner::{Config, TestError};

use super::debugfs;
use super::edits;
use super::image::{Image, run};
use super::model::{Limits, Model};

const MIB: u64 = 1 << 20;
/// Debian 12 and Ubuntu 22.04.
const BOOKWORM: &str = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

/// A kind of file system.
#[derive(Debug, Clone, Copy)]
struct Kind {
    /// What is different from [`BOOKWORM`].
    features: &'static str,
    options: &'static [&'static str],
    /// What debugfs changes right after mke2fs.
    tuned: &'static [&'static str],
    /// Whether the crate ext4-view reads it.
    view: bool,
    grows: Grows,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Grows {
    Far,
    /// Without a resize inode: small blocks leave little room.
    Little,
    No,
}

const PLAIN: Kind = Kind { features: "", options: &[], tuned: &[], view: true, grows: Grows::Far };

impl Kind {
    /// Another set of features.
    const fn with(features: &'static str) -> Self {
        Self { features, ..PLAIN }
    }

    const fn options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    const fn tuned(self, tuned: &'static [&'static str]) -> Self {
        Self { tuned, ..self }
    }

    const fn unseen_by_view(self) -> Self {
        Self { view: false, ..self }
    }

    const fn grows(self, grows: Grows) -> Self {
        Self { grows, ..self }
    }
}

/// A test for each kind; its number picks its edits.
macro_rules! kinds {
    ($($number:literal $name:ident: $kind:expr;)*) => {$(
        #[test]
        fn $name() {
            judge(&$kind, $number);
        }
    )*};
}

kinds! {
    1 debian_12: PLAIN;
    2 debian_13: Kind::with("metadata_csum_seed,orphan_file");
    3 raspberry_pi_os: Kind::with("^huge_file,^64bit");
    4 without_checksums: Kind::with("^huge_file,^64bit,^metadata_csum");
    5 without_checksums_but_wide: Kind::with("^metadata_csum");
    6 checksums_of_descriptors_only: Kind::with("^metadata_csum,uninit_bg");
    7 checksums_of_small_descriptors_only: Kind::with("^metadata_csum,uninit_bg,^64bit");
    8 inodes_of_128_bytes: Kind::with("^extra_isize").options(&["-I", "128"]).unseen_by_view();
    9 inodes_of_512_bytes: PLAIN.options(&["-I", "512"]);
    10 inodes_of_1024_bytes: PLAIN.options(&["-I", "1024"]);
    11 without_extra_isize: Kind::with("^extra_isize");
    12 without_journal: Kind::with("^has_journal");
    13 without_flex_bg: Kind::with("^flex_bg");
    14 flex_bg_of_one_group: PLAIN.options(&["-G", "1"]);
    15 flex_bg_of_many_groups: PLAIN.options(&["-G", "64"]);
    16 small_groups: PLAIN.options(&["-g", "2048"]).grows(Grows::Little);
    17 without_resize_inode: Kind::with("^resize_inode").grows(Grows::Little);
    18 with_backups_everywhere: Kind::with("^sparse_super,^resize_inode").grows(Grows::Little);
    19 with_two_backups: Kind::with("sparse_super2,^resize_inode").grows(Grows::No);
    20 without_directory_indexes: Kind::with("^dir_index");
    21 without_dir_nlink: Kind::with("^dir_nlink");
    22 with_large_folders: Kind::with("large_dir").unseen_by_view();
    23 without_file_types: Kind::with("^filetype").unseen_by_view();
    24 without_large_files: Kind::with("^large_file,^huge_file");
    25 hashes_of_tea: PLAIN.tuned(&["ssv def_hash_version tea"]);
    26 hashes_as_they_were_first: PLAIN.tuned(&["ssv def_hash_version legacy"]).unseen_by_view();
    27 unsigned_hashes: PLAIN.tuned(&["ssv flags 2"]).unseen_by_view();
    28 unsigned_hashes_of_tea: PLAIN.tuned(&["ssv def_hash_version tea", "ssv flags 2"]).unseen_by_view();
    29 with_meta_bg: Kind::with("meta_bg,^resize_inode").unseen_by_view().grows(Grows::No);
    30 with_meta_bg_and_small_groups: Kind::with("meta_bg,^resize_inode,^64bit").options(&["-g", "1024"]).unseen_by_view().grows(Grows::No);
}

/// How full an image is before the edits.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fill {
    Empty,
    /// A tree, with htrees, and one large file.
    Half,
    /// The same, but nearly all is in use.
    Full,
    /// What is free is in single blocks.
    Torn,
}

const CASES: u32 = 2;

/// Random edits to file systems of this kind, in all block sizes and fills, and growth.
fn judge(kind: &Kind, number: u8) {
    let inode_size = kind.options.iter().skip_while(|option| **option != "-I").nth(1).unwrap_or(&"256");
    for (block_size, size) in [("1024", 40 * MIB), ("2048", 72 * MIB), ("4096", 136 * MIB)] {
        for fill in [Fill::Empty, Fill::Half, Fill::Full, Fill::Torn] {
            // A fill makes one number more of each kind's.
            let number = number.wrapping_mul(12).wrapping_add(fill as u8).wrapping_add(block_size.as_bytes()[0]);
            if inode_size.parse::<u32>().unwrap() > block_size.parse::<u32>().unwrap() {
                continue;
            }
            let (image, model) = base(kind, block_size, size, fill);
            random_edits(kind, &image, &model, number);
            if fill == Fill::Half && kind.grows != Grows::No {
                grow(kind, image, model, block_size, number);
            }
        }
    }
}

/// An image of this kind, and what is in it.
fn base(kind: &Kind, block_size: &str, size: u64, fill: Fill) -> (Image, Model) {
    let features = format!("{BOOKWORM},{}", kind.features);
    let mut options = vec!["-O", &features, "-b", block_size, "-N", "3000", "-m", "0"];
    if !kind.features.contains("^has_journal") {
        options.extend(["-J", if block_size == "4096" { "size=4" } else { "size=2" }]);
    }
    options.extend(kind.options);
    let source = tempfile::TempDir::new().unwrap();
    let mut model = Model::default();
    if fill != Fill::Empty {
        plant(source.path(), fill == Fill::Torn);
        model = Model::read_host(source.path());
        // mke2fs takes whole seconds over.
        model.nodes.iter_mut().for_each(|node| node.attributes.mtime.nanoseconds = 0);
        options.extend(["-d", source.path().to_str().unwrap()]);
    }
    let image = Image::make(size, &options);
    model.limits = Limits::of(&image);
    let mut requests: Vec<Vec<u8>> = kind.tuned.iter().map(|request| request.as_bytes().to_vec()).collect();
    if fill == Fill::Empty {
        debugfs::requests(&image, &requests, true);
        return (image, model);
    }
    if fill == Fill::Torn {
        for number in (0..600).step_by(2) {
            let path = format!("/torn/{number}");
            requests.push(format!("rm {path}").into_bytes());
            model.names.remove(path.as_bytes()).unwrap();
        }
    }
    let free: u64 = image.field("Free blocks").parse().unwrap();
    let all: u64 = image.field("Block count").parse().unwrap();
    // Some blocks are for htrees, which have still to come; what is torn is not free yet.
    let ballast = match fill {
        Fill::Half => free.saturating_sub(all / 2),
        Fill::Full => free - all / 100 - 40,
        _ => free - 40,
    };
    requests.push(format!("fallocate /ballast 0 {ballast}").into_bytes());
    debugfs::requests(&image, &requests, true);
    // Makes htrees; says 1 because it did.
    let status = Command::new("/usr/sbin/e2fsck").args(["-fyD"]).arg(&image.path).output().unwrap().status;
    assert!(matches!(status.code(), Some(0 | 1)));
    (image, model)
}

/// A tree with everything that mke2fs -d takes over.
fn plant(root: &std::path::Path, torn: bool) {
    let write = |name: String, len: usize| std::fs::write(root.join(name), vec![1; len]).unwrap();
    for name in ["a/b", "c/d", "many"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    for number in 0..200 {
        write(format!("many/a-file-with-number-{number}"), number * 10);
    }
    if torn {
        std::fs::create_dir(root.join("torn")).unwrap();
        (0..600).for_each(|number| write(format!("torn/{number}"), 1000));
    }
    write("a/b/name".into(), 300_000);
    write("ballast".into(), 0);
    std::fs::hard_link(root.join("a/b/name"), root.join("a/name")).unwrap();
    std::os::unix::fs::symlink("a/b", root.join("d")).unwrap();
    std::os::unix::fs::symlink("x".repeat(200), root.join("c/name")).unwrap();
}

fn random_edits(kind: &Kind, image: &Image, model: &Model, number: u8) {
    let host = edits::host(image);
    let mut runner = edits::runner(number, Config { cases: CASES, ..Config::default() });
    let result = runner.run(&edits::edits(), |edits| {
        let mut model = model.clone();
        let mut overlay = image.overlay();
        let mut editor = Editor::open(&mut overlay).unwrap();
        model.edit(&mut editor, &edits, &host);
        model.compare_editor(&mut editor);
        editor.finish().unwrap();
        let edited = Image::of(&overlay);
        look(&edited, &model, kind);
        Ok(())
    });
    if let Err(TestError::Fail(reason, edits)) = result {
        let edits: Vec<String> = edits.iter().map(|edit| format!("{edit:?}")).collect();
        panic!("{kind:?}: {reason}\nwith these edits:\n{}", edits.join("\n"));
    }
}

/// Has everybody look at an image.
fn look(image: &Image, model: &Model, kind: &Kind) {
    image.check();
    let mut overlay = image.overlay();
    model.compare_editor(&mut Editor::open(&mut overlay).unwrap());
    if kind.view {
        model.compare_view(&image.path);
    }
    debugfs::compare(model, image);
    model.compare_kernel(image);
}

/// Edits, growth and edits again, in one batch.
fn grow(kind: &Kind, mut image: Image, mut model: Model, block_size: &str, number: u8) {
    let host = edits::host(&image);
    let size = if kind.grows == Grows::Far || block_size != "1024" { 533 * MIB + 12_345 } else { 125 * MIB };
    let resized = image.copy("resized.img");
    image.edit(size, |editor| {
        model.edit(editor, &edits::some(number, 40), &host);
        editor.grow(size).unwrap();
        model.edit(editor, &edits::some(number.wrapping_add(1), 40), &host);
    });
    look(&image, &model, kind);
    compare_growth(&image, &resized, size);
    check_backups(&image, block_size);
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
