//! HTTP(S) with patience: resumed by range, tried again after a pause, and clear about the last error.
//! Nothing a server says is believed; what it sent is judged by its digest elsewhere.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body, Proxy, Timeout};

use super::StoreError;
use super::error::with_causes;
use super::location::is_https;
use super::part::Part;
use super::rate::Rate;
use crate::progress::Progress;

/// So much more than ever before counts as progress, after which a failure is the first one again.
const PROGRESS: u64 = 1 << 20;

/// How long to be patient with networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a connection to be made, name lookup included.
    pub connect: Duration,
    /// For the next byte to come.
    pub stall: Duration,
    /// Tries without progress before giving up on a server.
    pub tries: u32,
    /// Pause before the second try; it doubles with every further one.
    pub first_pause: Duration,
    /// Longest pause, also where the server asks for a longer one.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            tries: 4,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(60),
        }
    }
}

/// What a download may take of the network and of the disk.
#[derive(Debug)]
pub(super) struct Limits {
    pub(super) rate: Rate,
    /// Bytes of the longest file.
    pub(super) longest: u64,
    /// When the store was opened, in seconds since 1970: for servers that say until when to wait, but not what time it is.
    pub(super) now: i64,
}

/// An HTTP client.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    patience: Patience,
    limits: Limits,
    /// Servers that all tries failed to reach; they get a single one from then on.
    silent: Mutex<BTreeSet<String>>,
}

/// A try that failed.
struct Failure {
    error: StoreError,
    again: Again,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    Never,
    /// After the usual pause.
    Soon,
    /// After the pause that the server asked for.
    After(Duration),
}

impl Failure {
    fn last(error: StoreError) -> Self {
        Self { error, again: Again::Never }
    }

    fn soon(error: StoreError) -> Self {
        Self { error, again: Again::Soon }
    }
}

