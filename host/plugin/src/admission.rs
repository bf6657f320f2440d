//! What in the plugin folder is taken for a plugin, and which package has an id that several claim.
//!
//! Admission is quick: read the manifest, take the id, show `loading`; [`crate::installed`] does the rest. Grants, stored
//! values and secrets belong to an id, so an id never passes to another package just because that one comes first in the
//! folder: the one that runs keeps it, and after a restart the one that had it. When nobody knows which one that was,
//! nobody gets it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leanclaw_types::plugin::PluginState;
use leanclaw_types::{PluginId, PluginKey};
use serde::{Deserialize, Serialize};

use crate::error::PluginError;
use crate::folder::Contents;
use crate::installed::{Entry, FOLDER, Installed, Refusal, Wish, digest};
use crate::loader::Slot;
use crate::package::{self, Package};
use crate::runtime::Inner;

/// The package that has an id, as it is remembered across restarts.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    /// The name of its folder or `.wasm` in the plugin folder.
    name: String,
    /// SHA-256 of its component, if it has one.
    pub(crate) sha256: Option<String>,
}

impl Home {
    fn of(package: &Package) -> Self {
        let name = package.path.file_name().unwrap_or(package.path.as_os_str());
        Self { name: name.to_string_lossy().into_owned(), sha256: digest(package) }
    }

    pub(crate) fn key(plugin: &PluginId) -> String {
        format!("home:{plugin}")
    }

    /// Its path in the plugin folder.
    pub(crate) fn within(&self, folder: &Path) -> PathBuf {
        folder.join(&self.name)
    }
}

/// Several packages that were found at once and claim one id.
struct Contest {
    claims: Vec<PathBuf>,
    /// The one that is known to have had the id.
    owner: Option<PathBuf>,
}

type Found = (PathBuf, Result<Package, PluginError>);

impl Inner {
    /// Takes in what lies in the folder now: drops what is gone, admits what changed. What has to be loaded is returned.
    pub(crate) async fn admit_all(&self, contents: &Contents, before: &Contents) -> Vec<Wish> {
        let changed: Vec<PathBuf> = {
            let mut installed = self.lock();
            let is_gone = |entry: &Entry| !contents.contains_key(&entry.package.path);
            let gone = installed.plugins.iter().filter(|(_, entry)| is_gone(entry)).map(|(id, _)| id.clone());
            for id in gone.collect::<Vec<_>>() {
                self.unload(&mut installed, &id, "its files are gone", FOLDER);
            }
            installed.problems.retain(|path, _| contents.contains_key(path));
            installed.noted.retain(|path, _| contents.contains_key(path));
            // A path that was refused may be fine now that something else changed (two plugins with one id).
            let is_new =
                |path: &PathBuf| before.get(path) != contents.get(path) || installed.problems.contains_key(path);
            contents.keys().filter(|path| is_new(path)).cloned().collect()
        };
        let wishes = self.admit(changed, &FOLDER.into()).await;
        self.publish();
        wishes
    }

    /// Reads what lies at `paths` and takes in what can be. A version that cannot be read leaves a running one alone.
    pub(crate) async fn admit(&self, paths: Vec<PathBuf>, by: &Arc<str>) -> Vec<Wish> {
        let mut found = Vec::with_capacity(paths.len());
        for path in paths {
            let read = package::read(&path, &*self.loader.services.memo).await;
            found.push((path, read));
        }
        let contests = self.contests(&found).await;
        let mut installed = self.lock();
        let taken = found.into_iter().filter_map(|found| self.take_in(&mut installed, found, &contests, by));
        taken.collect()
    }

    fn take_in(
        &self,
        installed: &mut Installed,
        (path, read): Found,
        contests: &BTreeMap<PluginId, Contest>,
        by: &Arc<str>,
    ) -> Option<Wish> {
        installed.problems.remove(&path);
        let running = installed.plugins.iter().find(|(_, entry)| entry.package.path == path).map(|(id, _)| id.clone());
        let package = match read {
            Ok(package) => package,
            Err(error) => {
                if error.is_transient() {
                    self.try_again(&path)
                } else {
                    self.retries.forget(&path)
                }
                let reason = error.reason();
                match running.as_ref().and_then(|id| installed.plugins.get_mut(id)) {
                    Some(entry) => entry.refused_replacement = Some(reason.clone()),
                    None => drop(installed.problems.insert(path.clone(), reason.clone())),
                }
                let plugin = running.map(|id| id.to_string());
                self.note_refusal(installed, &path, Refusal { plugin, reason, sha256: None }, by);
                return None;
            }
        };
        let id = package.manifest.id.clone();
        if let Some(reason) = id_refusal(installed, &package, contests.get(&id)) {
            installed.problems.insert(path.clone(), reason.clone());
            if !installed.plugins.contains_key(&id) {
                installed.guards.lies_at(&id, &path);
            }
            let refusal = Refusal { plugin: Some(id.to_string()), reason, sha256: digest(&package) };
            self.note_refusal(installed, &path, refusal, by);
            return None;
        }
        if let Some(old) = running.filter(|old| *old != id) {
            self.unload(installed, &old, &format!("its files hold the plugin `{id}` now"), by);
        }
        if let Some(entry) = installed.plugins.get_mut(&id) {
            return Some(entry.wish(Some(package), by));
        }
        let mut entry = self.first_entry(package);
        let wish = entry.wish(None, by);
        installed.plugins.insert(id, entry);
        Some(wish)
    }

