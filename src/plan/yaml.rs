//! YAML for the programs in the image: quoted where YAML 1.1 readers need it, never folded.

use serde::Serialize;

/// A document from a value whose keys are strings.
pub(super) fn document(value: &impl Serialize) -> String {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.prefer_block_scalars = false;
    // Writing to a string cannot fail, and maps with string keys, lists and scalars are all that is passed.
    serde_saphyr::to_string_with_options(value, options).expect("plain data")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_older_readers_misread_are_quoted() {
        let value = serde_json::json!({"a": "yes", "b": "0o17", "c": "10", "d": "x: y # z", "e": "a b ".repeat(60)});
        let text = document(&value);
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(text.contains("\"yes\"") && text.contains("\"10\""), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}
