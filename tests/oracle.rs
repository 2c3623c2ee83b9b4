//! Outside tools judge what the byte rooms write. A missing tool fails with the name of its package.

#[path = "oracle/disks.rs"]
mod disks;
//! Outside tools judge what the byte rooms write. A missing tool fails the test and names its package.

#[path = "oracle/ext4.rs"]
mod ext4;