impl Client {
    pub(super) fn new(patience: Patience, proxy: Option<Proxy>, limits: Limits) -> Self {
        let agent = Agent::config_builder()
            .proxy(proxy)
            .http_status_as_error(false)
            .user_agent(concat!("imgbake/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.stall))
            .timeout_recv_response(Some(patience.stall))
            .timeout_per_read(Some(patience.stall))
            .tls_config(ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build())
            .build()
            .new_agent();
        Self { agent, patience, limits, silent: Mutex::default() }
    }

    /// Appends to `part` until it is complete, or the server says that it is. Answers whether the server
    /// called it a web page.
    pub(super) fn download(
        &self,
        url: &str,
        name: &str,
        part: &mut Part,
        progress: &dyn Progress,
    ) -> Result<bool, StoreError> {
        let mut furthest = part.len();
        let mut validator = None;
        self.patiently(url, progress, || {
            let result = self.attempt(url, name, part, &mut validator, progress);
            let moved = part.len() >= furthest + PROGRESS;
            furthest = furthest.max(part.len());
            match result {
                // Cut off after the last byte, or announced longer than it is: complete all the same.
                Err(failure) if failure.again != Again::Never && part.is_complete() => (Ok(false), moved),
                result => (result, moved),
            }
        })
    }

    /// A small file.
    pub(super) fn small(&self, url: &str, limit: u64, progress: &dyn Progress) -> Result<Vec<u8>, StoreError> {
        self.patiently(url, progress, || (self.attempt_small(url, limit), false))
    }

    /// How long the file says it is, without getting it.
    pub(super) fn length(&self, url: &str, progress: &dyn Progress) -> Result<Option<u64>, StoreError> {
        self.patiently(url, progress, || (self.attempt_length(url), false))
    }

    /// Calls `attempt` until it succeeds, fails for good or has failed too often since it last moved.
    fn patiently<T>(
        &self,
        url: &str,
        progress: &dyn Progress,
        mut attempt: impl FnMut() -> (Result<T, Failure>, bool),
    ) -> Result<T, StoreError> {
        let server = url.split('/').nth(2).unwrap_or_default();
        let silent = || self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = if silent().contains(server) { 1 } else { self.patience.tries };
        let mut failures = 0;
        let mut pause = self.patience.first_pause;
        loop {
            let failure = match attempt() {
                (Ok(done), _) => return Ok(done),
                (Err(failure), moved) => {
                    if moved {
                        failures = 0;
                        pause = self.patience.first_pause;
                    }
                    failure
                }
            };
            failures += 1;
            if failure.again == Again::Never {
                return Err(failure.error);
            }
            if failures >= tries {
                if matches!(failure.error, StoreError::Unreachable { .. }) {
                    silent().insert(server.to_owned());
                }
                return Err(failure.error);
            }
            let wait = match failure.again {
                Again::After(wait) => wait.max(pause),
                _ => pause,
            };
            let wait = wait.min(self.patience.longest_pause);
            progress.note(&format!(
                "{}; trying again in {} s (try {} of {tries})",
                with_causes(&failure.error),
                wait.as_secs_f64(),
                failures + 1,
            ));
            thread::sleep(wait);
            pause = pause.saturating_mul(2);
        }
    }

    fn attempt_small(&self, url: &str, limit: u64) -> Result<Vec<u8>, Failure> {
        let mut response = self.request(url, None)?;
        if response.status() != 200 {
            return Err(refused(url, &response, self.limits.now));
        }
        let mut bytes = Vec::new();
        let mut reader = response.body_mut().as_reader().take(limit + 1);
        reader.read_to_end(&mut bytes).map_err(|error| failure(url, error.into()))?;
        if bytes.len() as u64 > limit {
            return Err(Failure::last(StoreError::TooLong { url: url.to_owned(), limit }));
        }
        Ok(bytes)
    }

    fn attempt_length(&self, url: &str) -> Result<Option<u64>, Failure> {
        let request = self.agent.head(url).header(header::ACCEPT_ENCODING, "identity");
        let response =
            request.config().https_only(is_https(url)).build().call().map_err(|error| failure(url, error))?;
        if response.status() != 200 {
            return Err(refused(url, &response, self.limits.now));
        }
        let length = response.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Ok(length.and_then(|text| text.trim().parse().ok()))
    }

    fn attempt(
        &self,
        url: &str,
        name: &str,
        part: &mut Part,
        validator: &mut Option<String>,
        progress: &dyn Progress,
    ) -> Result<bool, Failure> {
        let range = (part.len() > 0).then_some((part.len(), validator.as_deref()));
        let response = self.request(url, range)?;
        let promised = match response.status().as_u16() {
            200 => {
                part.restart().map_err(Failure::last)?;
                response.body().content_length()
            }
            206 if part.len() > 0 => match content_range(response.headers()) {
                Ok((start, total)) if start == part.len() => {
                    part.resume();
                    total.or_else(|| response.body().content_length().and_then(|len| len.checked_add(start)))
                }
                answer => return Err(range_lie(url, part, answer.err())),
            },
            // Nothing is left to send: either it is complete, or what is here belongs to another file.
            416 if part.is_complete() => return Ok(false),
            416 if part.len() > 0 => return Err(range_lie(url, part, Some("416 Range Not Satisfiable".to_owned()))),
            _ => return Err(refused(url, &response, self.limits.now)),
        };
        if promised.is_some_and(|promised| promised > self.limits.longest) {
            return Err(endless(url, part, self.limits.longest));
        }
        *validator = strong_validator(response.headers());
        let web_page = response.body().mime_type() == Some("text/html");
        part.expect(promised);
        progress.begin(name, promised);
        progress.advance(part.len());
        let result = copy_body(url, response, part, promised, &self.limits, progress);
        progress.end();
        result.map(|()| web_page)
    }

    /// Asks for `url`, from a byte on if one is given.
    fn request(&self, url: &str, from: Option<(u64, Option<&str>)>) -> Result<Response<Body>, Failure> {
        // Packed on the way, ranges and digests would speak of other bytes than ours.
        let mut request = self.agent.get(url).header(header::ACCEPT_ENCODING, "identity");
        if let Some((from, validator)) = from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
            if let Some(validator) = validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        // What starts secure stays secure: a redirect to plain HTTP is not followed.
        request.config().https_only(is_https(url)).build().call().map_err(|error| failure(url, error))
    }
}

fn copy_body(
    url: &str,
    mut response: Response<Body>,
    part: &mut Part,
    promised: Option<u64>,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(), Failure> {
    let mut reader = response.body_mut().as_reader();
    let mut buffer = vec![0; limits.rate.piece()];
    let truncated = |part: &Part| {
        promised
            .filter(|promised| part.len() < *promised)
            .map(|promised| Failure::soon(StoreError::Truncated { url: url.to_owned(), got: part.len(), promised }))
    };
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return truncated(part).map_or(Ok(()), Err),
            Ok(read) => {
                part.append(buffer.get(..read).unwrap_or_default()).map_err(Failure::last)?;
                progress.advance(read as u64);
                if part.len() > limits.longest {
                    return Err(endless(url, part, limits.longest));
                }
                limits.rate.pass(read);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(truncated(part).unwrap_or_else(|| failure(url, error.into())));
            }
            Err(error) => return Err(failure(url, error.into())),
        }
    }
}

/// More than any file has: nothing of it is kept.
fn endless(url: &str, part: &mut Part, limit: u64) -> Failure {
    Failure::last(part.restart().err().unwrap_or_else(|| StoreError::Endless { url: url.to_owned(), limit }))
}

/// The server's range is not the one that was asked for: start over, without one.
fn range_lie(url: &str, part: &mut Part, answer: Option<String>) -> Failure {
    let answer = answer.unwrap_or_else(|| "another range".to_owned());
    let error = StoreError::Range { url: url.to_owned(), asked: part.len(), answer };
    match part.restart() {
        Ok(()) => Failure::soon(error),
        Err(error) => Failure::last(error),
    }
}

/// First byte and total size from `Content-Range: bytes 100-199/200`, or what stands there instead.
fn content_range(headers: &HeaderMap) -> Result<(u64, Option<u64>), String> {
    let text = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parse = || {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (start, _) = range.split_once('-')?;
        Some((start.trim().parse().ok()?, total.trim().parse().ok()))
    };
    parse().ok_or_else(|| text.to_owned())
}

/// What to say in `If-Range`, so that only the same file is continued.
fn strong_validator(headers: &HeaderMap) -> Option<String> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
    let etag = text(header::ETAG).filter(|etag| etag.starts_with('"'));
    etag.or_else(|| text(header::LAST_MODIFIED)).map(str::to_owned)
}

