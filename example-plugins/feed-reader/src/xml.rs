//! RSS 0.9 to 2.0 and Atom, read in one pass and forgivingly: end tags need not match, a lone `&` is text, and unknown
//! elements are skipped. No document type is read, so nothing can be declared that grows when it is used.

use leanclaw_plugin_sdk::Failure;
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::feed::{self, Feed, Item, RawItem, not_a_feed};
use crate::{link, text};

const MAX_DEPTH: usize = 64;
/// How much of one element's text is kept, in bytes; more than a summary needs, with its markup.
const MAX_FIELD_BYTES: usize = 16 * 1024;

/// What an element inside a feed or an item says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    Title,
    Link,
    Published,
    Updated,
    Summary,
    Content,
}

/// A field whose text is being collected.
struct Capture {
    field: Field,
    depth: usize,
    text: String,
}

/// Fields of the feed, or of the item being read.
#[derive(Default)]
struct Fields {
    raw: RawItem,
    updated: Option<String>,
    content: Option<String>,
}

impl Fields {
    /// Keeps the first value of each field.
    fn set(&mut self, field: Field, value: String) {
        let place = match field {
            Field::Id => &mut self.raw.id,
            Field::Title => &mut self.raw.title,
            Field::Link => &mut self.raw.link,
            Field::Published => &mut self.raw.published,
            Field::Summary => &mut self.raw.summary,
            Field::Updated => &mut self.updated,
            Field::Content => &mut self.content,
        };
        if place.is_none() && !value.trim().is_empty() {
            *place = Some(value);
        }
    }

    fn finish(self, base: &str) -> Item {
        let published = self.raw.published.or(self.updated);
        let summary = self.raw.summary.or(self.content);
        RawItem { published, summary, ..self.raw }.finish(base)
    }
}

/// The reading of one document.
struct Walk {
    base: String,
    format: Option<&'static str>,
    /// Names of the open elements, without prefixes.
    open: Vec<String>,
    /// How many elements are open around the fields of the current item; none outside of items.
    item_depth: Option<usize>,
    item: Fields,
    channel: Fields,
    capture: Option<Capture>,
    items: Vec<Item>,
}

