//! Content codings: request bodies that come compressed, and answers that go out compressed.
//!
//! gzip and deflate are what Triton's clients mean, zstd is what is quick. A coding covers the whole body, so
//! `Inference-Header-Content-Length` counts bytes of the JSON as it is once inflated, and of an answer's as it was before.
//! gRPC compresses messages, which is tonic's work.

pub(super) mod accept;
pub(super) mod deflate;
mod inflate;

use http::{HeaderMap, HeaderValue, Response, header};

use crate::error::{Error, Result};
use crate::server::body::ResponseBody;
use crate::server::head::Head;

pub(super) use inflate::{InflateBounds, inflate};

/// Answers below this size go out as they are: they fit into one packet, which compression cannot make fewer.
const COMPRESSED_FROM_BYTES: usize = 1400;

/// A coding that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Zstd,
    Deflate,
}

impl Coding {
    /// Every coding, the one liked best first. zstd takes a third of gzip's time, but Triton's asyncio client offers whatever
    /// the HTTP library below it knows, and reads gzip and deflate: a client that means zstd weighs it above gzip, or offers
    /// nothing else.
    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Zstd, Coding::Deflate];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// The coding with this name, in any case (RFC 9110, 8.4.1).
    pub(super) fn named(name: &str) -> Option<Self> {
        // RFC 9110, 8.4.1.3: "x-gzip" is the same.
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        Self::ALL.into_iter().find(|coding| coding.name().eq_ignore_ascii_case(name))
    }

    /// The coding of a request body; `None` for a body as it is.
    ///
    /// # Errors
    /// `Unsupported` for a coding that is not served, and for several on top of each other.
    pub(super) fn of_request(headers: &HeaderMap) -> Result<Option<Self>> {
        let mut found = None;
        for value in headers.get_all(header::CONTENT_ENCODING) {
            let unknown = || {
                let known = Self::ALL.map(Self::name).join(", ");
                Error::unsupported(format!("content-encoding {value:?} is not served, expected one of {known}"))
            };
            let names = value.to_str().map_err(|_| unknown())?.split(',').map(str::trim);
            for name in names.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity")) {
                let coding = Self::named(name).ok_or_else(unknown)?;
                if found.replace(coding).is_some() {
                    return Err(Error::unsupported("several content-encodings on one body are not served, send one"));
                }
            }
        }
        Ok(found)
    }
}

/// Compresses `response` where the client takes it and it is worth it.
pub(super) fn compress(response: &mut Response<ResponseBody>, head: Head, headers: &HeaderMap) {
    if !head.accepts_encoding {
        return;
    }
    let ResponseBody::Segments(segments) = response.body() else { return };
    if segments.iter().map(bytes::Bytes::len).sum::<usize>() < COMPRESSED_FROM_BYTES {
        return;
    }
    // Also where it stays as it is: another client would have got another body.
    response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    let Some(coding) = accept::choose(headers) else { return };
    let ResponseBody::Segments(segments) = response.body() else { return };
    // Segments are kept in reverse.
    let compressed = deflate::compress(coding, segments.iter().rev());
    *response.body_mut() = compressed.into();
    response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
}

#[cfg(test)]
mod tests;
