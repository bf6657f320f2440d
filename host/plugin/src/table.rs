//! What can be called right now, by name: made anew whenever a plugin changes, read without a lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use leanclaw_types::plugin::{MethodSpec, ToolSpec};
use leanclaw_types::{AccountId, PluginKey};

use crate::authorize::{Guard, Guards};
use crate::description::Description;
use crate::error::PluginError;
use crate::loader::Slot;
use crate::unit::Unit;
use crate::validate::Schema;

/// A gateway method with its compiled schemas.
pub(crate) struct MethodEntry {
    pub(crate) spec: MethodSpec,
    /// The name as the guest knows it.
    pub(crate) name: Arc<str>,
    pub(crate) params: Schema,
    pub(crate) result: Schema,
    pub(crate) unit: Arc<Unit>,
}

/// A tool with its compiled schemas.
pub(crate) struct ToolEntry {
    pub(crate) spec: ToolSpec,
    pub(crate) name: Arc<str>,
    pub(crate) input: Schema,
    pub(crate) output: Option<Schema>,
    pub(crate) unit: Arc<Unit>,
}

/// A plugin and account that serves calls.
#[derive(Clone)]
pub(crate) struct Ready {
    pub(crate) unit: Arc<Unit>,
    pub(crate) description: Arc<Description>,
    methods: Vec<Arc<MethodEntry>>,
    tools: Vec<Arc<ToolEntry>>,
}

impl Ready {
    /// Compiles the schemas of a checked description.
    pub(crate) fn new(unit: Arc<Unit>, description: Description) -> Result<Self, PluginError> {
        let mut methods = Vec::with_capacity(description.methods.len());
        for spec in &description.methods {
            methods.push(Arc::new(MethodEntry {
                name: spec.name.as_str().into(),
                params: Schema::compile(&spec.params_schema).map_err(PluginError::Description)?,
                result: Schema::compile(&spec.result_schema).map_err(PluginError::Description)?,
                spec: spec.clone(),
                unit: Arc::clone(&unit),
            }));
        }
        let mut tools = Vec::with_capacity(description.tools.len());
        for spec in &description.tools {
            let output = spec.output_schema.as_ref().map(Schema::compile).transpose();
            tools.push(Arc::new(ToolEntry {
                name: spec.name.as_str().into(),
                input: Schema::compile(&spec.input_schema).map_err(PluginError::Description)?,
                output: output.map_err(PluginError::Description)?,
                spec: spec.clone(),
                unit: Arc::clone(&unit),
            }));
        }
        Ok(Self { unit, description: Arc::new(description), methods, tools })
    }
}

/// Everything that is ready.
#[derive(Default)]
pub(crate) struct Table {
    pub(crate) methods: HashMap<String, Arc<MethodEntry>>,
    pub(crate) tools: BTreeMap<String, Arc<ToolEntry>>,
    pub(crate) units: BTreeMap<PluginKey, Ready>,
    /// Who is asked about calls of gateway methods: in the order of their ids, with why one cannot be asked.
    pub(crate) guards: Vec<Guard>,
}

impl Table {
    /// Collects what `slots` offer, in their order; of two tools with one name the first is listed. `absent` are those that
    /// have to be asked about calls and have no slot.
    pub(crate) fn of<'slot>(
        slots: impl Iterator<Item = &'slot Slot>,
        guards: &Guards,
        absent: impl Iterator<Item = Guard>,
    ) -> Self {
        let mut table = Self { guards: absent.collect(), ..Self::default() };
        for slot in slots {
            table.guards.extend(guards.guard(slot));
            let Some(ready) = &slot.ready else { continue };
            table.units.insert(slot.key.clone(), ready.clone());
            // Other accounts are reached through their channel; methods and tools speak for the default one.
            if slot.key.account != AccountId::default() {
                continue;
            }
            for entry in &ready.methods {
                table.methods.insert(entry.spec.wire_name(), Arc::clone(entry));
            }
            for entry in &ready.tools {
                table.tools.entry(entry.spec.name.clone()).or_insert_with(|| Arc::clone(entry));
            }
        }
        table.guards.sort_by(|(one, _), (other, _)| one.cmp(other));
        table
    }

    /// Tools of `key` that are not listed because another plugin has one of that name: `(tool, owner)`.
    pub(crate) fn taken_tools(&self, key: &PluginKey) -> Vec<(String, PluginKey)> {
        let Some(ready) = self.units.get(key) else { return Vec::new() };
        let owner_of =
            |tool: &Arc<ToolEntry>| self.tools.get(&tool.spec.name).map(|entry| entry.unit.shared().key.clone());
        ready
            .tools
            .iter()
            .filter_map(|tool| {
                owner_of(tool).filter(|owner| owner.plugin != key.plugin).map(|owner| (tool.spec.name.clone(), owner))
            })
            .collect()
    }
}
