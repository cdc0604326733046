//! gRPC clients: the generated one, and one that shows what is on the wire.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use prost::Message;
use tensorgate::protocol::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::http::{Http, Lost, request};

/// The generated client.
pub(crate) type Grpc = GrpcInferenceServiceClient<Channel>;

/// A connection for any service's client.
pub(crate) async fn channel(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Connects.
pub(crate) async fn connect(address: SocketAddr) -> Grpc {
    // No bound of the client's own: the server's are tested.
    Grpc::new(channel(address).await).max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX)
}

/// A code with its message, as the trailers have them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome<T> {
    pub(crate) code: Code,
    pub(crate) message: String,
    pub(crate) answer: Option<T>,
    /// Headers and trailers.
    pub(crate) trailers: http::HeaderMap,
}

/// A unary call over `connection`, which has to be HTTP/2, without tonic's client: its channel has a timer, a buffer and
/// reconnects of its own, which would hide what the server does.
pub(crate) async fn call<T: Message + Default>(
    connection: &mut Http,
    method: &str,
    headers: &[(&str, &str)],
    message: &impl Message,
) -> Result<Outcome<T>, Lost> {
    let mut body = BytesMut::new();
    body.put_u8(0);
    body.put_u32(message.encoded_len() as u32);
    message.encode(&mut body).unwrap();
    let path = format!("/inference.GRPCInferenceService/{method}");
    let mut all = vec![("content-type", "application/grpc"), ("te", "trailers")];
    all.extend(headers);
    let answer = connection.try_send(request(Method::POST, &path, &all, body.freeze())).await?;
    let code = answer.header("grpc-status").unwrap_or_else(|| panic!("no grpc-status in {answer:?}"));
    let message = answer.header("grpc-message").unwrap_or_default();
    Ok(Outcome {
        code: Code::from(code.parse::<i32>().unwrap()),
        message: percent_encoding::percent_decode_str(message).decode_utf8().unwrap().into_owned(),
        answer: answer.body.get(5..).map(|bytes| T::decode(Bytes::copy_from_slice(bytes)).unwrap()),
        trailers: answer.headers.clone(),
    })
}
