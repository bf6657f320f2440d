//! Gateway methods: name, scope, types and handler of each in one table.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::json;

/// A plugin with gateway methods. A client calls `<plugin id>.<method>`.
pub trait Methods: Sized + 'static {
    /// All methods. The host asks once per component and remembers, so the table depends on nothing but the code.
    fn methods() -> MethodTable<Self>;
}

/// The operator scope a caller of a method needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `operator.read`: looks, changes nothing.
    Read,
    /// `operator.write`: changes the plugin's data or reaches out.
    Write,
    /// `operator.admin`: changes what others may do.
    Admin,
    /// Another scope of the gateway, such as `operator.pairing`.
    Named(&'static str),
}

impl Scope {
    /// The scope as it is written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "operator.read",
            Self::Write => "operator.write",
            Self::Admin => "operator.admin",
            Self::Named(name) => name,
        }
    }
}

/// Parameters of a method that takes none: an empty object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoParams {}

/// What the gateway shows of a method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodSpec {
    /// The name without the plugin's id.
    pub name: String,
    /// One or two sentences.
    pub description: String,
    /// The operator scope a caller needs.
    pub scope: Scope,
    /// JSON Schema of the parameters.
    pub params_schema: Value,
    /// JSON Schema of the result.
    pub result_schema: Value,
}

type Handler<P> = Box<dyn Fn(&P, &Context<'_>, &str) -> Result<String, Failure>>;

struct Method<P> {
    name: &'static str,
    description: &'static str,
    scope: Scope,
    // Made when the host asks for the specs: a call of one method must not pay for the schemas of all.
    params_schema: fn() -> Value,
    result_schema: fn() -> Value,
    run: Handler<P>,
}

/// The methods of plugin `P`.
pub struct MethodTable<P> {
    methods: Vec<Method<P>>,
}

impl<P> Default for MethodTable<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> std::fmt::Debug for MethodTable<P> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.methods.iter().map(|method| method.name)).finish()
    }
}

impl<P> MethodTable<P> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { methods: Vec::new() }
    }

    /// Adds a method. `name` is 1 to 64 of a-z, A-Z, 0-9, `_`, `-`, `.`. The schemas come from `Params` and `Output`;
    /// parameters that do not fit `Params` fail with `invalid-input` and the path of the mistake.
    #[must_use]
    pub fn method<Params, Output, Run>(
        mut self,
        name: &'static str,
        description: &'static str,
        scope: Scope,
        run: Run,
    ) -> Self
    where
        Params: DeserializeOwned + JsonSchema,
        Output: Serialize + JsonSchema,
        Run: Fn(&P, &Context<'_>, Params) -> Result<Output, Failure> + 'static,
    {
        self.methods.push(Method {
            name,
            description,
            scope,
            params_schema: json::input_schema::<Params>,
            result_schema: json::output_schema::<Output>,
            run: Box::new(move |plugin, context, params| {
                json::write(&run(plugin, context, json::read(params, "input")?)?, "result")
            }),
        });
        self
    }

    /// What the gateway shows of each method.
    #[must_use]
    pub fn specs(&self) -> Vec<MethodSpec> {
        self.methods
            .iter()
            .map(|method| MethodSpec {
                name: method.name.into(),
                description: method.description.into(),
                scope: method.scope,
                params_schema: (method.params_schema)(),
                result_schema: (method.result_schema)(),
            })
            .collect()
    }

    /// Calls the method `name` with `params` as JSON text; gives its result as JSON text.
    pub(crate) fn invoke(
        &self,
        plugin: &P,
        context: &Context<'_>,
        name: &str,
        params: &str,
    ) -> Result<String, Failure> {
        let method = self
            .methods
            .iter()
            .find(|method| method.name == name)
            .ok_or_else(|| Failure::not_found(format!("There is no method `{}`.", name.escape_debug())))?;
        (method.run)(plugin, context, params)
    }
}
