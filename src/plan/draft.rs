//! The plan while its subjects add to it.

use std::collections::BTreeMap;

use super::{Artifact, Attributes, Body, BootEdit, GuestPath, Owner, RootEdit, Secret, Transform};

/// Edits and notes collected so far. Two edits of one path are a mistake in this room, not of a user's.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) boot: BTreeMap<GuestPath, BootEdit>,
    pub(super) root: BTreeMap<GuestPath, RootEdit>,
    pub(super) notes: Vec<String>,
}

impl Draft {
    /// Any edit of the root file system.
    pub(super) fn edit(&mut self, path: &str, edit: RootEdit) {
        let before = self.root.insert(path.into(), edit);
        debug_assert!(before.is_none(), "two edits of {path}");
    }

    /// A file of root's with a mode.
    pub(super) fn write(&mut self, path: &str, mode: u16, body: Body) {
        self.edit(path, RootEdit::Write { body, attributes: Attributes { mode, owner: Owner::Root } });
    }

    /// A text that everybody may read.
    pub(super) fn text(&mut self, path: &str, text: impl Into<String>) {
        self.write(path, 0o644, Body::Text(text.into()));
    }

    /// A text that only root may read, and nobody in a log.
    pub(super) fn secret(&mut self, path: &str, text: impl Into<String>) {
        self.write(path, 0o600, Body::Secret(Secret::new(text)));
    }

    /// A program.
    pub(super) fn program(&mut self, path: &str, artifact: &Artifact) {
        self.write(path, 0o755, Body::Artifact(artifact.clone()));
    }

    /// A directory.
    pub(super) fn directory(&mut self, path: &str, mode: u16, owner: Owner) {
        self.edit(path, RootEdit::Directory(Attributes { mode, owner }));
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        self.edit(path, RootEdit::Symlink(target.to_owned()));
    }

    /// A unit of ours, started at every boot.
    pub(super) fn enabled_unit(&mut self, name: &str, text: &str) {
        self.text(&format!("/etc/systemd/system/{name}"), text);
        self.enable(name, &format!("/etc/systemd/system/{name}"));
    }

    /// What `systemctl enable` does for a unit that multi-user.target wants.
    pub(super) fn enable(&mut self, name: &str, path: &str) {
        self.link(&format!("/etc/systemd/system/multi-user.target.wants/{name}"), path);
    }

    /// What `systemctl mask` does; harmless where there is no such unit.
    pub(super) fn mask(&mut self, name: &str) {
        self.link(&format!("/etc/systemd/system/{name}"), "/dev/null");
    }

    /// Removes what is there.
    pub(super) fn remove(&mut self, path: &str) {
        self.edit(path, RootEdit::Remove);
    }

    /// Changes a text of the image's.
    pub(super) fn transform(&mut self, path: &str, transform: Transform) {
        self.edit(path, RootEdit::Transform(vec![transform]));
    }

    /// A text on the boot partition, for everybody to read.
    pub(super) fn boot_text(&mut self, path: &str, text: impl Into<String>) {
        self.boot.insert(path.into(), BootEdit::Write(text.into()));
    }
}
