//! Which commands may be asked of a node, by its platform. What a node declares beyond that is never asked of it.

use serde_json::Value;

use crate::config::NodeCommands;
use crate::methods::{ADMIN, PAIRING};

/// Commands of every node with a screen and a person before it.
const PERSONAL: &[&str] = &[
    "calendar.add",
    "calendar.events",
    "camera.clip",
    "camera.list",
    "camera.snap",
    "canvas.a2ui.push",
    "canvas.a2ui.pushJSONL",
    "canvas.a2ui.reset",
    "canvas.eval",
    "canvas.hide",
    "canvas.navigate",
    "canvas.present",
    "canvas.snapshot",
    "chat.push",
    "contacts.add",
    "contacts.search",
    "device.health",
    "device.info",
    "device.permissions",
    "device.status",
    "location.get",
    "motion.activity",
    "motion.pedometer",
    "notifications.actions",
    "notifications.list",
    "photos.latest",
    "reminders.add",
    "reminders.list",
    "screen.record",
    "system.notify",
    "talk.ptt.cancel",
    "talk.ptt.once",
    "talk.ptt.start",
    "talk.ptt.stop",
];

/// Commands of a computer.
const COMPUTER: &[&str] = &[
    "browser.proxy",
    "system.execApprovals.get",
    "system.execApprovals.set",
    "system.notify",
    "system.run",
    "system.run.prepare",
    "system.which",
];

/// How the commands begin that show and change what a node lets others run.
const RULES: &str = "system.execApprovals.";

/// Commands whose approval needs an admin: who may send them runs programs on the node.
const RUNS_PROGRAMS: &[&str] = &["browser.proxy", "system.execApprovals.set", "system.run", "system.run.prepare"];

/// What a node that runs programs reads as "a person approved this". Whoever asks for a run cannot say so.
const APPROVAL_FIELDS: &[&str] =
    &["approved", "approvalAuthority", "approvalDecision", "approvalId", "approvalRequest", "approvalSource"];

/// Whether nodes of that platform may be asked for a command: what is configured wins over what the platform allows.
pub(crate) fn permits(own: &NodeCommands, platform: &str, command: &str) -> bool {
    let has = |list: &[String]| list.iter().any(|known| known == command);
    !has(&own.deny) && (has(&own.allow) || allows(platform, command))
}

/// Whether the platform allows a command.
fn allows(platform: &str, command: &str) -> bool {
    let platform = platform.to_ascii_lowercase();
    let is = |names: &[&str]| names.iter().any(|name| platform.starts_with(name));
    let personal = PERSONAL.contains(&command);
    let computer = COMPUTER.contains(&command);
    if is(&["ios", "ipados", "android", "watchos"]) {
        personal
    } else if is(&["macos", "darwin"]) {
        personal || computer
    } else {
        computer
    }
}

/// Whether a command is about the rules of a node: those have methods of their own, for admins, that are written down.
pub(crate) fn is_about_rules(command: &str) -> bool {
    command.starts_with(RULES)
}

/// The parameters of a command without what the caller claims was approved; the node asks its own person then.
pub(crate) fn unapproved(command: &str, mut params: Value) -> Value {
    if let ("system.run" | "system.run.prepare", Some(fields)) = (command, params.as_object_mut()) {
        fields.retain(|name, _| !APPROVAL_FIELDS.contains(&name.as_str()));
    }
    params
}

/// The scopes that approving a node with these commands takes.
pub(crate) fn approval_scopes(commands: &[String]) -> Vec<&'static str> {
    let runs = commands.iter().any(|command| RUNS_PROGRAMS.contains(&command.as_str()));
    if runs { vec![ADMIN, PAIRING] } else { vec![PAIRING] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_cannot_say_that_a_person_approved() {
        let mut forged = serde_json::json!({"command": ["ls"], "runId": "r"});
        let kept = forged.clone();
        for field in APPROVAL_FIELDS {
            forged.as_object_mut().unwrap().insert((*field).to_owned(), true.into());
        }
        for command in ["system.run", "system.run.prepare"] {
            assert_eq!(unapproved(command, forged.clone()), kept, "{command}");
        }
        assert_eq!(unapproved("browser.proxy", forged.clone()), forged);
    }

    #[test]
    fn what_is_configured_wins() {
        let own =
            NodeCommands { allow: vec!["camera.snap".into(), "x".into()], deny: vec!["x".into(), "system.run".into()] };
        assert!(permits(&own, "linux", "camera.snap") && permits(&own, "linux", "system.which"));
        assert!(!permits(&own, "linux", "x") && !permits(&own, "linux", "system.run"));
    }

    #[test]
    fn a_phone_runs_no_programs_and_a_computer_takes_no_photos() {
        assert!(
            allows("linux", "system.run") && allows("Windows 11", "system.which") && allows("macOS 15", "system.run")
        );
        assert!(
            allows("iOS 18", "camera.snap") && allows("android", "location.get") && allows("darwin", "camera.snap")
        );
        assert!(!allows("iOS 18", "system.run") && !allows("linux", "camera.snap"));
        assert!(!allows("linux", "rm") && !allows("", "camera.snap"));
        assert_eq!(approval_scopes(&["system.which".into()]), ["operator.pairing"]);
        assert_eq!(approval_scopes(&["system.run".into()]), ["operator.admin", "operator.pairing"]);
    }
}
