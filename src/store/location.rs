//! Where an artifact's bytes can be: upstream's URL and what mirrors make of it.
//!
//! A mirror serves the same host and path below a prefix of its own:
//! `DIR/dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm`.

use std::fmt;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

use super::StoreError;
use super::mirror::Mirror;

/// Where bytes are read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    File(PathBuf),
    Http(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Http(url) => write!(f, "{url}"),
        }
    }
}

/// An upstream URL, taken apart.
#[derive(Debug, Clone)]
pub(super) struct Location {
    url: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    File(PathBuf),
    /// Host (with a port where one is given) and path, both as they stand in the URL; no query.
    Http {
        host: String,
        path: String,
        query: Option<String>,
    },
}

impl Location {
    pub(super) fn parse(url: &str) -> Result<Self, StoreError> {
        let bad = |reason: &str| StoreError::BadUrl { url: url.to_owned(), reason: reason.to_owned() };
        if let Some(path) = url.strip_prefix("file://") {
            let path = decoded(path).ok_or_else(|| bad("its path is not UTF-8 text"))?;
            if !Path::new(&path).is_absolute() {
                return Err(bad("a `file://` URL needs an absolute path"));
            }
            return Ok(Self { url: url.to_owned(), kind: Kind::File(path.into()) });
        }
        if !is_http(url) {
            return Err(bad("expected `https://`, `http://` or `file://`"));
        }
        let uri: Uri = url.parse().map_err(|error: ureq::http::uri::InvalidUri| bad(&error.to_string()))?;
        let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        // Credentials before the host belong to upstream; no mirror is to see them.
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host).to_owned();
        let path = uri.path().to_owned();
        // A mirror folder is joined with this path: it must not lead out of it, escaped or not.
        let plain = decoded(&path).ok_or_else(|| bad("its path is not UTF-8 text"))?;
        if host.is_empty() || plain.split(['/', '\\']).any(|part| part == "..") || plain.contains('\0') {
            return Err(bad("its host or path is not usable"));
        }
        let query = uri.query().map(str::to_owned);
        Ok(Self { url: url.to_owned(), kind: Kind::Http { host, path, query } })
    }

    /// The file name: the path's last part, unescaped.
    pub(super) fn name(&self) -> String {
        match &self.kind {
            Kind::File(path) => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Kind::Http { path, .. } => {
                let name = path.rsplit('/').next().unwrap_or_default();
                decoded(name).unwrap_or_else(|| name.to_owned())
            }
        }
    }

    /// Where upstream itself is.
    pub(super) fn upstream(&self) -> Place {
        match &self.kind {
            Kind::File(path) => Place::File(path.clone()),
            Kind::Http { .. } => Place::Http(self.url.clone()),
        }
    }

    /// Where a folder that holds files under host and path has it.
    pub(super) fn below(&self, folder: &Path) -> Option<PathBuf> {
        let Kind::Http { host, path, .. } = &self.kind else { return None };
        let escaped = format!("{host}{path}");
        Some(folder.join(decoded(&escaped).unwrap_or(escaped)))
    }

    /// Where `mirror` would have it; a folder may hold it under the escaped or the plain name.
    pub(super) fn at(&self, mirror: &Mirror) -> Vec<Place> {
        let Kind::Http { host, path, query } = &self.kind else { return Vec::new() };
        match mirror {
            Mirror::Folder(_) | Mirror::Http(_) => place_below(mirror, &format!("{host}{path}"), query.as_deref()),
            Mirror::Rewrite { prefix, to } => {
                let scheme = if is_https(&self.url) { "https" } else { "http" };
                let bare = format!("{scheme}://{host}{path}");
                match bare.strip_prefix(prefix.as_str()) {
                    Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                        place_below(to, rest.trim_start_matches('/'), query.as_deref())
                    }
                    _ => Vec::new(),
                }
            }
        }
    }
}

/// The places of the relative `path` below a folder or a URL; a rewrite of rewrites has none.
fn place_below(mirror: &Mirror, path: &str, query: Option<&str>) -> Vec<Place> {
    match mirror {
        Mirror::Folder(folder) => {
            let plain = decoded(path).unwrap_or_else(|| path.to_owned());
            // An escaped slash at the start must not make it absolute.
            let mut places = vec![Place::File(folder.join(plain.trim_start_matches('/')))];
            if plain != path {
                places.push(Place::File(folder.join(path)));
            }
            places
        }
        Mirror::Http(prefix) => {
            let query = query.map(|query| format!("?{query}")).unwrap_or_default();
            vec![Place::Http(format!("{prefix}/{path}{query}"))]
        }
        Mirror::Rewrite { .. } => Vec::new(),
    }
}

