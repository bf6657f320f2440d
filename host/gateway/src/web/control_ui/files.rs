//! The files of the page: finding them without leaving their folder, and sending them without holding them.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt as _;

use super::Reply;

/// The page itself.
pub(super) const INDEX: &str = "index.html";
/// Most of a file that is in memory for one reader.
const CHUNK_BYTES: usize = 64 * 1024;
/// Letters and digits by which a build names a file after its content.
const FINGERPRINT_CHARS: usize = 8;

/// Extensions that only files have, and what they are served as.
const TYPES: &[(&str, &str)] = &[
    ("js", "text/javascript; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json", "application/json; charset=utf-8"),
    ("map", "application/json; charset=utf-8"),
    ("webmanifest", "application/manifest+json; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/x-icon"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("wasm", "application/wasm"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/plain; charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("br", "application/octet-stream"),
    ("gz", "application/octet-stream"),
];

/// Files that lie beside another one, compressed: extension and content coding, the better one first.
const CODINGS: [(&str, &str); 2] = [("br", "br"), ("gz", "gzip")];

/// Why there is nothing to send.
#[derive(Debug)]
pub(super) enum Missing {
    /// There is no such file, or it is not for anybody.
    NotThere,
    /// The folder itself cannot be used; why.
    Unusable(String),
}

impl Missing {
    /// Why the page itself cannot be read.
    pub(super) fn why(self, root: &Path) -> String {
        match self {
            Self::NotThere => format!("{} holds no {INDEX}", root.display()),
            Self::Unusable(why) => why,
        }
    }
}

/// What a request's path names below the folder; none when it could name anything else. Empty for the folder itself.
pub(super) fn relative(path: &str) -> Option<PathBuf> {
    let decoded = decoded(path)?;
    let mut relative = PathBuf::new();
    for part in decoded.split('/').filter(|part| !part.is_empty()) {
        // Nothing hidden is part of a page.
        if part.starts_with('.') || part.contains(['\\', '\0']) {
            return None;
        }
        relative.push(part);
    }
    relative.components().all(|part| matches!(part, Component::Normal(_))).then_some(relative)
}

/// The text behind `%xx`; none when it is none.
fn decoded(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Whether a path can only mean a file.
pub(super) fn is_asset(path: &Path) -> bool {
    media_type(path).is_some()
}

fn media_type(path: &Path) -> Option<&'static str> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    TYPES.iter().find(|(known, _)| *known == extension).map(|(_, kind)| *kind)
}

/// An open file of the page.
pub(super) struct Found {
    file: File,
    bytes: u64,
    kind: &'static str,
    coding: Option<&'static str>,
    /// Names the content.
    tag: String,
    /// Whether the name says what the content is.
    is_fingerprinted: bool,
}

/// Opens a file below the folder, compressed where the client takes that and the build brought it.
pub(super) async fn open(root: &Path, wanted: &Path, headers: &HeaderMap) -> Result<Found, Missing> {
    let (root, wanted) = (root.to_owned(), wanted.to_owned());
    let codings: Vec<_> = CODINGS.into_iter().filter(|(_, coding)| takes(headers, coding)).collect();
    let opening = tokio::task::spawn_blocking(move || open_now(&root, &wanted, &codings));
    opening.await.map_err(|_| Missing::NotThere)?
}

fn open_now(root: &Path, wanted: &Path, codings: &[(&str, &'static str)]) -> Result<Found, Missing> {
    let (file, plain_tag) = open_below(root, wanted)?;
    let kind = media_type(wanted).unwrap_or("application/octet-stream");
    let is_fingerprinted = is_fingerprinted(wanted);
    for (extension, coding) in codings {
        let mut name = wanted.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        if let Ok((file, tag)) = open_below(root, Path::new(&name)) {
            return found(file, kind, Some(coding), tag, is_fingerprinted);
        }
    }
    found(file, kind, None, plain_tag, is_fingerprinted)
}

fn found(
    file: File,
    kind: &'static str,
    coding: Option<&'static str>,
    tag: String,
    is_fingerprinted: bool,
) -> Result<Found, Missing> {
    let bytes = file.metadata().map_err(|_| Missing::NotThere)?.len();
    Ok(Found { file, bytes, kind, coding, tag, is_fingerprinted })
}

/// A file whose real place is below the folder's real place, and its tag.
pub(super) fn open_below(root: &Path, wanted: &Path) -> Result<(File, String), Missing> {
    let unusable = |error: io::Error| Missing::Unusable(format!("{}: {error}", root.display()));
    let root = root.canonicalize().map_err(unusable)?;
    let not_there = |_| Missing::NotThere;
    // A link out of the folder shows as a place outside of it.
    let place = root.join(wanted).canonicalize().map_err(not_there)?;
    if !place.starts_with(&root) || !place.symlink_metadata().map_err(not_there)?.is_file() {
        return Err(Missing::NotThere);
    }
    let file = File::open(&place).map_err(not_there)?;
    let tag = tag(&file).map_err(not_there)?;
    // Who may write to a folder may also put another file or folder in the place of one in it.
    if let Some(open) = place.ancestors().take_while(|path| path.starts_with(&root)).find(|path| others_may_write(path))
    {
        let path = open.display();
        return Err(Missing::Unusable(format!("every user may write to {path}; run `chmod o-w {path}`")));
    }
    // Whoever owns it may write to it, whatever the mode says now.
    if let Some((path, owner)) = place.ancestors().take_while(|path| path.starts_with(&root)).find_map(strangers) {
        let path = path.display();
        return Err(Missing::Unusable(format!(
            "{path} belongs to another user (uid {owner}); run `chown -R $(id -u) {path}` as the user that LeanClaw runs as"
        )));
    }
    Ok((file, tag))
}

/// Whether every user of the machine could put a script there that would run with the rights of whoever opens the page.
fn others_may_write(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        path.metadata().is_ok_and(|metadata| metadata.permissions().mode() & 0o002 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

/// The owner of a path that is neither the user that this program runs as nor root.
fn strangers(path: &Path) -> Option<(&Path, u32)> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = path.metadata().ok()?.uid();
    let is_own = owner == 0 || owner == rustix::process::geteuid().as_raw();
    (!is_own).then_some((path, owner))
}

/// Names what a file holds now. Package managers give every file the same time, so the times alone say too little.
fn tag(file: &File) -> io::Result<String> {
    let metadata = file.metadata()?;
    let since = |time: io::Result<std::time::SystemTime>| {
        time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |age| age.as_nanos())
    };
    let mut seed = format!("{} {}", metadata.len(), since(metadata.modified()));
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let (device, inode) = (metadata.dev(), metadata.ino());
        seed = format!("{seed} {device} {inode} {}.{}", metadata.ctime(), metadata.ctime_nsec());
    }
    Ok(tag_of(seed.as_bytes()))
}

/// An entity tag for these bytes.
pub(super) fn tag_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let digits: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digits}\"")
}

