//! Why a bake failed: one of the rooms', or what only shows where they meet.

use crate::base::BaseError;
use crate::disk::DiskError;
use crate::ext4::Ext4Error;
use crate::fat::FatError;
use crate::image::ImageError;
use crate::partition::PartitionError;
use crate::sink::SinkError;
use crate::spec::{Architecture, SpecError};
use crate::store::StoreError;

/// A bake that failed. Nothing is left under the output's final name.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    /// The request cannot be resolved.
    #[error(transparent)]
    Spec(SpecError),
    /// A file cannot be had.
    #[error(transparent)]
    Store(StoreError),
    /// The output cannot be written.
    #[error(transparent)]
    Sink(SinkError),
    /// The image cannot be read or encoded.
    #[error(transparent)]
    Image(ImageError),
    /// The disk cannot be read.
    #[error("cannot read the base image")]
    Disk(#[source] DiskError),
    /// The partition table is not usable.
    #[error("cannot use `{base}` as a base image")]
    Partition {
        /// The base image.
        base: String,
        /// Why.
        source: PartitionError,
    },
    /// The image is published in a format that is not read yet.
    #[error("base image `{base}` is published as qcow2, which imgbake does not read yet")]
    Format {
        /// The base image.
        base: String,
    },
    /// A home-made base is missing and the network is off.
    #[error("offline, and the cache does not hold the base image `{name}`")]
    BaseOffline {
        /// The recipe.
        name: String,
    },
    /// The boot partition cannot be edited.
    #[error("cannot edit the boot partition")]
    Boot(#[source] FatError),
    /// The root file system cannot be edited.
    #[error("cannot edit the root file system")]
    Root(#[source] Ext4Error),
    /// One edit of the root file system failed.
    #[error("cannot edit `{path}` in the root file system")]
    RootEdit {
        /// Where.
        path: String,
        /// Why.
        source: Ext4Error,
    },
    /// No partition holds an ext4 root file system.
    #[error("the base image has no ext4 root file system on any of its {partitions} partitions")]
    NoRoot {
        /// How many partitions there are.
        partitions: usize,
    },
    /// No boot partition as the profile's firmware wants it.
    #[error("base image `{base}` has no FAT partition with `{file}`")]
    NoBootPartition {
        /// The base image.
        base: String,
        /// What the firmware reads.
        file: &'static str,
    },
    /// Base and profile are for different machines.
    #[error("base image `{base}` is for {found}, profile `{profile}` is for {wanted}")]
    Architecture {
        /// The base image.
        base: String,
        /// Its programs' architecture.
        found: Architecture,
        /// The profile.
        profile: String,
        /// Its architecture.
        wanted: Architecture,
    },
    /// `--size` is too small.
    #[error("an image of {size} bytes is too small: {needed} bytes are needed")]
    TooSmall {
        /// What was asked for.
        size: u64,
        /// What is needed, reserve included.
        needed: u64,
        /// The reserve.
        reserve: u64,
    },
    /// A text that is to be changed is not what it should be.
    #[error("cannot change `{path}`: {problem}")]
    Text {
        /// Where.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A name that is nothing of the node's.
    #[error("nothing that comes from upstream for this node is called `{name}`")]
    NotLockable {
        /// What was asked for.
        name: String,
        /// All there are.
        known: Vec<String>,
    },
    /// No such base image.
    #[error("there is no recipe for a base image `{name}`")]
    UnknownBase {
        /// What was asked for.
        name: String,
        /// All there are.
        known: Vec<String>,
    },
}

impl BakeError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spec(error) => error.hint(),
            // What made or unpacked a base knows best what to do.
            Self::Store(StoreError::Make { source, .. } | StoreError::Unpack { source, .. }) => source
                .downcast_ref::<BaseError>()
                .and_then(BaseError::hint)
                .or_else(|| source.downcast_ref::<ImageError>().and_then(ImageError::hint)),
            Self::Store(error) => error.hint(),
            Self::Sink(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Partition { source, .. } => source.hint(),
            Self::Format { .. } => Some(
                "download it, convert it with `qemu-img convert -O raw`, and give the result as `--base FILE`".to_owned(),
            ),
            Self::BaseOffline { name } => {
                Some(format!("make it once with the network on, `imgbake base build {name}`, or leave out `--offline`"))
            }
            Self::Boot(error) => error.hint(),
            Self::Root(error @ Ext4Error::Unsupported { .. }) => {
                error.hint().or_else(|| Some("choose an image whose root file system does without it".to_owned()))
            }
            Self::Root(error) | Self::RootEdit { source: error, .. } => error.hint(),
            Self::Disk(_) => Some("the image seems to be cut short: get it again".to_owned()),
            Self::NoRoot { .. } => Some(
                "imgbake edits images whose root file system is ext4 on a partition of its own, as Ubuntu's, Debian's and \
                 Raspberry Pi OS's are"
                    .to_owned(),
            ),
            Self::NoBootPartition { .. } => {
                Some("choose an image made for the board, or a profile that fits the image".to_owned())
            }
            Self::Architecture { .. } => {
                Some("choose a base image or a profile that go together; without `--base` the profile's own is used".to_owned())
            }
            Self::TooSmall { needed, reserve, .. } => Some(format!(
                "leave out `--size`, or give at least `--size {needed}` ({} MiB, of which {} MiB stay free for the first \
                 boot)",
                needed.div_ceil(1 << 20),
                reserve >> 20
            )),
            Self::Text { .. } => Some("the base image differs from what imgbake knows: please report which one it is".to_owned()),
            Self::NotLockable { known, .. } => Some(format!("`--update` takes one of these: {}", known.join(", "))),
            Self::UnknownBase { known, .. } => Some(format!("the recipes there are: {}", known.join(", "))),
        }
    }

    /// Whether the reader of the output went away, which is no failure of the bake's.
    #[must_use]
    pub fn is_broken_pipe(&self) -> bool {
        match self {
            Self::Sink(error) | Self::Image(ImageError::Sink(error)) => matches!(error, SinkError::BrokenPipe { .. }),
            _ => false,
        }
    }
}
