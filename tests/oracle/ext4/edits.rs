//! Edits as generated values, which proptest can shrink: over a small world of names, so that they meet.
//!
//! Many cannot be done; which error those are to end in is the model's business.

use std::collections::BTreeMap;
use std::sync::Arc;

use imgbake::ext4::{Attributes, FileKind, Timestamp};
use imgbake::{Content, FileRange, HostFile};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::image::Image;

/// One change to a file system.
#[derive(Debug, Clone)]
pub enum Edit {
    Write(Path, Bytes, Attributes),
    Mkdir(Path, Attributes),
    MkdirAll(Path, Attributes),
    Symlink(Path, Target, Attributes),
    Mknod(Path, FileKind, u32, u32, Attributes),
    HardLink(Path, Path),
    Remove(Path),
    Rename(Path, Path),
    SetMode(Path, u16),
    SetOwner(Path, u32, u32),
    SetMtime(Path, Timestamp),
    SetXattr(Path, (Vec<u8>, Vec<u8>)),
    RemoveXattr(Path, Vec<u8>),
    /// Many empty files whose names have a length.
    Populate(Path, usize, usize),
}

/// Names by their numbers in [`NAMES`].
#[derive(Clone)]
pub struct Path(Vec<usize>);

impl Path {
    pub fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|name| [b"/".as_slice(), &name_of(*name)].concat()).collect()
    }
}

impl std::fmt::Debug for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.bytes()))
    }
}

/// Names that occur often, and in the trees that images start with; then those that occur seldom.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"d",
    b"many",
    b"name",
    b"ballast",
    // Names that need care.
    b"\xff\xfe\x80",
    b"caf\xc3\xa9",
    b" ",
    b"-",
    b"\"q\" *",
    b"..",
    b".",
    b"",
    b"lost",
    b"x",
];
const OFTEN: usize = 6;
/// Numbers past [`NAMES`] stand for names of many bytes: up to 255, which is the limit, and one that is too long.
const LENGTHS: &[usize] = &[200, 254, 255, 256];

fn name_of(number: usize) -> Vec<u8> {
    match NAMES.get(number) {
        Some(name) => name.to_vec(),
        None if number == NAMES.len() + LENGTHS.len() => b"nul\0".to_vec(),
        None => vec![b'n'; LENGTHS[number - NAMES.len()]],
    }
}

/// Contents: a length, where the pattern begins, and whether they are mapped from the host's file.
#[derive(Debug, Clone)]
pub struct Bytes {
    len: usize,
    start: usize,
    mapped: bool,
}

/// Bytes of the file that contents are mapped from; a part of it is a hole.
const HOST_SIZE: usize = 4_000_000;

/// The host's file, beside an image.
pub fn host(image: &Image) -> Arc<HostFile> {
    image.host_file("content", &(0..HOST_SIZE).map(pattern).collect::<Vec<_>>())
}

/// What the host's file holds at a place.
fn pattern(at: usize) -> u8 {
    if (1_000_000..2_000_000).contains(&at) { 0 } else { u8::try_from((at / 3 + at / 4096) % 251).unwrap() }
}

impl Bytes {
    pub fn bytes(&self) -> Vec<u8> {
        (self.start..self.start + self.len).map(pattern).collect()
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn content(&self, host: &Arc<HostFile>) -> Content {
        if self.mapped {
            Content::File(FileRange::new(Arc::clone(host), self.start as u64, self.len as u64).unwrap())
        } else {
            Content::Bytes(self.bytes())
        }
    }
}

/// Where a symbolic link leads.
#[derive(Debug, Clone)]
pub enum Target {
    To(Path),
    Relative(Path),
    Nowhere(usize),
}

impl Target {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::To(path) => path.bytes(),
            Self::Relative(path) => path.bytes()[1..].to_vec(),
            Self::Nowhere(len) => (0..*len).map(|at| if at % 50 == 49 { b'/' } else { b'x' }).collect(),
        }
    }
}

fn path() -> impl Strategy<Value = Path> {
    let name = prop_oneof![30 => 0..OFTEN, 6 => OFTEN..NAMES.len(), 3 => NAMES.len()..NAMES.len() + LENGTHS.len() + 1];
    vec(name, 1..4).prop_map(Path)
}

fn bytes() -> impl Strategy<Value = Bytes> {
    let len = prop_oneof![4 => 0..100usize, 4 => 0..9000usize, 3 => 0..200_000usize, 1 => 0..2_500_000usize];
    (len, 0..1_500_000usize, any::<bool>()).prop_map(|(len, start, mapped)| Bytes { len, start, mapped })
}

fn time() -> impl Strategy<Value = Timestamp> {
    let seconds = prop_oneof![
        0..2_000_000_000i64,
        -2_147_483_648..0i64,
        2_147_483_647..15_032_385_536i64,
        Just(2_147_483_648i64),
        Just(4_294_967_296i64),
    ];
    (seconds, 0..1_000_000_000u32).prop_map(|(seconds, nanoseconds)| Timestamp { seconds, nanoseconds })
}