/// Whether a name ends in a fingerprint, as in `assets/index-DsEuFQRE.js`: another content has another name then.
fn is_fingerprinted(path: &Path) -> bool {
    let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { return false };
    let Some((_, end)) = stem.split_at_checked(stem.len().saturating_sub(FINGERPRINT_CHARS)) else { return false };
    let before = stem.len().checked_sub(FINGERPRINT_CHARS + 1).and_then(|at| stem.as_bytes().get(at));
    let letters = end.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_');
    // A word in small letters is a word.
    let is_no_word = end.chars().any(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit());
    path.starts_with("assets") && before == Some(&b'-') && letters && is_no_word
}

/// Whether a client takes a content coding.
fn takes(headers: &HeaderMap, coding: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|entry| {
        let (name, weight) = entry.split_once(';').unwrap_or((entry, "q=1"));
        let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok()).unwrap_or(1.0);
        name.trim().eq_ignore_ascii_case(coding) && weight > 0.0
    })
}

/// Whether the client has the content of that tag.
pub(super) fn knows(headers: &HeaderMap, tag: &str) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    known.flat_map(|value| value.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/") == tag
    })
}

impl Found {
    /// Sends it piece by piece; the server leaves the body out for `HEAD`.
    pub(super) fn answer(self, headers: &HeaderMap) -> Reply {
        let mut reply = if knows(headers, &self.tag) {
            let mut reply = Response::new(Body::empty());
            *reply.status_mut() = StatusCode::NOT_MODIFIED;
            reply
        } else {
            let mut reply = Response::new(pieces(self.file, self.bytes));
            reply.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(self.bytes));
            reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
            if let Some(coding) = self.coding {
                reply.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
            }
            reply
        };
        let caching = if self.is_fingerprinted { "public, max-age=31536000, immutable" } else { "no-cache" };
        let headers = reply.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if let Ok(tag) = HeaderValue::try_from(self.tag) {
            headers.insert(header::ETAG, tag);
        }
        reply
    }
}

/// A file's first `bytes` bytes, read as they are sent.
fn pieces(file: File, bytes: u64) -> Body {
    let file = tokio::fs::File::from_std(file).take(bytes);
    Body::from_stream(stream::try_unfold(file, |mut file| async move {
        let mut piece = BytesMut::with_capacity(CHUNK_BYTES);
        let read = file.read_buf(&mut piece).await?;
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(piece), file)))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_folder() {
        let read = |path: &str| relative(path).map(|path| path.display().to_string());
        assert_eq!(read("/assets//a%20b.js").as_deref(), Some("assets/a b.js"));
        assert_eq!(read("/").as_deref(), Some(""));
        for bad in [
            "/../etc/passwd",
            "/%2e%2e/etc",
            "/a/%2E%2E%2f%2e%2e/b",
            "/.git/config",
            "/a/.env",
            "/a%00.js",
            "/..%5cx",
            "/%ff",
            "/%",
            "/%4",
            "/%zz",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_names_made_from_content_are_kept_for_good() {
        for (name, kept) in [
            ("assets/index-DsEuFQRE.js", true),
            ("assets/a-b_C-1234.css", true),
            ("assets/control-ui-settings.js", false),
            ("index-DsEuFQRE.js", false),
            ("assets/DsEuFQRE.js", false),
            ("assets/ü-DsEuFQRE.js", true),
            ("assets/-üDsEuFQ.js", false),
        ] {
            assert_eq!(is_fingerprinted(Path::new(name)), kept, "{name}");
        }
    }

    #[test]
    fn codings_are_taken_as_the_client_says() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br;q=0"));
        assert!(takes(&headers, "gzip") && !takes(&headers, "br") && !takes(&headers, "zstd"));
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"a\", W/\"b\""));
        assert!(knows(&headers, "\"b\"") && !knows(&headers, "\"c\""));
    }
}
