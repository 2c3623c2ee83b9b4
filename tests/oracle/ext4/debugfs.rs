//! What debugfs reads, compared with a model: one process for each image, fed with a file of requests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use imgbake::ext4::FileKind;

use super::image::Image;
use super::model::{Body, Limits, Model, Node, is_acl, is_lost_and_found, show};

/// Runs requests; answers what debugfs printed for each.
pub fn requests(image: &Image, requests: &[Vec<u8>], write: bool) -> Vec<Vec<u8>> {
    if requests.is_empty() {
        return Vec::new();
    }
    let script = image.folder().join("requests");
    std::fs::write(&script, [requests.join(&b'\n'), b"\n".to_vec()].concat()).unwrap();
    let mut command = Command::new("/usr/sbin/debugfs");
    command.args(write.then_some("-w")).arg("-f").arg(&script).arg(&image.path);
    let output = command.output().unwrap_or_else(|error| panic!("{error}; install the package e2fsprogs"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut rest = output.stdout.as_slice();
    let mut answers = Vec::new();
    for (number, request) in requests.iter().enumerate() {
        let echo = [b"debugfs: ".as_slice(), request, b"\n"].concat();
        rest = rest.strip_prefix(echo.as_slice()).unwrap_or_else(|| panic!("no echo of {}", show(request)));
        let next = requests.get(number + 1).map(|next| [b"debugfs: ".as_slice(), next, b"\n"].concat());
        let end = next.map_or(rest.len(), |next| {
            rest.windows(next.len()).position(|part| part == next).unwrap_or_else(|| panic!("no {}", show(&next)))
        });
        answers.push(rest[..end].to_vec());
        rest = &rest[end..];
    }
    answers
}

/// What a folder's listing says of a name.
struct Listed {
    inode: u32,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// A listing's lines: `/inode/mode/uid/gid/name/size/`.
fn listing(text: &[u8]) -> BTreeMap<Vec<u8>, Listed> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let listed = lines.map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b'/').collect();
        let number = |at: usize| std::str::from_utf8(fields[at]).unwrap();
        // debugfs prints owners with a sign.
        let owner = |at: usize| number(at).parse::<i64>().unwrap().rem_euclid(1 << 32).try_into().unwrap();
        let inode = number(1).parse().unwrap();
        let mode = u32::from_str_radix(number(2), 8).unwrap();
        (fields[5].to_vec(), Listed { inode, mode, uid: owner(3), gid: owner(4) })
    });
    listed.filter(|(name, _)| !matches!(name.as_slice(), b"." | b"..")).collect()
}

/// The inode of every name, found folder by folder, and what the listings say.
fn walk(model: &Model, image: &Image) -> BTreeMap<Vec<u8>, Listed> {
    let mut found: BTreeMap<Vec<u8>, Listed> = BTreeMap::new();
    let mut level: Vec<(Vec<u8>, u32)> = vec![(Vec::new(), 2)];
    let folders = model.folders();
    while !level.is_empty() {
        let asked: Vec<Vec<u8>> = level.iter().map(|(_, inode)| format!("ls -p <{inode}>").into_bytes()).collect();
        let mut next = Vec::new();
        for ((folder, _), answer) in level.iter().zip(requests(image, &asked, false)) {
            let listed = listing(&answer);
            let names = listed.keys().map(Vec::as_slice).filter(|name| !is_lost_and_found(folder, name));
            assert!(names.eq(folders[folder.as_slice()].iter().copied()), "{}", show(folder));
            for (name, listed) in listed.into_iter().filter(|(name, _)| !is_lost_and_found(folder, name)) {
                let path = [folder, b"/".as_slice(), &name].concat();
                if folders.contains_key(path.as_slice()) {
                    next.push((path.clone(), listed.inode));
                }
                found.insert(path, listed);
            }
        }
        level = next;
    }
    found
}

