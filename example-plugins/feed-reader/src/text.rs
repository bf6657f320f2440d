//! From bytes to text, and from markup to plain text.

/// Elements whose content nobody reads.
const SILENT: [&str; 2] = ["script", "style"];

/// The longest name of a character, with its semicolon, in bytes.
const MAX_ENTITY_BYTES: usize = 12;
/// How much markup is looked at for one text, in bytes.
const MAX_MARKUP_BYTES: usize = 16 * 1024;

/// Named characters that occur in real feeds; others stay as they are written.
const NAMED: [(&str, &str); 22] = [
    ("amp", "&"),
    ("lt", "<"),
    ("gt", ">"),
    ("quot", "\""),
    ("apos", "'"),
    ("nbsp", " "),
    ("ndash", "\u{2013}"),
    ("mdash", "\u{2014}"),
    ("hellip", "\u{2026}"),
    ("lsquo", "\u{2018}"),
    ("rsquo", "\u{2019}"),
    ("ldquo", "\u{201c}"),
    ("rdquo", "\u{201d}"),
    ("laquo", "\u{ab}"),
    ("raquo", "\u{bb}"),
    ("bull", "\u{2022}"),
    ("middot", "\u{b7}"),
    ("copy", "\u{a9}"),
    ("reg", "\u{ae}"),
    ("trade", "\u{2122}"),
    ("euro", "\u{20ac}"),
    ("shy", ""),
];

/// The text of a body: UTF-8, or ISO 8859-1 where the server or the document says so. What does not fit is replaced.
pub(crate) fn decode(body: &[u8], media_type: &str) -> String {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if let Ok(text) = str::from_utf8(body) {
        return text.to_owned();
    }
    let head = String::from_utf8_lossy(body.get(..200).unwrap_or(body)).to_ascii_lowercase();
    let says_latin = |text: &str| ["iso-8859-1", "latin1", "windows-1252"].iter().any(|name| text.contains(name));
    if says_latin(&media_type.to_ascii_lowercase()) || (head.starts_with("<?xml") && says_latin(&head)) {
        return body.iter().copied().map(char::from).collect();
    }
    String::from_utf8_lossy(body).into_owned()
}

/// The text that `after_ampersand` starts with when it is `name;...`, and what follows it.
pub(crate) fn leading_entity(after_ampersand: &str) -> Option<(String, &str)> {
    // Names are short; without this bound, text of many `&` would be searched again for each of them.
    let head = after_ampersand.get(..after_ampersand.floor_char_boundary(MAX_ENTITY_BYTES))?;
    let end = head.find(';')?;
    Some((entity(head.get(..end)?)?, after_ampersand.get(end + 1..)?))
}

/// The character or characters that `&name;` stands for.
pub(crate) fn entity(name: &str) -> Option<String> {
    if let Some((_, text)) = NAMED.iter().find(|(known, _)| *known == name) {
        return Some((*text).to_owned());
    }
    let number = name.strip_prefix('#')?;
    let code = match number.strip_prefix(['x', 'X']) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => number.parse(),
    };
    code.ok().and_then(char::from_u32).map(String::from)
}

/// Plain text of HTML (or of text without markup): tags gone, characters decoded, white space single, at most
/// `max_characters`. None when nothing is left.
pub(crate) fn plain(html: &str, max_characters: usize) -> Option<String> {
    let mut words = Words { text: String::new(), characters: 0, max_characters, gap: false };
    let mut rest = html.get(..html.floor_char_boundary(MAX_MARKUP_BYTES)).unwrap_or_default();
    while let Some(next) = rest.chars().next() {
        if words.is_full() {
            break;
        }
        rest = match next {
            '<' => after_tag(rest, &mut words),
            '&' => after_entity(rest, &mut words),
            letter => {
                words.push(letter);
                rest.get(letter.len_utf8()..).unwrap_or_default()
            }
        };
    }
    words.finish()
}

