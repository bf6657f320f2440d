use leanclaw_plugin_sdk::failure::code;
use leanclaw_plugin_sdk::testing::{Stub, TestHost};
use serde_json::{Value, json};

use super::*;

const URL: &str = "https://example.com/blog/feed";

const RSS: &str = r#"<?xml version="1.0"?>
<!DOCTYPE rss [<!ENTITY boom "boom">]>
<rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom" xmlns:media="http://search.yahoo.com/mrss/">
  <channel>
    <image><title>Logo</title><link>https://example.com/logo</link></image>
    <title>Tom &amp; Jerry&#8217;s</title>
    <atom:link href="https://example.com/blog/feed" rel="self"/>
    <link>/blog/</link>
    <item>
      <title><![CDATA[A <b>bold</b> start]]></title>
      <media:title>Not this one</media:title>
      <link>posts/1?a=1&amp;b=2</link>
      <guid isPermaLink="false">tag:1</guid>
      <pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate>
      <description>&lt;p&gt;One&amp;nbsp;&lt;i&gt;two&lt;/i&gt; &boom;&lt;/p&gt;&lt;script&gt;x&lt;/script&gt;</description>
    </item>
    <item><link>javascript:alert(1)</link><title>Second</title><content:encoded>Body</content:encoded></item>
    <item></item>
  </channel>
</rss>"#;

const ATOM: &str = r#"<feed xmlns="http://www.w3.org/2005/Atom" xml:base="https://base.example/x/">
  <title type="html">News &amp;lt;3</title>
  <link rel="self" href="feed.atom"/><link href="."/>
  <entry>
    <id>urn:1</id>
    <title type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml">First <em>entry</em></div></title>
    <link rel="enclosure" href="/file.mp3"/><link rel="alternate" href="/a&amp;b"/>
    <updated>2026-01-06T00:00:00Z</updated><published>2026-01-05T00:00:00Z</published>
    <source><title>Elsewhere</title></source>
    <content type="html">&lt;p&gt;Long&lt;/p&gt;</content><summary>Short</summary>
  </entry>
  <entry><id>urn:2</id><updated>2026-01-04T00:00:00Z</updated></entry>
</feed>"#;

fn read(stub: Stub, limit: u32) -> Result<Value, Failure> {
    let host = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
    host.stub_http("GET", URL, stub);
    let output = host.call_tool::<FeedReader>("read_feed", json!({"url": URL, "limit": limit}))?;
    assert!(!output.is_error());
    Ok(output.structured_part().unwrap().clone())
}

#[test]
fn rss_is_read_as_text_with_whole_links() {
    assert_eq!(
        read(Stub::body("application/rss+xml", RSS), 20).unwrap(),
        json!({
            "format": "rss", "title": "Tom & Jerry\u{2019}s", "link": "https://example.com/blog/",
            "items": [
                {
                    "id": "tag:1", "title": "A bold start", "link": "https://example.com/blog/posts/1?a=1&b=2",
                    "published": "Mon, 05 Jan 2026 10:00:00 GMT", "summary": "One two &boom;"
                },
                {"id": "Second", "title": "Second", "summary": "Body"}
            ]
        })
    );
}

#[test]
fn atom_is_read_too() {
    assert_eq!(
        read(Stub::body("application/atom+xml", ATOM), 20).unwrap(),
        json!({
            "format": "atom", "title": "News <3", "link": "https://base.example/x/",
            "items": [
                {
                    "id": "urn:1", "title": "First entry", "link": "https://base.example/a&b",
                    "published": "2026-01-05T00:00:00Z", "summary": "Short"
                },
                {"id": "urn:2", "published": "2026-01-04T00:00:00Z"}
            ]
        })
    );
}

#[test]
fn json_feed_is_read_too() {
    let feed = json!({
        "version": "https://jsonfeed.org/version/1.1", "title": "Micro", "home_page_url": "/",
        "items": [
            {"id": 7, "url": "p/7", "content_html": "<p>Hi &amp; bye</p>", "date_published": "2026-01-05T00:00:00Z"},
            {"id": "8", "title": "T", "external_url": "ftp://x.example/"},
            {}
        ]
    });
    assert_eq!(
        read(Stub::json(&feed), 20).unwrap(),
        json!({
            "format": "json", "title": "Micro", "link": "https://example.com/",
            "items": [
                {
                    "id": "7", "link": "https://example.com/blog/p/7", "published": "2026-01-05T00:00:00Z",
                    "summary": "Hi & bye"
                },
                {"id": "8", "title": "T"}
            ]
        })
    );
}

