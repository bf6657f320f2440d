//! A prompt of the protocol as blocks for a model.

use agent_client_protocol_schema::v1::{ContentBlock, EmbeddedResourceResource, Error};
use leanclaw_types::model::Block;

use crate::frame::invalid_params;

/// The blocks of a prompt.
///
/// # Errors
/// -32602 when it is empty or holds what this agent has not said it takes.
pub(crate) fn blocks(prompt: Vec<ContentBlock>) -> Result<Vec<Block>, Error> {
    if prompt.is_empty() {
        return Err(invalid_params("params.prompt is empty"));
    }
    prompt.into_iter().enumerate().map(|(index, block)| convert(index, block)).collect()
}

fn convert(index: usize, block: ContentBlock) -> Result<Block, Error> {
    Ok(match block {
        ContentBlock::Text(text) => Block::text(text.text),
        ContentBlock::Image(image) => Block::Image { media_type: image.mime_type, data: image.data },
        ContentBlock::ResourceLink(link) => {
            let about = link.description.or(link.title).map(|about| format!(": {about}")).unwrap_or_default();
            Block::text(format!("[{}]({}){about}", link.name, link.uri))
        }
        ContentBlock::Resource(embedded) => match embedded.resource {
            EmbeddedResourceResource::TextResourceContents(text) => {
                Block::text(format!("[Contents of {}]\n{}", text.uri, text.text))
            }
            EmbeddedResourceResource::BlobResourceContents(blob) => match blob.mime_type {
                Some(media_type) if media_type.starts_with("image/") => Block::Image { media_type, data: blob.blob },
                media_type => {
                    let kind = media_type.unwrap_or_else(|| "unknown type".to_owned());
                    Block::text(format!("[{} holds binary data of {kind} that cannot be shown]", blob.uri))
                }
            },
            _ => return Err(unknown(index, "a resource")),
        },
        ContentBlock::Audio(_) => return Err(unknown(index, "audio")),
        _ => return Err(unknown(index, "a block")),
    })
}

fn unknown(index: usize, what: &str) -> Error {
    invalid_params(format!(
        "params.prompt[{index}] is {what} that this agent does not take; it takes text, images, resource links and embedded resources"
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_of_block_is_text_or_a_picture() {
        let prompt = json!([
            {"type": "text", "text": "hi"},
            {"type": "image", "mimeType": "image/png", "data": "AA=="},
            {"type": "resource_link", "name": "a", "uri": "file:///a", "description": "about"},
            {"type": "resource", "resource": {"uri": "file:///b", "text": "inside"}},
            {"type": "resource", "resource": {"uri": "file:///c", "blob": "AA==", "mimeType": "image/gif"}},
            {"type": "resource", "resource": {"uri": "file:///d", "blob": "AA=="}},
        ]);
        let image = |kind: &str| Block::Image { media_type: kind.into(), data: "AA==".into() };
        let expected = [
            Block::text("hi"),
            image("image/png"),
            Block::text("[a](file:///a): about"),
            Block::text("[Contents of file:///b]\ninside"),
            image("image/gif"),
            Block::text("[file:///d holds binary data of unknown type that cannot be shown]"),
        ];
        assert_eq!(blocks(serde_json::from_value(prompt).unwrap()).unwrap(), expected);
    }

    #[test]
    fn what_was_not_offered_is_refused_by_its_place() {
        let prompt =
            json!([{"type": "text", "text": "hi"}, {"type": "audio", "mimeType": "audio/wav", "data": "AA=="}]);
        let error = blocks(serde_json::from_value(prompt).unwrap()).unwrap_err();
        assert!(error.message.starts_with("params.prompt[1] is audio"), "{}", error.message);
        assert!(blocks(Vec::new()).is_err());
    }
}
