//! Which models there are, and which one a run uses. Providers are made here from the configuration, each with a way out of its
//! own that leads to its host alone.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use leanclaw_egress::{Deadline, Egress, NoSecrets};
use leanclaw_providers::anthropic::{self, Anthropic, AnthropicSettings, ApiVersion};
use leanclaw_providers::openai::{LOCAL_ID, OpenAi, OpenAiSettings};
use leanclaw_providers::sse::SseLimits;
use leanclaw_providers::{
    Credential, FixedCredential, Means, ModelInfo, Provider, RetryPolicy, Timeouts, egress_policy,
};
use leanclaw_types::Failure;
use leanclaw_types::clock::Clock;
use leanclaw_types::failure::code;
use leanclaw_types::run::RunModel;
use serde_json::{Map, Value};

use crate::config::{AgentsConfig, AnthropicConfig, LocalConfig, variables};

/// How long a provider may take to list its models.
const LISTING: Duration = Duration::from_secs(20);

/// The providers, and the models they say they have.
pub(super) struct Models {
    providers: Vec<Arc<dyn Provider>>,
    /// The model that an admin chose: `model` or `provider/model`.
    chosen: Option<String>,
    known: RwLock<Vec<Known>>,
    /// Held while the providers are asked, so that a burst of runs asks once.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Known {
    provider: String,
    info: ModelInfo,
}

/// The model of a run.
#[derive(Clone)]
pub(super) struct Choice {
    pub(super) provider: Arc<dyn Provider>,
    /// As its provider names it.
    pub(super) model: String,
    pub(super) max_output_tokens: Option<u64>,
}

impl Models {
    /// The providers that are configured.
    ///
    /// # Errors
    /// One cannot be made of what is configured.
    pub(super) fn new(config: &AgentsConfig, egress: &Egress, clock: &Arc<dyn Clock>) -> Result<Self, Failure> {
        let anthropic = config.anthropic.as_ref().map(|own| anthropic(own, egress, clock)).transpose()?;
        let local = config.local.as_ref().map(|own| local(own, egress, clock)).transpose()?;
        let of_local = || config.local.as_ref()?.model.as_ref().map(|model| format!("{LOCAL_ID}/{model}"));
        // A model of the local server is meant for where no other is named.
        let chosen = config.model.clone().or_else(|| of_local().filter(|_| anthropic.is_none()));
        Ok(Self::of(anthropic.into_iter().chain(local).collect(), chosen))
    }

    /// These providers, and the model that is used where no session names one.
    pub(super) fn of(providers: Vec<Arc<dyn Provider>>, chosen: Option<String>) -> Self {
        Self { providers, chosen, known: RwLock::default(), asking: tokio::sync::Mutex::default() }
    }

    /// Whether anybody can be asked anything.
    pub(super) fn has_provider(&self) -> bool {
        !self.providers.is_empty()
    }

    fn known(&self) -> Vec<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the providers what models they have, unless that is known. What one does not say is said in the log. Whoever comes
    /// while they are asked waits for that, and asks anew only when nothing came of it.
    pub(super) async fn look(&self) {
        let _asking = self.asking.lock().await;
        if !self.known().is_empty() {
            return;
        }
        for provider in &self.providers {
            let id = provider.id().to_owned();
            match provider.models(Deadline::after(LISTING)).await {
                Ok(models) => {
                    tracing::debug!(provider = id, models = models.len(), "models");
                    let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                    known.retain(|other| other.provider != id);
                    known.extend(models.into_iter().map(|info| Known { provider: id.clone(), info }));
                }
                Err(failure) => {
                    let hints = failure.hints.join("; ");
                    tracing::warn!(
                        provider = id,
                        code = failure.code,
                        hints,
                        "models are not known: {}",
                        failure.message
                    );
                }
            }
        }
    }

