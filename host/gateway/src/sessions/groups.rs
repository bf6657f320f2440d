//! The groups that sessions are sorted into: their names in order, and what a new session of a group begins with. Which group
//! a session is in is its own `category`.

use std::collections::BTreeMap;
use std::sync::Arc;

use leanclaw_types::Failure;
use leanclaw_types::frame::ErrorShape;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::services::Records;
use crate::shelf::{Change, Shelf};

/// Groups that are kept.
pub(crate) const MAX_GROUPS: usize = 200;
const ALL: &str = "all";

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Kept {
    pub(crate) names: Vec<String>,
    /// The order of everything a page shows beside each other, groups among it.
    pub(crate) section_order: Vec<String>,
    pub(crate) defaults: BTreeMap<String, Defaults>,
}

/// What a new session of a group begins with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Defaults {
    pub(crate) cwd: Option<String>,
    pub(crate) worktree: bool,
}

/// The groups.
pub(crate) struct Groups {
    shelf: Shelf<Kept>,
}

impl Groups {
    /// Reads what is stored.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn open(records: &Arc<dyn Records>) -> Result<Self, Failure> {
        Ok(Self { shelf: Shelf::open(records, "session-groups")? })
    }

    pub(crate) fn now(&self) -> Kept {
        self.shelf.get(ALL).map(|kept| (*kept).clone()).unwrap_or_default()
    }

    /// Changes them with no other change in between; what they are then.
    ///
    /// # Errors
    /// What `decide` says, too many groups, or they cannot be stored.
    pub(crate) async fn change(
        &self,
        decide: impl FnOnce(&mut Kept) -> Result<(), ErrorShape>,
    ) -> Result<Kept, ErrorShape> {
        self.shelf
            .change(|shelf| {
                let mut kept = shelf.get(ALL).map(|kept| (*kept).clone()).unwrap_or_default();
                decide(&mut kept)?;
                if kept.names.len() > MAX_GROUPS {
                    return Err(ErrorShape::invalid(format!("there may be at most {MAX_GROUPS} session groups")));
                }
                Ok((Change::nothing().put(ALL, kept.clone()), kept))
            })
            .await
    }
}

impl Kept {
    /// Has these groups in this order, each once. What belonged to others goes.
    pub(crate) fn set_names(&mut self, names: Vec<String>) {
        self.names.clear();
        for name in names {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
        let names = &self.names;
        self.defaults.retain(|name, _| names.contains(name));
    }

    /// Takes a group away, or gives it another name; one that is there already takes it in.
    ///
    /// # Errors
    /// There is no such group.
    pub(crate) fn rename(&mut self, name: &str, to: Option<&str>) -> Result<(), ErrorShape> {
        self.known(name)?;
        let renamed = |own: String| match to {
            Some(to) if own == name => Some(to.to_owned()),
            None if own == name => None,
            _ => Some(own),
        };
        if let Some((to, defaults)) = to.zip(self.defaults.remove(name)) {
            self.defaults.entry(to.to_owned()).or_insert(defaults);
        }
        self.section_order = std::mem::take(&mut self.section_order).into_iter().filter_map(renamed).collect();
        let names = std::mem::take(&mut self.names).into_iter().filter_map(renamed).collect();
        self.set_names(names);
        Ok(())
    }

    /// # Errors
    /// There is no such group.
    pub(crate) fn known(&self, name: &str) -> Result<(), ErrorShape> {
        if self.names.iter().any(|own| own == name) {
            return Ok(());
        }
        let shown: String = name.chars().take(80).collect();
        Err(ErrorShape::invalid(format!("unknown session group: {shown:?}")))
    }

    /// `{groups, sectionOrder}`.
    pub(crate) fn listed(&self) -> Map<String, Value> {
        let group = |(position, name): (usize, &String)| json!({"name": name, "position": position});
        let groups: Vec<Value> = self.names.iter().enumerate().map(group).collect();
        let mut listed = Map::new();
        listed.insert("groups".into(), json!(groups));
        listed.insert("sectionOrder".into(), json!(self.section_order));
        listed
    }

    /// `[{name, cwd?, worktree?}]`.
    pub(crate) fn listed_defaults(&self) -> Value {
        let one = |(name, defaults): (&String, &Defaults)| {
            let mut one = Map::new();
            one.insert("name".into(), json!(name));
            one.extend(defaults.cwd.as_ref().map(|cwd| ("cwd".to_owned(), json!(cwd))));
            one.insert("worktree".into(), json!(defaults.worktree));
            Value::Object(one)
        };
        self.defaults.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_takes_its_place_and_defaults_along() {
        let mut kept = Kept::default();
        kept.set_names(["a", "b", "a", "c"].map(str::to_owned).to_vec());
        kept.section_order = ["pinned", "b", "a"].map(str::to_owned).to_vec();
        kept.defaults.insert("b".into(), Defaults { cwd: Some("/x".into()), worktree: true });
        kept.rename("b", Some("z")).unwrap();
        assert_eq!((kept.names.join(" "), kept.section_order.join(" ")), ("a z c".into(), "pinned z a".into()));
        assert_eq!(kept.listed_defaults(), json!([{"name": "z", "cwd": "/x", "worktree": true}]));
        kept.rename("z", Some("c")).unwrap();
        assert_eq!(kept.names, ["a", "c"]);
        kept.rename("c", None).unwrap();
        assert_eq!((kept.names.join(" "), kept.defaults.len()), ("a".into(), 0));
        assert!(kept.rename("c", None).unwrap_err().message.contains("\"c\""));
    }
}
