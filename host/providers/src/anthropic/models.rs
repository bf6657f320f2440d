//! The list of models, and what it says of each.

use leanclaw_types::model::Thinking;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ModelInfo;

/// One page of the list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub(super) data: Vec<Model>,
    pub(super) has_more: Option<bool>,
    last_id: Option<String>,
}

impl Page {
    /// After which model the next page begins.
    pub(super) fn last(&self) -> Option<String> {
        self.last_id.clone().or_else(|| self.data.last().map(|model| model.id.clone()))
    }
}

/// One model.
#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub(super) id: String,
    display_name: Option<String>,
    max_input_tokens: Option<u64>,
    max_tokens: Option<u64>,
    retires_at: Option<String>,
    capabilities: Option<Value>,
}

impl Model {
    /// Whether it can do what stands at `path`, where the list says so.
    fn can(&self, path: &str) -> Option<bool> {
        self.capabilities.as_ref()?.pointer(path)?.get("supported")?.as_bool()
    }

    pub(super) fn info(self) -> ModelInfo {
        ModelInfo {
            name: self.display_name.clone().unwrap_or_else(|| self.id.clone()),
            context_tokens: self.max_input_tokens,
            max_output_tokens: self.max_tokens,
            takes_images: self.can("/image_input"),
            retires_at: self.retires_at.clone(),
            id: self.id,
        }
    }

    /// How it thinks, where the list says so.
    pub(super) fn shape(&self) -> Option<Shape> {
        let adaptive = self.can("/thinking/types/adaptive")?;
        let can = |path| self.can(path).unwrap_or(false);
        Some(Shape {
            adaptive,
            disabled: can("/thinking/types/disabled"),
            between_tools: can("/thinking/types/between_tools"),
            budget: can("/thinking/types/enabled"),
            effort: can("/effort"),
            xhigh: can("/effort/xhigh"),
        })
    }
}

/// Which ways to think a model knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    adaptive: bool,
    disabled: bool,
    between_tools: bool,
    /// A budget in tokens.
    budget: bool,
    effort: bool,
    xhigh: bool,
}

impl Shape {
    /// What is believed of a model that was in no list: that it is a current one.
    const UNKNOWN: Self =
        Self { adaptive: true, disabled: true, between_tools: false, budget: false, effort: true, xhigh: true };
}

/// `thinking` and `output_config` of a request.
pub(super) type ThinkingParts = (Option<Value>, Option<Value>);

/// The nearest to `wanted` that the model knows. Where thinking cannot be switched off, as little of it as there is.
pub(super) fn thinking_parts(wanted: Option<Thinking>, shape: Option<Shape>, max_tokens: u32) -> ThinkingParts {
    let shape = shape.unwrap_or(Shape::UNKNOWN);
    // The share of the answer for models that think within a budget, in tenths.
    let (effort, tenths) = match wanted {
        None => return (None, None),
        Some(Thinking::Off) if shape.disabled => return (Some(json!({"type": "disabled"})), None),
        Some(Thinking::Off) if shape.between_tools => return (Some(json!({"type": "between_tools"})), None),
        // What thinks in no other way does not think unasked.
        Some(Thinking::Off) if !shape.adaptive => return (None, None),
        Some(Thinking::Adaptive) => (None, 5),
        Some(Thinking::Off | Thinking::Minimal | Thinking::Low) => (Some("low"), 2),
        Some(Thinking::Medium) => (Some("medium"), 4),
        Some(Thinking::Xhigh) if shape.xhigh => (Some("xhigh"), 8),
        Some(Thinking::High | Thinking::Xhigh) => (Some("high"), 6),
    };
    let output = effort.filter(|_| shape.effort).map(|effort| json!({"effort": effort}));
    if shape.adaptive {
        return (Some(json!({"type": "adaptive", "display": "summarized"})), output);
    }
    // A budget is at least 1024 tokens and less than the answer may have.
    let budget = (max_tokens / 10).saturating_mul(tenths).max(1024);
    let thinking = (shape.budget && budget < max_tokens).then(|| json!({"type": "enabled", "budget_tokens": budget}));
    (thinking, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: Shape = Shape { disabled: false, ..Shape::UNKNOWN };
    const BUDGET: Shape = Shape { adaptive: false, disabled: true, budget: true, effort: false, ..Shape::UNKNOWN };

    #[test]
    fn thinking_is_asked_for_in_the_way_the_model_knows() {
        let adaptive = || Some(json!({"type": "adaptive", "display": "summarized"}));
        let effort = |name: &str| Some(json!({"effort": name}));
        let off = Some(Thinking::Off);
        assert_eq!(thinking_parts(None, None, 100), (None, None));
        assert_eq!(thinking_parts(off, None, 100), (Some(json!({"type": "disabled"})), None));
        assert_eq!(thinking_parts(off, Some(ALWAYS), 100), (adaptive(), effort("low")));
        let between = Shape { between_tools: true, ..ALWAYS };
        assert_eq!(thinking_parts(off, Some(between), 100), (Some(json!({"type": "between_tools"})), None));
        assert_eq!(thinking_parts(Some(Thinking::Adaptive), None, 100), (adaptive(), None));
        assert_eq!(thinking_parts(Some(Thinking::Xhigh), None, 100), (adaptive(), effort("xhigh")));
        let no_xhigh = Shape { xhigh: false, ..ALWAYS };
        assert_eq!(thinking_parts(Some(Thinking::Xhigh), Some(no_xhigh), 100), (adaptive(), effort("high")));
    }

    #[test]
    fn a_budget_fits_into_the_answer() {
        let budget = |tokens: u32| (Some(json!({"type": "enabled", "budget_tokens": tokens})), None);
        assert_eq!(thinking_parts(Some(Thinking::High), Some(BUDGET), 10_000), budget(6000));
        assert_eq!(thinking_parts(Some(Thinking::Low), Some(BUDGET), 2000), budget(1024));
        assert_eq!(thinking_parts(Some(Thinking::High), Some(BUDGET), 1024), (None, None));
    }
}
