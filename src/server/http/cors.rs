//! Cross-origin requests: which web pages a browser lets use this server (WHATWG Fetch, "CORS protocol").

use http::{HeaderMap, HeaderValue, Response, header};

use crate::server::body::ResponseBody;

/// Headers that scripts may send, beyond those that they always may.
const SENT: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, content-encoding, inference-header-content-length, x-request-id",
);
/// Headers of an answer that scripts may read, beyond those that they always may. Without the length of the JSON, binary
/// tensors cannot be found.
const EXPOSED: HeaderValue = HeaderValue::from_static("inference-header-content-length, x-request-id, retry-after");
/// How long a browser may remember a preflight: two hours, the most that Chromium does.
const REMEMBERED_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// Whose pages may use this server. By default nobody's: a model is not for every page that a person with access opens.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// Lets pages of these origins in (`https://example.org`); `*` stands for all.
    pub fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    /// What `access-control-allow-origin` says to this request, if anything.
    fn allowed(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        if self.origins.iter().any(|known| known == "*") {
            return Some(HeaderValue::from_static("*"));
        }
        self.origins
            .iter()
            .any(|known| origin.as_bytes().eq_ignore_ascii_case(known.as_bytes()))
            .then(|| origin.clone())
    }

    /// Lets the page that sent the request read its answer.
    pub(super) fn expose(&self, request: &HeaderMap, response: &mut Response<ResponseBody>) {
        if self.origins.is_empty() {
            return;
        }
        let headers = response.headers_mut();
        // Said to pages that are not let in too: a cache must not give one page's answer to another.
        headers.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(allowed) = self.allowed(request) {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }

    /// Tells a browser that asks beforehand what the page may send.
    pub(super) fn preflight(&self, request: &HeaderMap, methods: &HeaderValue, response: &mut Response<ResponseBody>) {
        if !request.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) || self.allowed(request).is_none() {
            return;
        }
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, SENT);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBERED_SECONDS);
    }
}
