//! Applies a plan's edits of the root file system.
//!
//! In passes, so that no edit undoes another: what goes away; the account, which later edits name as an owner; what
//! comes in.

use std::collections::BTreeMap;
use std::ops::Range;

use super::error::BakeError;
use super::goods::Goods;
use crate::disk::{Content, Overlay, Window};
use crate::ext4::{self, Editor, Timestamp};
use crate::plan::{AccountFile, Body, GuestPath, Owner, Plan, RootEdit, Transform};
use crate::store::MemberKind;

/// Texts that are read to be changed are not longer than this.
const TEXT_LIMIT: u64 = 16 << 20;
/// Directories made on the way to a file.
const DIRECTORY_MODE: u16 = 0o755;

/// Grows the file system in `partition` of `disk` over all of it and applies `plan.root`.
pub(super) fn apply(disk: &mut Overlay, partition: Range<u64>, plan: &Plan, goods: &Goods) -> Result<(), BakeError> {
    let size = partition.end.saturating_sub(partition.start);
    let mut window = Window::new(disk, partition).map_err(BakeError::Disk)?;
    let mut editor = Editor::open(&mut window).map_err(BakeError::Root)?;
    editor.grow(size).map_err(BakeError::Root)?;
    let mut root = Root { editor, time: Timestamp { seconds: plan.timestamp, nanoseconds: 0 }, passwd: String::new() };
    for (path, edit) in &plan.root {
        match edit {
            RootEdit::Remove => root.remove(path)?,
            RootEdit::Empty => root.empty(path)?,
            _ => {}
        }
    }
    root.add_account(plan)?;
    for (path, edit) in &plan.root {
        root.put(path, edit, goods)?;
    }
    root.editor.finish().map_err(BakeError::Root)?;
    Ok(())
}

struct Root<'disk> {
    editor: Editor<'disk>,
    time: Timestamp,
    /// The image's own user database, with the plan's account.
    passwd: String,
}

