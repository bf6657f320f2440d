//! Two interfaces, nothing asked of the host, and no unsafe code that the author could see.
#![forbid(unsafe_code)]

use leanclaw_plugin_sdk::{Context, Failure, MethodTable, Methods, NoParams, Scope, Skill, Tool, ToolTable};

#[derive(Default)]
struct Guest;

leanclaw_plugin_sdk::export!(Guest: methods, skill);

impl Methods for Guest {
    fn methods() -> MethodTable<Self> {
        MethodTable::new().method("greet", "Greets.", Scope::Read, Self::greet)
    }
}

impl Skill for Guest {
    fn tools() -> ToolTable<Self> {
        ToolTable::new().tool(Tool::new("greet", "Greets.", Self::greet))
    }
}

impl Guest {
    fn greet(&self, _context: &Context, _: NoParams) -> Result<String, Failure> {
        Ok("Hello.".into())
    }
}
