//! File systems that were not unmounted cleanly: their journals are replayed as e2fsck and the kernel replay them.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;

use imgbake::Content;
use imgbake::ext4::Ext4Error;

use super::image::{Image, plain, run};
use super::model::Model;

const MIB: u64 = 1 << 20;

/// An image with the file `/victim`, and names that transactions use: `{0}` to `{4}` for its blocks; `{a}`, `{b}` and
/// `{c}` for files with a block of the bytes 0xaa, 0xbb and 0xcc; `{e}` for one that begins like a block of the journal.
pub struct Victim {
    pub image: Image,
    pub blocks: Vec<u64>,
    pub block_size: u64,
}

impl Victim {
    pub fn new(options: &[&str]) -> Self {
        let mut image = Image::make(64 * MIB, options);
        image.edit_here(|editor| {
            editor.write("/victim", Content::Bytes(vec![0x11; 5 * 4096]), &plain(0o644)).unwrap();
        });
        let blocks: Vec<u64> =
            (0..5).map(|block| image.debugfs(&format!("bmap /victim {block}")).trim().parse().unwrap()).collect();
        let block_size = image.field("Block size").parse().unwrap();
        let size = usize::try_from(block_size).unwrap();
        for (name, byte) in [("a", 0xaa), ("b", 0xbb), ("c", 0xcc)] {
            image.host_file(name, &vec![byte; size]);
        }
        let mut escaped = vec![0xdd; size];
        escaped[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
        image.host_file("e", &escaped);
        Self { image, blocks, block_size }
    }

    /// Has debugfs open the journal with `open` and write these transactions, and leaves them there.
    pub fn journal(&self, open: &str, transactions: &[&str]) {
        let mut script = vec![open.to_owned()];
        for transaction in transactions {
            let mut line = (*transaction).to_owned();
            for (number, block) in self.blocks.iter().enumerate() {
                line = line.replace(&format!("{{{number}}}"), &block.to_string());
            }
            for name in ["a", "b", "c", "e"] {
                line = line.replace(&format!("{{{name}}}"), self.image.folder().join(name).to_str().unwrap());
            }
            script.push(line);
        }
        script.push("jc".to_owned());
        self.image.debugfs_write(&script);
        assert!(self.image.field("Filesystem features").contains("needs_recovery"));
    }

    /// The journal's block number `block` as bytes of the image.
    pub fn place(&self, block: u64) -> u64 {
        let place: u64 = self.image.debugfs(&format!("bmap <8> {block}")).trim().parse().unwrap();
        place * self.block_size
    }

    /// The first bytes of the victim's blocks.
    pub fn bytes(&self, image: &Image) -> Vec<u8> {
        self.blocks.iter().map(|block| image.peek(block * self.block_size, 1)[0]).collect()
    }

    /// The victim's blocks after an edit of ours are what e2fsck makes of them; answers their first bytes.
    pub fn replays(mut self) -> Vec<u8> {
        let judged = self.image.repaired();
        self.image.edit_here(|editor| {
            editor.write("/new", Content::Bytes(b"new".to_vec()), &plain(0o644)).unwrap();
        });
        self.image.check();
        let size = usize::try_from(self.block_size).unwrap();
        for block in &self.blocks {
            let read = |image: &Image| image.peek(block * self.block_size, size);
            assert!(read(&self.image) == read(&judged), "block {block} differs from e2fsck's");
        }
        // Nothing is left that anybody could replay over the edit.
        assert_eq!(self.image.field("Journal start"), "0");
        assert!(!self.image.field("Filesystem features").contains("needs_recovery"));
        assert_eq!(self.image.field("Journal sequence"), judged.field("Journal sequence"));
        self.bytes(&self.image)
    }
}

/// Two blocks changed, one of them twice, one changed and revoked, one that begins like a journal block.
pub const TRANSACTIONS: &[&str] =
    &["jw -b {0} {a}", "jw -b {1} {b}", "jw -b {2} {c}", "jw -r {2}", "jw -b {0} {c}", "jw -b {3} {e}"];
const REPLAYED: [u8; 5] = [0xcc, 0xbb, 0x11, 0xc0, 0x11];

fn replays(options: &[&str], open: &str) {
    let victim = Victim::new(options);
    victim.journal(open, TRANSACTIONS);
    assert_eq!(victim.replays(), REPLAYED, "{options:?} {open}");
}

#[test]
fn without_checksums() {
    replays(&["-O", "^metadata_csum"], "jo");
    replays(&["-b", "1024", "-O", "^metadata_csum,^64bit"], "jo");
}

#[test]
fn with_checksums_of_version_1() {
    // debugfs 1.47 does not sum up a transaction that only revokes.
    let without: Vec<&str> = TRANSACTIONS.iter().copied().filter(|line| !line.contains("-r")).collect();
    for options in [&["-O", "^metadata_csum"][..], &["-b", "4096", "-O", "^metadata_csum,^64bit"]] {
        let victim = Victim::new(options);
        victim.journal("jo -c -v 1", &without);
        assert_eq!(victim.replays(), [0xcc, 0xbb, 0xcc, 0xc0, 0x11]);
    }
}

#[test]
fn with_checksums_of_version_2() {
    replays(&[], "jo -c -v 2");
    replays(&["-b", "4096", "-O", "^64bit"], "jo -c -v 2");
}

#[test]
fn with_checksums_of_version_3() {
    replays(&[], "jo -c -v 3");
    replays(&["-b", "1024", "-O", "^64bit"], "jo -c -v 3");
}

#[test]
fn a_block_that_was_revoked_and_written_again_is_replayed() {
    let victim = Victim::new(&[]);
    victim.journal("jo -c -v 3", &["jw -b {0} {a}", "jw -r {0}", "jw -b {0} {b}", "jw -b {1} {a}", "jw -r {1},{2}"]);
    assert_eq!(victim.replays(), [0xbb, 0x11, 0x11, 0x11, 0x11]);
}

#[test]
fn transaction_numbers_wrap() {
    let victim = Victim::new(&["-O", "^metadata_csum"]);
    victim.image.poke(victim.place(0) + 0x18, &0xffff_fffd_u32.to_be_bytes());
    victim.journal("jo", TRANSACTIONS);
    assert_eq!(victim.replays(), REPLAYED);
}

#[test]
fn a_superblock_of_version_1() {
    let victim = Victim::new(&["-O", "^metadata_csum,^64bit"]);
    victim.journal("jo", &["jw -b {0} {a}", "jw -b {1},{2} {b}", "jw -b {0} {c}"]);
    victim.image.poke(victim.place(0) + 4, &3u32.to_be_bytes());
    victim.image.poke(victim.place(0) + 0x24, &[0; 12]);
    victim.replays();
}

#[test]
fn a_transaction_without_its_commit_is_forgotten() {
    for open in ["jo -c -v 1", "jo -c -v 2", "jo -c -v 3"] {
        let v1 = open.ends_with('1');
        let victim = Victim::new(if v1 { &["-O", "^metadata_csum"] } else { &[] });
        victim.journal(open, &["jw -b {0} {a}", "jw -b {0} {b}"]);
        // Two transactions of three blocks from block 1 on: the second one's descriptor, data and commit.
        victim.image.poke(victim.place(4) + 100, &[1]);
        victim.image.poke(victim.place(5) + 100, &[1]);
        victim.image.poke(victim.place(6), &[0; 4]);
        assert_eq!(victim.replays()[0], 0xaa, "{open}");
    }
}

#[test]
fn what_an_earlier_round_of_the_log_left_is_no_damage() {
    for open in ["jo -c -v 1", "jo -c -v 2", "jo -c -v 3"] {
        let v1 = open.ends_with('1');
        let victim = Victim::new(if v1 { &["-O", "^metadata_csum"] } else { &[] });
        victim.journal(open, &["jw -b {0} {a}", "jw -b {0} {b}"]);
        // The second commit was made before the first one, and its sum is wrong.
        victim.image.poke(victim.place(6) + 0x30, &999u64.to_be_bytes());
        victim.image.poke(victim.place(6) + 0x10, &[1, 2, 3, 4]);
        assert_eq!(victim.replays()[0], 0xaa, "{open}");
    }
}

/// Files, folders and what was made of them, so that the journal holds changes of all kinds and revokes.
fn change_much(folder: &Path) -> Model {
    for number in 0..300 {
        std::fs::create_dir_all(folder.join(format!("d{}", number % 7))).unwrap();
        std::fs::write(folder.join(format!("d{}/file-{number}", number % 7)), vec![7; number * 30]).unwrap();
        if number % 60 == 59 {
            run("coreutils", Command::new("sync").arg("-f").arg(folder));
        }
    }
    std::fs::remove_dir_all(folder.join("d3")).unwrap();
    std::fs::rename(folder.join("d1"), folder.join("d2/moved")).unwrap();
    run("coreutils", Command::new("sync").arg("-f").arg(folder));
    // What were blocks of folders become contents.
    for number in 0..40 {
        std::fs::write(folder.join(format!("late-{number}")), vec![9; 70_000]).unwrap();
        std::fs::remove_file(folder.join(format!("d2/file-{}", number * 7 + 2))).unwrap();
    }
    OpenOptions::new().write(true).open(folder.join("late-3")).unwrap().set_len(50).unwrap();
    let mut model = Model::read_host(folder);
    model.names.remove(b"/lost+found".as_slice());
    model
}

/// File systems as the kernel leaves them when the power goes. Only root can have the kernel mount one: for
/// others the transactions above, which debugfs writes, are all there is.
#[test]
fn a_power_cut_under_the_kernel() {
    for (options, mount) in [
        (&["-O", "metadata_csum_seed"][..], ""),
        (&["-b", "1024", "-O", "^64bit,^metadata_csum"], ""),
        (&["-O", "^metadata_csum"], ",journal_checksum"),
        (&["-O", "^metadata_csum"], ",journal_async_commit,data=writeback"),
        (&[], ",journal_async_commit,data=writeback"),
        // More goes through this one than it holds: the log goes on at its beginning.
        (&["-b", "1024", "-J", "size=4"], ",data=journal"),
        (&["-b", "4096"], ",data=journal"),
    ] {
        let image = Image::make(64 * MIB, options);
        let mut model = Model::default();
        let Some(mut cut) = image.power_cut(mount, |folder| model = change_much(folder)) else { return };
        {
            let overlay = cut.overlay();
            imgbake::ext4::Reader::open(&overlay).unwrap();
        }
        let repaired = cut.repaired();
        cut.edit_here(|editor| model.compare_editor(editor));
        cut.check();
        for field in ["Free blocks", "Free inodes"] {
            assert_eq!(cut.field(field), repaired.field(field), "{options:?} {mount}");
        }
        model.compare_kernel(&cut);
    }
}

/// A log in which the file system grows: the kernel writes such a one when resize2fs works on a mounted file system.
#[test]
fn the_file_system_may_grow_in_the_log() {
    let mut victim = Victim::new(&["-b", "4096", "-O", "^metadata_csum"]);
    let grown = victim.image.copy("grown.img");
    for image in [&victim.image, &grown] {
        std::fs::File::options().write(true).open(&image.path).unwrap().set_len(256 * MIB).unwrap();
    }
    run("e2fsprogs", Command::new("resize2fs").arg(&grown.path));
    let block = |image: &Image, number: u64| image.peek(number * 4096, 4096);
    let changed: Vec<u64> =
        (0..65536).filter(|number| block(&victim.image, *number) != block(&grown, *number)).collect();
    let contents: Vec<u8> = changed.iter().flat_map(|number| block(&grown, *number)).collect();
    victim.image.host_file("a", &contents);
    // debugfs does not write past the old end, so the tags get the right numbers afterwards.
    let stand_in = |number: u64| if number < 16384 { number } else { number - 32768 + 8000 };
    let numbers: Vec<String> = changed.iter().map(|number| stand_in(*number).to_string()).collect();
    victim.journal("jo", &[&format!("jw -b {} {{a}}", numbers.join(","))]);
    let descriptor = victim.image.peek(victim.place(1), 4096);
    for number in changed.iter().filter(|number| **number >= 16384) {
        let tag = u32::try_from(stand_in(*number)).unwrap().to_be_bytes();
        let at = descriptor.chunks(4).position(|word| word == tag).unwrap() * 4;
        victim.image.poke(victim.place(1) + at as u64, &u32::try_from(*number).unwrap().to_be_bytes());
    }
    let before = victim.image.field("Block count");
    victim.image.edit_here(|editor| {
        assert_eq!(editor.size(), 256 * MIB);
        editor.write("/new", Content::Bytes(vec![1; 100 << 20]), &plain(0o644)).unwrap();
    });
    victim.image.check();
    assert_ne!(victim.image.field("Block count"), before);
}

#[test]
fn fast_commits_are_refused_and_old_ones_are_not() {
    let image = Image::make(64 * MIB, &["-O", "fast_commit"]);
    let write = |path: std::path::PathBuf| {
        let file = std::fs::File::create(path).unwrap();
        std::io::Write::write_all(&mut &file, &[3; 50_000]).unwrap();
        file.sync_all().unwrap();
        file
    };
    let mut model = Model::default();
    let cut = image.power_cut("", |folder| {
        std::fs::write(folder.join("first"), b"first").unwrap();
        run("coreutils", Command::new("sync").arg("-f").arg(folder));
        write(folder.join("second"));
        model = Model::read_host(folder);
    });
    let Some(mut cut) = cut else { return };
    model.names.remove(b"/lost+found".as_slice());
    cut.edit_here(|editor| model.compare_editor(editor));
    cut.check();
    model.compare_kernel(&cut);

    let image = Image::make(64 * MIB, &["-O", "fast_commit"]);
    let mut fast = None;
    image.power_cut("", |folder| {
        std::fs::write(folder.join("first"), b"first").unwrap();
        run("coreutils", Command::new("sync").arg("-f").arg(folder));
        write(folder.join("second"));
        fast = Some(image.copy("fast.img"));
    });
    let error = fast.unwrap().refused();
    assert!(matches!(error, Ext4Error::Unsupported { .. }), "{error}");
    let want = "an ext4 file system with fast commits in its journal (`fast_commit`) is not supported";
    assert_eq!(error.to_string(), want);
}