/// An access control list with `users` named users, as the kernel gives it.
fn acl(users: u32) -> Vec<u8> {
    let mut acl = vec![2, 0, 0, 0];
    let none = u32::MAX;
    let named = (0..users).map(|user| (2u16, 6u16, 1000 + user));
    for (tag, permissions, id) in
        [(1, 7, none)].into_iter().chain(named).chain([(4, 5, none), (16, 7, none), (32, 5, none)])
    {
        acl.extend_from_slice(&[tag.to_le_bytes(), permissions.to_le_bytes()].concat());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

/// An attribute that only files and folders may have, as `files` says, or anything.
fn xattr(files: bool) -> BoxedStrategy<(Vec<u8>, Vec<u8>)> {
    let named = |name: &'static [u8], longest: usize| {
        (0..=longest, any::<u8>()).prop_map(move |(len, byte)| (name.to_vec(), vec![byte; len]))
    };
    let any = prop_oneof![
        named(b"trusted.small", 8),
        named(b"trusted.overlay", 300),
        named(b"security.other", 40),
        named(b"trusted.large", 5000),
    ];
    if !files {
        return any.boxed();
    }
    let long = [b"user.".as_slice(), &[b'n'; 200]].concat();
    let wrong =
        [&b"other.x"[..], b"user.", b"capability", b"system.posix_acl_access"].map(|name| (name.to_vec(), vec![1]));
    prop_oneof![
        4 => any,
        2 => named(b"user.comment", 90),
        1 => named(b"user.", 0).prop_map(move |_| (long.clone(), vec![7; 10])),
        2 => Just((b"security.capability".to_vec(), b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec())),
        2 => (0..12u32).prop_map(|users| (b"system.posix_acl_access".to_vec(), acl(users))),
        1 => proptest::sample::select(wrong.to_vec()),
    ]
    .boxed()
}

fn attributes(files: bool) -> impl Strategy<Value = Attributes> {
    let owner = || prop_oneof![0..200_000u32, 0..4_000_000_000u32];
    let xattrs = prop_oneof![6 => vec(xattr(files), 0..1), 3 => vec(xattr(files), 1..5)];
    (0..0o10000u16, owner(), owner(), time(), xattrs).prop_map(|(mode, uid, gid, mtime, xattrs)| Attributes {
        mode,
        uid,
        gid,
        mtime,
        xattrs: xattrs.into_iter().collect::<BTreeMap<_, _>>(),
    })
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        path().prop_map(Target::To),
        path().prop_map(Target::Relative),
        (55..65usize).prop_map(Target::Nowhere),
        proptest::sample::select(vec![0, 1, 700, 1023, 1024, 2047, 4095, 4096]).prop_map(Target::Nowhere),
    ]
}

fn device() -> impl Strategy<Value = (FileKind, u32, u32)> {
    proptest::sample::select(vec![
        (FileKind::CharacterDevice, 5, 1),
        (FileKind::BlockDevice, 259, 1000),
        (FileKind::BlockDevice, 8, 0xf_ffff),
        (FileKind::Fifo, 0, 0),
        (FileKind::Socket, 0, 0),
        (FileKind::BlockDevice, 5000, 0),
        (FileKind::Symlink, 0, 0),
    ])
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        10 => (path(), bytes(), attributes(true)).prop_map(|(path, bytes, attributes)| Edit::Write(path, bytes, attributes)),
        6 => (path(), attributes(true)).prop_map(|(path, attributes)| Edit::Mkdir(path, attributes)),
        3 => (path(), attributes(true)).prop_map(|(path, attributes)| Edit::MkdirAll(path, attributes)),
        5 => (path(), target(), attributes(false)).prop_map(|(path, target, attributes)| Edit::Symlink(path, target, attributes)),
        3 => (path(), device(), attributes(false))
            .prop_map(|(path, (kind, major, minor), attributes)| Edit::Mknod(path, kind, major, minor, attributes)),
        5 => (path(), path()).prop_map(|(path, existing)| Edit::HardLink(path, existing)),
        5 => path().prop_map(Edit::Remove),
        8 => (path(), path()).prop_map(|(from, to)| Edit::Rename(from, to)),
        2 => (path(), 0..0o10000u16).prop_map(|(path, mode)| Edit::SetMode(path, mode)),
        2 => (path(), 0..100_000u32, 0..100_000u32).prop_map(|(path, uid, gid)| Edit::SetOwner(path, uid, gid)),
        2 => (path(), time()).prop_map(|(path, time)| Edit::SetMtime(path, time)),
        6 => (path(), xattr(false)).prop_map(|(path, xattr)| Edit::SetXattr(path, xattr)),
        3 => (path(), xattr(true)).prop_map(|(path, (name, _))| Edit::RemoveXattr(path, name)),
        2 => (path(), 0..250usize, 8..=255usize).prop_map(|(path, amount, length)| Edit::Populate(path, amount, length)),
    ]
}

/// Lists of edits, up to sixty.
pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    vec(edit(), 1..=60)
}

/// The same edits each time: those of a number, about `amount` of them.
pub fn some(number: u8, amount: usize) -> Vec<Edit> {
    let mut runner = runner(number, Config::default());
    vec(edit(), amount).new_tree(&mut runner).unwrap().current()
}

/// Runs cases that are always the same unless `IMGBAKE_PROPTEST_SEED`, a number, asks for others;
/// `IMGBAKE_PROPTEST_CASES` asks for more of them.
pub fn runner(number: u8, config: Config) -> TestRunner {
    let setting = |name: &str| {
        let value = std::env::var(name).ok()?;
        Some(value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
    };
    let seed: u64 = setting("IMGBAKE_PROPTEST_SEED").unwrap_or(0);
    let cases = setting("IMGBAKE_PROPTEST_CASES").map_or(config.cases, |cases| u32::try_from(cases).unwrap());
    let mut bytes = [number; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 100, ..config };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}
