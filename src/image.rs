//! Container formats: what an image file is, unpacking it, and writing a disk out.
//!
//! Understood today: raw disks, and xz around them. The others that images come in are recognised by their magic
//! numbers and refused by name, with the command that converts them.

mod sparse;
mod xz;

use std::fs::File;
use std::io;

use crate::disk::{Disk, DiskError, HostFile, Source};
use crate::progress::Progress;
use crate::sink::{Sink, SinkError};
use sparse::SparseWriter;

/// Bytes of a disk that are looked at together.
const CHUNK: u64 = 16 * 1024 * 1024;
/// Bytes read at a time.
const BUFFER: usize = 1024 * 1024;

/// What keeps an image from being read, unpacked or written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The host failed to read the image file.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// The host failed to write the unpacked image.
    #[error("cannot unpack `{path}`")]
    Unpack {
        /// The image file.
        path: String,
        /// The system's error.
        source: io::Error,
    },
    /// A format that is recognised but not understood.
    #[error("`{path}` is {format}, which is not supported yet")]
    Unsupported {
        /// The file.
        path: String,
        /// The format, with its article.
        format: &'static str,
        /// The command that makes a raw image of it.
        convert: &'static str,
    },
    /// Nothing that could be a disk.
    #[error("`{path}` is not a disk image")]
    NotAnImage {
        /// The file.
        path: String,
    },
    /// The compressed data is damaged.
    #[error("`{path}` is damaged: {what}")]
    Corrupt {
        /// The file.
        path: String,
        /// In what way.
        what: String,
    },
    /// The disk could not be read while it was written out.
    #[error("cannot read the disk")]
    Disk(#[source] DiskError),
    /// The sink failed. Nothing could be said here that it does not say itself.
    #[error(transparent)]
    Sink(#[from] SinkError),
}

impl ImageError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unsupported { convert, .. } => Some(format!("convert it first: `{convert}`")),
            Self::NotAnImage { .. } => Some("give a raw disk image with a partition table, or one in .xz".into()),
            Self::Corrupt { .. } => Some("get the image again and compare its checksum".into()),
            Self::Sink(error) => error.hint(),
            _ => None,
        }
    }
}

/// What an image file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A disk, byte for byte.
    Raw,
    /// xz around something, with luck a raw disk.
    Xz,
}

/// Magic number, its offset, the format's name, the command that makes a raw image of it.
const REFUSED: [(&[u8], u64, &str, &str); 11] = [
    (b"QFI\xfb", 0, "a qcow2 image", "qemu-img convert -O raw IMAGE disk.img"),
    (b"KDMV", 0, "a VMDK image", "qemu-img convert -O raw IMAGE disk.img"),
    (b"conectix", 0, "a VHD image", "qemu-img convert -O raw IMAGE disk.img"),
    (b"vhdxfile", 0, "a VHDX image", "qemu-img convert -O raw IMAGE disk.img"),
    (b"\x1f\x8b", 0, "compressed with gzip", "gunzip IMAGE.gz"),
    (b"\x28\xb5\x2f\xfd", 0, "compressed with zstd", "unzstd IMAGE.zst"),
    (b"BZh", 0, "compressed with bzip2", "bunzip2 IMAGE.bz2"),
    (b"PK\x03\x04", 0, "a zip archive", "unzip IMAGE.zip"),
    (b"ustar", 257, "a tar archive", "tar -xf IMAGE.tar"),
    (b"CD001", 32769, "an ISO 9660 image, an installer rather than an installed system,", "none: choose another base"),
    (b"hsqs", 0, "a squashfs file system", "none: choose another base"),
];

impl Format {
    /// Looks at the beginning of `file`.
    ///
    /// # Errors
    /// [`ImageError::Unsupported`] for what is recognised, [`ImageError::NotAnImage`] for what is not.
    pub fn detect(file: &HostFile) -> Result<Self, ImageError> {
        let path = || file.path().display().to_string();
        let magic_at = |magic: &[u8], offset: u64| -> Result<bool, ImageError> {
            let mut found = vec![0; magic.len()];
            if file.size() < offset + magic.len() as u64 {
                return Ok(false);
            }
            file.read_at(offset, &mut found).map_err(ImageError::Disk)?;
            Ok(found == magic)
        };
        if magic_at(&xz::MAGIC, 0)? {
            return Ok(Self::Xz);
        }
        for (magic, offset, format, convert) in REFUSED {
            if magic_at(magic, offset)? {
                return Err(ImageError::Unsupported { path: path(), format, convert });
            }
        }
        if magic_at(&[0x55, 0xaa], 510)? {
            return Ok(Self::Raw);
        }
        Err(ImageError::NotAnImage { path: path() })
    }
}

