//! Named YAML documents: profiles, firmware and base images. A shelf holds those built into the binary; a file of the
//! same name in the user's folder replaces the built-in one as a whole, other files there add names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::error::{SpecError, YamlProblem};
use super::suggestion::nearest;

/// Where a document comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built into imgbake.
    BuiltIn,
    /// A file of the user's.
    File(PathBuf),
}

/// Documents of one kind.
pub(super) struct Shelf {
    /// What a document is called in messages: `profile`, `base`, `firmware`.
    pub(super) kind: &'static str,
    /// The folder of the user's own documents, below the profiles' folder; empty for the profiles themselves.
    pub(super) folder: &'static str,
    /// Names and texts.
    pub(super) built_in: &'static [(&'static str, &'static str)],
}

impl Shelf {
    /// Every name on the shelf; `own` is the user's folder of profiles.
    pub(super) fn names(&self, own: Option<&Path>) -> Result<BTreeMap<String, Origin>, SpecError> {
        let built_in = self.built_in.iter().map(|(name, _)| ((*name).to_owned(), Origin::BuiltIn));
        let mut names: BTreeMap<String, Origin> = built_in.collect();
        let Some(folder) = own.map(|folder| folder.join(self.folder)) else { return Ok(names) };
        let read = |source| SpecError::Read { path: folder.clone(), source };
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(read(error)),
        };
        for entry in entries {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|extension| extension == "yaml")
                && let Some(name) = path.file_stem().and_then(|stem| stem.to_str())
            {
                names.insert(name.to_owned(), Origin::File(path));
            }
        }
        Ok(names)
    }

    /// The document called `name`.
    pub(super) fn get<T: DeserializeOwned>(&self, name: &str, own: Option<&Path>) -> Result<T, SpecError> {
        let names = self.names(own)?;
        match names.get(name) {
            Some(Origin::File(path)) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|source| SpecError::Read { path: path.clone(), source })?;
                parse(self.kind, &path.display().to_string(), &text)
            }
            Some(Origin::BuiltIn) => {
                let text = self.built_in.iter().find(|(built_in, _)| *built_in == name).map_or("", |(_, text)| *text);
                parse(self.kind, name, text)
            }
            None => Err(SpecError::Unknown {
                kind: self.kind,
                name: name.to_owned(),
                suggestion: nearest(name, names.keys().map(String::as_str)),
                known: names.into_keys().collect(),
            }),
        }
    }
}

/// Reads one YAML document. Unknown keys are refused by the types themselves.
fn parse<T: DeserializeOwned>(kind: &'static str, file: &str, text: &str) -> Result<T, SpecError> {
    serde_saphyr::from_str(text).map_err(|error| {
        let location = error.location();
        SpecError::Yaml {
            kind,
            file: file.to_owned(),
            line: location.map_or(1, |location| location.line()),
            column: location.map_or(1, |location| location.column()),
            source: YamlProblem::from(&error),
        }
    })
}
