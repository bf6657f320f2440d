//! What decides who may be reached, what may be granted, who may speak and what may be mounted.

#![no_main]

use leanclaw_types::allowlist::{MountAllowlist, SenderAllowlist};
use leanclaw_types::net::HostPattern;
use leanclaw_types::permission::Permissions;
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|text: &str| {
    let (first, rest) = text.split_once('\n').unwrap_or((text, ""));
    if let Ok(pattern) = first.parse::<HostPattern>() {
        let again: HostPattern = pattern.to_string().parse().expect("its text form is one");
        assert_eq!(pattern, again);
        if let Ok(url) = Url::parse(rest) {
            assert_eq!(pattern.matches(&url), again.matches(&url));
            if pattern.matches(&url) {
                assert!(url.host_str().is_some(), "what has no host is not allowed by one");
            }
        }
    }
    if let Ok(permissions) = serde_json::from_str::<Permissions>(text)
        && permissions.problems().is_empty()
    {
        let none = Permissions::default();
        assert_eq!(permissions.intersection(&none), none, "nothing is granted by asking");
        let written = serde_json::to_string(&permissions).expect("it can be written");
        assert_eq!(serde_json::from_str::<Permissions>(&written).expect("and read back"), permissions);
    }
    if let Ok(list) = SenderAllowlist::read(text) {
        let written = serde_json::to_string(&list).expect("it can be written");
        assert_eq!(SenderAllowlist::read(&written).expect("and read back"), list);
        let _decided = list.allows(first, rest);
    }
    if let Ok(list) = MountAllowlist::read(text) {
        let written = serde_json::to_string(&list).expect("it can be written");
        assert_eq!(MountAllowlist::read(&written).expect("and read back"), list);
    }
});