/// A status that brings no file.
fn refused(url: &str, response: &Response<Body>, now: i64) -> Failure {
    let status = response.status().as_u16();
    let again = match status {
        408 | 425 | 429 | 500..=599 => retry_after(response.headers(), now).map_or(Again::Soon, Again::After),
        _ => Again::Never,
    };
    Failure { error: StoreError::Status { url: url.to_owned(), status }, again }
}

/// How long the server asks to wait (RFC 9110, section 10.2.3): seconds, or a date, which is compared to the server's own
/// clock where the answer tells it, else to `now`.
fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok()).map(str::trim);
    let wanted = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = wanted.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let now = text(header::DATE).and_then(http_date).unwrap_or(now);
    Some(Duration::from_secs(http_date(wanted)?.saturating_sub(now).try_into().unwrap_or(0)))
}

/// Seconds since 1970 from `Sun, 06 Nov 1994 08:49:37 GMT`, the one form that servers may send.
fn http_date(text: &str) -> Option<i64> {
    let form = time::macros::format_description!(
        "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
    );
    time::PrimitiveDateTime::parse(text, form).ok().map(|date| date.assume_utc().unix_timestamp())
}

/// What ureq's error means, and whether another try could help.
fn failure(url: &str, error: ureq::Error) -> Failure {
    let url = url.to_owned();
    let unreachable = |source: &str| Failure::soon(StoreError::Unreachable { url: url.clone(), source: source.into() });
    match error {
        ureq::Error::Timeout(Timeout::Resolve) => unreachable("the lookup of its name takes too long"),
        ureq::Error::Timeout(Timeout::Connect) => unreachable("the connection takes too long"),
        ureq::Error::Timeout(Timeout::PerRead | Timeout::RecvBody) => unreachable("it fell silent"),
        ureq::Error::Timeout(_) => unreachable("it does not answer"),
        ureq::Error::HostNotFound => unreachable("there is no host of this name"),
        ureq::Error::TooManyRedirects => Failure::last(StoreError::Redirects { url }),
        ureq::Error::RequireHttpsOnly(_) => {
            let source = "it redirects from https to plain http".into();
            Failure::last(StoreError::Insecure { url, source })
        }
        ureq::Error::BadUri(reason) => Failure::last(StoreError::BadUrl { url, reason }),
        ureq::Error::Http(error) => Failure::last(StoreError::BadUrl { url, reason: error.to_string() }),
        ureq::Error::Tls(reason) => Failure::last(StoreError::Insecure { url, source: reason.into() }),
        ureq::Error::Rustls(error) => Failure::last(StoreError::Insecure { url, source: error.into() }),
        // rustls hands its verdict on a certificate through `Read` and `Write`.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            Failure::last(StoreError::Insecure { url, source: error.into() })
        }
        ureq::Error::Io(error) => Failure::soon(StoreError::Unreachable { url, source: error.into() }),
        error => Failure::soon(StoreError::Unreachable { url, source: error.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(header::HeaderName, &str)]) -> Option<u64> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
        retry_after(&headers, 784_111_770).map(|wait| wait.as_secs())
    }

    #[test]
    fn a_server_asks_to_wait_for_seconds_or_until_a_date() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        for (text, expected) in [
            ("120", Some(120)),
            (" 0", Some(0)),
            (date, Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("-5", None),
            ("soon", None),
            ("Sun, 36 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(wait(&[(header::RETRY_AFTER, text)]), expected, "{text}");
        }
        let its_clock = (header::DATE, "Sun, 06 Nov 1994 08:49:35 GMT");
        assert_eq!(wait(&[(header::RETRY_AFTER, date), its_clock]), Some(2));
        assert_eq!(wait(&[]), None);
    }
}
