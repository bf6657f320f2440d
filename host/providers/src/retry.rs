//! When to ask again, and how long to wait before.
//!
//! A server that says when is obeyed, within [`RetryPolicy::longest_wait`]; a longer wait is for the caller to decide on,
//! so it comes back as a failure with `retry_after_ms`. Without a word of the server the pauses double. Who calls this has
//! made sure that nothing of the answer has been seen yet.

use std::time::Duration;

use http::HeaderMap;
use leanclaw_egress::Deadline;
use leanclaw_types::Failure;

use crate::problem::Problem;

/// How often and how patiently a call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries after the first. Default 4.
    pub retries: u32,
    /// The first pause. Each further one is twice as long. Default 500 ms, and four times that where a server is overloaded.
    pub first_pause: Duration,
    /// The longest of these pauses. Default 20 s.
    pub longest_pause: Duration,
    /// The longest wait a server may ask for. Default 60 s.
    pub longest_wait: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            retries: 4,
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(20),
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// Whether asking again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// It would end in the same way.
    No,
    /// After a pause.
    Soon,
    /// After a long pause: the server is overloaded.
    Later,
    /// When the server said.
    After(Duration),
}

impl RetryPolicy {
    /// The pause before try number `retry` (from 0), without the word of a server: doubling, at most a quarter shorter by
    /// chance, so that clients that failed together do not come back together.
    fn pause_before(&self, retry: u32, overloaded: bool) -> Duration {
        let first = if overloaded { self.first_pause.saturating_mul(4) } else { self.first_pause };
        let doubled = first.saturating_mul(2_u32.saturating_pow(retry));
        doubled.min(self.longest_pause).mul_f64(rand::random_range(0.75..=1.0))
    }

    /// Waits before try number `retry` (from 0), where there is to be one.
    ///
    /// # Errors
    /// The failure of `problem`, where there is not.
    pub(crate) async fn wait(&self, retry: u32, problem: Problem, deadline: Deadline) -> Result<(), Failure> {
        let Problem { mut failure, retry: verdict, .. } = problem;
        let (wait, longest) = match verdict {
            Retry::No => return Err(failure),
            Retry::Soon => (self.pause_before(retry, false), self.longest_pause),
            Retry::Later => (self.pause_before(retry, true), self.longest_pause),
            Retry::After(wait) => (wait, self.longest_wait),
        };
        if matches!(verdict, Retry::After(_)) {
            failure = failure.retry_after(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        if retry >= self.retries || wait > longest || wait >= deadline.remaining() {
            return Err(failure);
        }
        tracing::debug!(
            code = failure.code,
            message = failure.message,
            retry = retry + 1,
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "a model call is tried again"
        );
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// How long the server wants to be left alone: `retry-after-ms`, or `retry-after` in seconds or as a date, which is held
/// against `now_ms` (milliseconds since the Unix epoch). What is none of these counts as unsaid.
pub(crate) fn wanted_wait(headers: &HeaderMap, now_ms: u64) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let seconds = |number: f64| Duration::try_from_secs_f64(number.max(0.0)).unwrap_or(Duration::MAX);
    if let Some(milliseconds) = text("retry-after-ms").and_then(number) {
        return Some(seconds(milliseconds / 1000.0));
    }
    let after = text("retry-after")?;
    if let Some(number) = number(after) {
        return Some(seconds(number));
    }
    let date = jiff::fmt::rfc2822::parse(after).ok()?;
    let date_ms = u64::try_from(date.timestamp().as_millisecond()).unwrap_or(0);
    Some(Duration::from_millis(date_ms.saturating_sub(now_ms)))
}

/// What the server itself thinks of asking again.
pub(crate) fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.as_bytes() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use tokio::time::Instant;

    use super::*;

    fn problem(retry: Retry) -> Problem {
        Problem { failure: Failure::unavailable("no"), retry, unauthorised: false }
    }

    async fn waited(retry: u32, verdict: Retry, seconds_left: u64) -> Result<Duration, Failure> {
        let begun = Instant::now();
        let deadline = Deadline::after(Duration::from_secs(seconds_left));
        RetryPolicy::default().wait(retry, problem(verdict), deadline).await.map(|()| begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_a_bound_with_some_chance_in_them() {
        for (retry, verdict, full_ms) in [
            (0, Retry::Soon, 500),
            (1, Retry::Soon, 1000),
            (3, Retry::Soon, 4000),
            (0, Retry::Later, 2000),
            (3, Retry::Later, 16_000),
        ] {
            let waited_ms = waited(retry, verdict, 1000).await.unwrap().as_millis();
            assert!((full_ms * 3 / 4..=full_ms + 1).contains(&waited_ms), "{retry} {verdict:?}: {waited_ms}");
        }
        assert!(RetryPolicy::default().pause_before(40, true) <= Duration::from_secs(20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_says_when_is_obeyed_within_bounds() {
        let waited_2 = waited(0, Retry::After(Duration::from_secs(2)), 1000).await.unwrap();
        assert!((2000..=2001).contains(&waited_2.as_millis()), "{waited_2:?}");
        let begun = Instant::now();
        let failure = waited(0, Retry::After(Duration::from_secs(3600)), 10_000).await.unwrap_err();
        assert_eq!((failure.retry_after_ms, failure.retryable), (Some(3_600_000), true));
        let failure = waited(0, Retry::After(Duration::from_secs(30)), 20).await.unwrap_err();
        assert_eq!(failure.retry_after_ms, Some(30_000), "the caller's time would be over");
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_tries_are_counted() {
        assert!(waited(3, Retry::Soon, 1000).await.is_ok());
        assert!(waited(4, Retry::Soon, 1000).await.is_err());
        assert!(waited(0, Retry::No, 1000).await.is_err());
    }

    #[test]
    fn every_form_of_a_wait_is_read() {
        let wait = |pairs: &[(&'static str, &'static str)]| {
            let pairs = pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value)));
            wanted_wait(&pairs.collect(), 1_795_464_000_000)
        };
        let milliseconds = |number| Some(Duration::from_millis(number));
        assert_eq!(wait(&[("retry-after", "2")]), milliseconds(2000));
        assert_eq!(wait(&[("retry-after", "0.5")]), milliseconds(500));
        assert_eq!(wait(&[("retry-after", "-1")]), milliseconds(0));
        assert_eq!(wait(&[("retry-after", "9"), ("retry-after-ms", "15")]), milliseconds(15));
        assert_eq!(wait(&[("retry-after", "Mon, 23 Nov 2026 20:00:07 GMT")]), milliseconds(7000));
        assert_eq!(wait(&[("retry-after", "Mon, 23 Nov 2020 20:00:07 GMT")]), milliseconds(0));
        assert_eq!(wait(&[("retry-after", "1e300")]), Some(Duration::MAX));
        assert_eq!(wait(&[("retry-after", "soon")]), None);
        assert_eq!(wait(&[("retry-after", "inf"), ("retry-after-ms", "NaN")]), None);
        assert_eq!(wait(&[]), None);
    }
}