    /// The models that runs can use, as far as they are known. The one that an admin chose is among them although its provider
    /// may not have said so yet.
    pub(super) fn list(&self) -> Vec<RunModel> {
        let known = self.known();
        let default = self.default(&known);
        let shown = |known: &Known| RunModel {
            provider: known.provider.clone(),
            id: known.info.id.clone(),
            name: known.info.name.clone(),
            context_tokens: known.info.context_tokens,
            takes_images: known.info.takes_images,
            is_default: default
                .as_ref()
                .is_some_and(|(provider, model)| *provider == known.provider && *model == known.info.id),
        };
        let mut list: Vec<RunModel> = known.iter().map(shown).collect();
        if let Some((provider, model)) = default.filter(|_| !list.iter().any(|model| model.is_default)) {
            let name = model.clone();
            let chosen =
                RunModel { provider, id: model, name, context_tokens: None, takes_images: None, is_default: true };
            list.insert(0, chosen);
        }
        list
    }

    /// What runs use where no session says otherwise: what an admin chose, else the first that the first provider lists, which
    /// is its newest.
    fn default(&self, known: &[Known]) -> Option<(String, String)> {
        match &self.chosen {
            Some(chosen) => self.named(chosen, None),
            None => {
                let first = self.providers.first()?.id();
                let known = known.iter().find(|known| known.provider == first)?;
                Some((known.provider.clone(), known.info.id.clone()))
            }
        }
    }

    /// The provider and the model of a name such as `claude-x` or `anthropic/claude-x`; none without a provider.
    fn named(&self, name: &str, provider: Option<&str>) -> Option<(String, String)> {
        let is_known = |id: &str| self.providers.iter().any(|provider| provider.id() == id);
        if let Some((before, rest)) = name.split_once('/')
            && is_known(before)
        {
            return Some((before.to_owned(), rest.to_owned()));
        }
        let first = provider.filter(|id| is_known(id)).or_else(|| self.providers.first().map(|provider| provider.id()));
        first.map(|id| (id.to_owned(), name.to_owned()))
    }

    /// The model of a run in a session with that entry.
    ///
    /// # Errors
    /// There is no provider, or no model is known.
    pub(super) async fn choose(&self, entry: &Map<String, Value>) -> Result<Choice, Failure> {
        if self.providers.is_empty() {
            return Err(nothing_configured());
        }
        let of_session = |name: &str| entry.get(name).and_then(Value::as_str);
        let own = of_session("modelOverride");
        if own.is_none() && self.chosen.is_none() && self.known().is_empty() {
            self.look().await;
        }
        let known = self.known();
        let named = match own {
            Some(model) => self.named(model, of_session("providerOverride")),
            None => self.default(&known),
        };
        let (id, model) = named.ok_or_else(no_model)?;
        let provider = self.providers.iter().find(|provider| provider.id() == id).ok_or_else(no_model)?;
        let info = known.iter().find(|known| known.provider == id && known.info.id == model).map(|known| &known.info);
        Ok(Choice {
            provider: Arc::clone(provider),
            model,
            max_output_tokens: info.and_then(|info| info.max_output_tokens),
        })
    }
}

fn nothing_configured() -> Failure {
    let local = variables::LOCAL_LLM_BASE_URL.name;
    Failure::new(code::AUTH_REQUIRED, "No provider of models is configured.")
        .hint(format!("set {} to a key and start LeanClaw again", variables::ANTHROPIC_API_KEY.name))
        .hint(format!("or set {local} to the address of a server that speaks OpenAI's format"))
}

fn no_model() -> Failure {
    Failure::unavailable("No model is known: the provider did not list any.")
        .hint(format!("name one with {}", variables::MODEL.name))
        .hint("the log says what the provider answered: leanclaw logs")
}

