//! Applies a plan's edits of the root file system.
//!
//! In three passes, so that no edit undoes another: what goes away, what is changed in place (the accounts, that
//! later edits name as owners), what comes in.

use std::ops::Range;

use super::error::BakeError;
use super::goods::{Goods, UnpackedItem};
use crate::disk::{Content, Overlay, Window};
use crate::ext4::{self, Editor, Timestamp};
use crate::plan::{Attributes, Body, GuestPath, Plan, RootEdit};
