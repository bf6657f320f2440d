//! Links: relative ones become whole, and only http and https survive.

const MAX_LINK_BYTES: usize = 2048;

/// The address that `reference` means on the page at `base`; none when it is not http or https, or unreasonably long.
pub(crate) fn resolve(base: &str, reference: &str) -> Option<String> {
    let reference = reference.trim();
    if reference.len() > MAX_LINK_BYTES || reference.chars().any(|letter| letter.is_control() || letter == ' ') {
        return None;
    }
    if let Some(scheme) = scheme(reference) {
        let known = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let names_a_host = reference.get(scheme.len()..)?.strip_prefix("://").is_some_and(|rest| !rest.is_empty());
        return (known && names_a_host).then(|| reference.to_owned());
    }
    let (base_scheme, rest) = base.split_once("://")?;
    if reference.starts_with("//") {
        return Some(format!("{base_scheme}:{reference}"));
    }
    let (host, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let path = path.split('#').next().unwrap_or_default();
    let page = path.split('?').next().unwrap_or_default();
    let target = match reference.chars().next() {
        None => path.to_owned(),
        Some('#') => format!("{path}{reference}"),
        Some('?') => format!("{page}{reference}"),
        Some('/') => normal(reference),
        Some(_) => {
            normal(&format!("{}{reference}", page.rfind('/').and_then(|slash| page.get(..=slash)).unwrap_or("/")))
        }
    };
    let slash = if target.starts_with('/') { "" } else { "/" };
    Some(format!("{base_scheme}://{host}{slash}{target}"))
}

/// The scheme of an address that has one.
fn scheme(reference: &str) -> Option<&str> {
    let (scheme, _) = reference.split_once(':')?;
    let mut letters = scheme.chars();
    let starts_well = letters.next().is_some_and(|first| first.is_ascii_alphabetic());
    let goes_on_well = letters.all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '+' | '-' | '.'));
    (starts_well && goes_on_well).then_some(scheme)
}

/// A path without `.` and `..`.
fn normal(path: &str) -> String {
    let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').skip(1) {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let is_folder = path.ends_with("/.") || path.ends_with("/..");
    format!("/{}{}{query}", parts.join("/"), if is_folder && !parts.is_empty() { "/" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_links_start_from_the_page() {
        let base = "https://example.com/blog/feed.xml?x=1";
        for (reference, expected) in [
            ("https://other.example/a b", None),
            ("https://other.example/a", Some("https://other.example/a")),
            ("HTTP://other.example", Some("HTTP://other.example")),
            ("//cdn.example.com/a", Some("https://cdn.example.com/a")),
            ("/about", Some("https://example.com/about")),
            ("post/1", Some("https://example.com/blog/post/1")),
            ("./post/../2?q=a/../b", Some("https://example.com/blog/2?q=a/../b")),
            ("../../../up", Some("https://example.com/up")),
            ("..", Some("https://example.com/")),
            ("./", Some("https://example.com/blog/")),
            ("?page=2", Some("https://example.com/blog/feed.xml?page=2")),
            ("#top", Some("https://example.com/blog/feed.xml?x=1#top")),
            ("", Some("https://example.com/blog/feed.xml?x=1")),
            ("  /trimmed\n", Some("https://example.com/trimmed")),
            ("a:b", None),
            ("javascript:alert(1)", None),
            ("data:text/html,x", None),
            ("https:", None),
            ("https://", None),
            ("mailto:a@example.com", None),
        ] {
            assert_eq!(resolve(base, reference).as_deref(), expected, "{reference:?}");
        }
        assert_eq!(resolve("https://example.com", "a").as_deref(), Some("https://example.com/a"));
        assert_eq!(resolve("https://example.com?q", "#x").as_deref(), Some("https://example.com/?q#x"));
    }
}
