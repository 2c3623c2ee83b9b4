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
mod bake;
mod base;
mod disk;
pub mod ext4;
mod fat;
mod image;
mod partition;
mod plan;
mod progress;
mod sink;
mod spec;
mod store;
mod verify;

pub use artifact::{Artifact, Checksum, Digest, Locked, Signature, Signed};
pub use bake::{
    BakeError, BakeRequest, LockRequest, LockSummary, Summary, Update, bake, fetch, lock, plan_node, prepare_base,
};
pub use base::{
    BaseError, BuildOptions, ProgramError, Recipe, assemble as assemble_base, build as build_base, names as base_names,
};
pub use disk::{
    Content, Disk, DiskError, DiskMut, FileDisk, FileRange, HostFile, Overlay, Piece, Source, Window, ZeroDisk,
};
pub use fat::{Editor as FatEditor, FatEntry, FatError, FatKind, FormatOptions, format as format_fat};
pub use image::{Format, ImageError, unpack as unpack_image, write as write_image};
pub use partition::{
    Guid, GuidError, NewGptPartition, NewMbrPartition, Partition, PartitionError, PartitionType, Table, TableKind,
    create_gpt, create_mbr,
};
pub use plan::{
    Account, AccountFile, Attributes, Body, BootEdit, GuestPath, Owner, Plan, RootEdit, Size, Transform, cmdline_paths,
    plan,
};
pub use progress::{Progress, Silent};
pub use sink::{Sink, SinkError};
pub use spec::{
    Access, Architecture, Authority, Base, BaseFormat, BaseSource, BaseSummary, Choice, Cluster, ClusterError,
    Component, Components, ConfigApi, ContainerdConfig, DhcpPool, Distribution, Firmware, Incompatible, JoinRequest,
    KernelArguments, KeyProblem, Network, NodeSpec, Origin, ProfileSummary, Request as NodeRequest, Role, Runtime,
    Secret, SeedLocation, SpecError, System, TokenEnd, User, Version, YamlProblem, bases, parse_size, preview,
    profiles, resolve,
};
pub use store::{
    Archive, CacheEntry, CacheKind, CacheProblem, Cause, Collected, Damage, KeySummary, Keys, Member, MemberKind,
    Mirror, Mismatch, Missing, Origin as DigestOrigin, Patience, Pin, Pins, PruneOptions, Pruned, Replaced,
    SignatureError, Store, StoreError, StoreOptions, Verified, list_cache, prune_cache, verify_cache,
};
pub use verify::{Checked, VerifyError, verify_image};