/// Compares names, kinds, modes, owners, times, links, contents and extended attributes.
pub fn compare(model: &Model, image: &Image) {
    let limits = Limits::of(image);
    let found = walk(model, image);
    let file = |inode: u32, what: usize| image.folder().join(format!("debugfs-{inode}-{what}"));
    let mut links: BTreeMap<u32, usize> = BTreeMap::new();
    found.values().for_each(|listed| *links.entry(listed.inode).or_default() += 1);
    let mut asked: Vec<Vec<u8>> = Vec::new();
    let mut expected: Vec<(u32, &[u8], &Node)> = Vec::new();
    for (path, number) in &model.names {
        let (node, listed) = (&model.nodes[*number], &found[path]);
        let attributes = &node.attributes;
        assert_eq!(
            (listed.mode & 0o7777, listed.uid, listed.gid),
            (attributes.mode.into(), attributes.uid, attributes.gid),
            "{}",
            show(path)
        );
        if expected.iter().any(|(inode, ..)| *inode == listed.inode) {
            continue;
        }
        expected.push((listed.inode, path, node));
        asked.push(format!("stat <{}>", listed.inode).into_bytes());
        if let Body::File(bytes) = &node.body
            && !bytes.is_empty()
        {
            asked.push(format!("dump <{}> {}", listed.inode, file(listed.inode, 0).display()).into_bytes());
        }
        for (number, name) in (1..).zip(attributes.xattrs.keys()) {
            let name = std::str::from_utf8(name).unwrap();
            let target = file(listed.inode, number);
            asked.push(format!("ea_get -f {} <{}> {name}", target.display(), listed.inode).into_bytes());
        }
    }
    let answers = requests(image, &asked, false);
    let stats =
        asked.iter().zip(answers).filter(|(request, _)| request.starts_with(b"stat ")).map(|(_, answer)| answer);
    for ((inode, path, node), stat) in expected.into_iter().zip(stats) {
        let stat = String::from_utf8_lossy(&stat).into_owned();
        compare_stat(&stat, path, node, &limits, links[&inode]);
        if let Body::File(bytes) = &node.body
            && !bytes.is_empty()
        {
            let copied = taken(file(inode, 0));
            // Of a smaller file that is kept in its inode debugfs copies all of the 60 bytes there.
            let padded = copied.len() == 60 && copied.starts_with(bytes);
            assert!(copied == *bytes || padded, "{}: debugfs reads other contents", show(path));
        }
        for (number, (name, value)) in (1..).zip(&node.attributes.xattrs) {
            let value = if is_acl(name) { with_zero_ids(value) } else { value.clone() };
            assert_eq!(taken(file(inode, number)), value, "{} {}", show(path), show(name));
        }
    }
}

/// debugfs says 0 where an entry of an access control list has no id.
fn with_zero_ids(acl: &[u8]) -> Vec<u8> {
    let (version, entries) = acl.split_at(4);
    let id = |entry: &[u8]| if entry[4..] == [0xff; 4] { vec![0; 4] } else { entry[4..].to_vec() };
    let entries = entries.chunks(8).flat_map(|entry| [entry[..4].to_vec(), id(entry)].concat());
    version.iter().copied().chain(entries).collect()
}

/// A file that debugfs wrote, and that is needed no longer.
fn taken(path: PathBuf) -> Vec<u8> {
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::fs::remove_file(path).unwrap();
    bytes
}

fn compare_stat(stat: &str, path: &[u8], node: &Node, limits: &Limits, links: usize) {
    let path = show(path);
    let field = |name: &str| {
        let rest = stat.split_once(name).unwrap_or_else(|| panic!("{path}: no {name} in {stat}")).1;
        rest.split_whitespace().next().unwrap().to_owned()
    };
    let hex = |text: &str| u32::from_str_radix(text, 16).unwrap();
    let time = field("mtime: 0x");
    let (low, extra) = time.split_once(':').map_or((time.as_str(), 0), |(low, extra)| (low, hex(extra)));
    let seconds = i64::from(hex(low).cast_signed()) + (i64::from(extra & 3) << 32);
    let want = limits.time(node.attributes.mtime);
    assert_eq!((seconds, extra >> 2), (want.seconds, want.nanoseconds), "{path}");
    let names = stat.split_once("Extended attributes:\n").map_or(0, |(_, rest)| {
        // What is kept in an inode shows as an attribute.
        let lines = rest.lines().take_while(|line| line.starts_with("  "));
        lines.filter(|line| !line.starts_with("  system.data ")).count()
    });
    assert_eq!(names, node.attributes.xattrs.len(), "{path}: {stat}");
    let mut kind = match &node.body {
        Body::File(_) => "regular",
        Body::Directory => "directory",
        Body::Symlink(_) => "symlink",
        Body::Device(FileKind::CharacterDevice, ..) => "character",
        Body::Device(FileKind::BlockDevice, ..) => "block",
        Body::Device(FileKind::Fifo, ..) => "FIFO",
        Body::Device(..) => "socket",
    }
    .to_owned();
    match &node.body {
        Body::Directory => {}
        Body::Symlink(target) => assert_eq!(field("Size: "), target.len().to_string(), "{path}"),
        Body::Device(FileKind::CharacterDevice | FileKind::BlockDevice, major, minor) => {
            assert!(stat.contains(&format!("Device major/minor number: {major:02}:{minor:02}")), "{path}: {stat}");
            write!(kind, " special").unwrap();
        }
        _ => {}
    }
    assert!(stat.contains(&format!("Type: {kind} ")), "{path} is no {kind}: {stat}");
    if node.body != Body::Directory {
        assert_eq!(field("Links: "), links.to_string(), "{path}");
    }
}
