//! Mirrors: places that serve upstream's files, and the user's list of them.
//!
//! ```yaml
//! # ~/.config/imgbake/mirrors.yaml
//! mirrors:
//!   - prefix: https://dl.k8s.io/
//!     to: https://mirror.example/kubernetes/
//!   - prefix: https://github.com/
//!     to: https://proxy.example/https://github.com/
//!   - to: /media/usb/imgbake
//! ```
//! With `prefix` that start of an upstream URL is replaced by `to`; without it the same host and path are below `to`.

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use serde_saphyr::{MessageFormatter, Spanned, UserMessageFormatter};

use super::StoreError;
use super::location::is_http;

/// A place that serves upstream's files, with no say in what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// A folder of this machine.
    Folder(PathBuf),
    /// An HTTP or HTTPS URL.
    Http(String),
    /// Another start of the URLs that begin with `prefix`, which ends where a part of a path does.
    Rewrite {
        /// How upstream's URLs begin, without a `/` at the end.
        prefix: String,
        /// What stands there instead: a folder or an HTTP or HTTPS URL.
        to: Box<Mirror>,
    },
}

impl FromStr for Mirror {
    type Err = Infallible;

    /// `http://…` and `https://…` are URLs, anything else is a folder (`file://` may stand before it).
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if is_http(text) {
            Self::Http(text.trim_end_matches('/').to_owned())
        } else {
            Self::Folder(PathBuf::from(text.strip_prefix("file://").unwrap_or(text)))
        })
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "{}", folder.display()),
            Self::Http(url) => write!(f, "{url}"),
            Self::Rewrite { prefix, to } => write!(f, "{to} for {prefix}"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    mirrors: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    prefix: Option<Spanned<String>>,
    to: Spanned<String>,
}

impl Mirror {
    /// The list in the file at `path`, in its order; none if there is no such file.
    ///
    /// # Errors
    /// [`StoreError::Read`], and [`StoreError::Configuration`] with line and column.
    pub fn read_list(path: &Path) -> Result<Vec<Self>, StoreError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse_list(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse_list(text: &str, path: &Path) -> Result<Vec<Self>, StoreError> {
        let error = |at: serde_saphyr::Location, message: String| StoreError::Configuration {
            path: path.to_owned(),
            line: at.line(),
            column: at.column(),
            message,
        };
        let list: List = serde_saphyr::from_str(text).map_err(|cause| {
            let at = cause.location().unwrap_or(serde_saphyr::Location::UNKNOWN);
            error(at, UserMessageFormatter.format_message(cause.without_snippet()).escape_debug().to_string())
        })?;
        let mirror = |Entry { prefix, to }: Entry| {
            let is_usable =
                is_http(&to.value) || Path::new(&to.value).is_absolute() || to.value.starts_with("file:///");
            if !is_usable {
                let message = format!("`{}` is neither an http or https URL nor a folder's whole path", to.value);
                return Err(error(to.referenced, message));
            }
            let to_place: Self = to.value.parse().unwrap_or_else(|never: Infallible| match never {});
            let Some(prefix) = prefix else { return Ok(to_place) };
            if !is_http(&prefix.value) {
                let message = format!("`{}` is not how an http or https URL begins", prefix.value);
                return Err(error(prefix.referenced, message));
            }
            let prefix = prefix.value.trim_end_matches('/').to_owned();
            Ok(Self::Rewrite { prefix, to: Box::new(to_place) })
        };
        list.mirrors.into_iter().map(mirror).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Mirror>, String> {
        Mirror::parse_list(text, Path::new("mirrors.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_of_mirrors_is_read_in_its_order() {
        let text = "mirrors:\n  - {prefix: https://dl.k8s.io/, to: https://mirror.example/k8s/}\n  - to: /media/usb\n";
        let to = Box::new(Mirror::Http("https://mirror.example/k8s".to_owned()));
        let rewrite = Mirror::Rewrite { prefix: "https://dl.k8s.io".to_owned(), to };
        assert_eq!(parse(text), Ok(vec![rewrite, Mirror::Folder("/media/usb".into())]));
        assert_eq!(parse("mirrors: []\n"), Ok(Vec::new()));
    }

    #[test]
    fn a_list_that_cannot_be_meant_is_refused_with_line_and_column() {
        for (entry, message) in [
            ("to: usb", "line 2, column 9: `usb` is neither an http or https URL nor a folder's whole path"),
            ("{prefix: dl.k8s.io, to: /a}", "line 2, column 14: `dl.k8s.io` is not how an http or https URL begins"),
            ("{from: a, to: /a}", "line 2, column 6: unknown field `from`, expected one of prefix, to"),
        ] {
            assert_eq!(
                parse(&format!("mirrors:\n  - {entry}\n")),
                Err(format!("cannot parse `mirrors.yaml`: {message}"))
            );
        }
    }

    #[test]
    fn no_file_is_no_mirror() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Mirror::read_list(&folder.path().join("mirrors.yaml")).unwrap(), []);
    }
}
