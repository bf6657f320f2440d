//! Tools for agents: what a model reads, types and handler of each in one table.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::blob::Blob;
use crate::context::Context;
use crate::failure::Failure;
use crate::json;

/// A plugin with tools for agents.
pub trait Skill: Sized + 'static {
    /// All tools. The host asks once per component and remembers, so the table depends on nothing but the code.
    fn tools() -> ToolTable<Self>;
}

/// Documented values of [`Tool::effects`]. Policy decides by these whether to ask a person first.
pub mod effect {
    /// Looks at data.
    pub const READS: &str = "reads";
    /// Changes data.
    pub const WRITES: &str = "writes";
    /// Talks to other computers.
    pub const NETWORK: &str = "network";
    /// Costs money.
    pub const SPENDS_MONEY: &str = "spends-money";
    /// Cannot be taken back.
    pub const IRREVERSIBLE: &str = "irreversible";
}

/// What a tool gives back when its result has no declared type: text, files, or both.
///
/// A tool that ran and failed says so with [`Output::error`], which a model may read and act on; a [`Failure`] means
/// that it did not run.
#[derive(Debug, Default)]
pub struct Output {
    pub(crate) structured: Option<Value>,
    pub(crate) text: Option<String>,
    pub(crate) files: Vec<Blob>,
    pub(crate) is_error: bool,
}

impl Output {
    /// Text for a model or a person.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }

    /// The tool ran and failed; `text` says why.
    pub fn error(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), is_error: true, ..Self::default() }
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, file: Blob) -> Self {
        self.files.push(file);
        self
    }

    /// The structured part, when there is one.
    #[must_use]
    pub fn structured_part(&self) -> Option<&Value> {
        self.structured.as_ref()
    }

    /// The text, when there is one.
    #[must_use]
    pub fn text_part(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &[Blob] {
        &self.files
    }

    /// Whether the tool says that it failed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.is_error
    }
}

/// What a tool gives back when its result has a type, from which the output schema is derived. Text and files may go
/// along.
#[derive(Debug)]
pub struct Structured<T> {
    value: T,
    output: Output,
}

impl<T> Structured<T> {
    /// The value alone.
    pub fn new(value: T) -> Self {
        Self { value, output: Output::default() }
    }

    /// Adds text, for models and people who do not read JSON.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.output.text = Some(text.into());
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(mut self, file: Blob) -> Self {
        self.output.files.push(file);
        self
    }
}

/// What a tool may return: [`Structured`], [`Output`], or text.
pub trait ToolResult {
    /// JSON Schema of the structured part, when it has a type.
    fn schema() -> Option<Value>;

    /// The result in its common form.
    ///
    /// # Errors
    /// [`Failure`] when the value cannot be written as JSON.
    fn into_output(self) -> Result<Output, Failure>;
}

impl<T: Serialize + JsonSchema> ToolResult for Structured<T> {
    fn schema() -> Option<Value> {
        Some(json::output_schema::<T>())
    }

    fn into_output(self) -> Result<Output, Failure> {
        Ok(Output { structured: Some(serde_json::to_value(&self.value)?), ..self.output })
    }
}

impl ToolResult for Output {
    fn schema() -> Option<Value> {
        None
    }

    fn into_output(self) -> Result<Output, Failure> {
        Ok(self)
    }
}

impl ToolResult for String {
    fn schema() -> Option<Value> {
        None
    }

    fn into_output(self) -> Result<Output, Failure> {
        Ok(Output::text(self))
    }
}

/// What a model and the policy see of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolSpec {
    /// The tool's name.
    pub name: String,
    /// What a model reads to choose it.
    pub description: String,
    /// JSON Schema of the input.
    pub input_schema: Value,
    /// JSON Schema of the structured output.
    pub output_schema: Option<Value>,
    /// See [`effect`].
    pub effects: Vec<String>,
    /// Whether calling it twice with one input is the same as once.
    pub idempotent: bool,
}

type Handler<P> = Box<dyn Fn(&P, &Context<'_>, &str) -> Result<Output, Failure>>;

/// One tool of plugin `P`.
pub struct Tool<P> {
    name: &'static str,
    description: &'static str,
    // Made when the host asks for the specs: a call of one tool must not pay for the schemas of all.
    input_schema: fn() -> Value,
    output_schema: fn() -> Option<Value>,
    effects: Vec<&'static str>,
    idempotent: bool,
    run: Handler<P>,
}

impl<P> Tool<P> {
    /// A tool. `name` is 1 to 64 of a-z, A-Z, 0-9, `_`, `-`, unique among all loaded plugins. The schemas come from
    /// `Input` and `Given`; input that does not fit `Input` fails with `invalid-input` and the path of the mistake.
    pub fn new<Input, Given, Run>(name: &'static str, description: &'static str, run: Run) -> Self
    where
        Input: DeserializeOwned + JsonSchema,
        Given: ToolResult,
        Run: Fn(&P, &Context<'_>, Input) -> Result<Given, Failure> + 'static,
    {
        Self {
            name,
            description,
            input_schema: json::input_schema::<Input>,
            output_schema: Given::schema,
            effects: Vec::new(),
            idempotent: false,
            run: Box::new(move |plugin, context, input| {
                run(plugin, context, json::read(input, "input")?)?.into_output()
            }),
        }
    }

    /// Says what the tool does to the world; see [`effect`].
    #[must_use]
    pub fn effects(mut self, effects: impl IntoIterator<Item = &'static str>) -> Self {
        self.effects.extend(effects);
        self
    }

    /// Says that calling it twice with one input is the same as once, so it may be tried again.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }
}

/// The tools of plugin `P`.
pub struct ToolTable<P> {
    tools: Vec<Tool<P>>,
}

impl<P> Default for ToolTable<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> std::fmt::Debug for ToolTable<P> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.tools.iter().map(|tool| tool.name)).finish()
    }
}

impl<P> ToolTable<P> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { tools: Vec::new() }
    }

    /// Adds a tool.
    #[must_use]
    pub fn tool(mut self, tool: Tool<P>) -> Self {
        self.tools.push(tool);
        self
    }

    /// What a model and the policy see of each tool.
    #[must_use]
    pub fn specs(&self) -> Vec<ToolSpec> {
        self.tools
            .iter()
            .map(|tool| ToolSpec {
                name: tool.name.into(),
                description: tool.description.into(),
                input_schema: (tool.input_schema)(),
                output_schema: (tool.output_schema)(),
                effects: tool.effects.iter().map(|effect| (*effect).to_owned()).collect(),
                idempotent: tool.idempotent,
            })
            .collect()
    }

    /// Calls the tool `name` with `input` as JSON text.
    pub(crate) fn invoke(&self, plugin: &P, context: &Context<'_>, name: &str, input: &str) -> Result<Output, Failure> {
        let tool = self
            .tools
            .iter()
            .find(|tool| tool.name == name)
            .ok_or_else(|| Failure::not_found(format!("There is no tool `{}`.", name.escape_debug())))?;
        (tool.run)(plugin, context, input)
    }
}
