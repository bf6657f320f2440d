//! Bodies on their way out and in: counted, capped, watched and scrubbed as they flow; never collected here.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

use crate::deadline::{OVERALL, Timetable};
use crate::error::{EgressError, describe};
use crate::inject::{OPENING, Rules, placeholder_name};
use crate::limit::Place;
use crate::observe::Flight;
use crate::scrub::{Scrubber, StreamScrubber};

/// Any error of a body that a caller streams in.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request: nothing, bytes, or a stream.
pub struct RequestBody(UnsyncBoxBody<Bytes, BoxError>);

impl std::fmt::Debug for RequestBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("RequestBody").field(&self.0.size_hint()).finish()
    }
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(Empty::new().map_err(|never| match never {}).boxed_unsync())
    }

    /// These bytes.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync())
    }

    /// A stream; trailers are left out. When its size hint is exact, the request says so, otherwise it is sent in
    /// chunks.
    #[must_use]
    pub fn stream<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(body.map_err(Into::into).boxed_unsync())
    }

    /// The number of bytes, where it is known.
    pub(crate) fn exact_bytes(&self) -> Option<u64> {
        self.0.size_hint().exact()
    }
}

/// What went wrong with a request body while it was sent.
#[derive(Debug)]
pub(crate) enum BodyProblem {
    TooLarge,
    WrongLength,
    Misplaced(String),
    Source,
}

impl BodyProblem {
    pub(crate) fn to_error(&self, rules: Rules<'_>) -> EgressError {
        match self {
            Self::TooLarge => request_too_large(rules.policy.limits.request_bytes),
            Self::WrongLength => {
                EgressError::InvalidRequest { detail: "the body is not as long as its content-length says".into() }
            }
            Self::Misplaced(name) => rules.misplaced(name, "the body"),
            Self::Source => EgressError::InvalidRequest { detail: "the stream of its body failed".into() },
        }
    }
}

pub(crate) fn request_too_large(limit_bytes: u64) -> EgressError {
    EgressError::TooLarge { what: "the body of the request", limit_bytes }
}

/// Looks for placeholders of known secrets in a stream of bytes that is passed on unchanged.
pub(crate) struct Watch {
    names: Vec<String>,
    tail: Vec<u8>,
}

impl Watch {
    /// Watches for these secrets.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect(), tail: Vec::new() }
    }

    /// The name of a secret whose placeholder ends in `chunk`.
    pub(crate) fn find(&mut self, chunk: &[u8]) -> Option<String> {
        let longest_name = self.names.iter().map(String::len).max()?;
        self.tail.extend_from_slice(chunk);
        let mut rest = self.tail.as_slice();
        while let Some(start) = rest.windows(OPENING.len()).position(|window| window == OPENING) {
            rest = rest.get(start..).unwrap_or_default();
            if let Some(name) = placeholder_name(rest).filter(|name| self.names.contains(name)) {
                return Some(name);
            }
            rest = rest.get(1..).unwrap_or_default();
        }
        // Enough to complete a placeholder that the next chunk ends.
        let keep = OPENING.len() + longest_name + 1;
        let surplus = self.tail.len().saturating_sub(keep);
        self.tail.drain(..surplus);
        None
    }
}

/// A request body on its way out.
pub(crate) struct OutgoingBody {
    inner: RequestBody,
    limit_bytes: u64,
    /// The length the request declares.
    declared_bytes: Option<u64>,
    sent_bytes: Arc<AtomicU64>,
    watch: Watch,
    problem: Arc<OnceLock<BodyProblem>>,
}

impl OutgoingBody {
    pub(crate) fn new(
        inner: RequestBody,
        declared_bytes: Option<u64>,
        rules: Rules<'_>,
        sent_bytes: Arc<AtomicU64>,
    ) -> Self {
        let declared_bytes = declared_bytes.or(inner.exact_bytes());
        let names = rules.policy.secrets.iter().map(|rule| rule.name.clone());
        Self {
            inner,
            limit_bytes: rules.policy.limits.request_bytes,
            declared_bytes,
            sent_bytes,
            watch: Watch::new(names),
            problem: Arc::default(),
        }
    }

    /// Where a problem is noted, for whoever sees the request fail because of it.
    pub(crate) fn problem(&self) -> Arc<OnceLock<BodyProblem>> {
        Arc::clone(&self.problem)
    }

    fn stop(&self, problem: BodyProblem) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        // Only the first problem counts, and there is no second: the body is not polled again.
        let _ = self.problem.set(problem);
        Poll::Ready(Some(Err("the request body was stopped".into())))
    }
}

