//! The cleartext signature framework (RFC 9580, section 7): a text that can be read as it is, with its signature below it.
//!
//! Stricter than the specification where a reader and a checker could see different texts: nothing may stand before or
//! behind the message, no header but `Hash:`, and no line that begins with a dash without being escaped. One pass, so that
//! a text of many lines costs no more than its length.

use super::SignatureError;

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

/// A message, taken apart.
#[derive(Debug, PartialEq)]
pub(super) struct Message<'a> {
    /// As it was signed: unescaped, without blanks at the ends of lines, which end in CR and LF except for the last.
    pub(super) text: String,
    /// Armored.
    pub(super) signature: &'a [u8],
}

/// Takes `message` apart; nothing is checked yet.
pub(super) fn parse(message: &[u8]) -> Result<Message<'_>, SignatureError> {
    let error = |reason: &str| SignatureError::Malformed { reason: reason.to_owned() };
    let message = std::str::from_utf8(message).map_err(|_| error("it is not UTF-8 text"))?;
    let mut lines = message.split_inclusive('\n');
    let mut read = 0;
    let mut next = || {
        let line = lines.next()?;
        let start = read;
        read += line.len();
        Some((start, line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line))))
    };
    if next().is_none_or(|(_, line)| line.trim_end() != BEGIN) {
        return Err(error("it does not begin as a clear-signed message does"));
    }
    loop {
        match next() {
            Some((_, line)) if line.trim_end().is_empty() => break,
            Some((_, line)) if line.starts_with("Hash: ") => {}
            _ => return Err(error("it has a header that such a message does not have")),
        }
    }
    let mut text = String::with_capacity(message.len());
    let mut first = true;
    let start = loop {
        let (start, line) = next().ok_or_else(|| error("it ends before its signature"))?;
        if line.trim_end() == SIGNATURE {
            break start;
        }
        // The arithmetic takes a lone CR for the end of a line; a reader of lines does not.
        if line.contains('\r') {
            return Err(error("a line holds a carriage return"));
        }
        let line = match line.strip_prefix("- ") {
            Some(line) => line,
            None if line.starts_with('-') => return Err(error("a line begins with a dash")),
            None => line,
        };
        if !std::mem::take(&mut first) {
            text.push_str("\r\n");
        }
        text.push_str(line.trim_end_matches([' ', '\t']));
    };
    let signature = message.get(start..).unwrap_or_default();
    let rest = signature.split_once(END).ok_or_else(|| error("its signature has no end"))?.1;
    if !rest.trim().is_empty() {
        return Err(error("something stands behind it"));
    }
    Ok(Message { text, signature: signature.as_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAIL: &str = "-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n";

    fn reason(message: &str) -> String {
        parse(message.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_text_is_unescaped_and_its_line_ends_are_made_those_that_were_signed() {
        for (body, text) in [
            ("a\nb\n", "a\r\nb"),
            ("a \t\r\n\r\n- -b\n- From\n", "a\r\n\r\n-b\r\nFrom"),
            ("", ""),
            ("\n", ""),
            ("\n\n", "\r\n"),
        ] {
            let message = format!("{BEGIN}\nHash: SHA512\n\n{body}{TAIL}");
            assert_eq!(
                parse(message.as_bytes()).unwrap(),
                Message { text: text.to_owned(), signature: TAIL.as_bytes() }
            );
        }
    }

    #[test]
    fn what_a_reader_could_see_and_a_checker_not_is_refused() {
        let head = format!("{BEGIN}\nHash: SHA512\n\n");
        for (message, what) in [
            (format!("before\n{head}a\n{TAIL}"), "it does not begin as a clear-signed message does"),
            (format!("{head}a\n{TAIL}behind\n"), "something stands behind it"),
            (format!("{head}a\n{TAIL}{head}b\n{TAIL}"), "something stands behind it"),
            (format!("{BEGIN}\nNot: here\n\na\n{TAIL}"), "it has a header that such a message does not have"),
            (format!("{BEGIN}\na\n{TAIL}"), "it has a header that such a message does not have"),
            (format!("{head}-a\n{TAIL}"), "a line begins with a dash"),
            (format!("{head}{BEGIN}\n{TAIL}"), "a line begins with a dash"),
            (format!("{head}a\rb\n{TAIL}"), "a line holds a carriage return"),
            (format!("{head}a\n"), "it ends before its signature"),
            (format!("{head}a\n{SIGNATURE}\n\nx\n"), "its signature has no end"),
            (String::new(), "it does not begin as a clear-signed message does"),
        ] {
            assert_eq!(reason(&message), format!("it cannot be read: {what}"), "{message}");
        }
    }
}
