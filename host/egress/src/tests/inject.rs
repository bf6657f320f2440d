//! Placeholders are filled in at their declared place and refused everywhere else.

use leanclaw_types::net::Placement;
use proptest::prelude::*;

use super::*;

struct Values(Vec<(&'static str, String)>);

impl SecretSource for Values {
    fn get(&self, name: &str) -> Option<Secret> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| Secret::new(value.clone()))
    }
}

fn policy() -> EgressPolicy {
    let rule = |name: &str, placement| SecretRule {
        name: name.into(),
        host: "https://api.example.com".parse().unwrap(),
        placement,
    };
    let mut policy = EgressPolicy::new("notes");
    policy.secrets = vec![
        rule("head", Placement::Header("Authorization".into())),
        rule("query", Placement::Query("api key".into())),
        rule("path", Placement::Path),
        rule("empty", Placement::Path),
        SecretRule { name: "any".into(), host: "*".parse().unwrap(), placement: Placement::Path },
    ];
    policy
}

fn fill(url: &str, headers: &[(&str, &str)], value: &str) -> Result<(String, Vec<String>), EgressError> {
    let policy = policy();
    let url = Url::parse(url).unwrap();
    let rules = Rules { policy: &policy, url: &url, origin: "https://api.example.com" };
    let mut map = HeaderMap::new();
    for (name, text) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(text).unwrap());
    }
    let checked = rules.check(&map);
    let values = Values(vec![
        ("head", value.into()),
        ("query", value.into()),
        ("path", value.into()),
        ("any", value.into()),
        ("other", value.into()),
    ]);
    let filled = rules.apply(&map, &KnownSecrets::fetch(&policy, &values));
    // The check before dialling sees what filling in sees, except for the values.
    match (&checked, &filled) {
        (Err(early), Err(late)) => assert_eq!(early, late),
        (Ok(_), Err(late)) => assert!(matches!(late, EgressError::SecretMissing { .. }), "{late}"),
        (Ok(any), Ok(filled)) => assert_eq!(*any, filled.count > 0),
        (Err(early), Ok(_)) => panic!("refused early only: {early}"),
    }
    let filled = filled?;
    let target = String::from_utf8(filled.target.to_vec()).unwrap();
    let headers = filled.headers.values().map(|value| String::from_utf8(value.as_bytes().to_vec()).unwrap());
    Ok((target, headers.collect()))
}

#[test]
fn a_placeholder_is_filled_in_where_it_is_declared() {
    let headers = [("authorization", "Bearer {{secret:head}}"), ("x-plain", "{{secret}} {secret:head}")];
    let (target, filled) = fill("https://api.example.com/a?b=c&d", &headers, "top secret").unwrap();
    assert_eq!(target, "/a?b=c&d");
    assert_eq!(filled, ["Bearer top secret", "{{secret}} {secret:head}"]);

    for path in ["/bot{{secret:path}}/me", "/bot%7B%7Bsecret:path%7D%7D/me", "/bot%7b%7bsecret%3Apath%7d%7d/me"] {
        let (target, _) = fill(&format!("https://api.example.com{path}"), &[], "12:a/b?c#d%e f").unwrap();
        assert_eq!(target, "/bot12:a%2Fb%3Fc%23d%25e%20f/me", "{path}");
    }
    for query in ["api%20key=x{{secret:query}}", "api+key=x%7B%7Bsecret%3Aquery%7D%7D"] {
        let (target, _) = fill(&format!("https://api.example.com/?n=1&{query}&z"), &[], "a&b=c+d e").unwrap();
        assert!(target.ends_with("=xa%26b%3Dc%2Bd%20e&z"), "{target}");
    }
}

