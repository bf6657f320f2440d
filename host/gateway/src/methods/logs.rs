//! `logs.tail`: the program's own log, line by line as it was written.

use std::sync::LazyLock;

use leanclaw_types::frame::ErrorShape;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::connection::{Answer, Call};
use crate::error::unavailable;
use crate::log_file::{LogWish, read_log};
use crate::phrase::Shape;
use crate::wire::Payload;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Params {
    #[serde(default)]
    #[schemars(with = "u64")]
    cursor: Option<u64>,
    #[serde(default)]
    #[schemars(with = "usize", range(min = 1, max = 5000))]
    limit: Option<usize>,
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1, max = 1_000_000))]
    max_bytes: Option<u64>,
}

static PARAMS: LazyLock<Shape> = LazyLock::new(Shape::of::<Params>);

/// `logs.tail {cursor?, limit?, maxBytes?}` → `{file, cursor, size, lines, truncated, reset}`.
pub(crate) fn tail(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: Params = call.read(&PARAMS, &[])?;
    let Some(file) = call.state.services.log_file.clone() else {
        let hint = "it opened its gateway without `Services::log_file`; what it logs goes to its standard error";
        return Err(unavailable("this program keeps no log file").hint(hint));
    };
    let usual = LogWish::default();
    let wish = LogWish {
        cursor: params.cursor,
        limit: params.limit.unwrap_or(usual.limit),
        max_bytes: params.max_bytes.unwrap_or(usual.max_bytes),
    };
    Ok(Answer::Later(Box::pin(async move {
        let read = tokio::task::spawn_blocking(move || read_log(&file, wish)).await;
        let failed = |why: String| -> ErrorShape { unavailable(&format!("the log file cannot be read: {why}")) };
        let piece = read.map_err(|error| failed(error.to_string()))?.map_err(|error| failed(error.to_string()))?;
        Ok(Payload::json(&serde_json::to_value(piece).unwrap_or_default()))
    })))
}
