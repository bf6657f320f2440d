//! The configuration file, from its text to settings or to what is wrong with it.

#![no_main]
// The module is the program's own, which uses all of it.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "only a part of it is reached from here")]

#[path = "../../../host/leanclaw/src/config/mod.rs"]
mod config;

use std::collections::BTreeMap;
use std::path::PathBuf;

use config::{FileText, Flags, Places, Sources, resolve};
use libfuzzer_sys::fuzz_target;

/// A secret that no message may show.
const SECRET: &str = "s3cret-of-the-environment";

fuzz_target!(|text: &str| {
    let file = FileText::Text { text: text.to_owned(), others_can_read: false };
    let dotenv = FileText::Text { text: text.to_owned(), others_can_read: false };
    for (config_file, dotenv) in [(file, FileText::Missing), (FileText::Missing, dotenv)] {
        let sources = Sources {
            flags: Flags::default(),
            environment: BTreeMap::from([("LEANCLAW_GATEWAY_API_KEY".to_owned(), SECRET.to_owned())]),
            not_utf8: Vec::new(),
            dotenv: (PathBuf::from("/work/.env"), dotenv),
            config_file: (PathBuf::from("/home/a/.config/leanclaw/config.json"), config_file),
            places: Places {
                home: Some(PathBuf::from("/home/a")),
                working_dir: PathBuf::from("/work"),
                data_home: Some(PathBuf::from("/home/a/.local/share")),
            },
        };
        let said = match resolve(&sources) {
            Ok(resolution) => {
                assert!(resolution.config.data_dir.is_absolute());
                resolution.warnings.join("\n")
            }
            Err(error) => {
                assert!(!error.problems.is_empty(), "a refusal says why");
                error.to_string()
            }
        };
        assert!(text.contains(SECRET) || !said.contains(SECRET), "{said}");
    }
});
