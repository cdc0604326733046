//! Bodies that share requests out between versions.

use tensorgate::protocol::json::traffic::{TrafficBody, decode_traffic};

use super::json::is_json;
use super::tensors::blames_the_client;

/// The bytes are a body.
pub fn traffic(data: &[u8]) {
    match decode_traffic(data) {
        Ok(settings) => {
            is_json(data);
            let weights = &settings.weights;
            assert!(weights.windows(2).all(|pair| pair[0].0 < pair[1].0), "a version has one weight");
            assert!(weights.is_empty() || weights.iter().any(|(_, weight)| *weight > 0.0), "some version answers");
            assert!(settings.canary.iter().all(|canary| !canary.steps.is_empty() && weights.is_empty()));
            // What is told can be set, but for the last digit of a number.
            let told = serde_json::to_vec(&TrafficBody::from(&settings)).expect("numbers and strings");
            assert_eq!(decode_traffic(&told).expect("our own words").named(), settings.named());
        }
        Err(error) => blames_the_client(&error),
    }
}