/// Unpacks `source` into `to`, an empty file, leaving blocks of zeros out, and answers the size in bytes. Memory
/// stays below 100 MB however the image was packed.
///
/// # Errors
/// As [`Format::detect`]; [`ImageError::Corrupt`] for damaged, truncated or trailing data.
pub fn unpack(source: &HostFile, to: &File, progress: &dyn Progress) -> Result<u64, ImageError> {
    let format = Format::detect(source)?;
    let name = source.path().file_name().unwrap_or_default().to_string_lossy();
    progress.begin(&format!("unpacking {name}"), Some(source.size()));
    let mut out = SparseWriter::new(to);
    let written = match format {
        Format::Raw => copy(source, &mut out, progress),
        Format::Xz => xz::decode(source, &mut out, progress),
    };
    progress.end();
    written?;
    out.finish().map_err(|error| unpack_error(source, error))
}

fn unpack_error(source: &HostFile, error: io::Error) -> ImageError {
    ImageError::Unpack { path: source.path().display().to_string(), source: error }
}

fn copy(source: &HostFile, out: &mut SparseWriter<'_>, progress: &dyn Progress) -> Result<(), ImageError> {
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < source.size() {
        let len = usize::try_from(source.size() - at).unwrap_or(usize::MAX).min(BUFFER);
        let (part, _) = buffer.split_at_mut(len);
        source.read_at(at, part).map_err(ImageError::Disk)?;
        out.write(part).map_err(|error| unpack_error(source, error))?;
        at += len as u64;
        progress.advance(len as u64);
    }
    Ok(())
}

/// Writes all of `disk` to `sink`, front to back; every byte is read and written once and holes are left out
/// where the sink can have holes. The caller commits the sink.
///
/// # Errors
/// [`ImageError::Disk`], [`ImageError::Sink`].
pub fn write(disk: &dyn Disk, sink: &mut Sink, progress: &dyn Progress) -> Result<(), ImageError> {
    let size = disk.size();
    sink.begin(size)?;
    progress.begin("writing the image", Some(size));
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    while at < size {
        let end = (at + CHUNK).min(size);
        for piece in disk.pieces(at..end).map_err(ImageError::Disk)? {
            let copied = match &piece.source {
                Source::Zero => sink.zeros(piece.len).map(|()| piece.len)?,
                Source::Bytes(bytes, from) => write_bytes(sink, bytes, *from, piece.len)?,
                Source::File(range) => {
                    let file = range.file();
                    // A file that cannot be opened again is left to `read_at`, which will say so.
                    file.with_file(|file| Ok(sink.copy(file, range.offset(), piece.len))).unwrap_or(Ok(0))?
                }
                Source::Opaque => 0,
            };
            read_rest(disk, sink, &mut buffer, piece.offset + copied..piece.offset + piece.len)?;
            progress.advance(piece.len);
        }
        at = end;
    }
    progress.end();
    Ok(())
}

fn write_bytes(sink: &mut Sink, bytes: &[u8], from: usize, len: u64) -> Result<u64, ImageError> {
    let end = usize::try_from(len).ok().and_then(|len| from.checked_add(len));
    // A piece that promises more than it holds is left to `read_at`, which will say so.
    let Some(part) = end.and_then(|end| bytes.get(from..end)) else { return Ok(0) };
    sink.write(part)?;
    Ok(len)
}

/// Hands over by reading what was not handed over otherwise.
fn read_rest(
    disk: &dyn Disk,
    sink: &mut Sink,
    buffer: &mut [u8],
    range: std::ops::Range<u64>,
) -> Result<(), ImageError> {
    let mut at = range.start;
    while at < range.end {
        let len = usize::try_from(range.end - at).unwrap_or(usize::MAX).min(buffer.len());
        let (part, _) = buffer.split_at_mut(len);
        disk.read_at(at, part).map_err(ImageError::Disk)?;
        sink.write(part)?;
        at += len as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