impl Body for OutgoingBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner.0).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return self.stop(BodyProblem::Source),
                None => {
                    let sent = self.sent_bytes.load(Ordering::Relaxed);
                    let complete = self.declared_bytes.is_none_or(|declared| declared == sent);
                    return if complete { Poll::Ready(None) } else { self.stop(BodyProblem::WrongLength) };
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let sent = self.sent_bytes.fetch_add(length, Ordering::Relaxed).saturating_add(length);
            if sent > self.limit_bytes {
                return self.stop(BodyProblem::TooLarge);
            }
            if self.declared_bytes.is_some_and(|declared| sent > declared) {
                return self.stop(BodyProblem::WrongLength);
            }
            if let Some(name) = self.watch.find(&data) {
                return self.stop(BodyProblem::Misplaced(name));
            }
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.declared_bytes.is_none_or(|declared| declared == 0) && self.inner.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.declared_bytes {
            Some(declared) => SizeHint::with_exact(declared.saturating_sub(self.sent_bytes.load(Ordering::Relaxed))),
            None => self.inner.0.size_hint(),
        }
    }
}

/// The task that drives a connection; it ends with this value.
pub(crate) struct Driver(pub(crate) JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Everything that lives as long as the response is being read.
struct Open {
    incoming: Incoming,
    end: Pin<Box<Sleep>>,
    between: Pin<Box<Sleep>>,
    _driver: Driver,
    _place: Place,
}

/// The body of a response: a stream of chunks, capped, timed and scrubbed. The connection is closed when the body ends,
/// fails or is dropped.
pub struct ResponseBody {
    open: Option<Open>,
    scrub: StreamScrubber,
    between_bytes: Duration,
    limit_bytes: u64,
    scrubber: Arc<Scrubber>,
    flight: Flight,
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ResponseBody").field("ended", &self.open.is_none()).finish_non_exhaustive()
    }
}

pub(crate) fn response_too_large(limit_bytes: u64) -> EgressError {
    EgressError::TooLarge { what: "the body of the response", limit_bytes }
}

impl ResponseBody {
    pub(crate) fn new(
        incoming: Incoming,
        scrubber: Arc<Scrubber>,
        timetable: &Timetable,
        limit_bytes: u64,
        keep: (Driver, Place, Flight),
    ) -> Self {
        let (driver, place, mut flight) = keep;
        let open = if incoming.is_end_stream() {
            flight.complete();
            None
        } else {
            Some(Open {
                incoming,
                end: Box::pin(tokio::time::sleep_until(timetable.end.instant())),
                between: Box::pin(tokio::time::sleep(timetable.between_bytes)),
                _driver: driver,
                _place: place,
            })
        };
        let scrub = StreamScrubber::new(Arc::clone(&scrubber));
        Self { open, scrub, between_bytes: timetable.between_bytes, limit_bytes, scrubber, flight }
    }

    /// The next chunk; none at the end. Cancel-safe.
    ///
    /// # Errors
    /// When the response is cut off, too large or too slow. Nothing follows an error.
    pub async fn chunk(&mut self) -> Option<Result<Bytes, EgressError>> {
        let frame = self.frame().await?;
        Some(frame.map(|frame| frame.into_data().unwrap_or_default()))
    }

    /// The whole rest.
    ///
    /// # Errors
    /// As [`ResponseBody::chunk`].
    pub async fn bytes(self) -> Result<Bytes, EgressError> {
        Ok(self.collect().await?.to_bytes())
    }

    fn fail(&mut self, error: EgressError) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        self.open = None;
        let error = error.map_detail(|detail| self.scrubber.text(detail));
        self.flight.fail(&error);
        Poll::Ready(Some(Err(error)))
    }

    /// Counts and scrubs a chunk. Gives none when all of it is held back for now.
    fn accept(&mut self, data: Bytes) -> Result<Option<Bytes>, EgressError> {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        self.flight.received_bytes = self.flight.received_bytes.saturating_add(length);
        if self.flight.received_bytes > self.limit_bytes {
            return Err(response_too_large(self.limit_bytes));
        }
        Ok(Some(self.scrub.push(data)).filter(|data| !data.is_empty()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = EgressError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, EgressError>>> {
        let this = &mut *self;
        loop {
            let Some(open) = &mut this.open else { return Poll::Ready(None) };
            // First, so that a server that always has one more byte ready is stopped too.
            if open.end.as_mut().poll(context).is_ready() {
                return this.fail(EgressError::TimedOut { phase: OVERALL });
            }
            match Pin::new(&mut open.incoming).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    // The silence is measured from the last bytes; a duration beyond the clock's reach never ends.
                    if let Some(next) = tokio::time::Instant::now().checked_add(this.between_bytes) {
                        open.between.as_mut().reset(next);
                    }
                    let Ok(data) = frame.into_data() else { continue };
                    match this.accept(data) {
                        Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        Ok(None) => {}
                        Err(error) => return this.fail(error),
                    }
                }
                Poll::Ready(Some(Err(problem))) => {
                    let origin = this.flight.origin().to_owned();
                    let error = if problem.is_canceled() {
                        EgressError::Cancelled
                    } else {
                        EgressError::Protocol { origin, detail: describe(&problem) }
                    };
                    return this.fail(error);
                }
                Poll::Ready(None) => {
                    this.open = None;
                    this.flight.complete();
                    let rest = this.scrub.finish();
                    return Poll::Ready((!rest.is_empty()).then(|| Ok(Frame::data(rest))));
                }
                Poll::Pending if open.between.as_mut().poll(context).is_ready() => {
                    return this.fail(EgressError::TimedOut { phase: "waiting for more of the response" });
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }
}
