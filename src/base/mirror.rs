//! Where the packages come from: the host's own Debian mirror unless one is given.
//!
//! Reads apt's sources in both forms, sources.list(5): one line each (`deb [options] URI SUITE COMPONENT…`) and deb822
//! stanzas (`Types:`, `URIs:`, `Suites:`). Leaves out `deb-src`, disabled stanzas and flat repositories.

use std::path::{Path, PathBuf};

/// One `deb` entry of apt's sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AptSource {
    pub(super) uri: String,
    pub(super) suite: String,
}

/// The archive and, where it is known, the archive of security updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) archive: String,
    pub(super) security: Option<String>,
}

/// The suites of Debian that a host's sources may name; anything else is another distribution's or a vendor's.
const SUITES: &[&str] = &[
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "sid",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
];

impl Mirror {
    /// The mirror at `archive`; its security updates lie beside it under the name that Debian's mirrors use.
    pub(super) fn at(archive: &str) -> Self {
        let archive = archive.trim_end_matches('/');
        let security = archive.ends_with("/debian").then(|| format!("{archive}-security"));
        Self { archive: archive.to_owned(), security }
    }

    /// The Debian mirror among `sources`, if there is one.
    pub(super) fn among(sources: &[AptSource]) -> Option<Self> {
        let archive = sources.iter().find(|source| SUITES.contains(&source.suite.as_str()))?;
        let security = sources.iter().find(|source| {
            source.suite.strip_suffix("-security").is_some_and(|suite| SUITES.contains(&suite))
                || source.suite.strip_suffix("/updates").is_some_and(|suite| SUITES.contains(&suite))
        });
        let mut mirror = Self::at(&archive.uri);
        if let Some(security) = security {
            mirror.security = Some(security.uri.trim_end_matches('/').to_owned());
        }
        Some(mirror)
    }

    /// Whether a node can use it too: a folder of this host is none of the node's.
    pub(super) fn is_reachable_elsewhere(&self) -> bool {
        self.archive.starts_with("http://") || self.archive.starts_with("https://")
    }
}

/// The files of apt's sources below `apt` (`/etc/apt`) that exist, in apt's order.
pub(super) fn source_files(apt: &Path) -> Vec<PathBuf> {
    let mut files = vec![apt.join("sources.list")];
    let mut parts: Vec<PathBuf> = std::fs::read_dir(apt.join("sources.list.d"))
        .map(|folder| folder.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default();
    parts.sort();
    files.extend(parts);
    files.retain(|file| file.extension().is_some_and(|kind| kind == "list" || kind == "sources") && file.is_file());
    files
}

/// The `deb` entries in the text of the file called `file`.
pub(super) fn parse(file: &Path, text: &str) -> Vec<AptSource> {
    if file.extension().is_some_and(|kind| kind == "sources") { parse_deb822(text) } else { parse_lines(text) }
}

fn parse_lines(text: &str) -> Vec<AptSource> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<AptSource> {
    let rest = line.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    Some(AptSource { uri: words.next()?.to_owned(), suite: words.next()?.to_owned() })
}

fn parse_deb822(text: &str) -> Vec<AptSource> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.split(|line| line.trim().is_empty()).flat_map(parse_stanza).collect()
}

fn parse_stanza(lines: &[&str]) -> Vec<AptSource> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in lines {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    let words = |name: &str| {
        let value = fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value);
        value.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let enabled = words("enabled").first().is_none_or(|value| !matches!(value.as_str(), "no" | "false" | "0" | "off"));
    if !enabled || !words("types").iter().any(|kind| kind == "deb") {
        return Vec::new();
    }
    let suites = words("suites");
    words("uris")
        .into_iter()
        .flat_map(|uri| suites.iter().map(move |suite| AptSource { uri: uri.clone(), suite: suite.clone() }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(uri: &str, suite: &str) -> AptSource {
        AptSource { uri: uri.to_owned(), suite: suite.to_owned() }
    }

    #[test]
    fn one_line_entries_are_read_with_and_without_options() {
        let text = "# deb http://off.example/debian bookworm main\n\
            deb http://a.example/debian bookworm main contrib\n\
            \tdeb\t[arch=amd64 signed-by=/k.gpg]  https://b.example/debian/ trixie main\n\
            deb-src http://a.example/debian bookworm main\n\
            debris http://c.example/ x\n";
        assert_eq!(
            parse(Path::new("sources.list"), text),
            [source("http://a.example/debian", "bookworm"), source("https://b.example/debian/", "trixie")]
        );
    }

    #[test]
    fn stanzas_are_read_with_comments_continued_fields_and_several_suites() {
        let text = "Types: deb deb-src\n# a comment inside\nURIs: http://a.example/debian\nSuites: trixie\n trixie-updates\n\
            Components: main\n\nTypes: deb\nURIs: http://a.example/debian-security\nSuites: trixie-security\n\n\
            Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\n\nTypes: deb-src\nURIs: http://s.example/debian\nSuites: sid\n";
        let sources = parse(Path::new("debian.sources"), text);
        assert_eq!(
            sources,
            [
                source("http://a.example/debian", "trixie"),
                source("http://a.example/debian", "trixie-updates"),
                source("http://a.example/debian-security", "trixie-security"),
            ]
        );
        assert_eq!(
            Mirror::among(&sources),
            Some(Mirror {
                archive: "http://a.example/debian".to_owned(),
                security: Some("http://a.example/debian-security".to_owned()),
            })
        );
    }

    #[test]
    fn another_distributions_archive_is_no_debian_mirror() {
        let sources = parse_lines("deb http://ubuntu.example/ubuntu noble main\ndeb http://v.example/ ./\n");
        assert_eq!(Mirror::among(&sources), None);
    }

    #[test]
    fn a_given_mirror_has_its_security_updates_beside_it_if_it_is_named_as_mirrors_are() {
        assert_eq!(
            Mirror::at("http://m.example/debian/").security.as_deref(),
            Some("http://m.example/debian-security")
        );
        assert_eq!(Mirror::at("http://m.example/snapshot").security, None);
    }
}