    /// A plugin that is shown as `loading`, because a compile may take seconds.
    fn first_entry(&self, package: Package) -> Entry {
        let plugin = &package.manifest.id;
        let slots = self.accounts(plugin).into_iter().map(|account| {
            let key = PluginKey { plugin: plugin.clone(), account: account.clone() };
            (account, Slot::new(key, PluginState::Loading, "being compiled and linked"))
        });
        let slots = slots.collect();
        Entry::new(package, slots)
    }

    /// Which ids several of the packages claim, and who of them had it before.
    async fn contests(&self, found: &[Found]) -> BTreeMap<PluginId, Contest> {
        let mut claims: BTreeMap<&PluginId, Vec<&Package>> = BTreeMap::new();
        for package in found.iter().filter_map(|(_, read)| read.as_ref().ok()) {
            claims.entry(&package.manifest.id).or_default().push(package);
        }
        let mut contests = BTreeMap::new();
        for (id, packages) in claims.into_iter().filter(|(_, packages)| packages.len() > 1) {
            let owner = self.home(id).await.and_then(|home| owner(&home, &packages));
            let claims = packages.iter().map(|package| package.path.clone()).collect();
            contests.insert(id.clone(), Contest { claims, owner });
        }
        contests
    }

    pub(crate) async fn home(&self, plugin: &PluginId) -> Option<Home> {
        let text = self.loader.services.memo.recall(&Home::key(plugin)).await?;
        serde_json::from_str(&text).ok()
    }

    /// Remembers that this package has its id now.
    pub(crate) async fn remember_home(&self, package: &Package) {
        let (plugin, home) = (&package.manifest.id, Home::of(package));
        if self.home(plugin).await.as_ref() == Some(&home) {
            return;
        }
        match serde_json::to_string(&home) {
            Ok(text) => self.loader.services.memo.remember(Home::key(plugin), text).await,
            Err(error) => tracing::warn!(%plugin, %error, "where the plugin lies cannot be remembered"),
        }
    }
}

/// The package that had the id: the one in the same place, else the only one with the same component.
fn owner(home: &Home, packages: &[&Package]) -> Option<PathBuf> {
    let homes: Vec<(Home, &Package)> = packages.iter().map(|package| (Home::of(package), *package)).collect();
    let only = |fits: &dyn Fn(&Home) -> bool| {
        let mut fitting = homes.iter().filter(|(found, _)| fits(found));
        fitting.next().filter(|_| fitting.next().is_none()).map(|(_, package)| package.path.clone())
    };
    only(&|found| found.name == home.name)
        .or_else(|| only(&|found| found.sha256.is_some() && found.sha256 == home.sha256))
}

/// Why this package does not get the id it claims, if so.
fn id_refusal(installed: &Installed, package: &Package, contest: Option<&Contest>) -> Option<String> {
    let id = &package.manifest.id;
    let holder: Option<&Path> = match (installed.plugins.get(id), contest) {
        (Some(entry), _) => Some(&entry.package.path),
        (None, Some(contest)) => match &contest.owner {
            Some(owner) => Some(owner),
            None => return Some(unowned(id, &contest.claims)),
        },
        (None, None) => None,
    };
    let other = holder.filter(|holder| *holder != package.path)?;
    Some(format!(
        "the plugin id `{id}` is taken by {}\nhint: remove one of the two, or give this one another \"id\" in its manifest",
        other.display()
    ))
}

fn unowned(id: &PluginId, claims: &[PathBuf]) -> String {
    let claims: Vec<String> = claims.iter().map(|path| path.display().to_string()).collect();
    format!(
        "the plugin id `{id}` is claimed by {}, and none of them is known to have had it before; what was granted to the id is given to none\nhint: keep the one you trust and move the others out of the plugin folder, or give them another \"id\" in their manifests",
        claims.join(" and by ")
    )
}
