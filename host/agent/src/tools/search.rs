//! Walking through the workspace. Links are not followed, so nothing is met twice and nothing outside is met at all; the
//! store of a version control (`.git`) is passed over. A walk is bounded in names and in depth.

use globset::{GlobBuilder, GlobMatcher};

use super::{Context, Refusal, refuse};
use crate::workspace::{Folder, Kind};

/// The most names one walk looks at.
const MAX_NAMES: usize = 200_000;
/// The deepest folder one walk enters.
const MAX_DEPTH: usize = 64;

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walked {
    /// All was seen.
    All,
    /// There was more than one walk looks at.
    Bounded,
    /// The visitor had enough.
    Enough,
}

impl Walked {
    /// A line for the model when it did not see all.
    pub(crate) fn note(self) -> &'static str {
        match self {
            Self::Bounded => "[not everything was looked at: there is too much; search in a folder]\n",
            Self::All | Self::Enough => "",
        }
    }
}

/// Shows every file below `folder` to `visit`, sorted by name within each folder, until that answers `false`. Paths begin with
/// `prefix`, the folder's own path.
///
/// # Errors
/// When the turn is cancelled or the visitor fails.
pub(crate) fn walk(
    folder: Folder,
    prefix: &str,
    context: &mut Context<'_>,
    visit: &mut dyn FnMut(&Folder, &str, &str) -> Result<bool, Refusal>,
) -> Result<Walked, Refusal> {
    let mut state = Walk { left: MAX_NAMES, walked: Walked::All };
    state.enter(&folder, prefix, 0, context, visit)?;
    Ok(state.walked)
}

struct Walk {
    left: usize,
    walked: Walked,
}

impl Walk {
    fn enter(
        &mut self,
        folder: &Folder,
        prefix: &str,
        depth: usize,
        context: &mut Context<'_>,
        visit: &mut dyn FnMut(&Folder, &str, &str) -> Result<bool, Refusal>,
    ) -> Result<bool, Refusal> {
        if (context.cancelled)() {
            return refuse("Cancelled.");
        }
        // What may not be read holds nothing for the agent.
        let Ok(mut entries) = folder.entries() else { return Ok(true) };
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        for entry in entries {
            if self.left == 0 || depth > MAX_DEPTH {
                self.walked = Walked::Bounded;
                return Ok(depth > MAX_DEPTH);
            }
            self.left = self.left.saturating_sub(1);
            let path = if prefix.is_empty() { entry.name.clone() } else { format!("{prefix}/{}", entry.name) };
            let go_on = match entry.kind {
                Kind::File => visit(folder, &entry.name, &path)?,
                Kind::Folder if entry.name == ".git" => true,
                Kind::Folder => match folder.folder(&entry.name) {
                    Ok(inner) => self.enter(&inner, &path, depth.saturating_add(1), context, visit)?,
                    Err(_) => true,
                },
                Kind::Link | Kind::Other => true,
            };
            if !go_on {
                if self.walked == Walked::All {
                    self.walked = Walked::Enough;
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A pattern for paths. One without a slash is for names, wherever they are.
///
/// # Errors
/// When it is no pattern.
pub(crate) fn matcher(pattern: &str) -> Result<GlobMatcher, Refusal> {
    let pattern = pattern.trim_start_matches("./");
    let anywhere = if pattern.contains('/') { pattern.to_owned() } else { format!("**/{pattern}") };
    let glob = GlobBuilder::new(&anywhere).literal_separator(true).build();
    match glob {
        Ok(glob) => Ok(glob.compile_matcher()),
        Err(error) => refuse(format!("`{pattern}` is no valid pattern: {}", error.kind())),
    }
}

/// The part of `path` below `folder`, which is what a pattern is held against.
pub(crate) fn below<'p>(path: &'p str, folder: &str) -> &'p str {
    path.strip_prefix(folder).map_or(path, |rest| rest.trim_start_matches('/'))
}
