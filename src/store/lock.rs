//! What goes into a lock file: digests as their publishers say now, sizes, and the keys that vouched; and the file's text.
//!
//! Nothing here looks at what was used before: that is what makes it anew. A checksum file suffices; a file itself is fetched
//! where its publisher signs that, or nobody tells its size.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use super::location::{Location, Place};
use super::pins::{Pin, Pins};
use super::{Store, StoreError, together};
use crate::artifact::{Artifact, Checksum};
use crate::progress::Progress;

const COMPLETE: &str = "# Made by imgbake: `imgbake lock` adds to it, and with `--update` renews it. Nothing that is here is resolved anew.\n\
                        version: 1\n";

const PARTIAL: &str = "# Made by imgbake: what is not here is recognised as without this file.\n";

impl Store {
    /// What a lock file is to say of each of these, learnt now, in their order.
    ///
    /// # Errors
    /// As [`Store::get_all`].
    pub fn learn_all(&self, artifacts: &[Artifact], progress: &dyn Progress) -> Result<Vec<Pin>, StoreError> {
        let (mut pins, mut failures) = (Vec::new(), Vec::new());
        for artifact in artifacts {
            match self.learn(artifact, progress) {
                Ok(pin) => pins.push(pin),
                Err(error) => failures.push(error),
            }
        }
        if failures.is_empty() { Ok(pins) } else { Err(together(failures)) }
    }

    fn learn(&self, artifact: &Artifact, progress: &dyn Progress) -> Result<Pin, StoreError> {
        let (digest, key) = match &artifact.checksum {
            Checksum::Pinned(digest) => (digest.clone(), None),
            Checksum::File { url } => self.published_now(artifact, url, progress)?,
        };
        let known = Artifact { checksum: Checksum::Pinned(digest.clone()), ..artifact.clone() };
        let size = match self.cached(&digest)? {
            Some(blob) => blob.file.size(),
            None => match self.announced_size(&artifact.url, progress)? {
                Some(size) => size,
                None => self.get(&known, progress)?.size(),
            },
        };
        Ok(Pin { name: None, release: None, digest, size: Some(size), key })
    }

    /// The size that the first place which has the file tells; nothing if none does.
    fn announced_size(&self, url: &str, progress: &dyn Progress) -> Result<Option<u64>, StoreError> {
        for (place, _) in self.places(&Location::parse(url)?) {
            let size = match &place {
                Place::File(path) => path.metadata().ok().map(|data| data.len()),
                Place::Http(url) => self.client.length(url, progress).ok().flatten(),
            };
            if size.is_some() {
                return Ok(size);
            }
        }
        Ok(None)
    }
}

impl Pins {
    /// Writes the lock file, sorted, all of it or nothing.
    ///
    /// # Errors
    /// [`StoreError::WriteLock`].
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        let text = self.text();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            // Two commands may give the same bytes: what is right already keeps its time.
            if fs::read(path).is_ok_and(|old| old == text.as_bytes()) {
                return Ok(());
            }
            let mut file = tempfile::Builder::new().prefix(".imgbake-lock-").tempfile_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            make_readable(file.as_file())?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| StoreError::WriteLock { path: path.to_owned(), source })
    }

    fn text(&self) -> String {
        // A JSON string is a YAML string, whatever is in it.
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let mut text = if self.is_complete() { COMPLETE } else { PARTIAL }.to_owned();
        text.push_str(if self.releases.is_empty() { "releases: []\n" } else { "releases:\n" });
        for ((name, asked), release) in &self.releases {
            let (name, asked, release) = (quoted(name), quoted(asked), quoted(release));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  - name: {name}\n    asked: {asked}\n    release: {release}");
        }
        text.push_str(if self.artifacts.is_empty() { "artifacts: []\n" } else { "artifacts:\n" });
        for (url, pin) in &self.artifacts {
            let _ = writeln!(text, "  - url: {}", quoted(url));
            let mut line = |key: &str, value: Option<String>| {
                if let Some(value) = value {
                    let _ = writeln!(text, "    {key}: {value}");
                }
            };
            line("name", pin.name.as_deref().map(quoted));
            line("release", pin.release.as_deref().map(quoted));
            line(pin.digest.algorithm(), Some(format!("\"{}\"", pin.digest)));
            line("size", pin.size.map(|size| size.to_string()));
            line("key", pin.key.as_deref().map(quoted));
        }
        text
    }
}

/// Temporary files are their owner's alone; a lock file is for everybody who works on the project.
fn make_readable(file: &fs::File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_survives_its_text() {
        let mut pins = Pins::empty(Path::new("imgbake.lock"));
        assert_eq!(Pins::parse(&pins.text(), Path::new("imgbake.lock")).unwrap(), pins);
        pins.choose("kubernetes", "1.36", "1.36.9");
        let mut partial = pins.clone();
        partial.set_complete(false);
        assert_eq!(Pins::parse(&partial.text(), Path::new("imgbake.lock")).unwrap(), partial);
        let digest = "6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad".parse().unwrap();
        let full = Pin {
            name: Some("kubernetes".to_owned()),
            release: Some("1.36.9".to_owned()),
            digest,
            size: Some(7),
            key: Some("ABCD".to_owned()),
        };
        let bare = Pin { name: None, release: None, size: None, key: None, ..full.clone() };
        pins.insert("https://b/url: \"x\"", full);
        pins.insert("https://a/", bare);
        assert_eq!(Pins::parse(&pins.text(), Path::new("imgbake.lock")).unwrap(), pins);
        assert_eq!(
            pins.text().strip_prefix(COMPLETE).unwrap(),
            "releases:\n  - name: \"kubernetes\"\n    asked: \"1.36\"\n    release: \"1.36.9\"\nartifacts:\n  \
             - url: \"https://a/\"\n    sha256: \"6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad\"\n  \
             - url: \"https://b/url: \\\"x\\\"\"\n    name: \"kubernetes\"\n    release: \"1.36.9\"\n    \
             sha256: \"6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad\"\n    size: 7\n    key: \"ABCD\"\n"
        );
    }
}