/// Skips the tag that `rest` starts with, and the content of a silent element; a `<` that starts no tag is text.
fn after_tag<'a>(rest: &'a str, words: &mut Words) -> &'a str {
    if let Some(comment) = rest.strip_prefix("<!--") {
        return comment.split_once("-->").map_or("", |(_, after)| after);
    }
    let inside = rest.get(1..).unwrap_or_default();
    let name: String = inside.chars().take_while(|letter| letter.is_ascii_alphanumeric()).take(16).collect();
    if name.is_empty() && !inside.starts_with(['/', '!', '?']) {
        words.push('<');
        return inside;
    }
    words.gap = true;
    let after = inside.split_once('>').map_or("", |(_, after)| after);
    if !SILENT.contains(&name.to_ascii_lowercase().as_str()) {
        return after;
    }
    let end = format!("</{}", name.to_ascii_lowercase());
    after.to_ascii_lowercase().find(&end).and_then(|start| after.get(start..)).unwrap_or_default()
}

fn after_entity<'a>(rest: &'a str, words: &mut Words) -> &'a str {
    let inside = rest.get(1..).unwrap_or_default();
    match leading_entity(inside) {
        Some((text, after)) => {
            text.chars().for_each(|letter| words.push(letter));
            after
        }
        None => {
            words.push('&');
            inside
        }
    }
}

/// Text that grows letter by letter, with single spaces and up to a bound.
struct Words {
    text: String,
    characters: usize,
    max_characters: usize,
    gap: bool,
}

impl Words {
    fn push(&mut self, letter: char) {
        if letter.is_whitespace() || letter.is_control() {
            self.gap = true;
            return;
        }
        if self.gap && !self.text.is_empty() {
            self.text.push(' ');
            self.characters += 1;
        }
        self.gap = false;
        self.text.push(letter);
        self.characters += 1;
    }

    fn is_full(&self) -> bool {
        self.characters > self.max_characters
    }

    fn finish(self) -> Option<String> {
        if self.text.is_empty() {
            return None;
        }
        if !self.is_full() {
            return Some(self.text);
        }
        let cut: String = self.text.chars().take(self.max_characters.saturating_sub(1)).collect();
        Some(format!("{}\u{2026}", cut.trim_end()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_becomes_text() {
        for (html, expected) in [
            ("<p>One&nbsp;<b>two</b></p>\n\n<p>three</p>", "One two three"),
            ("a < b &amp; c > d", "a < b & c > d"),
            ("&lt;b&gt; &#65;&#x42; &bogus; AT&T", "<b> AB &bogus; AT&T"),
            ("x<script>if (a > b) { evil() }</script>y<STYLE>p{}</STYLE>z", "x y z"),
            ("x<!-- <p>hidden</p> -->y", "xy"),
            ("open <a href='x", "open"),
            ("<script>never closed", ""),
            ("bell\u{7}\u{1b}[31m", "bell [31m"),
        ] {
            assert_eq!(plain(html, 100).unwrap_or_default(), expected, "{html}");
        }
        assert_eq!(plain(" <br/> ", 100), None);
        assert_eq!(plain(&"<br>".repeat(1_000_000), 100), None);
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        let cut = plain(&"\u{e9}".repeat(20), 10).unwrap();
        assert_eq!((cut.chars().count(), cut.ends_with('\u{2026}')), (10, true));
        assert_eq!(plain(&"\u{e9}".repeat(10), 10).unwrap(), "\u{e9}".repeat(10));
    }

    #[test]
    fn bytes_become_text_by_what_is_said_of_them() {
        assert_eq!(decode(b"\xef\xbb\xbf<a/>", ""), "<a/>");
        assert_eq!(decode(b"caf\xe9", "text/xml; charset=ISO-8859-1"), "caf\u{e9}");
        assert_eq!(
            decode(b"<?xml version='1.0' encoding='iso-8859-1'?>\xe9", ""),
            "<?xml version='1.0' encoding='iso-8859-1'?>\u{e9}"
        );
        assert_eq!(decode(b"caf\xe9", ""), "caf\u{fffd}");
    }
}
