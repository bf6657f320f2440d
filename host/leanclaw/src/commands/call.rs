//! `leanclaw call METHOD [JSON]`: one gateway request.

use std::io::Read as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;
use leanclaw_types::redact::Secret;
use serde_json::Value;

use super::{block_on, configure};
use crate::client::{GatewayClient, Target};
use crate::config::{Config, Flags};
use crate::locate::{self, Named, Place};
use crate::output;
use crate::report::Advice;

/// Largest parameters that are read from standard input; a gateway takes no larger frame.
const MAX_PARAMS_BYTES: u64 = 25 * 1024 * 1024;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The method, such as `health` or `notes.add`
    method: String,
    /// Its parameters as JSON; `-` reads them from standard input
    params: Option<String>,
    /// Address of the gateway instead of the configured one
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Token instead of LEANCLAW_GATEWAY_API_KEY (other users of this machine can see it while the command runs)
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Milliseconds to wait for the connection, and again for the response
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000))]
    timeout: u64,
    /// Accepted as everywhere else: the result is JSON with it and without it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    let params = arguments.params.as_deref().map(read_params).transpose()?;
    let named = Named::by(&flags);
    let config = configure(flags)?;
    let target = target(&config, named, arguments.url.as_deref(), arguments.token)?;
    let payload = block_on(async {
        let mut client = GatewayClient::connect(&target, Duration::from_millis(arguments.timeout)).await?;
        let payload = client.request(&arguments.method, params).await?;
        client.close().await;
        Ok(payload)
    })?;
    output::json(&payload)
}

/// The gateway to call, with the token to show.
fn target(config: &Config, named: Named, url: Option<&str>, token: Option<String>) -> Result<Target> {
    let target = match url {
        Some(url) => Target::named(config, url)?,
        None => match locate::find(config, named)? {
            Place::Running(target, _) | Place::Perhaps(target) => target,
            Place::Stored => Target::configured(config)?,
        },
    };
    Ok(match token.filter(|token| !token.is_empty()) {
        Some(token) => target.with_token(Secret::new(token), "--token"),
        None => target,
    })
}

fn read_params(given: &str) -> Result<Value> {
    let (text, place) = if given == "-" {
        let mut text = String::new();
        let mut input = std::io::stdin().lock().take(MAX_PARAMS_BYTES + 1);
        input.read_to_string(&mut text).context("the parameters cannot be read from standard input")?;
        (text, "standard input")
    } else {
        (given.to_owned(), "the command line")
    };
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_PARAMS_BYTES) {
        return Err(Advice::new(format!("the parameters are larger than {MAX_PARAMS_BYTES} bytes")).into());
    }
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("the parameters from {place} are not JSON: {error}");
        Advice::new(message).hint(r#"quote them for the shell: leanclaw call notes.add '{"text": "milk"}'"#).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_that_are_not_json_are_refused_with_an_example() {
        assert_eq!(read_params(r#"{"a": [1]}"#).unwrap()["a"][0], 1);
        let error = read_params("{text: milk}").unwrap_err();
        let report = crate::report::Report::of(&error);
        assert!(report.message.contains("line 1 column 2"), "{report:?}");
        assert!(report.hints[0].contains("leanclaw call"), "{report:?}");
    }
}
