//! The texts that a knowledge base may hold. They end up in other people's requests and answers, so their length has a
//! bound, and nothing in them is invisible.

use super::metadata::MAX_METADATA_BYTES;

/// Longest name of a knowledge base.
pub const MAX_NAME_BYTES: usize = 64;
const MAX_ID_BYTES: usize = 256;
/// As long as a prompt may be.
pub const MAX_TEXT_BYTES: usize = 8000;

/// Bytes of the texts of one entry: its id, its caption, its attribution and its metadata.
pub const MAX_ENTRY_TEXT_BYTES: usize = MAX_ID_BYTES + 2 * MAX_TEXT_BYTES + MAX_METADATA_BYTES;

/// Checks the name of a knowledge base: 1 to 64 lower-case letters, digits and hyphens.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(format!(
            "a name must be 1 to {MAX_NAME_BYTES} lower-case letters, digits and hyphens (got {name:?})"
        ))
    }
}

/// Checks the one line that describes a knowledge base: at most 8,000 bytes, no control characters.
pub fn check_description(description: &str) -> Result<(), String> {
    check("description", description, 0, MAX_TEXT_BYTES)?;
    if description.chars().any(char::is_control) {
        return Err("description must be one line, without control characters".to_owned());
    }
    Ok(())
}

/// Checks the id of an entry: 1 to 256 bytes, no control characters.
pub fn check_id(id: &str) -> Result<(), String> {
    check("id", id, 1, MAX_ID_BYTES)?;
    if id.chars().any(char::is_control) {
        return Err(format!("id must not contain control characters (got {id:?})"));
    }
    Ok(())
}

/// Checks a caption: 1 to 8,000 bytes with something to read, no control characters but line breaks and tabs.
pub fn check_caption(caption: &str) -> Result<(), String> {
    if caption.trim().is_empty() {
        return Err("caption must not be empty: search and the model read it".to_owned());
    }
    check("caption", caption, 1, MAX_TEXT_BYTES)
}

/// Checks whom to credit: at most 8,000 bytes, no control characters but line breaks and tabs.
pub fn check_attribution(attribution: &str) -> Result<(), String> {
    check("attribution", attribution, 0, MAX_TEXT_BYTES)
}

fn check(what: &str, text: &str, min: usize, max: usize) -> Result<(), String> {
    if !(min..=max).contains(&text.len()) {
        return Err(format!("{what} must be {min} to {max} bytes (got {})", text.len()));
    }
    // White space is a blank to every tokenizer, line breaks included.
    match text.chars().find(|c| c.is_control() && !c.is_whitespace()) {
        Some(control) => {
            Err(format!("{what} must not contain the control character {}", control.escape_default()))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_every_file_system_and_every_setting() {
        for name in ["creatures", "a", "birds-2", &"x".repeat(64)] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", "Creatures", "../x", "a b", "käfer", "a_b", &"x".repeat(65)] {
            let why = check_name(name).unwrap_err();
            assert!(why.contains("1 to 64") && why.contains(&format!("{name:?}")), "{why}");
        }
    }

    #[test]
    fn texts_are_bounded_and_visible() {
        assert_eq!(check_caption("a fox\r\n\tin the snow"), Ok(()));
        assert_eq!(check_caption(&"猫".repeat(2666)), Ok(()));
        assert_eq!((check_attribution(""), check_description("")), (Ok(()), Ok(())));
        let cases = [
            (check_caption(" \n"), "empty"),
            (check_caption("a\u{0}b"), "\\u{0}"),
            (check_caption("a\u{9b}b"), "\\u{9b}"),
            (check_caption(&"x".repeat(8001)), "8000 bytes (got 8001)"),
            (check_attribution(&"x".repeat(8001)), "8000 bytes (got 8001)"),
            (check_attribution("\u{1b}[31m"), "\\u{1b}"),
            (check_description("two\nlines"), "one line"),
            (check_id(""), "1 to 256 bytes (got 0)"),
            (check_id("a\nb"), "control"),
            (check_id(&"x".repeat(257)), "got 257"),
        ];
        for (checked, told) in cases {
            let why = checked.unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }
}
