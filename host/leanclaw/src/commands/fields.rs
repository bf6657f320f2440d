//! Reading what a gateway answers: fields as the text of a cell, and lists as tables.
//!
//! What a field that is missing or of another kind looks like is decided here, once: like an empty one. Only a list that
//! is no list at all is an error, because then nothing shown would be true.

use anyhow::{Context as _, Result};
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::output;
use crate::telemetry::shown_time;

/// A field that is text.
pub(super) fn text(row: &Value, field: &str) -> String {
    row.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Whether a field is `true`.
pub(super) fn flag(row: &Value, field: &str) -> bool {
    row.get(field) == Some(&Value::Bool(true))
}

/// A field that is a list of texts, as one cell.
pub(super) fn words(row: &Value, field: &str) -> String {
    let list = row.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// A field that is milliseconds since 1970, in the zone of the one who reads it.
pub(super) fn time(row: &Value, field: &str, zone: &TimeZone) -> String {
    row.get(field).and_then(Value::as_u64).map(|at_ms| shown_time(at_ms, zone)).unwrap_or_default()
}

/// Enough of a long id to tell it from others.
pub(super) fn short(id: &str) -> String {
    id.get(..12).unwrap_or(id).to_owned()
}

/// The list in a field.
///
/// # Errors
/// There is none.
pub(super) fn list<'a>(payload: &'a Value, field: &str) -> Result<&'a [Value]> {
    items(payload.get(field))
}

/// A value that is a list.
///
/// # Errors
/// It is not.
pub(super) fn items(value: Option<&Value>) -> Result<&[Value]> {
    value.and_then(Value::as_array).map(Vec::as_slice).context("the gateway's list is not understood")
}

/// Shows a row for each item, or `none` where there is no item.
pub(super) fn table(head: &[&str], items: &[Value], none: &str, row: impl Fn(&Value) -> Vec<String>) -> Result<()> {
    if items.is_empty() {
        return output::text(none);
    }
    output::table(head, &items.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_is_empty_and_what_is_no_list_is_an_error() {
        let row = json!({"name": "a", "isMain": true, "scopes": ["x", 1, "y"], "at": "now", "id": "0123456789abcdef"});
        assert_eq!(
            (text(&row, "name"), text(&row, "at2"), text(&row, "isMain")),
            ("a".into(), String::new(), String::new())
        );
        assert_eq!((flag(&row, "isMain"), flag(&row, "name")), (true, false));
        assert_eq!((words(&row, "scopes"), words(&row, "name")), ("x,y".into(), String::new()));
        assert_eq!((time(&row, "at", &TimeZone::UTC), short("ab")), (String::new(), "ab".into()));
        assert_eq!(short(&text(&row, "id")), "0123456789ab");
        assert_eq!(list(&row, "scopes").unwrap().len(), 3);
        assert!(list(&row, "name").is_err() && list(&row, "none").is_err());
    }
}
