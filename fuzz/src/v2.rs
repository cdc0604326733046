//! V2's messages as the controller's router reads them, for graphs and to compare answers. The decoders are the controller's own files,
//! which need nothing of it: nothing here compiles kube.

#[allow(missing_docs, dead_code)]
#[path = "../../controller/src/v2/mod.rs"]
mod decoder;

use decoder::{Call, Side, frame, json, proto};

/// The first byte says which side and which form; in JSON two more say how long it is, none where they are the largest.
pub fn v2(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let side = if kind & 1 == 0 { Side::Request } else { Side::Answer };
    let read = match (kind & 2, rest.split_first_chunk::<2>()) {
        (0, _) => proto::read(&bytes::Bytes::copy_from_slice(rest), side),
        (_, Some((length, body))) => {
            let length = Some(usize::from(u16::from_le_bytes(*length))).filter(|length| *length < 0xffff);
            json::read(&bytes::Bytes::copy_from_slice(body), length, side)
        }
        _ => return,
    };
    // What is no message says so, and what is read holds what it says.
    let Ok(call) = read else { return };
    assert!(call.tensors.iter().all(|own| own.clone().checked().is_ok()), "bytes that fit: {call:?}");
    let again = proto::read(&proto::write(&call, side), side).expect("what was written can be read");
    let same =
        |own: &Call, other: &Call| own.tensors.iter().zip(&other.tensors).all(|(own, other)| own.data == other.data);
    assert!(same(&call, &again) && call.id == again.id && call.model == again.model, "{call:?} is not {again:?}");
    let (body, length) = json::write_request(&call);
    let again = json::read(&body, Some(length), Side::Request).expect("what was written can be read");
    assert!(same(&call, &again) && again.tensors.len() == call.tensors.len(), "{call:?} is not {again:?}");
    let (body, length) = json::write_answer(&call);
    let again = json::read(&body, length, Side::Answer).expect("what was written can be read");
    assert!(same(&call, &again) && again.tensors.len() == call.tensors.len(), "{call:?} is not {again:?}");
    let text: serde_json::Value = serde_json::from_slice(&json::write_text(&call, side)).expect("JSON");
    let _filled = json::filled(text, &body);
    assert_eq!(frame::message(&frame::framed(&body)), Ok(body));
}