/// Reads at most `limit` items.
pub(crate) fn read(body: &str, url: &str, limit: usize) -> Result<Feed, Failure> {
    let mut reader = Reader::from_str(body);
    reader.config_mut().check_end_names = false;
    reader.config_mut().allow_unmatched_ends = true;
    reader.config_mut().allow_dangling_amp = true;
    let mut walk = Walk {
        base: url.to_owned(),
        format: None,
        open: Vec::new(),
        item_depth: None,
        item: Fields::default(),
        channel: Fields::default(),
        capture: None,
        items: Vec::new(),
    };
    while walk.items.len() < limit {
        let event = reader.read_event().map_err(|error| not_a_feed(&format!("its XML is broken ({error})")))?;
        match event {
            Event::Start(element) => walk.start(&element)?,
            Event::Empty(element) => {
                walk.start(&element)?;
                walk.end();
            }
            Event::End(_) => walk.end(),
            Event::Text(text) => walk.text(&text),
            Event::CData(text) => walk.text(&text),
            Event::GeneralRef(name) => walk.text(&text::entity(&name).unwrap_or_else(|| format!("&{};", &*name))),
            Event::Eof => break,
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
    walk.finish()
}

impl Walk {
    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), Failure> {
        let qualified = element.name();
        let (prefix, name) = qualified.as_ref().split_once(':').unwrap_or(("", qualified.as_ref()));
        if self.open.is_empty() {
            self.root(name, element)?;
        }
        self.open.push(name.to_owned());
        if self.open.len() > MAX_DEPTH {
            return Err(not_a_feed("its elements are nested too deeply"));
        }
        if let Some(capture) = &mut self.capture {
            // Markup inside a field separates words.
            push_bounded(&mut capture.text, " ");
        } else if self.item_depth.is_none() && matches!(name, "item" | "entry") {
            self.item_depth = Some(self.open.len());
            self.item = Fields::default();
        } else if self.is_field_here() {
            self.field(prefix, name, element);
        }
        Ok(())
    }

    fn root(&mut self, name: &str, element: &BytesStart<'_>) -> Result<(), Failure> {
        self.format = Some(match name {
            "rss" | "RDF" => "rss",
            "feed" => "atom",
            "html" => return Err(not_a_feed("it is a web page; use the address of its feed")),
            _ => return Err(not_a_feed("its XML is of another kind")),
        });
        if let Some(base) = attribute(element, "xml:base").and_then(|base| link::resolve(&self.base, &base)) {
            self.base = base;
        }
        Ok(())
    }

    /// Whether the element just opened is a direct child of the current item, or of the feed itself. So the title of an
    /// image or of an item's source is not taken for the feed's or the item's.
    fn is_field_here(&self) -> bool {
        let parent = self.open.iter().rev().nth(1).map(String::as_str);
        match self.item_depth {
            Some(depth) => self.open.len() == depth + 1,
            None => matches!(parent, Some("channel" | "feed")),
        }
    }

    fn field(&mut self, prefix: &str, name: &str, element: &BytesStart<'_>) {
        let field = match (prefix, name) {
            ("dc", "date") => Field::Published,
            ("content", "encoded") => Field::Content,
            ("" | "atom" | "rss", name) => match name {
                "title" => Field::Title,
                "link" => Field::Link,
                "guid" | "id" => Field::Id,
                "pubDate" | "published" => Field::Published,
                "updated" => Field::Updated,
                "description" | "summary" => Field::Summary,
                "content" => Field::Content,
                _ => return,
            },
            _ => return,
        };
        if field == Field::Link
            && let Some(target) = attribute(element, "href")
        {
            // Atom: the page is the link without a relation, or with this one.
            if attribute(element, "rel").is_none_or(|relation| relation == "alternate") {
                self.fields().set(Field::Link, target);
            }
            return;
        }
        self.capture = Some(Capture { field, depth: self.open.len(), text: String::new() });
    }

    fn fields(&mut self) -> &mut Fields {
        if self.item_depth.is_some() { &mut self.item } else { &mut self.channel }
    }

    fn text(&mut self, text: &str) {
        if let Some(capture) = &mut self.capture {
            push_bounded(&mut capture.text, text);
        }
    }

    fn end(&mut self) {
        let depth = self.open.len();
        if let Some(capture) = self.capture.take_if(|capture| capture.depth == depth) {
            self.fields().set(capture.field, capture.text);
        }
        if self.item_depth == Some(depth) {
            self.item_depth = None;
            let item = std::mem::take(&mut self.item).finish(&self.base);
            self.items.extend((!item.id.is_empty()).then_some(item));
        }
        self.open.pop();
    }

    fn finish(self) -> Result<Feed, Failure> {
        let format = self.format.ok_or_else(|| not_a_feed("its XML is empty"))?;
        Ok(Feed {
            format,
            title: feed::title(self.channel.raw.title),
            link: self.channel.raw.link.and_then(|link| link::resolve(&self.base, &link)),
            items: self.items,
        })
    }
}

fn push_bounded(text: &mut String, more: &str) {
    let room = MAX_FIELD_BYTES.saturating_sub(text.len());
    text.push_str(more.get(..more.floor_char_boundary(room)).unwrap_or_default());
}

/// The value of an attribute, with its characters decoded.
fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.attributes().with_checks(false).flatten().find(|attribute| attribute.key.as_ref() == name)?;
    let mut value = String::new();
    let mut rest: &str = &found.value;
    while let Some((before, after)) = rest.split_once('&') {
        value.push_str(before);
        rest = match text::leading_entity(after) {
            Some((text, after)) => {
                value.push_str(&text);
                after
            }
            None => {
                value.push('&');
                after
            }
        };
    }
    value.push_str(rest);
    Some(value)
}
