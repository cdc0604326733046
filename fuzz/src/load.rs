//! Bodies of load requests.

use tensorgate::protocol::json;

use super::json::is_json;
use super::tensors::{blames_the_client, limits};

/// The bytes are a body.
pub fn load(data: &[u8]) {
    match json::decode_load(data, &limits()) {
        Ok(parameters) => {
            let mut names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name is there once");
            if !data.is_empty() {
                is_json(data);
            }
        }
        Err(error) => blames_the_client(&error),
    }
}
