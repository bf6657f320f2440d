//! HTTP headers.

/// HTTP headers in their order. Names are kept in lower case; values are bytes, as HTTP has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// No headers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first value of a header as text; none when it is absent or not UTF-8. Case of the name does not matter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(held, _)| held.eq_ignore_ascii_case(name)).and_then(|(_, value)| str::from_utf8(value).ok())
    }

    /// Adds a header and keeps others of that name.
    pub fn append(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_ascii_lowercase(), value.into()));
    }

    /// Sets a header in place of all others of that name.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.retain(|(held, _)| !held.eq_ignore_ascii_case(name));
        self.append(name, value);
    }

    /// All headers in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

impl<Name: AsRef<str>, Value: Into<Vec<u8>>> FromIterator<(Name, Value)> for Headers {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(headers: I) -> Self {
        let mut all = Self::new();
        for (name, value) in headers {
            all.append(name.as_ref(), value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_set_replaces() {
        let mut headers: Headers = [("X-A", "1"), ("x-b", "2"), ("X-a", "3")].into_iter().collect();
        assert_eq!(headers.get("x-A"), Some("1"));
        headers.set("X-A", "4");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("x-b", b"2".as_slice()), ("x-a", b"4".as_slice())]);
        headers.set("x-b", vec![0xff]);
        assert_eq!(headers.get("x-b"), None);
    }
}
