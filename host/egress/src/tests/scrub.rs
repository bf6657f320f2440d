//! Values are found in every form, whole and cut in two, and nothing else is changed.

use std::sync::Arc;

use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

fn scrubber(secrets: &[(&str, &str)]) -> Scrubber {
    let secrets: Vec<(&str, Secret)> = secrets.iter().map(|(name, value)| (*name, Secret::new(*value))).collect();
    Scrubber::new(secrets.iter().map(|(name, secret)| (*name, secret)))
}

fn streamed(scrubber: Scrubber, chunks: &[&[u8]]) -> Vec<u8> {
    let mut stream = StreamScrubber::new(Arc::new(scrubber));
    let mut output = Vec::new();
    for chunk in chunks {
        output.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    output.extend_from_slice(&stream.finish());
    output
}

const VALUE: &str = "s3cr3t/va lue+\"1\"";

#[test]
fn every_form_is_replaced() {
    let scrubber = scrubber(&[("key", VALUE)]);
    for form in [
        VALUE.to_owned(),
        "s3cr3t/va lue+\\\"1\\\"".to_owned(),
        "s3cr3t%2Fva%20lue%2B%221%22".to_owned(),
        "s3cr3t%2fva%20lue%2b%221%22".to_owned(),
        "s3cr3t%2Fva+lue%2B%221%22".to_owned(),
        "s3cr3t%2Fva%20lue+%221%22".to_owned(),
    ] {
        assert_eq!(scrubber.text(&format!("<{form}>")), "<[secret:key]>", "{form}");
    }
    for prefix in ["", "u", "us", "user:"] {
        for suffix in ["", "x", "xy", "xyz"] {
            for engine in [&STANDARD, &URL_SAFE] {
                let encoded = engine.encode(format!("{prefix}{VALUE}{suffix}"));
                let shown = scrubber.text(&encoded);
                assert!(shown.contains("[secret:key]"), "{prefix} {suffix}: {shown}");
                assert!(shown.len() < encoded.len(), "{prefix} {suffix}: {shown}");
            }
        }
    }
}

#[test]
fn the_longest_value_wins_where_one_contains_another() {
    let scrubber = scrubber(&[("short", "abcd"), ("long", "abcdefgh")]);
    assert_eq!(scrubber.text("abcdefgh abcd abcdef"), "[secret:long] [secret:short] [secret:short]ef");
}

#[test]
fn a_stream_is_not_held_back_without_need() {
    let mut stream = StreamScrubber::new(Arc::new(scrubber(&[("key", "hunter22")])));
    assert_eq!(stream.push(Bytes::from_static(b"data: 1\n\n")), "data: 1\n\n");
    assert_eq!(stream.push(Bytes::from_static(b"data: hunt")), "data: ");
    assert_eq!(stream.push(Bytes::from_static(b"ing\n\n")), "hunting\n\n");
    assert_eq!(stream.push(Bytes::from_static(b"hunter")), "");
    assert_eq!(stream.finish(), "hunter");
}

#[test]
fn too_short_values_are_left_alone() {
    assert!(scrubber(&[("key", "abc")]).is_empty());
    assert!(scrubber(&[("key", "")]).is_empty());
}

proptest! {
    #[test]
    fn cutting_a_text_anywhere_changes_nothing(
        before in "[ab]{0,12}", after in "[ab]{0,12}", value in "[ab]{4,9}", other in "[ab]{4,9}", cuts in proptest::collection::vec(0_usize..40, 0..5),
    ) {
        let text = format!("{before}{value}{after}{other}");
        let secrets = [("one", value.as_str()), ("two", other.as_str())];
        let whole = scrubber(&secrets).bytes(text.as_bytes());
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let mut chunks: Vec<&[u8]> = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&text.as_bytes()[from..cut]);
            from = cut;
        }
        chunks.push(&text.as_bytes()[from..]);
        prop_assert_eq!(streamed(scrubber(&secrets), &chunks), whole);
    }

    #[test]
    fn no_value_survives(before in ".{0,20}", value in "[!-~]{4,30}", after in ".{0,20}") {
        let shown = scrubber(&[("k", &value)]).text(&format!("{before}{value}{after}"));
        // The replacement itself may happen to spell a value; any other trace is a leak.
        let traced = shown.replace("[secret:k]", "\0").contains(&value);
        prop_assert!(!traced, "{}", shown);
    }

    #[test]
    fn text_without_a_value_is_unchanged(text in "[a-z ]{0,200}") {
        let scrubbed = scrubber(&[("k", "0123456789")]);
        prop_assert_eq!(streamed(scrubbed, &[text.as_bytes()]), text.into_bytes());
    }
}
