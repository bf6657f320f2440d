//! Bytes with a media type: in memory, or read from the host piece by piece.

use std::fmt;

use crate::failure::Failure;

/// How much one read of [`Blob::bytes`] asks for.
const READ_BYTES: u32 = 64 * 1024;

/// Where the bytes of a [`Blob`] come from when they are not in memory.
pub(crate) trait Source {
    /// The next piece, of at most `max_bytes`; none at the end.
    fn read(&mut self, max_bytes: u32) -> Result<Option<Vec<u8>>, Failure>;

    /// The host's own handle, when there is one, so that a blob that is passed on is not copied through the plugin.
    #[cfg(target_family = "wasm")]
    fn into_raw(self: Box<Self>) -> Option<crate::bindings::raw::blobs::Blob>;
}

/// A file or a body: bytes with a media type. What came from the host is read piece by piece, once.
pub struct Blob {
    media_type: String,
    size: Option<u64>,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Memory { data: Vec<u8>, position: usize },
    // The only constructors are where the host hands a source in: a plugin that gets none does not import its interface.
    Remote(Box<dyn Source>),
}

impl Blob {
    /// Bytes in memory. `media_type` is such as `text/plain; charset=utf-8`.
    pub fn new(media_type: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Self {
            media_type: media_type.into(),
            size: u64::try_from(data.len()).ok(),
            content: Content::Memory { data, position: 0 },
        }
    }

    /// Bytes that the host gives piece by piece.
    #[cfg_attr(not(target_family = "wasm"), expect(dead_code, reason = "the test host keeps its bytes in memory"))]
    pub(crate) fn remote(media_type: String, size: Option<u64>, source: Box<dyn Source>) -> Self {
        Self { media_type, size, content: Content::Remote(source) }
    }

    /// The media type.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The size in bytes, when it is known before everything is read.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How many bytes in memory are not read yet; none when they are not in memory.
    #[cfg(target_family = "wasm")]
    pub(crate) fn bytes_left(&self) -> Option<usize> {
        match &self.content {
            Content::Memory { data, position } => data.len().checked_sub(*position),
            Content::Remote(_) => None,
        }
    }

    /// The next piece, of at most `max_bytes`; none at the end.
    ///
    /// # Errors
    /// A [`Failure`] of the host, such as a connection that broke.
    pub fn read(&mut self, max_bytes: u32) -> Result<Option<Vec<u8>>, Failure> {
        match &mut self.content {
            Content::Remote(source) => source.read(max_bytes),
            Content::Memory { data, position } => {
                let rest = data.get(*position..).unwrap_or_default();
                let piece = rest.get(..max_bytes as usize).unwrap_or(rest).to_vec();
                *position += piece.len();
                Ok((!piece.is_empty()).then_some(piece))
            }
        }
    }

    /// Everything that is left, if it is at most `max_bytes`.
    ///
    /// # Errors
    /// [`code::TOO_LARGE`](crate::failure::code::TOO_LARGE), or a [`Failure`] of the host.
    pub fn bytes(mut self, max_bytes: usize) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(piece) = self.read(READ_BYTES)? {
            if all.len() + piece.len() > max_bytes {
                return Err(Failure::too_large(format!("The content is larger than {max_bytes} bytes.")));
            }
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// Everything that is left as text, if it is at most `max_bytes` of UTF-8.
    ///
    /// # Errors
    /// [`code::TOO_LARGE`](crate::failure::code::TOO_LARGE), `invalid-input` when it is not UTF-8, or a [`Failure`] of
    /// the host.
    pub fn text(self, max_bytes: usize) -> Result<String, Failure> {
        String::from_utf8(self.bytes(max_bytes)?).map_err(|_| Failure::invalid_input("The content is not UTF-8 text."))
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Blob")
            .field("media_type", &self.media_type)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole_and_a_limit_holds() {
        let mut blob = Blob::new("text/plain", "abcde");
        assert_eq!(blob.read(2).unwrap().unwrap(), b"ab");
        assert_eq!(blob.read(9).unwrap().unwrap(), b"cde");
        assert_eq!(blob.read(9).unwrap(), None);
        assert_eq!(Blob::new("text/plain", "abcde").text(5).unwrap(), "abcde");
        assert_eq!(Blob::new("text/plain", "abcde").bytes(4).unwrap_err().code, "too-large");
        assert!(Blob::new("text/plain", vec![0xff]).text(5).is_err());
    }
}
