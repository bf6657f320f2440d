//! Which gateway a command talks to.
//!
//! The program that runs with the command's data directory notes in the lock where its gateway listens, so a command
//! finds it whatever flags it was started with. Only where no program runs there is the configured address tried, and
//! not even that when somebody chose the data directory: whatever answers then serves another one.

use anyhow::Result;

use crate::client::Target;
use crate::config::{Config, Flags};
use crate::lock::{self, Holder, Note};

/// What the command line itself says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    gateway: bool,
}

impl Named {
    pub(crate) fn by(flags: &Flags) -> Self {
        Self { gateway: flags.name_the_gateway() }
    }

    /// Whether it says where the gateway is.
    pub(crate) fn gateway(self) -> bool {
        self.gateway
    }
}

/// Where the plugins of a configuration are administered.
#[derive(Debug)]
pub(crate) enum Place {
    /// At the gateway of the program that runs with this data directory.
    Running(Target, Note),
    /// At the configured address, if a gateway answers there.
    Perhaps(Target),
    /// Nowhere but in what is stored: no program runs.
    Stored,
}

/// Finds the place.
pub(crate) fn find(config: &Config, named: Named) -> Result<Place> {
    let holder = lock::holder(&config.data_dir).unwrap_or(Holder::Nobody);
    place(config, named, holder)
}

fn place(config: &Config, named: Named, holder: Holder) -> Result<Place> {
    Ok(match holder {
        _ if named.gateway => Place::Perhaps(Target::configured(config)?),
        // A command that holds the lock will be done soon, and is no program to be asked.
        Holder::Process(note) if note.is_command => Place::Stored,
        Holder::Process(note) => match note.gateway {
            Some(address) => Place::Running(Target::of_this_machine(config, address)?, note),
            None => Place::Running(Target::configured(config)?, note),
        },
        Holder::Nobody if config.data_dir_is_chosen => Place::Stored,
        Holder::Nobody => Place::Perhaps(Target::configured(config)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, resolve};

    fn shown(named: (bool, bool), holder: Holder) -> String {
        let chosen = named.1.then(|| ("LEANCLAW_DATA_DIR".to_owned(), "/d".to_owned()));
        let config = resolve(&Sources::of_environment(chosen.into_iter().collect())).unwrap().config;
        let named = Named { gateway: named.0 };
        match place(&config, named, holder).unwrap() {
            Place::Running(target, _) => format!("running {}", target.url()),
            Place::Perhaps(target) => format!("perhaps {}", target.url()),
            Place::Stored => "stored".to_owned(),
        }
    }

    #[test]
    fn the_running_program_of_the_data_directory_comes_first() {
        let running =
            Holder::Process(Note { pid: Some(1), gateway: Some("127.0.0.1:7".parse().unwrap()), is_command: false });
        let starting = Holder::Process(Note { pid: Some(1), gateway: None, is_command: false });
        let command = Holder::Process(Note { pid: Some(1), gateway: None, is_command: true });
        for (named, holder, expected) in [
            ((false, false), running, "running ws://127.0.0.1:7/"),
            ((false, true), running, "running ws://127.0.0.1:7/"),
            ((true, false), running, "perhaps ws://127.0.0.1:18789/"),
            ((false, false), command, "stored"),
            ((true, false), command, "perhaps ws://127.0.0.1:18789/"),
            ((false, false), starting, "running ws://127.0.0.1:18789/"),
            ((false, false), Holder::Nobody, "perhaps ws://127.0.0.1:18789/"),
            ((false, true), Holder::Nobody, "stored"),
            ((true, true), Holder::Nobody, "perhaps ws://127.0.0.1:18789/"),
        ] {
            assert_eq!(shown(named, holder), expected, "{named:?} {holder:?}");
        }
    }
}
