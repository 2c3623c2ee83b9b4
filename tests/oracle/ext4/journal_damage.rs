//! Journals that are damaged, or made to do damage: refused by name, and nothing is written.

use imgbake::Content;
use imgbake::ext4::Ext4Error;

use super::image::{Image, plain};
use super::journal::{TRANSACTIONS, Victim};

const MIB: u64 = 1 << 20;

/// Offsets in the journal's superblock.
const S_START: u64 = 0x1c;
const S_FIRST: u64 = 0x14;
const S_MAXLEN: u64 = 0x10;
const S_ERRNO: u64 = 0x20;

fn corrupt(image: &Image) -> String {
    match image.refused() {
        Ext4Error::Corrupt { what } => what,
        error => panic!("{error}"),
    }
}

fn unsupported(image: &Image) -> String {
    let error = image.refused();
    assert!(matches!(error, Ext4Error::Unsupported { .. }), "{error}");
    assert!(error.hint().is_some(), "{error} has no hint");
    error.to_string()
}

/// Whether e2fsck, too, finds more than a log to be replayed.
fn alarms_e2fsck(image: &Image) -> bool {
    let copy = image.copy("alarm.img");
    let output = std::process::Command::new("/usr/sbin/e2fsck").arg("-fy").arg(&copy.path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ["replay was aborted", "while recovering", "checksum error"].iter().any(|words| text.contains(words))
}

/// An image without metadata_csum, whose journal has these transactions and no checksums.
fn unchecked(transactions: &[&str]) -> Victim {
    let victim = Victim::new(&["-O", "^metadata_csum,^64bit", "-b", "1024"]);
    victim.journal("jo", transactions);
    victim
}

#[test]
fn a_wrong_checksum_in_a_committed_transaction_is_an_error() {
    for open in ["jo -c -v 1", "jo -c -v 2", "jo -c -v 3"] {
        let v1 = open.ends_with('1');
        // Descriptor, data and commit of the first transaction and of the last.
        for block in [1, 2, 3, 4, 5, 6] {
            let victim = Victim::new(if v1 { &["-O", "^metadata_csum"] } else { &[] });
            victim.journal(open, &["jw -b {0} {a}", "jw -b {1} {b}"]);
            let last_of_commit = if v1 { 0x13 } else { 100 };
            let offset = if block % 3 == 0 { last_of_commit } else { 200 };
            victim.image.poke(victim.place(block) + offset, &[1]);
            assert!(alarms_e2fsck(&victim.image), "{open} {block}");
            assert!(corrupt(&victim.image).contains("of the journal has a wrong checksum"), "{open} {block}");
        }
    }
    let victim = Victim::new(&[]);
    victim.journal("jo -c -v 3", &["jw -r {0}"]);
    victim.image.poke(victim.place(1) + 200, &[1]);
    assert!(alarms_e2fsck(&victim.image));
    assert!(corrupt(&victim.image).contains("of the journal has a wrong checksum"));
}

#[test]
fn a_wrong_checksum_of_a_revoked_block_does_not_matter() {
    let victim = Victim::new(&[]);
    victim.journal("jo -c -v 3", &["jw -b {0} {a}", "jw -r {0}", "jw -b {1} {b}"]);
    victim.image.poke(victim.place(2) + 200, &[1]);
    assert_eq!(victim.replays(), [0x11, 0xbb, 0x11, 0x11, 0x11]);
}

#[test]
fn an_asynchronous_commit_that_was_overtaken_ends_the_log() {
    let victim = Victim::new(&["-O", "^metadata_csum"]);
    victim.journal("jo -c -v 1", &["jw -b {0} {a}", "jw -b {0} {b}", "jw -b {0} {c}"]);
    let incompat = victim.place(0) + 0x28;
    let features = u32::from_be_bytes(victim.image.peek(incompat, 4).try_into().unwrap());
    victim.image.poke(incompat, &(features | 4).to_be_bytes());
    // The data of the last transaction did not reach the disk.
    victim.image.poke(victim.place(8) + 200, &[1]);
    let early = Victim { image: victim.image.copy("early.img"), blocks: victim.blocks.clone(), ..victim };
    assert_eq!(victim.replays()[0], 0xbb);
    // That of an earlier one must have.
    early.image.poke(early.place(5) + 200, &[1]);
    assert!(alarms_e2fsck(&early.image));
    assert!(corrupt(&early.image).contains("of the journal has a wrong checksum"));
}

#[test]
fn a_superblock_that_contradicts_itself_is_refused() {
    let victim = unchecked(TRANSACTIONS);
    let found = |offset: u64, value: u32| {
        let copy = victim.image.copy("hostile.img");
        copy.poke(victim.place(0) + offset, &value.to_be_bytes());
        corrupt(&copy)
    };
    let contradicts = "the journal has a superblock that contradicts itself";
    assert_eq!(found(S_FIRST, 0), contradicts);
    assert_eq!(found(S_FIRST, 4096), contradicts);
    assert_eq!(found(S_MAXLEN, 4097), contradicts);
    assert_eq!(found(S_MAXLEN, u32::MAX), contradicts);
    assert_eq!(found(0xc, 4096), contradicts);
    assert_eq!(found(0, 0), "the journal has no superblock");
    assert_eq!(found(S_START, 4096), "the journal begins at block 4096, and its log lies in blocks 1 to 4096");
    assert_eq!(
        found(S_START, u32::MAX),
        format!("the journal begins at block {}, and its log lies in blocks 1 to 4096", u32::MAX)
    );
    assert_eq!(found(0x28, 0x18), "the journal has checksums of several versions");
    let copy = victim.image.copy("hostile.img");
    copy.poke(victim.place(0) + 0x28, &0x40u32.to_be_bytes());
    assert_eq!(copy.refused().to_string(), "an ext4 file system with a journal with unknown features is not supported");
    let checked = Victim::new(&[]);
    checked.journal("jo -c -v 3", TRANSACTIONS);
    checked.image.poke(checked.place(0) + 0x44, &[1]);
    assert_eq!(corrupt(&checked.image), "the journal has a superblock with a wrong checksum");
}

#[test]
fn changes_of_blocks_that_are_not_for_the_journal_to_change_are_refused() {
    let victim = unchecked(&["jw -b {0} {a}"]);
    let found = |target: u32| {
        let copy = victim.image.copy("hostile.img");
        copy.poke(victim.place(1) + 12, &target.to_be_bytes());
        corrupt(&copy)
    };
    let own = u32::try_from(victim.place(20) / 1024).unwrap();
    assert_eq!(found(own), format!("the journal changes block {own}, its own"));
    assert_eq!(found(0), "the journal changes block 0, which does not exist");
    assert_eq!(found(65536), "the journal changes block 65536, which does not exist");
    assert_eq!(found(u32::MAX), format!("the journal changes block {}, which does not exist", u32::MAX));
    // The disk may be larger than the file system.
    let copy = victim.image.copy("larger.img");
    std::fs::File::options().write(true).open(&copy.path).unwrap().set_len(65 * MIB).unwrap();
    copy.poke(victim.place(1) + 12, &65536u32.to_be_bytes());
    assert_eq!(corrupt(&copy), "the journal changes block 65536, which does not exist");
}

#[test]
fn descriptors_that_never_end_end_the_log() {
    // Neither the first tag nor any other says that it is the last: the data would go on past the commit.
    let victim = unchecked(&["jw -b {0} {a}", "jw -b {1} {b}"]);
    let place = victim.place(4);
    let descriptor = victim.image.peek(place, 1024);
    let endless: Vec<u8> =
        descriptor.iter().enumerate().map(|(at, byte)| if at == 19 { byte & !8 } else { *byte }).collect();
    victim.image.poke(place, &endless);
    assert_eq!(victim.replays()[..2], [0xaa, 0x11]);
    // A log that leads round and round.
    let victim = unchecked(&["jw -b {0} {a}"]);
    let mut descriptor = victim.image.peek(victim.place(1), 1024);
    descriptor[19] &= !8;
    victim.image.poke(victim.place(1), &descriptor.repeat(4095));
    assert_eq!(victim.bytes(&victim.image)[0], 0x11);
    let mut image = victim.image;
    image.edit_here(|_| ());
}

#[test]
fn a_revoke_block_that_holds_more_than_fits_is_refused() {
    let victim = unchecked(&["jw -r {0}"]);
    for count in [1025u32, u32::MAX] {
        victim.image.poke(victim.place(1) + 12, &count.to_be_bytes());
        assert!(alarms_e2fsck(&victim.image));
        assert_eq!(corrupt(&victim.image), "block 1 of the journal revokes more blocks than fit in it");
    }
}

#[test]
fn a_journal_that_lies_about_its_blocks_is_refused() {
    let victim = unchecked(TRANSACTIONS);
    let first = u32::try_from(victim.place(0) / 1024).unwrap();
    // Inode 8 is the eighth of the first table. Its last block becomes an extent of its own.
    let text = victim.image.debugfs("imap <8>");
    let (block, offset) = text.split_once("located at block ").unwrap().1.split_once(", offset 0x").unwrap();
    let inode = block.parse::<u64>().unwrap() * 1024 + u64::from_str_radix(offset.trim(), 16).unwrap();
    let extent = |logical: u32, len: u16, start: u32| {
        [logical.to_le_bytes().as_slice(), &len.to_le_bytes(), &[0; 2], &start.to_le_bytes()].concat()
    };
    let found = |logical: u32, len: u16, start: u32| {
        let copy = victim.image.copy("hostile.img");
        copy.poke(inode + 0x28 + 2, &2u16.to_le_bytes());
        copy.poke(inode + 0x28 + 12, &extent(0, 4095, first));
        copy.poke(inode + 0x28 + 24, &extent(logical, len, start));
        corrupt(&copy)
    };
    let bitmap = victim.image.debugfs("stats").split_once("block bitmap at ").unwrap().1.to_owned();
    let bitmap: u32 = bitmap.split(',').next().unwrap().parse().unwrap();
    let claims = |block: u32| format!("inode 8 claims metadata among the 1 blocks from {block}");
    assert_eq!(found(4095, 1, bitmap), claims(bitmap));
    assert_eq!(found(4095, 1, 1), claims(1));
    assert_eq!(found(4095, 1, first + 7), "inode 8 lists a block twice");
    assert_eq!(found(4096, 1, first + 4095), "the journal has a hole");
    assert_eq!(found(4095, 32769, first + 4095), "the journal has a hole");
    assert_eq!(found(4095, 1, 65536), "inode 8 has an extent outside of the file system");
    victim.image.debugfs_write(&["sif <8> mode 0".into()]);
    assert_eq!(corrupt(&victim.image), "the journal (inode 8) is not a file in use");
}

#[test]
fn errors_that_the_journal_recorded_are_refused() {
    let want = "an ext4 file system with recorded errors is not supported";
    let victim = unchecked(TRANSACTIONS);
    victim.image.poke(victim.place(0) + S_ERRNO, &5u32.to_be_bytes());
    assert_eq!(unsupported(&victim.image), want);
    let clean = Image::make(64 * MIB, &["-O", "^metadata_csum", "-b", "1024"]);
    let place: u64 = clean.debugfs("bmap <8> 0").trim().parse().unwrap();
    clean.poke(place * 1024 + S_ERRNO, &5u32.to_be_bytes());
    assert_eq!(unsupported(&clean), want);

    // A superblock in the log that knows of errors, and one in place whose successor in the log does not.
    let victim = Victim::new(&["-O", "^metadata_csum,^64bit", "-b", "1024"]);
    let good = victim.image.peek(1024, 1024);
    let mut bad = good.clone();
    bad[0x3a] |= 2;
    victim.image.host_file("a", &bad);
    victim.image.host_file("b", &good);
    let other = Victim { image: victim.image.copy("other.img"), blocks: victim.blocks.clone(), ..victim };
    other.image.host_file("b", &good);
    victim.journal("jo", &["jw -b 1 {a}"]);
    assert_eq!(unsupported(&victim.image), want);
    other.journal("jo", &["jw -b 1 {b}"]);
    other.image.debugfs_write(&["ssv state 3".into()]);
    assert_eq!(unsupported(&other.image), want);
}

#[test]
fn a_journal_that_contradicts_the_superblock_is_refused() {
    let victim = unchecked(TRANSACTIONS);
    victim.image.debugfs_write(&["feature ^needs_recovery".into()]);
    assert_eq!(corrupt(&victim.image), "the journal holds changes, and the superblock says that it does not");
    let image = Image::make(64 * MIB, &["-O", "^has_journal"]);
    image.debugfs_write(&["feature needs_recovery".into()]);
    assert_eq!(corrupt(&image), "it is marked as holding a journal's changes without one");
}

#[test]
fn an_external_journal_is_refused() {
    for recover in ["^needs_recovery", "needs_recovery"] {
        let image = Image::make(64 * MIB, &[]);
        let uuid = "ssv journal_uuid 01020304-0506-0708-090a-0b0c0d0e0f10";
        image.debugfs_write(&["ssv journal_inum 0".into(), uuid.into(), format!("feature {recover}")]);
        assert_eq!(unsupported(&image), "an ext4 file system with an external journal is not supported");
    }
}

#[test]
fn an_unclean_file_system_without_a_journal_is_refused() {
    let mut image = Image::make(64 * MIB, &["-O", "^has_journal"]);
    image.edit_here(|editor| editor.write("/a", Content::Bytes(vec![1]), &plain(0o644)).unwrap());
    image.debugfs_write(&["ssv state 0".into()]);
    let want =
        "an ext4 file system with changes that were never finished (it was not unmounted cleanly) is not supported";
    assert_eq!(unsupported(&image), want);
}
