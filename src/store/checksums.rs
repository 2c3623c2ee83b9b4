//! The publishers' checksum files: a bare digest, `DIGEST  NAME` and `DIGEST *NAME` lines as the
//! coreutils write them, and `SHA256 (NAME) = DIGEST` lines as the BSDs do.
//! Everything else in the file (a clear-signed file's armour, comments) is passed over.

use crate::artifact::Digest;

use super::location::decoded;

/// The digest that `text` has for the file `name`; a sha512 is preferred to a sha256.
///
/// A file that is nothing but a digest speaks of any name.
pub(super) fn digest_for(text: &str, name: &str) -> Option<Digest> {
    if let Ok(digest) = text.trim_start_matches('\u{feff}').trim().parse() {
        return Some(digest);
    }
    let mut found: Option<Digest> = None;
    for (listed, digest) in text.lines().filter_map(entry) {
        let stronger = found.as_ref().is_none_or(|found| found.bytes().len() < digest.bytes().len());
        if stronger && same_name(listed, name) {
            found = Some(digest);
        }
    }
    found
}

/// A line's name and digest.
fn entry(line: &str) -> Option<(&str, Digest)> {
    let line = line.trim();
    let bsd = line.split_once(" (").and_then(|(algorithm, rest)| Some((algorithm, rest.rsplit_once(") = ")?)));
    if let Some((algorithm, (name, digest))) = bsd {
        let digest: Digest = digest.trim().parse().ok()?;
        return algorithm.eq_ignore_ascii_case(digest.algorithm()).then_some((name, digest));
    }
    let (digest, name) = line.split_once([' ', '\t'])?;
    let name = name.trim_start();
    Some((name.strip_prefix('*').unwrap_or(name), digest.parse().ok()?))
}

/// Publishers list names with or without folders before them, escaped or not.
fn same_name(listed: &str, name: &str) -> bool {
    let last = listed.rsplit('/').next().unwrap_or(listed);
    last == name || decoded(last).as_deref() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6a849c07d3e1c708f5c40f1ac8be03a56124204dfc7e1931e4113634019c0dad";

    fn found(text: &str, name: &str) -> Option<String> {
        digest_for(text, name).map(|digest| digest.to_string())
    }

    #[test]
    fn every_usual_form_is_read() {
        let other = "0".repeat(64);
        for text in [
            HEX.to_owned(),
            format!("{HEX}\n"),
            format!("\u{feff}{}\r\n", HEX.to_uppercase()),
            format!("{other}  x\n{HEX}  a+b.img.xz\n"),
            format!("{other} *x\n{HEX} *a+b.img.xz\n"),
            format!("{HEX}  ./dir/a+b.img.xz"),
            format!("{HEX}  a%2Bb.img.xz"),
            format!("{HEX}\ta+b.img.xz"),
            format!("SHA256 (x) = {other}\nSHA256 (a+b.img.xz) = {HEX}\n"),
            format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{HEX}  a+b.img.xz\n-----BEGIN PGP SIGNATURE"),
        ] {
            assert_eq!(found(&text, "a+b.img.xz").as_deref(), Some(HEX), "{text}");
        }
    }

    #[test]
    fn a_name_that_is_not_listed_has_no_digest() {
        for text in ["", "<html>", &format!("{HEX}  other"), &format!("{HEX}  xa"), &format!("SHA512 (a) = {HEX}")] {
            assert_eq!(found(text, "a"), None, "{text}");
        }
    }

    #[test]
    fn of_two_algorithms_the_longer_counts() {
        let long = "1".repeat(128);
        for text in [format!("{HEX}  a\n{long}  a\n"), format!("{long}  a\n{HEX}  a\n")] {
            assert_eq!(found(&text, "a"), Some(long.clone()));
        }
    }
}
