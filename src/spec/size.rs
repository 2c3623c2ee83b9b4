//! Sizes as people write them. `8G` and `8GiB` are 8·2^30 bytes as truncate and qemu-img read them, `8GB` is 8·10^9 as
//! SD cards are sold, a plain number is bytes. The result is whole sectors, rounded down: a size is a limit.

use serde::Deserialize;

use super::error::SpecError;

/// Bytes of a disk sector.
const SECTOR: u64 = 512;

/// What a suffix multiplies with.
const UNITS: [(&str, u64); 13] = [
    ("", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("KB", 1_000),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
];

/// The bytes that `text` means, in whole sectors.
///
/// # Errors
/// [`SpecError::Size`].
pub fn parse(text: &str) -> Result<u64, SpecError> {
    let malformed = || SpecError::Size(text.to_owned());
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let unit = unit.trim_start();
    let (_, factor) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(malformed)?;
    let number: u64 = number.parse().map_err(|_| malformed())?;
    let bytes = number.checked_mul(*factor).filter(|bytes| *bytes >= SECTOR).ok_or_else(malformed)?;
    Ok(bytes - bytes % SECTOR)
}

/// A size in a YAML document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size(pub(super) u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_unless_they_say_otherwise() {
        for (text, expected) in [
            ("512", 512),
            ("1000", 512),
            ("8G", 8 << 30),
            ("8GiB", 8 << 30),
            ("8 gib", 8 << 30),
            ("8GB", 8_000_000_000),
            ("3500M", 3500 << 20),
            ("1T", 1 << 40),
        ] {
            assert_eq!(parse(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "G", "-1G", "1.5G", "8X", "0", "511", "99999999999T"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is not a size"));
            assert_eq!(
                error.hint().unwrap(),
                "give a whole number with a unit: `8G` or `8GiB` (8·2^30 bytes), `8GB` (8·10^9 bytes), or bytes"
            );
        }
    }
}