#[test]
fn rdf_with_items_beside_the_channel_is_read_too() {
    let rdf = "<rdf:RDF><channel><title>Old</title></channel><item><title>One</title><dc:date>2026</dc:date></item></rdf:RDF>";
    let feed = read(Stub::body("text/xml", rdf), 20).unwrap();
    assert_eq!(feed["title"], "Old");
    assert_eq!(feed["items"], json!([{"id": "One", "title": "One", "published": "2026"}]));
}

#[test]
fn limits_hold() {
    assert_eq!(read(Stub::body("text/xml", RSS), 1).unwrap()["items"].as_array().unwrap().len(), 1);
    let long = format!("<rss><channel><item><title>{}</title></item></channel></rss>", "<b>wo</b> ".repeat(100_000));
    let feed = read(Stub::body("text/xml", long), 1).unwrap();
    assert_eq!(feed["items"][0]["title"].as_str().unwrap().chars().count(), 300);
    let deep = format!("<rss>{}", "<a>".repeat(MAX_BODY_BYTES / 4));
    assert_eq!(read(Stub::body("text/xml", deep), 1).unwrap_err().code, code::UNSUPPORTED);
    let ampersands = format!("<rss><channel><item><link href='{}'/></item></channel></rss>", "&".repeat(1_000_000));
    assert_eq!(read(Stub::body("text/xml", ampersands), 1).unwrap()["items"], json!([]));
    let large = " ".repeat(MAX_BODY_BYTES + 1);
    assert_eq!(read(Stub::body("text/xml", large), 1).unwrap_err().code, code::TOO_LARGE);
    for limit in [0, MAX_ITEMS + 1] {
        assert_eq!(read(Stub::body("text/xml", RSS), limit).unwrap_err().code, code::INVALID_INPUT);
    }
}

#[test]
fn sloppy_xml_is_forgiven() {
    let sloppy =
        "<rss><channel><title>A & B</title><item><title>One</titel><link>https://a.example/?x&y</link></item></rss>";
    let feed = read(Stub::body("text/xml", sloppy), 9).unwrap();
    assert_eq!(feed["title"], "A & B");
    assert_eq!(feed["items"][0]["title"], "One");
    assert_eq!(feed["items"][0]["link"], "https://a.example/?x&y");
}

#[test]
fn what_is_no_feed_is_named() {
    for (body, reason) in [
        ("<!doctype html><html><head></head></html>", "web page"),
        ("<svg></svg>", "another kind"),
        ("<?xml version='1.0'?>", "empty"),
        ("<rss><", "broken"),
        ("{\"version\": \"1\"}", "another kind"),
        ("{\"items\": []}", "does not fit"),
        ("plain", "neither"),
        ("", "neither"),
    ] {
        let failure = read(Stub::body("text/html", body), 5).unwrap_err();
        assert_eq!(failure.code, code::UNSUPPORTED, "{body}");
        assert!(failure.message.contains(reason), "{body}: {failure}");
    }
}

#[test]
fn redirects_are_followed_a_few_times_and_pass_the_gate_each_time() {
    let host = TestHost::with_manifest(include_str!("../leanclaw.plugin.json")).unwrap();
    let read = || host.call_tool::<FeedReader>("read_feed", json!({"url": URL}));
    host.stub_http("GET", URL, Stub::status(301).header("location", "/moved"));
    host.stub_http(
        "GET",
        "https://example.com/moved",
        Stub::body("text/xml", "<rss><channel><link>x</link></channel></rss>"),
    );
    assert_eq!(read().unwrap().structured_part().unwrap()["link"], "https://example.com/x");
    for (location, expected) in [
        ("http://example.com/plain", code::DENIED),
        ("file:///etc/passwd", code::UNSUPPORTED),
        ("feed", code::UNSUPPORTED),
    ] {
        host.stub_http("GET", URL, Stub::status(302).header("location", location));
        // The stubs before have been used up.
        assert_eq!(read().unwrap_err().code, expected, "{location}");
    }
}

#[test]
fn what_the_server_says_is_kept() {
    let failure = read(Stub::status(429).header("retry-after", "60"), 5).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retry_after_ms), (code::RATE_LIMITED, Some(60_000)));
    assert_eq!(read(Stub::status(404), 5).unwrap_err().code, code::NOT_FOUND);
}

#[test]
fn a_model_sees_what_the_tool_does() {
    let specs = FeedReader::tools().specs();
    assert_eq!(specs.len(), 1);
    assert_eq!(
        (specs[0].effects.as_slice(), specs[0].idempotent),
        (["reads", "network"].map(String::from).as_slice(), true)
    );
    assert_eq!(specs[0].output_schema.as_ref().unwrap()["properties"]["items"]["type"], "array");
}
