//! Server reflection, v1 and v1alpha: which services and messages there are, for clients such as grpcurl.

use std::convert::Infallible;

use http::{Request, Response};
use tonic_reflection::server::Builder;
use tower::util::BoxCloneSyncService;

use crate::protocol::proto::DESCRIPTORS;
use crate::server::messages::MessagesBody;

/// A service that answers reflection.
pub(super) type ReflectionService = BoxCloneSyncService<Request<MessagesBody>, Response<tonic::body::Body>, Infallible>;

/// One for each version. It reads the descriptors, so it is made when first asked: most servers never are.
#[derive(Clone)]
pub(super) struct Reflection {
    pub(super) v1: ReflectionService,
    pub(super) v1alpha: ReflectionService,
}

impl Reflection {
    /// `None` would mean that our own descriptors are broken.
    pub(super) fn new() -> Option<Self> {
        let builder = || Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
        let v1 = BoxCloneSyncService::new(builder().build_v1().ok()?);
        let v1alpha = BoxCloneSyncService::new(builder().build_v1alpha().ok()?);
        Some(Self { v1, v1alpha })
    }
}