#[test]
fn a_placeholder_anywhere_else_is_refused_with_the_way_to_allow_it() {
    for (url, headers, place) in [
        ("https://api.example.com/", vec![("x-other", "{{secret:head}}")], "header `x-other`"),
        ("https://api.example.com/{{secret:head}}", vec![], "the path"),
        ("https://api.example.com/?api%20key={{secret:path}}", vec![], "the query"),
        ("https://api.example.com/?other={{secret:query}}", vec![], "the query"),
        ("https://api.example.com/?{{secret:query}}=1", vec![], "the name of a query parameter"),
        ("https://api.example.com/", vec![("authorization", "{{secret:unknown}}")], "header `authorization`"),
        ("https://api.example.com:444/{{secret:path}}", vec![], "the path"),
        ("http://api.example.com/{{secret:path}}", vec![], "the path"),
        ("https://evil.example.com/{{secret:path}}", vec![], "the path"),
        ("https://api.example.com/{{secret:any}}", vec![], "the path"),
    ] {
        let error = fill(url, &headers, "top secret").unwrap_err();
        assert_eq!(error.code(), "secret-not-declared", "{url}");
        assert!(error.to_string().contains(place), "{url}: {error}");
        let hinted = error.hints().iter().any(|hint| hint.starts_with("leanclaw plugin grant notes secret:"));
        assert_eq!(hinted, !place.contains("name of"), "{url}: {:?}", error.hints());
    }
    let error = fill("https://api.example.com/", &[("x-other", "{{secret:head}}")], "top secret").unwrap_err();
    assert_eq!(
        error.hints(),
        [
            r#"manifest, permissions.secrets: {"name": "head", "host": "https://api.example.com", "header": "x-other"}"#,
            "leanclaw plugin grant notes secret:head@https://api.example.com/header=x-other",
        ]
    );
    assert!(error.to_string().contains("https://api.example.com/header=Authorization only"), "{error}");
}

#[test]
fn a_malformed_placeholder_is_told_apart() {
    for text in ["{{secret:}}", "{{secret:head", "{{secret:head}", "{{secret:he ad}}", "{{secret:{{secret:head}}}}"] {
        let error = fill("https://api.example.com/", &[("authorization", text)], "top secret").unwrap_err();
        assert_eq!(error.code(), "invalid-request", "{text}");
    }
}

#[test]
fn a_value_that_could_add_a_line_or_is_not_there_is_refused() {
    for value in ["a\r\nx-evil: 1", "line\n", "nul\u{0}byte", "abc", ""] {
        for (url, headers) in [
            ("https://api.example.com/", vec![("authorization", "{{secret:head}}")]),
            ("https://api.example.com/{{secret:path}}", vec![]),
        ] {
            let error = fill(url, &headers, value).unwrap_err();
            assert_eq!(error.code(), "secret-missing", "{value:?}");
            assert!(value.is_empty() || !error.to_string().contains(value), "{error}");
            assert!(error.hints()[0].starts_with("leanclaw plugin secret set notes "));
        }
    }
    let error = fill("https://api.example.com/{{secret:empty}}", &[], "top secret").unwrap_err();
    assert_eq!(error.code(), "secret-missing");
}

#[test]
fn a_filled_value_is_not_read_for_placeholders_again() {
    let (target, _) = fill("https://api.example.com/{{secret:path}}", &[], "{{secret:query}}").unwrap();
    assert_eq!(target, "/%7B%7Bsecret:query%7D%7D");
}

proptest! {
    #[test]
    fn no_value_breaks_out_of_its_place(value in "[ -~]{4,40}") {
        let (target, _) = fill("https://api.example.com/a/{{secret:path}}/b?api+key={{secret:query}}&c", &[], &value).unwrap();
        let (path, query) = target.split_once('?').unwrap();
        prop_assert_eq!(path.split('/').count(), 4);
        prop_assert_eq!(query.split('&').count(), 2);
        prop_assert!(!target.contains(['#', ' ', '\n']) && query.matches('?').count() == 0);
        let pairs: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        prop_assert_eq!(&pairs[0], &("api key".to_owned(), value));
    }

    #[test]
    fn text_without_placeholders_is_sent_as_it_is(path in "[a-z%{}:/]{0,40}", query in "[a-z%{}:=&]{0,40}") {
        prop_assume!(!path.contains("secret") && !query.contains("secret"));
        let text = format!("https://api.example.com/{path}?{query}");
        let url = Url::parse(&text).unwrap();
        let (target, _) = fill(&text, &[], "top secret").unwrap();
        prop_assert_eq!(target, format!("{}?{}", url.path(), url.query().unwrap()));
    }
}
