//! Pictures that come with a message. What a picture is, its first bytes say, and not who sends it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leanclaw_types::frame::ErrorShape;
use leanclaw_types::run::RunImage;
use leanclaw_types::text::shown;
use serde_json::Value;

/// Bytes of one picture.
const MAX_BYTES: usize = 5_000_000;
/// Bytes of all pictures of a message.
const MAX_BYTES_TOGETHER: usize = 16_000_000;
/// Characters of a file's name in an error.
const MAX_NAME_CHARS: usize = 80;

/// Reads attachments: `{type?, mimeType?, fileName?, content}`, with the content in Base64 or as a data URL.
///
/// # Errors
/// The first one that is no picture that models see, or is too large.
pub(super) fn pictures(attachments: &[Value]) -> Result<Vec<RunImage>, ErrorShape> {
    let read: Vec<RunImage> = attachments
        .iter()
        .enumerate()
        .map(|(place, attachment)| picture(place, attachment))
        .collect::<Result<_, _>>()?;
    if read.iter().map(|image| image.data.len() / 4 * 3).sum::<usize>() > MAX_BYTES_TOGETHER {
        let message =
            format!("attachments take more than {MAX_BYTES_TOGETHER} bytes together; send some of them first");
        return Err(ErrorShape::invalid(message));
    }
    Ok(read)
}

fn picture(place: usize, attachment: &Value) -> Result<RunImage, ErrorShape> {
    let text = |name: &str| attachment.get(name).and_then(Value::as_str).map(str::trim);
    let named = text("fileName").filter(|name| !name.is_empty());
    let name = named.map_or_else(|| format!("{}", place + 1), |name| shown(name, MAX_NAME_CHARS));
    let wrong = |why: &str| ErrorShape::invalid(format!("attachment {name}: {why}"));
    let content = text("content").ok_or_else(|| wrong("content must be base64 or a data URL"))?;
    let content = match content.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,").ok_or_else(|| wrong("a data URL must hold base64"))?.1,
        None => content,
    };
    // Four characters for three bytes; what is too large is not decoded.
    if content.len() / 4 * 3 > MAX_BYTES + 2 {
        return Err(wrong(&format!("exceeds size limit ({MAX_BYTES} bytes)")));
    }
    let bytes = STANDARD.decode(content).map_err(|_| wrong("content must be base64 or a data URL"))?;
    if bytes.len() > MAX_BYTES {
        return Err(wrong(&format!("exceeds size limit ({} > {MAX_BYTES} bytes)", bytes.len())));
    }
    let media_type = media_type(&bytes).ok_or_else(|| {
        wrong("only pictures (PNG, JPEG, GIF, WebP) can be sent; this is none, whatever its mimeType says")
    })?;
    Ok(RunImage { media_type: media_type.to_owned(), data: content.to_owned() })
}

/// What picture these bytes are.
fn media_type(bytes: &[u8]) -> Option<&'static str> {
    let is_webp = bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    match bytes {
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        _ if is_webp => Some("image/webp"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n....";

    fn read(attachment: Value) -> Result<RunImage, String> {
        pictures(&[attachment]).map(|mut read| read.remove(0)).map_err(|error| error.message)
    }

    #[test]
    fn a_picture_is_what_its_bytes_say() {
        let png = STANDARD.encode(PNG);
        let webp = STANDARD.encode(b"RIFF\0\0\0\0WEBPVP8 ");
        let given = json!({"type": "image", "mimeType": "image/jpeg", "fileName": "a.jpg", "content": png});
        assert_eq!(read(given).unwrap(), RunImage { media_type: "image/png".into(), data: png.clone() });
        let url = json!({"content": format!("data:image/png;base64,{webp}")});
        assert_eq!(read(url).unwrap(), RunImage { media_type: "image/webp".into(), data: webp });
        for (bytes, media) in [(&b"\xff\xd8\xff\xe0"[..], "image/jpeg"), (b"GIF89a..", "image/gif")] {
            assert_eq!(read(json!({"content": STANDARD.encode(bytes)})).unwrap().media_type, media);
        }
    }

    #[test]
    fn what_is_no_picture_is_refused_with_its_name() {
        let script = STANDARD.encode("<script>");
        for (attachment, why) in [
            (
                json!({"fileName": "x.png", "mimeType": "image/png", "content": script}),
                "attachment x.png: only pictures",
            ),
            (json!({"content": "no base64!"}), "attachment 1: content must be base64"),
            (json!({"content": {"data": script}}), "attachment 1: content must be base64"),
            (json!({"content": "data:image/png,raw"}), "attachment 1: a data URL must hold base64"),
            (json!("text"), "attachment 1: content must be base64"),
            (json!({"fileName": "\u{1b}[2J", "content": ""}), "attachment \\u{1b}[2J: only pictures"),
        ] {
            let error = read(attachment).unwrap_err();
            assert!(error.starts_with(why), "{error}");
        }
        let mut large = PNG.to_vec();
        large.resize(MAX_BYTES, 0);
        assert!(read(json!({"content": STANDARD.encode(&large)})).is_ok());
        large.push(0);
        for more in [0, 100] {
            large.resize(large.len() + more, 0);
            assert!(read(json!({"content": STANDARD.encode(&large)})).unwrap_err().contains("exceeds size limit"));
        }
    }
}
