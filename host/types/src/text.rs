//! Text that others wrote (plugins, servers, files), made safe to log and to show.

/// Whether a character may be shown as it is: it moves no cursor, changes no colour, reorders nothing and is not
/// invisible. A line break is not plain; a tab is.
#[must_use]
pub fn is_plain(character: char) -> bool {
    let is_hidden = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
    );
    character == '\t' || !(character.is_control() || is_hidden)
}

/// `text` on one line, with everything that is not plain written as an escape (`\n`, `\u{1b}`).
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if is_plain(character) { escaped.push(character) } else { escaped.extend(character.escape_default()) }
    }
    escaped
}

/// [`escape`], but line breaks stay.
#[must_use]
pub fn escape_lines(text: &str) -> String {
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// What somebody said, short and safe on a terminal: at most `most` characters, with escapes for those that print nothing.
#[must_use]
pub fn shown(text: &str, most: usize) -> String {
    text.chars().take(most).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_steer_or_hide_is_escaped() {
        for hidden in [
            '\u{1b}', '\r', '\0', '\u{9b}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{2029}', '\u{200b}', '\u{200d}',
            '\u{feff}',
        ] {
            let shown = escape(&format!("a{hidden}b"));
            assert!(shown.starts_with("a\\") && shown.is_ascii(), "{shown:?}");
        }
        assert_eq!(escape("plain\tä 漢\n"), "plain\tä 漢\\n");
        assert_eq!(escape_lines("a\nb\u{1b}\n"), "a\nb\\u{1b}\n");
    }
}
