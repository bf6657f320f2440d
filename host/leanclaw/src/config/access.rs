//! Who may do what at the gateway: the parts of the section `gateway` that have no variable.

use std::time::Duration;

use leanclaw_gateway::{ClassLimits, Credential, NodeCommands, RateLimits, Role};
use serde_json::{Map, Value};

use super::plugins::Wrong;
use super::value;

const ROLES: &str = "`admin`, `user` or `viewer`";

/// The roles of credentials, and how often may be called.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AccessConfig {
    /// What the shared token or password is good for at most.
    pub role: Role,
    /// Further credentials.
    pub users: Vec<Credential>,
    /// How often may be called.
    pub rates: RateLimits,
    /// What may be asked of nodes beside what their platform allows, and what may not.
    pub node_commands: NodeCommands,
}

/// The parts as read.
#[derive(Debug, Default)]
pub(crate) struct AccessSection {
    pub(crate) access: AccessConfig,
    pub(crate) wrong: Vec<Wrong>,
    pub(crate) unknown: Vec<String>,
}

impl AccessSection {
    /// Reads what has no variable and takes it out of the value of the key `gateway`.
    pub(crate) fn take(&mut self, gateway: &mut Map<String, Value>) {
        if let Some(rates) = gateway.shift_remove("rateLimits") {
            self.rates(&rates);
        }
        if let Some(Value::Object(nodes)) = gateway.get_mut("nodes") {
            if let Some(allowed) = nodes.shift_remove("allowCommands") {
                self.access.node_commands.allow = self.commands("gateway.nodes.allowCommands", &allowed);
            }
            if let Some(denied) = nodes.shift_remove("denyCommands") {
                self.access.node_commands.deny = self.commands("gateway.nodes.denyCommands", &denied);
            }
            if nodes.is_empty() {
                gateway.shift_remove("nodes");
            }
        }
        let Some(Value::Object(auth)) = gateway.get_mut("auth") else { return };
        if let Some(role) = auth.shift_remove("role") {
            self.access.role = self.role("gateway.auth.role", &role);
        }
        if let Some(users) = auth.shift_remove("users") {
            for (name, user) in self.object("gateway.auth.users", &users).into_iter().flatten() {
                self.user(name, user);
            }
        }
    }

    fn commands(&mut self, path: &str, given: &Value) -> Vec<String> {
        let word = |value: &Value| value.as_str().map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned);
        let commands = given.as_array().and_then(|list| list.iter().map(word).collect::<Option<Vec<String>>>());
        if commands.is_none() {
            let expected = "a list of commands, such as `[\"camera.snap\"]`";
            self.wrong.push((path.to_owned(), given.clone(), expected.to_owned()));
        }
        commands.unwrap_or_default()
    }

    fn user(&mut self, name: &str, user: &Value) {
        let path = format!("gateway.auth.users.{}", name.escape_debug());
        let plain = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            let expected = "a name of 1 to 64 letters, digits, `-`, `_` and `.`";
            self.wrong.push((path.clone(), name.into(), expected.to_owned()));
        }
        let (mut secret, mut role) = (None, None);
        let Some(user) = self.object(&path, user) else { return };
        for (key, given) in user {
            let path = format!("{path}.{}", key.escape_debug());
            match key.as_str() {
                "token" => {
                    secret = value::secret(given);
                    if secret.is_none() {
                        self.wrong.push((path, "(not shown)".into(), SECRET.to_owned()));
                    }
                }
                "role" => role = Some(self.role(&path, given)),
                _ => self.unknown.push(path),
            }
        }
        if !user.contains_key("token") {
            self.wrong.push((format!("{path}.token"), Value::Null, SECRET.to_owned()));
        }
        if role.is_none() {
            self.wrong.push((format!("{path}.role"), Value::Null, ROLES.to_owned()));
        }
        if let (Some(secret), Some(role)) = (secret, role) {
            self.access.users.push(Credential { name: name.to_owned(), secret, role });
        }
    }

    fn rates(&mut self, given: &Value) {
        let path = "gateway.rateLimits";
        let mut rates = RateLimits::default();
        for (key, given) in self.object(path, given).into_iter().flatten() {
            let path = format!("{path}.{}", key.escape_debug());
            match key.as_str() {
                "windowMs" => {
                    let window = value::whole_number(given, 1000, 3_600_000);
                    match window {
                        Some(milliseconds) => rates.window = Duration::from_millis(milliseconds),
                        None => self.wrong.push((path, given.clone(), "milliseconds from 1000 to 3600000".to_owned())),
                    }
                }
                "controlPlane" => self.limit(&path, given, &mut rates.control_plane),
                "controlPlaneV3" => self.limit(&path, given, &mut rates.control_plane_v3),
                "perIp" => self.class_limits(&path, given, &mut rates.per_ip),
                "perCredential" => self.class_limits(&path, given, &mut rates.per_credential),
                "loopback" => self.class_limits(&path, given, &mut rates.loopback),
                _ => self.unknown.push(path),
            }
        }
        self.access.rates = rates;
    }

    fn class_limits(&mut self, path: &str, given: &Value, limits: &mut ClassLimits) {
        for (key, given) in self.object(path, given).into_iter().flatten() {
            let path = format!("{path}.{}", key.escape_debug());
            match key.as_str() {
                "read" => self.limit(&path, given, &mut limits.read),
                "write" => self.limit(&path, given, &mut limits.write),
                "admin" => self.limit(&path, given, &mut limits.admin),
                "expensive" => self.limit(&path, given, &mut limits.expensive),
                _ => self.unknown.push(path),
            }
        }
    }

    fn limit(&mut self, path: &str, given: &Value, limit: &mut u32) {
        match value::whole_number(given, 0, u64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok()) {
            Some(number) => *limit = number,
            None => {
                let expected = "calls per window, a whole number; 0 is no limit";
                self.wrong.push((path.to_owned(), given.clone(), expected.to_owned()));
            }
        }
    }

    fn role(&mut self, path: &str, given: &Value) -> Role {
        let role = given.as_str().and_then(Role::named);
        if role.is_none() {
            self.wrong.push((path.to_owned(), given.clone(), ROLES.to_owned()));
        }
        // With a problem noted nothing starts; least is right all the same.
        role.unwrap_or(Role::Viewer)
    }

    fn object<'a>(&mut self, path: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
        if value.as_object().is_none() {
            self.wrong.push((path.to_owned(), value.clone(), "an object, `{ ... }`".to_owned()));
        }
        value.as_object()
    }
}