impl Root<'_> {
    /// Removes what is there; nothing there is as good.
    fn remove(&mut self, path: &GuestPath) -> Result<(), BakeError> {
        self.editor.remove(path.as_str()).map(drop).map_err(at(path))
    }

    fn empty(&mut self, path: &GuestPath) -> Result<(), BakeError> {
        for (name, _) in self.editor.read_dir(path.as_str()).map_err(at(path))?.unwrap_or_default() {
            let mut inside = path.as_str().as_bytes().to_vec();
            inside.push(b'/');
            inside.extend_from_slice(&name);
            self.editor.remove(&inside).map_err(at(path))?;
        }
        Ok(())
    }

    fn add_account(&mut self, plan: &Plan) -> Result<(), BakeError> {
        let mut texts = BTreeMap::new();
        for file in AccountFile::ALL {
            if let Some(text) = self.text(&file.path())? {
                texts.insert(file, text);
            }
        }
        let changed = plan.account.add_to(texts.clone());
        for (file, text) in &changed {
            if texts.get(file) != Some(text) {
                self.replace_text(&file.path(), text)?;
            }
        }
        self.passwd = changed.get(&AccountFile::Passwd).cloned().unwrap_or_default();
        Ok(())
    }

    fn put(&mut self, path: &GuestPath, edit: &RootEdit, goods: &Goods) -> Result<(), BakeError> {
        match edit {
            RootEdit::Remove | RootEdit::Empty => Ok(()),
            RootEdit::Write { body, attributes } => {
                let content = match body {
                    Body::Text(text) => Content::Bytes(text.clone().into_bytes()),
                    Body::Secret(secret) => Content::Bytes(secret.reveal().as_bytes().to_vec()),
                    Body::Artifact(artifact) => goods.content(artifact),
                };
                let attributes = self.attributes(attributes.mode, &attributes.owner);
                self.parent(path)?;
                self.editor.write(path.as_str(), content, &attributes).map_err(at(path))
            }
            RootEdit::Directory(attributes) => {
                let attributes = self.attributes(attributes.mode, &attributes.owner);
                self.directory(path, &attributes)
            }
            RootEdit::Symlink(target) => {
                self.parent(path)?;
                let attributes = self.attributes(0o777, &Owner::Root);
                self.editor.symlink(path.as_str(), target, &attributes).map_err(at(path))
            }
            RootEdit::Unpack { archive, from, only } => {
                goods.unpacked(archive, from, only).try_for_each(|(name, member)| {
                    let inside = GuestPath::from(format!("{}/{name}", path.as_str()).as_str());
                    self.unpack(path, &inside, from, member)
                })
            }
            RootEdit::Transform(transforms) => self.transform(path, transforms),
        }
    }

    /// Puts one member of an archive that is unpacked at `top` in its place.
    fn unpack(
        &mut self,
        top: &GuestPath,
        path: &GuestPath,
        from: &str,
        member: &crate::store::Member,
    ) -> Result<(), BakeError> {
        let attributes = self.attributes((member.mode & 0o7777) as u16, &Owner::Root);
        self.parent(path)?;
        match &member.kind {
            MemberKind::Directory => self.directory(path, &attributes),
            MemberKind::File => {
                let content = Content::File(member.range.clone());
                self.editor.write(path.as_str(), content, &attributes).map_err(at(path))
            }
            MemberKind::Symlink(target) => self.editor.symlink(path.as_str(), target, &attributes).map_err(at(path)),
            MemberKind::HardLink(existing) => {
                let relative = existing.strip_prefix(from.trim_matches('/')).unwrap_or(existing);
                let existing = GuestPath::from(format!("{}/{relative}", top.as_str()).as_str());
                self.editor.hard_link(path.as_str(), existing.as_str()).map_err(at(path))
            }
        }
    }

    /// Makes the directory, or gives the one that is there these attributes; a link to a directory stays.
    fn directory(&mut self, path: &GuestPath, attributes: &ext4::Attributes) -> Result<(), BakeError> {
        self.editor.mkdir_all(path.as_str(), attributes).map_err(at(path))?;
        self.editor.set_mode(path.as_str(), attributes.mode).map_err(at(path))?;
        self.editor.set_owner(path.as_str(), attributes.uid, attributes.gid).map_err(at(path))
    }

    fn parent(&mut self, path: &GuestPath) -> Result<(), BakeError> {
        let Some((parent, _)) = path.as_str().rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) else {
            return Ok(());
        };
        let attributes = self.attributes(DIRECTORY_MODE, &Owner::Root);
        self.editor.mkdir_all(parent, &attributes).map_err(at(path))
    }

    fn transform(&mut self, path: &GuestPath, transforms: &[Transform]) -> Result<(), BakeError> {
        let Some(old) = self.text(path)? else {
            if !transforms.iter().any(Transform::makes_file) {
                return Ok(());
            }
            let made = transforms.iter().filter(|transform| transform.makes_file());
            let text = made.fold(String::new(), |text, transform| transform.apply(&text));
            let attributes = self.attributes(0o644, &Owner::Root);
            self.parent(path)?;
            return self.editor.write(path.as_str(), Content::Bytes(text.into_bytes()), &attributes).map_err(at(path));
        };
        let new = transforms.iter().fold(old.clone(), |text, transform| transform.apply(&text));
        if new == old { Ok(()) } else { self.replace_text(path, &new) }
    }

    fn text(&mut self, path: &GuestPath) -> Result<Option<String>, BakeError> {
        let Some(bytes) = self.editor.read(path.as_str(), TEXT_LIMIT).map_err(at(path))? else { return Ok(None) };
        let not_text =
            |_| BakeError::Text { path: path.as_str().to_owned(), problem: "it is not UTF-8 text".to_owned() };
        String::from_utf8(bytes).map(Some).map_err(not_text)
    }

    /// Gives the file that `path` leads to another text; owner, mode and extended attributes stay.
    fn replace_text(&mut self, path: &GuestPath, text: &str) -> Result<(), BakeError> {
        let Some(real) = self.editor.resolve(path.as_str()).map_err(at(path))? else { return Ok(()) };
        let Some(old) = self.editor.metadata(&real).map_err(at(path))? else { return Ok(()) };
        let xattrs = self.editor.xattrs(&real).map_err(at(path))?;
        let attributes = ext4::Attributes { mode: old.mode, uid: old.uid, gid: old.gid, mtime: self.time, xattrs };
        self.editor.write(&real, Content::Bytes(text.as_bytes().to_vec()), &attributes).map_err(at(path))
    }

    fn attributes(&self, mode: u16, owner: &Owner) -> ext4::Attributes {
        let (uid, gid) = match owner {
            Owner::Root => (0, 0),
            Owner::User(name) => AccountFile::ids(&self.passwd, name).unwrap_or((0, 0)),
        };
        ext4::Attributes { mode, uid, gid, mtime: self.time, xattrs: BTreeMap::new() }
    }
}

/// An error of the file system, said with the path of the edit.
fn at(path: &GuestPath) -> impl Fn(ext4::Ext4Error) -> BakeError + '_ {
    move |source| BakeError::RootEdit { path: path.as_str().to_owned(), source }
}