fn anthropic(config: &AnthropicConfig, egress: &Egress, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Provider>, Failure> {
    // Whoever names a server on this machine means it.
    let policy = egress_policy(anthropic::ID, &config.base_url, true);
    let credential = Credential::Key(config.api_key.clone());
    let means = Means {
        egress: egress.open(policy, Arc::new(NoSecrets)),
        credentials: Arc::new(FixedCredential::new(variables::ANTHROPIC_API_KEY.name, credential)),
        clock: Arc::clone(clock),
        retry: RetryPolicy::default(),
        timeouts: Timeouts::default(),
    };
    let settings = AnthropicSettings {
        base_url: config.base_url.clone(),
        base_url_setting: variables::ANTHROPIC_BASE_URL.name,
        version: ApiVersion::default(),
        betas: Vec::new(),
        stream_limits: SseLimits::default(),
    };
    Ok(Arc::new(Anthropic::new(settings, means)?))
}

fn local(config: &LocalConfig, egress: &Egress, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Provider>, Failure> {
    let policy = egress_policy(LOCAL_ID, &config.base_url, true);
    let credential = config.api_key.clone().map_or(Credential::None, Credential::Key);
    let means = Means {
        egress: egress.open(policy, Arc::new(NoSecrets)),
        credentials: Arc::new(FixedCredential::new(variables::LOCAL_LLM_API_KEY.name, credential)),
        clock: Arc::clone(clock),
        retry: RetryPolicy::default(),
        timeouts: Timeouts::default(),
    };
    let settings = OpenAiSettings::new(config.base_url.clone(), variables::LOCAL_LLM_BASE_URL.name);
    Ok(Arc::new(OpenAi::new(settings, means)?))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use leanclaw_providers::ModelStream;
    use leanclaw_types::model::ModelCall;
    use serde_json::json;

    use super::*;

    struct Lists(&'static str, &'static [&'static str]);

    #[async_trait]
    impl Provider for Lists {
        fn id(&self) -> &str {
            self.0
        }

        async fn models(&self, _: Deadline) -> Result<Vec<ModelInfo>, Failure> {
            let info = |id: &&str| ModelInfo {
                id: (*id).to_owned(),
                name: id.to_uppercase(),
                context_tokens: Some(7),
                max_output_tokens: Some(5),
                takes_images: None,
                retires_at: None,
            };
            if self.1.is_empty() { Err(Failure::unavailable("no")) } else { Ok(self.1.iter().map(info).collect()) }
        }

        async fn count_tokens(&self, _: &ModelCall, _: Deadline) -> Result<u64, Failure> {
            Ok(0)
        }

        async fn stream(&self, _: &ModelCall, _: Deadline) -> Result<ModelStream, Failure> {
            Err(Failure::unavailable("no"))
        }
    }

    fn models(chosen: Option<&str>) -> Models {
        Models::of(vec![Arc::new(Lists("a", &["m1", "m2"])), Arc::new(Lists("b", &["m3"]))], chosen.map(str::to_owned))
    }

    async fn chosen(models: &Models, entry: Value) -> String {
        let choice = models.choose(entry.as_object().unwrap()).await.unwrap();
        format!("{}/{}", choice.provider.id(), choice.model)
    }

    #[tokio::test]
    async fn a_session_goes_before_the_admin_and_the_admin_before_the_list() {
        let session = json!({"modelOverride": "m9", "providerOverride": "b"});
        assert_eq!(chosen(&models(None), json!({})).await, "a/m1");
        assert_eq!(chosen(&models(Some("b/m3")), json!({})).await, "b/m3");
        assert_eq!(chosen(&models(Some("m2")), json!({})).await, "a/m2");
        assert_eq!(chosen(&models(Some("m2")), session).await, "b/m9");
        // A slash may belong to the name of a model.
        assert_eq!(chosen(&models(Some("org/m2")), json!({})).await, "a/org/m2");
    }

    #[tokio::test]
    async fn the_default_is_listed_before_and_after_its_provider_was_asked() {
        let models = models(Some("b/m3"));
        let named =
            |list: Vec<RunModel>| list.into_iter().map(|model| (model.id, model.is_default)).collect::<Vec<_>>();
        assert_eq!(named(models.list()), [("m3".to_owned(), true)]);
        models.look().await;
        let expected = [("m1", false), ("m2", false), ("m3", true)].map(|(id, is)| (id.to_owned(), is));
        assert_eq!(named(models.list()), expected);
    }

    #[tokio::test]
    async fn what_is_missing_is_said() {
        let none = Models::of(Vec::new(), None);
        let failure = none.choose(&Map::new()).await.err().unwrap();
        assert!(failure.hints[0].contains("LEANCLAW_ANTHROPIC_API_KEY"), "{failure:?}");
        let silent = Models::of(vec![Arc::new(Lists("a", &[]))], None);
        let failure = silent.choose(&Map::new()).await.err().unwrap();
        assert!(failure.hints[0].contains("LEANCLAW_MODEL"), "{failure:?}");
        assert!(silent.list().is_empty());
    }
}
