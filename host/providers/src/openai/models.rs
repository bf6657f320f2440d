//! The list of models, and what servers add to it.

use serde::Deserialize;
use serde_json::Value;

use crate::ModelInfo;

/// The list as it comes. Servers without a model give it empty or not at all.
#[derive(Debug, Deserialize)]
pub(super) struct List {
    data: Option<Vec<Value>>,
}

impl List {
    /// The models that have an id, in the order of the server.
    pub(super) fn infos(self) -> Vec<ModelInfo> {
        self.data.unwrap_or_default().iter().filter_map(info).collect()
    }
}

fn info(model: &Value) -> Option<ModelInfo> {
    let id = model.get("id")?.as_str().filter(|id| !id.is_empty())?;
    let number =
        |paths: &[&str]| paths.iter().find_map(|path| model.pointer(path)?.as_u64()).filter(|number| *number > 0);
    let inputs = model.pointer("/architecture/input_modalities").and_then(Value::as_array);
    Some(ModelInfo {
        id: id.to_owned(),
        name: model.get("name").and_then(Value::as_str).unwrap_or(id).to_owned(),
        // vLLM; gateways.
        context_tokens: number(&["/max_model_len", "/context_length", "/context_window"]),
        max_output_tokens: number(&["/top_provider/max_completion_tokens", "/max_completion_tokens"]),
        takes_images: inputs.map(|inputs| inputs.iter().any(|input| input == "image")),
        retires_at: None,
    })
}
