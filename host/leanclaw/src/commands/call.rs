//! `leanclaw call METHOD [JSON]`: one gateway request.

use std::io::Read as _;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::Value;

use super::block_on;
use super::gateway::Which;
use crate::config::Flags;
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
    #[command(flatten)]
    gateway: Which,
    /// Accepted as everywhere else: the result is JSON with it and without it
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(flags: Flags, arguments: Arguments) -> Result<()> {
    let params = arguments.params.as_deref().map(read_params).transpose()?;
    let gateway = arguments.gateway.find(flags)?;
    let payload = block_on(async {
        let mut client = gateway.connect().await?;
        let payload = client.request(&arguments.method, params).await?;
        client.close().await;
        Ok(payload)
    })?;
    output::json(&payload)
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
