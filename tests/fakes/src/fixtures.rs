//! Whole answers of providers, as they are written down in `tests/data/providers`.

/// Every fixture: its name and the bytes of the body.
pub const FIXTURES: &[(&str, &[u8])] = &[
    ("anthropic-text", include_bytes!("../../data/providers/anthropic-text.sse")),
    ("anthropic-thinking-tools", include_bytes!("../../data/providers/anthropic-thinking-tools.sse")),
    ("anthropic-thinking-omitted", include_bytes!("../../data/providers/anthropic-thinking-omitted.sse")),
    ("anthropic-midstream-error", include_bytes!("../../data/providers/anthropic-midstream-error.sse")),
    ("openai-text", include_bytes!("../../data/providers/openai-text.sse")),
    ("openai-tools", include_bytes!("../../data/providers/openai-tools.sse")),
    ("openai-midstream-error", include_bytes!("../../data/providers/openai-midstream-error.sse")),
];

/// The body called `name`, where there is one.
#[must_use]
pub fn fixture(name: &str) -> Option<&'static [u8]> {
    FIXTURES.iter().find(|(known, _)| *known == name).map(|(_, body)| *body)
}
