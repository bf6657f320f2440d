//! The command line as a person or a script meets it: settings, what is printed, exit statuses, the end.

mod agents;
mod calls;
mod chat;
mod db;
mod devices;
mod ending;
mod import;
mod json;
mod log_and_settings;
mod sessions;
mod settings;
mod status;
