//! Who asks: keys, tokens, and renewing them once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use leanclaw_test_fakes::anthropic::{MESSAGES, check, error};
use leanclaw_test_fakes::{Recorded, Reply};
use leanclaw_types::Failure;
use leanclaw_types::failure::code;
use leanclaw_types::redact::Secret;

use super::support::*;
use crate::Credential;

fn token(text: &str) -> Credential {
    Credential::Token(Secret::new(format!("sk-ant-oat01-{text}")))
}

/// Answers who shows the new token, and refuses everybody else.
fn only_new(request: &Recorded) -> Reply {
    match request.header("authorization") {
        Some("Bearer sk-ant-oat01-new") => Reply::sse(hi()),
        _ => error(401, "authentication_error", "OAuth token has expired: sk-ant-oat01-old"),
    }
}

async fn renewing(left: Vec<Result<Option<Credential>, Failure>>) -> (Setup, Arc<Renewed>) {
    let renewed =
        Arc::new(Renewed { left: Mutex::new(left), now: Mutex::new(token("old")), renewals: AtomicUsize::new(0) });
    let setup = setup_with(Options { credentials: renewed.clone(), ..Options::default() }).await;
    setup.server.always("POST", MESSAGES, only_new);
    (setup, renewed)
}

#[tokio::test]
async fn a_token_that_is_refused_is_renewed_and_the_call_replayed() {
    let (setup, renewed) = renewing(vec![Ok(Some(token("new")))]).await;
    assert_eq!(setup.ask().await.text, "Hi");
    let asked = setup.asked();
    assert_eq!((asked.len(), renewed.renewals.load(Ordering::SeqCst)), (2, 1));
    assert_eq!(asked[0].body, asked[1].body);
    assert_eq!(setup.ask().await.text, "Hi");
    assert_eq!(setup.asked().len(), 3, "the new one is shown from then on");
}

#[tokio::test]
async fn a_second_refusal_is_final() {
    let (setup, renewed) = renewing(vec![Ok(Some(token("also-old")))]).await;
    let failure = setup.refusal().await;
    assert_eq!((failure.code.as_str(), failure.retryable), (code::AUTH_REQUIRED, false));
    assert!(failure.hints[0].contains("leanclaw auth anthropic"), "{:?}", failure.hints);
    assert_eq!((setup.asked().len(), renewed.renewals.load(Ordering::SeqCst)), (2, 1));
}

#[tokio::test]
async fn what_comes_of_renewing_is_said() {
    let (setup, _) = renewing(vec![Ok(None), Err(Failure::unavailable("The login server is down."))]).await;
    let failure = setup.refusal().await;
    assert_eq!(failure.code, code::AUTH_REQUIRED);
    assert!(
        failure.message.contains("expired: [redacted]") && !format!("{failure:?}").contains("oat01"),
        "{failure:?}"
    );
    let failure = setup.refusal().await;
    assert_eq!((failure.message.as_str(), failure.retryable), ("The login server is down.", true));
    assert_eq!(setup.asked().len(), 2);
}

#[tokio::test]
async fn twenty_refused_at_once_renew_once() {
    let (setup, renewed) = renewing(vec![Ok(Some(token("new")))]).await;
    let calls = (0..20).map(|_| {
        let provider = Arc::clone(&setup.provider);
        tokio::spawn(async move { tell(&*provider, &hello()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().text, "Hi");
    }
    assert_eq!(renewed.renewals.load(Ordering::SeqCst), 1);
    assert_eq!(setup.asked().len(), 40);
}

#[tokio::test]
async fn twenty_share_a_renewal_that_fails_and_the_next_tries_anew() {
    let (setup, renewed) = renewing(vec![Err(Failure::unavailable("down")), Ok(Some(token("new")))]).await;
    let calls = (0..20).map(|_| {
        let provider = Arc::clone(&setup.provider);
        tokio::spawn(async move { tell(&*provider, &hello()).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().failure().message, "down");
    }
    assert_eq!(renewed.renewals.load(Ordering::SeqCst), 1);
    assert_eq!(setup.ask().await.text, "Hi");
}

#[tokio::test]
async fn a_renewal_goes_on_when_its_caller_goes() {
    let (setup, renewed) = renewing(vec![Ok(Some(token("new")))]).await;
    let provider = Arc::clone(&setup.provider);
    let caller = tokio::spawn(async move { tell(&*provider, &hello()).await });
    assert!(setup.server.until(std::time::Duration::from_secs(5), |asked| asked.iter().any(|one| one.answered)).await);
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    assert_eq!(setup.ask().await.text, "Hi");
    assert_eq!(renewed.renewals.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn each_kind_of_credential_goes_where_it_belongs() {
    for (credential, header, value, beta) in [
        (Credential::Key(Secret::new(KEY)), "x-api-key", KEY.to_owned(), Some("extra-1")),
        (Credential::BearerKey(Secret::new(KEY)), "authorization", format!("Bearer {KEY}"), Some("extra-1")),
        (token("t"), "authorization", "Bearer sk-ant-oat01-t".to_owned(), Some("extra-1,oauth-2025-04-20")),
    ] {
        let options = Options { credentials: fixed(credential), betas: vec!["extra-1".into()], ..Options::default() };
        let setup = setup_with(options).await;
        setup.server.always("POST", MESSAGES, |request| match check(request, &[]) {
            Ok(_) => Reply::sse(hi()),
            Err(refusal) => *refusal,
        });
        assert_eq!(setup.ask().await.text, "Hi");
        let asked = &setup.asked()[0];
        assert_eq!((asked.header(header), asked.header("anthropic-beta")), (Some(value.as_str()), beta));
        let other = if header == "x-api-key" { "authorization" } else { "x-api-key" };
        assert_eq!(asked.header(other), None);
        assert_eq!(asked.header("user-agent"), Some(concat!("leanclaw/", env!("CARGO_PKG_VERSION"))));
        assert!(!format!("{:?} {:?}", setup.provider, setup.server).contains("sk-ant"), "nothing shows it");
    }
}
