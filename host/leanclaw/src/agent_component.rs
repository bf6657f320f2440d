//! Where the agent's component is: the program that runs in the embedded sandbox.
//!
//! It is a file beside the program, as it is for another machine than this one: whoever builds the program alone has none.

use std::path::{Path, PathBuf};

/// The variable that names it.
pub(crate) const VARIABLE: &str = "LEANCLAW_AGENT";
/// What it is called beside the program.
const NAME: &str = "leanclaw-agent.wasm";

/// There is none in any of these places.
#[derive(Debug, thiserror::Error)]
#[error("the agent's component is not there (looked for {})", shown(places))]
pub(crate) struct NotFound {
    places: Vec<PathBuf>,
}

impl NotFound {
    /// What to do about it.
    pub(crate) fn hints(&self) -> Vec<String> {
        vec![
            format!("put {NAME} beside the leanclaw program; it is in the same archive"),
            format!("from the source: `cargo xtask build` makes target/agent/{NAME}, and {VARIABLE} names it"),
        ]
    }
}

fn shown(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The agent's component.
///
/// # Errors
/// [`NotFound`], with every place that was looked at.
pub(crate) fn locate() -> Result<PathBuf, NotFound> {
    let named = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    locate_in(named, std::env::current_exe().ok().as_deref())
}

fn locate_in(named: Option<PathBuf>, program: Option<&Path>) -> Result<PathBuf, NotFound> {
    // What was named is meant: nothing else stands in for it.
    let places = match (named, program.and_then(Path::parent)) {
        (Some(named), _) => vec![named],
        (None, Some(folder)) => {
            let mut places = vec![folder.join(NAME)];
            places.extend(folder.parent().map(|above| above.join("lib").join("leanclaw").join(NAME)));
            places
        }
        (None, None) => Vec::new(),
    };
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.clone()),
        None => Err(NotFound { places }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn it_is_what_was_named_else_beside_the_program_else_in_its_lib() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("bin").join("leanclaw");
        let (beside, lib) = (folder.path().join("bin").join(NAME), folder.path().join("lib/leanclaw").join(NAME));
        for place in [&beside, &lib] {
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, "").unwrap();
        }
        assert_eq!(locate_in(Some(lib.clone()), Some(&program)).unwrap(), lib);
        assert_eq!(locate_in(None, Some(&program)).unwrap(), beside);
        fs::remove_file(&beside).unwrap();
        assert_eq!(locate_in(None, Some(&program)).unwrap(), lib);
        let missing = folder.path().join("missing");
        let error = locate_in(Some(missing.clone()), Some(&program)).unwrap_err();
        assert!(error.to_string().contains(&missing.display().to_string()), "{error}");
        assert!(!error.hints().is_empty());
    }
}
