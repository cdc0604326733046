use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use http::HeaderMap;

use super::*;
use crate::error::Kind;
use crate::server::bounds::{Buffered, Charge};

fn inflate(coding: Coding, body: &[u8], bounds: InflateBounds) -> Result<Bytes> {
    super::inflate(coding, body, bounds, &mut Charge::of(&Buffered::new(usize::MAX)))
}

const WIDE: InflateBounds = InflateBounds { bytes_max: 64 << 20, ratio_max: 100 };

fn compressed(coding: Coding, data: &[u8]) -> Bytes {
    deflate::compress(coding, [Bytes::copy_from_slice(data)].iter())
}

fn sample() -> Vec<u8> {
    (0..50_000_u32).flat_map(|i| i.to_string().into_bytes()).collect()
}

#[test]
fn every_coding_gives_back_what_went_in() {
    for coding in Coding::ALL {
        for data in [&b""[..], b"x", &sample()] {
            assert_eq!(inflate(coding, &compressed(coding, data), WIDE).unwrap(), data, "{coding:?}");
        }
    }
}

#[test]
fn a_bare_deflate_stream_is_read_too() {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&sample()).unwrap();
    assert_eq!(inflate(Coding::Deflate, &encoder.finish().unwrap(), WIDE).unwrap(), sample());
}

#[test]
fn a_stream_that_is_cut_off_broken_or_followed_by_more_is_refused() {
    for coding in Coding::ALL {
        let whole = compressed(coding, &sample());
        let followed = [&whole, &b"more"[..]].concat();
        for body in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], b"", b"no stream at all", &followed] {
            let error = inflate(coding, body, WIDE).unwrap_err();
            assert_eq!(error.kind(), Kind::InvalidRequest, "{coding:?} {error}");
            assert!(error.message().contains(coding.name()), "{error}");
        }
    }
}

#[test]
fn bounds_hold_while_a_body_inflates() {
    let zeros = vec![0; 8 << 20];
    for coding in Coding::ALL {
        let body = compressed(coding, &zeros);
        let bounds = InflateBounds { bytes_max: 4 << 20, ratio_max: usize::MAX };
        let error = inflate(coding, &body, bounds).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge);
        assert!(error.message().contains("--body-max"), "{error}");
        let error = inflate(coding, &body, WIDE).unwrap_err();
        assert_eq!(error.kind(), Kind::TooLarge);
        assert!(error.message().contains("--decompression-ratio-max"), "{error}");
    }
}

#[test]
fn what_a_body_inflates_to_counts_with_all_bodies() {
    let buffered = Buffered::new(1 << 20);
    let body = compressed(Coding::Gzip, &vec![0; 1 << 20]);
    let error = super::inflate(Coding::Gzip, &body, WIDE, &mut Charge::of(&buffered)).unwrap_err();
    assert_eq!(error.kind(), Kind::Overloaded);
    super::inflate(Coding::Gzip, &compressed(Coding::Gzip, &sample()), WIDE, &mut Charge::of(&buffered)).unwrap();
}

#[test]
fn a_short_body_may_inflate_at_any_ratio() {
    let zeros = vec![0; 1 << 20];
    for coding in Coding::ALL {
        assert_eq!(inflate(coding, &compressed(coding, &zeros), WIDE).unwrap().len(), zeros.len());
    }
}

#[test]
fn codings_are_known_by_any_of_their_names_and_one_at_a_time() {
    let of = |values: &[&'static str]| {
        let values = values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value)));
        Coding::of_request(&HeaderMap::from_iter(values))
    };
    assert_eq!(of(&[]).unwrap(), None);
    assert_eq!(of(&["identity"]).unwrap(), None);
    assert_eq!(of(&["GZip"]).unwrap(), Some(Coding::Gzip));
    assert_eq!(of(&["x-gzip, identity"]).unwrap(), Some(Coding::Gzip));
    let refused: [&[&str]; 4] = [&["br"], &["gzip, zstd"], &["gzip", "gzip"], &["gzip;q=1"]];
    for values in refused {
        assert_eq!(of(values).unwrap_err().kind(), Kind::Unsupported, "{values:?}");
    }
}
