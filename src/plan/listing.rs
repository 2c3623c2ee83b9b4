//! A plan for the reader: a line per edit, secrets as `secret`; `{:#}` adds the texts below their lines.

use std::fmt;

use super::{Artifact, Attributes, Body, BootEdit, Owner, Plan, RootEdit};
use crate::artifact::Checksum;
use crate::spec::{Base, BaseSource};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "base image:\n  {}", Origin(&self.base))?;
        let reserve = self.size.reserve >> 20;
        match self.size.disk {
            Some(disk) => writeln!(f, "size:\n  {disk} bytes, if that leaves {reserve} MiB free")?,
            None => writeln!(f, "size:\n  what goes in, and {reserve} MiB free")?,
        }
        if !self.boot.is_empty() {
            writeln!(f, "boot partition:")?;
        }
        for (path, edit) in &self.boot {
            writeln!(f, "  {:<9} {}{edit}", edit.verb(), path.as_str())?;
            if let BootEdit::Write(text) = edit {
                whole(f, text)?;
            }
        }
        writeln!(f, "root file system:")?;
        let account = &self.account;
        writeln!(f, "  {:<9} {} in {}", "account", account.name, account.groups.join(", "))?;
        for (path, edit) in &self.root {
            writeln!(f, "  {:<9} {}{edit}", edit.verb(), path.as_str())?;
            if let RootEdit::Write { body: Body::Text(text), .. } = edit {
                whole(f, text)?;
            }
        }
        if !self.notes.is_empty() {
            writeln!(f, "notes:")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "  {note}"))?;
        if !self.warnings.is_empty() {
            writeln!(f, "warnings:")?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "  {warning}"))
    }
}

/// The text itself, where it was asked for.
fn whole(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    if f.alternate() { text.lines().try_for_each(|line| writeln!(f, "  {:<9} | {line}", "")) } else { Ok(()) }
}

impl BootEdit {
    fn verb(&self) -> &'static str {
        match self {
            Self::Write(_) => "write",
            Self::Remove => "remove",
            Self::Transform(_) => "change",
        }
    }
}

impl RootEdit {
    fn verb(&self) -> &'static str {
        match self {
            Self::Write { .. } => "write",
            Self::Directory(_) => "directory",
            Self::Symlink(_) => "link",
            Self::Remove => "remove",
            Self::Empty => "empty",
            Self::Unpack { .. } => "unpack",
            Self::Transform(_) => "change",
        }
    }
}

/// What follows the path.
impl fmt::Display for BootEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(text) => write!(f, " ({})", length(text)),
            Self::Remove => Ok(()),
            Self::Transform(transform) => write!(f, " ({transform})"),
        }
    }
}

/// What follows the path.
impl fmt::Display for RootEdit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { body, attributes } => write!(f, " ({attributes}, {body})"),
            Self::Directory(attributes) => write!(f, " ({attributes})"),
            Self::Symlink(target) => write!(f, " -> {target}"),
            Self::Remove | Self::Empty => Ok(()),
            Self::Unpack { archive, only, .. } => {
                write!(
                    f,
                    " ({}{})",
                    if only.is_empty() { String::new() } else { only.join(", ") + " of " },
                    Named(archive)
                )
            }
            Self::Transform(transforms) => {
                let texts: Vec<String> = transforms.iter().map(ToString::to_string).collect();
                write!(f, " ({})", texts.join("; "))
            }
        }
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(&length(text)),
            Self::Secret(secret) => secret.fmt(f),
            Self::Artifact(artifact) => Named(artifact).fmt(f),
        }
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Owner::Root => write!(f, "{:04o}", self.mode),
            Owner::User(name) => write!(f, "{:04o} {name}", self.mode),
        }
    }
}

/// An artifact by URL and digest.
struct Named<'a>(&'a Artifact);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.checksum {
            Checksum::Pinned(digest) => write!(f, "{}, {} {digest}", self.0.url, digest.algorithm()),
            Checksum::File { url } => write!(f, "{}, digest from {url}", self.0.url),
        }
    }
}

/// A base image by name and where it comes from.
struct Origin<'a>(&'a Base);

impl fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.source {
            BaseSource::Vendor(artifact) => write!(f, "{} ({})", self.0.name, Named(artifact)),
            BaseSource::Archive(recipe) => write!(f, "{} (made from the Debian archive: {recipe})", self.0.name),
            BaseSource::File(path) => write!(f, "{}", path.display()),
        }
    }
}

fn length(text: &str) -> String {
    match text.lines().count() {
        0 => "empty".to_owned(),
        1 => "1 line".to_owned(),
        lines => format!("{lines} lines"),
    }
}