const SECRET: &str = "a text of 1 to 512 visible ASCII characters";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(mut gateway: Value) -> (AccessSection, Value) {
        let mut section = AccessSection::default();
        section.take(gateway.as_object_mut().unwrap());
        (section, gateway)
    }

    #[test]
    fn users_and_roles_are_read_and_taken_out() {
        let (section, rest) = read(json!({"port": 1, "auth": {
            "token": "t", "role": "user", "users": {"vic": {"token": "of-vic", "role": "viewer"}},
        }}));
        assert_eq!((section.wrong.len(), section.unknown.len()), (0, 0), "{section:?}");
        assert_eq!(section.access.role, Role::User);
        let [vic] = section.access.users.as_slice() else { panic!("{section:?}") };
        assert_eq!((vic.name.as_str(), vic.secret.expose(), vic.role), ("vic", "of-vic", Role::Viewer));
        assert_eq!(rest, json!({"port": 1, "auth": {"token": "t"}}));
        assert_eq!(read(json!({"auth": {}})).0.access, AccessConfig::default());
        assert_eq!(AccessConfig::default().role, Role::Admin);
    }

    #[test]
    fn commands_of_nodes_are_read_and_the_rest_is_left() {
        let (section, rest) =
            read(json!({"nodes": {"allowCommands": ["camera.snap"], "denyCommands": ["x"], "browser": {}}}));
        assert_eq!(section.access.node_commands.allow, ["camera.snap"]);
        assert_eq!(section.access.node_commands.deny, ["x"]);
        assert_eq!((section.wrong.len(), rest), (0, json!({"nodes": {"browser": {}}})));
        assert_eq!(read(json!({"nodes": {"allowCommands": "x"}})).0.wrong[0].0, "gateway.nodes.allowCommands");
    }

    #[test]
    fn rate_limits_are_laid_over_the_defaults() {
        let (section, rest) = read(json!({"rateLimits": {
            "windowMs": 10_000, "perIp": {"read": 5, "write": -1}, "loopback": {"admin": 0}, "controlPlane": 7, "x": 1,
        }}));
        let (rates, usual) = (&section.access.rates, RateLimits::default());
        assert_eq!((rates.window, rates.control_plane), (Duration::from_secs(10), 7));
        assert_eq!((rates.per_ip.read, rates.per_ip.write), (5, usual.per_ip.write));
        assert_eq!((rates.loopback.admin, rates.per_credential), (0, usual.per_credential));
        assert_eq!(section.wrong[0].0, "gateway.rateLimits.perIp.write");
        assert_eq!(section.unknown, ["gateway.rateLimits.x"]);
        assert_eq!(rest, json!({}));
        assert_eq!(read(json!({"rateLimits": {"windowMs": 5}})).0.wrong.len(), 1);
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_is_shown() {
        let (section, _) = read(json!({"auth": {"role": "king", "users": {
            "a": {"token": "has space", "role": "root"}, "b": {"rolle": 1}, "c d": {"token": "x", "role": "user"}, "d": 5,
        }}}));
        let wrong: Vec<_> = section.wrong.iter().map(|(path, ..)| path.as_str()).collect();
        let users = |rest: &str| format!("gateway.auth.users.{rest}");
        let expected = ["a.token", "a.role", "b.token", "b.role", "c d", "d"].map(users);
        assert_eq!(wrong[0], "gateway.auth.role");
        assert_eq!(wrong[1..], expected);
        assert_eq!(section.unknown, [users("b.rolle")]);
        assert!(!format!("{:?}", section.wrong).contains("has space"));
    }
}
