//! Anthropic: the Messages API, in both of its versions.
//!
//! A key goes into `x-api-key`. A token of a login goes out as plain OAuth, with the beta header that it needs and without
//! pretending to be any other program; a server that wants more refuses it, and says so. Sampling parameters and forced
//! tools are never sent, as current models refuse them.
//!
//! Blocks that only Anthropic understands, thinking first of all, are kept as the text they came as and go back as that
//! text. Citations of text blocks are not kept: they come with documents and with tools of Anthropic's own, and neither is
//! ever sent.

mod events;
mod models;
mod request;

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use async_trait::async_trait;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use leanclaw_egress::Deadline;
use leanclaw_types::Failure;
use leanclaw_types::model::ModelCall;
use serde::Deserialize;
use url::Url;

use crate::answer;
use crate::client::{Ask, Client, Means, below};
use crate::sse::SseLimits;
use crate::{ModelInfo, ModelStream, Provider};
use events::Events;
use models::{Page, Shape};

/// The id of this provider.
pub const ID: &str = "anthropic";
/// The beta that a token of a login needs.
const OAUTH_BETA: &str = "oauth-2025-04-20";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BETA: HeaderName = HeaderName::from_static("anthropic-beta");
const VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// The most pages of a list of models that are read.
const MAX_PAGES: usize = 20;

/// A version of the interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ApiVersion {
    /// `2023-06-01`.
    V20230601,
    /// `2026-10-21`.
    #[default]
    V20261021,
}

impl ApiVersion {
    /// As the server calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::V20230601 => "2023-06-01",
            Self::V20261021 => "2026-10-21",
        }
    }
}

/// How Anthropic is asked.
#[derive(Debug, Clone)]
pub struct AnthropicSettings {
    /// Where it is; a path before `/v1` is kept.
    pub base_url: Url,
    /// The setting that names it, for hints.
    pub base_url_setting: &'static str,
    /// Which version of the interface.
    pub version: ApiVersion,
    /// Betas to ask for with every request.
    pub betas: Vec<String>,
    /// How much of a stream may be held at once.
    pub stream_limits: SseLimits,
}

/// Anthropic as a provider.
#[derive(Debug)]
pub struct Anthropic {
    client: Client,
    settings: AnthropicSettings,
    headers: HeaderMap,
    token_headers: HeaderMap,
    /// What is known of the models' ways to think, from the last list.
    shapes: RwLock<HashMap<String, Shape>>,
}

#[derive(Deserialize)]
struct Counted {
    input_tokens: u64,
}

impl Anthropic {
    /// Anthropic, reached by `means`.
    ///
    /// # Errors
    /// When a beta is not something that a header can carry.
    pub fn new(settings: AnthropicSettings, means: Means) -> Result<Self, Failure> {
        let about = (ID, "Anthropic", settings.base_url_setting);
        let client = Client::new(means, about, Some(API_KEY), "request-id");
        let mut headers = HeaderMap::new();
        headers.insert(VERSION, HeaderValue::from_static(settings.version.name()));
        let list = |betas: &[&str]| {
            HeaderValue::from_str(&betas.join(","))
                .map_err(|_| Failure::invalid("A name of a beta holds characters that no header can carry."))
        };
        let mut betas: Vec<&str> = settings.betas.iter().map(String::as_str).collect();
        if !betas.is_empty() {
            headers.insert(BETA, list(&betas)?);
        }
        if !betas.contains(&OAUTH_BETA) {
            betas.push(OAUTH_BETA);
        }
        let token_headers = HeaderMap::from_iter([(BETA, list(&betas)?)]);
        Ok(Self { client, settings, headers, token_headers, shapes: RwLock::default() })
    }

    fn ask(&self, url: Url, body: Option<Vec<u8>>) -> Ask {
        Ask { token_headers: self.token_headers.clone(), ..Ask::new(url, body, self.headers.clone()) }
    }

    fn url(&self, path: &str) -> Url {
        below(&self.settings.base_url, path)
    }

    fn shape(&self, model: &str) -> Option<Shape> {
        self.shapes.read().unwrap_or_else(PoisonError::into_inner).get(model).copied()
    }
}

#[async_trait]
impl Provider for Anthropic {
    fn id(&self) -> &str {
        ID
    }

    async fn models(&self, deadline: Deadline) -> Result<Vec<ModelInfo>, Failure> {
        let mut infos = Vec::new();
        let mut shapes = HashMap::new();
        let mut after: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut url = self.url("/v1/models");
            url.query_pairs_mut().append_pair("limit", "1000");
            if let Some(id) = &after {
                url.query_pairs_mut().append_pair("after_id", id);
            }
            let page: Page = self.client.fetch(&self.ask(url, None), deadline).await?;
            let (has_more, last) = (page.has_more.unwrap_or(false), page.last());
            for model in page.data {
                if let Some(shape) = model.shape() {
                    shapes.insert(model.id.clone(), shape);
                }
                infos.push(model.info());
            }
            // A server that names the same place again would be asked for ever.
            if !has_more || last.is_none() || last == after {
                break;
            }
            after = last;
        }
        *self.shapes.write().unwrap_or_else(PoisonError::into_inner) = shapes;
        Ok(infos)
    }

    async fn count_tokens(&self, call: &ModelCall, deadline: Deadline) -> Result<u64, Failure> {
        let body = request::count_body(call, self.shape(&call.model))?;
        let ask = self.ask(self.url("/v1/messages/count_tokens"), Some(body));
        self.client.fetch(&ask, deadline).await.map(|counted: Counted| counted.input_tokens)
    }

    async fn stream(&self, call: &ModelCall, deadline: Deadline) -> Result<ModelStream, Failure> {
        let body = request::message_body(call, self.shape(&call.model))?;
        let ask = self.ask(self.url("/v1/messages"), Some(body));
        let limits = self.settings.stream_limits;
        let read = move |accepted| -> futures_util::future::BoxFuture<'static, _> {
            Box::pin(answer::open(accepted, Events::default(), limits))
        };
        self.client.call(&ask, deadline, &read).await
    }
}
