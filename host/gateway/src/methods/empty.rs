//! Methods that answer truthfully that there is nothing of their kind, each with the reason.

use std::sync::LazyLock;

use leanclaw_types::frame::{ErrorShape, ProtocolVersion};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Nothing;
use crate::connection::{Answer, Call};
use crate::phrase::Shape;

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "there is nothing to choose from; the shape is still checked")]
struct CronList {
    #[serde(default)]
    #[schemars(with = "bool")]
    include_disabled: Option<bool>,
    #[serde(default)]
    #[schemars(with = "u64", range(min = 1, max = 200))]
    limit: Option<u64>,
    #[serde(default)]
    #[schemars(with = "u64")]
    offset: Option<u64>,
    #[serde(default)]
    #[schemars(with = "String")]
    query: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    enabled: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    schedule_kind: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    last_run_status: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    trigger: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    sort_by: Option<String>,
    #[serde(default)]
    #[schemars(with = "String")]
    sort_dir: Option<String>,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1))]
    agent_id: Option<String>,
    #[serde(default)]
    #[schemars(with = "bool")]
    compact: Option<bool>,
    #[serde(default)]
    #[schemars(with = "bool")]
    include_delivery_previews: Option<bool>,
}

static NOTHING: LazyLock<Shape> = LazyLock::new(Shape::of::<Nothing>);
static CRON_LIST: LazyLock<Shape> = LazyLock::new(Shape::of::<CronList>);

fn newest(call: &Call<'_>) -> bool {
    call.session.version == ProtocolVersion::V4
}

/// `providers.list`: as for `models.list`. An array, as the original LeanClaw has it.
pub(crate) fn providers(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.read::<Nothing>(&NOTHING, &[])?;
    Ok(Answer::json(&json!([])))
}

/// `skills.bins {}`: which programs the skills of this gateway need on a node. There are no skills that need any.
pub(crate) fn skill_programs(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.read::<Nothing>(&NOTHING, &[])?;
    Ok(Answer::json(&json!({"bins": []})))
}

/// `cron.list {…}`: there is no scheduler, so there are no jobs.
pub(crate) fn cron_list(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    let params: CronList = call.read(&CRON_LIST, &[])?;
    let mut list = json!({
        "jobs": [], "total": 0, "offset": params.offset.unwrap_or(0), "limit": params.limit.unwrap_or(50),
        "hasMore": false, "nextOffset": null,
    });
    if newest(call)
        && let Some(list) = list.as_object_mut()
    {
        list.insert("snapshotRevision".into(), json!("0"));
    }
    Ok(Answer::json(&list))
}

/// `cron.status {}`: there is no scheduler.
pub(crate) fn cron_status(call: &Call<'_>) -> Result<Answer, ErrorShape> {
    call.read::<Nothing>(&NOTHING, &[])?;
    let mut status: Map<String, Value> = Map::new();
    status.insert("enabled".into(), json!(false));
    status.insert("storePath".into(), json!(""));
    status.insert("jobs".into(), json!(0));
    status.insert("nextWakeAtMs".into(), Value::Null);
    if newest(call) {
        status.insert("triggersEnabled".into(), json!(false));
        status.insert("storage".into(), json!("sqlite"));
        status.insert("sqlitePath".into(), json!(""));
    }
    Ok(Answer::json(&Value::Object(status)))
}
