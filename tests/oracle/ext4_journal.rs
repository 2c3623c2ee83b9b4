//! File systems that were not unmounted cleanly: their journals are replayed as e2fsck replays them.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use imgbake::ext4::{Editor, Ext4Error};
use imgbake::{Content, FileDisk, HostFile, Overlay};

use super::image::{Image, Mounted, plain, run};
use super::model::Model;

const MIB: u64 = 1 << 20;

/// Has debugfs write transactions into the journal and leave them there: two blocks changed, one of them
/// twice, one changed and revoked, one that begins like a journal block.
fn with_transactions(options: &[&str], open: &str) -> (Image, Vec<u64>) {
    let mut image = Image::make(64 * MIB, options);
    image.edit_here(|editor| {
        editor.write("/victim", Content::Bytes(vec![0x11; 5 * 4096]), &plain(0o644)).unwrap();
    });
    let blocks: Vec<u64> =
        (0..4).map(|block| image.debugfs(&format!("bmap /victim {block}")).trim().parse().unwrap()).collect();
    let size: usize = image.field("Block size").parse().unwrap();
    for (name, byte) in [("a", 0xaa), ("b", 0xbb), ("c", 0xcc)] {
        image.host_file(name, &vec![byte; size]);
    }
    let mut escaped = vec![0xdd; size];
    escaped[..4].copy_from_slice(&[0xc0, 0x3b, 0x39, 0x98]);
    image.host_file("escaped", &escaped);
    let file = |name: &str| image.folder().join(name).display().to_string();
    let script = [
        open.to_owned(),
        format!("jw -b {} {}", blocks[0], file("a")),
        format!("jw -b {} {}", blocks[1], file("b")),
        format!("jw -b {} {}", blocks[2], file("c")),
        format!("jw -r {}", blocks[2]),
        format!("jw -b {} {}", blocks[0], file("c")),
        format!("jw -b {} {}", blocks[3], file("escaped")),
        "jc".to_owned(),
    ];
    let path = image.folder().join("script");
    std::fs::write(&path, script.join("\n") + "\n").unwrap();
    run("e2fsprogs", Command::new("debugfs").arg("-w").arg("-f").arg(path).arg(&image.path));
    assert!(image.field("Filesystem features").contains("needs_recovery"));
    (image, blocks)
}

/// The file's blocks are what e2fsck makes of them; answers their first bytes.
fn replays_alike(options: &[&str], open: &str) -> Vec<u8> {
    let (mut image, blocks) = with_transactions(options, open);
    let judged = image.copy("judged.img");
    let output = Command::new("/usr/sbin/e2fsck").arg("-fy").arg(&judged.path).output().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    image.edit_here(|editor| {
        editor.write("/new", Content::Bytes(b"new".to_vec()), &plain(0o644)).unwrap();
    });
    image.check();
    let size: u64 = image.field("Block size").parse().unwrap();
    let read = |image: &Image, block: u64| {
        let mut bytes = vec![0; usize::try_from(size).unwrap()];
        let file = std::fs::File::open(&image.path).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, block * size).unwrap();
        bytes
    };
    let check = |block: &u64| {
        let bytes = read(&image, *block);
        assert!(bytes == read(&judged, *block), "block {block} differs from e2fsck's");
        bytes[0]
    };
    blocks.iter().map(check).collect()
}

fn replays(options: &[&str], open: &str) {
    assert_eq!(replays_alike(options, open), [0xcc, 0xbb, 0x11, 0xc0]);
}

#[test]
fn without_checksums() {
    replays(&["-O", "^metadata_csum"], "jo");
}

#[test]
fn with_checksums_of_version_1() {
    // debugfs forgets the sum of the transaction that only revokes, so the journal ends there.
    replays_alike(&["-O", "^metadata_csum"], "jo -c -v 2");
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
fn a_damaged_transaction_is_an_error() {
    let (image, _) = with_transactions(&[], "jo -c -v 3");
    let journal: u64 = image.debugfs("bmap <8> 2").trim().parse().unwrap();
    let size: u64 = image.field("Block size").parse().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&image.path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1], journal * size + 100).unwrap();
    let base = FileDisk::new(HostFile::open(&image.path).unwrap());
    let mut overlay = Overlay::new(std::sync::Arc::new(base), 64 * MIB);
    let error = Editor::open(&mut overlay).err().unwrap();
    assert!(matches!(error, Ext4Error::Corrupt { .. }), "{error}");
}

/// A file system as the kernel leaves it when the power goes. Only root can have the kernel mount one: for
/// others the transactions above, which debugfs writes, are all there is.
#[test]
fn a_power_cut_under_the_kernel() {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return replays(&[], "jo -c -v 3");
    }
    let image = Image::make(64 * MIB, &["-O", "metadata_csum_seed"]);
    let mounted = Mounted::new(&image.path, image.folder().join("live"), "loop");
    let folder = mounted.folder();
    for number in 0..300 {
        std::fs::create_dir_all(folder.join(format!("d{}", number % 7))).unwrap();
        std::fs::write(folder.join(format!("d{}/file-{number}", number % 7)), vec![7; number * 30]).unwrap();
    }
    std::fs::remove_dir_all(folder.join("d3")).unwrap();
    std::fs::rename(folder.join("d1"), folder.join("d2/moved")).unwrap();
    run("coreutils", Command::new("sync").arg("-f").arg(folder.join("d0")));
    let mut cut = image.copy("cut.img");
    let mut model = Model::read_host(folder);
    drop(mounted);
    model.names.remove(b"/lost+found".as_slice());
    assert!(cut.field("Filesystem features").contains("needs_recovery"));
    cut.edit_here(|editor| model.compare_editor(editor));
    cut.check();
    model.compare_kernel(&cut);
}
