//! A block device, as a whole or a partition: Linux only.
//!
//! Its first MiB, which holds the partition table, is written when all else is on the device, so that a card that
//! was pulled out early does not look like a good one.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{OFlags, major, minor};

use super::SinkError;

/// Bytes held back.
const HEAD: u64 = 1024 * 1024;

/// A device being written.
pub(super) struct Device {
    path: String,
    file: File,
    size: u64,
    head: Vec<u8>,
}

impl Device {
    /// Opens the device, if nobody uses it.
    pub fn open(path: &Path) -> Result<Self, SinkError> {
        let shown = path.display().to_string();
        let create = |source| SinkError::Create { path: shown.clone(), source };
        let id = fs::metadata(path).map_err(create)?.rdev();
        let id = format!("{}:{}", major(id), minor(id));
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(create)?;
        if let Some(at) = mounted(&mounts, &members(&id)) {
            return Err(SinkError::InUse { path: shown, mounted: Some(at) });
        }
        // Exclusive: the kernel refuses what it uses itself, swap and volume managers included.
        let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or(0);
        let file = File::options().write(true).custom_flags(exclusive).open(path);
        let file = match file {
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(SinkError::InUse { path: shown, mounted: None });
            }
            file => file.map_err(create)?,
        };
        Self::over(shown, file)
    }

    fn over(path: String, mut file: File) -> Result<Self, SinkError> {
        let size = file.seek(SeekFrom::End(0));
        let size = size.map_err(|source| SinkError::Create { path: path.clone(), source })?;
        Ok(Self { path, file, size, head: Vec::new() })
    }

    pub fn fits(&self, size: u64) -> Result<(), SinkError> {
        if size <= self.size {
            return Ok(());
        }
        Err(SinkError::TooSmall { path: self.path.clone(), has: self.size, size })
    }

    /// Writes `bytes` at `offset`; they come in order.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let held = usize::try_from(HEAD.saturating_sub(offset)).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_at(held.min(bytes.len()));
        self.head.extend_from_slice(head);
        if rest.is_empty() {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(offset + head.len() as u64))?;
        self.file.write_all(rest)
    }

    /// Waits until all is on the device, then writes its beginning.
    pub fn finish(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&self.head)?;
        self.file.sync_all()
    }
}

/// The numbers (`8:0`) of a device and its partitions.
fn members(id: &str) -> Vec<String> {
    let mut members = vec![id.to_owned()];
    let folder = Path::new("/sys/dev/block").join(id);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    members.extend(
        entries.filter_map(|entry| fs::read_to_string(entry.path().join("dev")).ok()).map(|id| id.trim().to_owned()),
    );
    members
}

/// Where the first of `members` is mounted that is; `mounts` as in proc_pid_mountinfo(5).
fn mounted(mounts: &str, members: &[String]) -> Option<String> {
    let at = |line: &str| {
        let mut fields = line.split(' ').skip(2);
        let id = fields.next()?;
        members.iter().any(|member| member == id).then(|| fields.nth(1)).flatten().map(str::to_owned)
    };
    mounts.lines().find_map(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_mebibyte_is_written_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("device");
        fs::write(&path, vec![b'-'; 3 << 20]).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let mut device = Device::over("device".into(), file).unwrap();
        for part in 0..4_u64 {
            device.write(part * 700_000, &vec![b'a' + u8::try_from(part).unwrap(); 700_000]).unwrap();
        }
        let written = fs::read(&path).unwrap();
        assert!(written[..1 << 20].iter().all(|byte| *byte == b'-'));
        assert_eq!((written[1 << 20], written[2_799_999], written[2_800_000]), (b'b', b'd', b'-'));
        device.finish().unwrap();
        let written = fs::read(&path).unwrap();
        assert_eq!((written[0], written[699_999], written[700_000], written[(1 << 20) - 1]), (b'a', b'a', b'b', b'b'));
        let error = device.fits(4 << 20).unwrap_err();
        assert_eq!(error.to_string(), "`device` has 3145728 bytes, the image 4194304");
    }

    #[test]
    fn a_mount_of_a_partition_counts() {
        let mounts = "29 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n31 29 179:2 / /media/card rw - ext4 /dev/x rw\n";
        let members = ["179:0".to_owned(), "179:1".to_owned(), "179:2".to_owned()];
        assert_eq!(mounted(mounts, &members).unwrap(), "/media/card");
        assert_eq!(mounted(mounts, &["179:0".to_owned()]), None);
    }
}