pub(super) fn is_http(url: &str) -> bool {
    is_https(url) || url.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("http://"))
}

pub(super) fn is_https(url: &str) -> bool {
    url.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("https://"))
}

/// `%XX` undone. `None` where the result is no text.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(url: &str, mirror: &str) -> Vec<String> {
        let mirror: Mirror = mirror.parse().unwrap();
        Location::parse(url).unwrap().at(&mirror).iter().map(Place::to_string).collect()
    }

    #[test]
    fn a_mirror_serves_the_same_host_and_path() {
        let url = "https://dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm";
        assert_eq!(places(url, "/media/usb"), ["/media/usb/dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm"]);
        assert_eq!(
            places(url, "https://mirror.example/k/"),
            ["https://mirror.example/k/dl.k8s.io/release/v1.36.4/bin/linux/arm64/kubeadm"]
        );
    }

    #[test]
    fn a_prefix_is_rewritten_where_a_part_of_the_path_ends() {
        let to = |prefix: &str, to: &str, url: &str| {
            let to = Box::new(to.parse().unwrap());
            let mirror = Mirror::Rewrite { prefix: prefix.to_owned(), to };
            Location::parse(url).unwrap().at(&mirror).iter().map(Place::to_string).collect::<Vec<_>>()
        };
        let (prefix, url) = ("https://dl.k8s.io", "https://me:secret@dl.k8s.io/release/v1/kubeadm?a=b");
        assert_eq!(to(prefix, "http://m/k8s", url), ["http://m/k8s/release/v1/kubeadm?a=b"]);
        assert_eq!(to(prefix, "/usb", url), ["/usb/release/v1/kubeadm"]);
        assert_eq!(to("https://dl.k8s.io/release", "/usb", url), ["/usb/v1/kubeadm"]);
        assert_eq!(
            to("https://github.com", "https://proxy/https://github.com", "https://github.com/a/b"),
            ["https://proxy/https://github.com/a/b"]
        );
        for other in ["https://dl.k8s", "https://dl.k8s.io/rel", "http://dl.k8s.io", "https://example.org"] {
            assert!(to(other, "/usb", url).is_empty(), "{other}");
        }
        assert_eq!(to("https://h", "/usb", "https://h/%2fetc/passwd")[0], "/usb/etc/passwd");
    }

    #[test]
    fn an_escaped_name_is_looked_for_in_both_forms() {
        let url = "https://cdimage.ubuntu.com/a/server-arm64%2Braspi.img.xz";
        assert_eq!(
            places(url, "/m"),
            [
                "/m/cdimage.ubuntu.com/a/server-arm64+raspi.img.xz",
                "/m/cdimage.ubuntu.com/a/server-arm64%2Braspi.img.xz"
            ]
        );
        assert_eq!(Location::parse(url).unwrap().name(), "server-arm64+raspi.img.xz");
    }

    #[test]
    fn a_query_goes_to_servers_only_and_credentials_to_no_mirror() {
        let url = "https://me:secret@files.example:8443/a/b?sig=1";
        assert_eq!(places(url, "/m"), ["/m/files.example:8443/a/b"]);
        assert_eq!(places(url, "http://m"), ["http://m/files.example:8443/a/b?sig=1"]);
    }

    #[test]
    fn a_path_that_leads_out_of_the_mirror_is_refused() {
        for url in ["https://h/a/../../etc/passwd", "https://h/%2e%2e/x", "https://h/a%2f..%2fb", "https://h/..%5cx"] {
            let error = Location::parse(url).unwrap_err().to_string();
            assert_eq!(error, format!("`{url}` is not a URL that can be fetched: its host or path is not usable"));
        }
    }

    #[test]
    fn other_schemes_are_refused() {
        for url in ["ftp://h/x", "h/x", "", "file://relative"] {
            assert!(Location::parse(url).is_err(), "{url}");
        }
        assert_eq!(
            Location::parse("file:///a%20b/c.img").unwrap().upstream(),
            Place::File(PathBuf::from("/a b/c.img"))
        );
    }

    #[test]
    fn a_broken_escape_stays_as_it_is() {
        assert_eq!(decoded("a%2"), Some("a%2".to_owned()));
        assert_eq!(decoded("100%zz%41"), Some("100%zzA".to_owned()));
        assert_eq!(decoded("%ff"), None);
    }
}
