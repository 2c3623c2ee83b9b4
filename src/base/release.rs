//! The date of the mirror's state, from its release files (`dists/SUITE/InRelease`): the clock of the whole build.
//!
//! apt fetches them, so that its proxies and address kinds (`http`, `https`, `file`, `copy`) count here too. They are not
//! verified: mmdebstrap does that with the same files before it takes anything from the mirror.

use std::path::Path;

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::error::{BaseError, ProgramError};
use super::host::{command, output_of};
use super::mirror::Mirror;
use crate::progress::Progress;

const HELPER: &str = "/usr/lib/apt/apt-helper";
/// `Sat, 15 Nov 2025 10:17:20 UTC`, the form of a release file's `Date:`.
const DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day padding:zero] [month repr:short] [year] [hour]:[minute]:[second] UTC"
);

/// Seconds since 1970 of the newest of the suite's release files. A security archive that is not where mirrors
/// usually have it is taken out of `mirror`.
pub(super) fn date(mirror: &mut Mirror, suite: &str, folder: &Path, progress: &dyn Progress) -> Result<u64, BaseError> {
    let fetch = |archive: &str, suite: &str| {
        fetch(archive, suite, folder).map_err(|source| BaseError::NoSuite {
            suite: suite.to_owned(),
            mirror: archive.to_owned(),
            source,
        })
    };
    let mut texts = vec![fetch(&mirror.archive, suite)?];
    if !matches!(suite, "sid" | "unstable") {
        texts.push(fetch(&mirror.archive, &format!("{suite}-updates"))?);
        if let Some(security) = mirror.security.clone() {
            match fetch(&security, &format!("{suite}-security")) {
                Ok(text) => texts.push(text),
                Err(_) => {
                    progress.note(&format!("no security updates for {suite} at {security}: built without them"));
                    mirror.security = None;
                }
            }
        }
    }
    texts
        .iter()
        .filter_map(|text| seconds(text))
        .max()
        .ok_or_else(|| BaseError::Tree(format!("the release files of `{suite}` have no date")))
}

fn fetch(archive: &str, suite: &str, folder: &Path) -> Result<String, ProgramError> {
    let file = folder.join("InRelease");
    let mut helper = command(HELPER);
    helper.arg("download-file").arg(format!("{archive}/dists/{suite}/InRelease")).arg(&file);
    output_of(helper)?;
    std::fs::read_to_string(&file).map_err(|error| ProgramError {
        program: "apt-helper".to_owned(),
        status: "left no file".to_owned(),
        stderr: error.to_string(),
    })
}

/// The `Date:` of a release file.
fn seconds(text: &str) -> Option<u64> {
    let date = text.lines().find_map(|line| line.strip_prefix("Date: "))?;
    let date = PrimitiveDateTime::parse(date.trim(), DATE).ok()?;
    u64::try_from(date.assume_utc().unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_release_file_is_found() {
        let text = "-----BEGIN PGP SIGNED MESSAGE-----\nOrigin: Debian\nSuite: stable\nDate: Wed, 18 Nov 2026 11:06:05 UTC\nAcquire-By-Hash: yes\n";
        assert_eq!(seconds(text), Some(1_794_999_965));
        assert_eq!(seconds("Suite: stable\n"), None);
        assert_eq!(seconds("Date: yesterday\n"), None);
    }
}
