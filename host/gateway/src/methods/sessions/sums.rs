//! What was used, added up and written out.

use std::collections::BTreeMap;

use leanclaw_types::session::{TokenSums, UsageCell};
use serde_json::{Map, Value, json};

/// Sums of some cells.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) tokens: TokenSums,
    pub(super) messages: u64,
    user: u64,
    assistant: u64,
    tool_results: u64,
    errors: u64,
}

impl Sums {
    pub(super) fn of<'a>(cells: impl IntoIterator<Item = &'a UsageCell>) -> Self {
        let mut sums = Self::default();
        for cell in cells {
            sums.tokens.add(&cell.tokens);
            sums.messages += cell.messages;
            sums.errors += cell.errors;
            match cell.role.as_str() {
                "user" => sums.user += cell.messages,
                "assistant" => sums.assistant += cell.messages,
                "toolResult" => sums.tool_results += cell.messages,
                _ => {}
            }
        }
        sums
    }

    /// The eleven totals.
    pub(super) fn totals(&self) -> Map<String, Value> {
        let tokens = &self.tokens;
        let fields = [
            ("input", json!(tokens.input)),
            ("output", json!(tokens.output)),
            ("cacheRead", json!(tokens.cache_read)),
            ("cacheWrite", json!(tokens.cache_write)),
            ("totalTokens", json!(tokens.total)),
            ("totalCost", money(tokens.total_cost)),
            ("inputCost", money(tokens.input_cost)),
            ("outputCost", money(tokens.output_cost)),
            ("cacheReadCost", money(tokens.cache_read_cost)),
            ("cacheWriteCost", money(tokens.cache_write_cost)),
            ("missingCostEntries", json!(tokens.missing_costs)),
        ];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Messages by who spoke. Every tool call has a result, so those are counted.
    pub(super) fn counts(&self) -> Map<String, Value> {
        let fields = [
            ("total", self.messages),
            ("user", self.user),
            ("assistant", self.assistant),
            ("toolCalls", self.tool_results),
            ("toolResults", self.tool_results),
            ("errors", self.errors),
        ];
        fields.into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
    }
}

/// Dollars; a whole number is written as one.
pub(super) fn money(dollars: f64) -> Value {
    if dollars.fract() == 0.0 && dollars.abs() < 1e15 { json!(dollars as i64) } else { json!(dollars) }
}

/// Cells by something, in its order.
pub(super) fn by<'a, K: Ord>(
    cells: impl IntoIterator<Item = &'a UsageCell>,
    key: impl Fn(&'a UsageCell) -> Option<K>,
) -> BTreeMap<K, Vec<&'a UsageCell>> {
    let mut groups: BTreeMap<K, Vec<&UsageCell>> = BTreeMap::new();
    for cell in cells {
        if let Some(key) = key(cell) {
            groups.entry(key).or_default().push(cell);
        }
    }
    groups
}

/// Provider and model of a cell in which a model spoke.
pub(super) fn model_of(cell: &UsageCell) -> Option<(&str, &str)> {
    let named = (cell.provider.as_deref(), cell.model.as_deref());
    (cell.role == "assistant" && named != (None, None)).then(|| (named.0.unwrap_or(""), named.1.unwrap_or("")))
}
