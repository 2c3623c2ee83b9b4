//! Offline baking of bootable node images.
//!
//! Words decide, bytes obey, and they meet in [`bake`].
//!
//! ```text
//! profile + flags ──spec──▶ NodeSpec ──plan──▶ Plan                     words: pure, printable
//!                                              │
//! base image ──store──▶ verified, unpacked ──image──▶ Disk ─┐           bytes
//! component files ──store──▶ local file ────────────────────┤
//!                               overlay ◀── apply ──────────┘  partition · fat · ext4
//!                                  └──image::encode──▶ sink (stdout, file, device)
//! ```
//!
//! The library never prints, reads the environment, asks the clock or picks a random number: callers
//! hand those in. `tests/rooms.rs` holds the table of which module may import which.

mod artifact;
mod disk;
mod ext4;
mod plan;
mod progress;
mod spec;

pub use artifact::{Artifact, Checksum, Digest};
pub use disk::{
    Content, Disk, DiskError, DiskMut, FileDisk, FileRange, HostFile, Overlay, Piece, Source, Window, ZeroDisk,
};
pub use ext4::{
    Attributes as Ext4Attributes, Editor as Ext4Editor, Ext4Error, FileKind, Metadata as Ext4Metadata,
    Summary as Ext4Summary, Timestamp,
};
pub use progress::{Progress, Silent};
