//! The parameters of a load request of the model repository extension.

use std::collections::HashMap;

use super::ModelRepositoryParameter;
use super::model_repository_parameter::ParameterChoice;
use crate::error::Result;
use crate::model::LoadParameter;
use crate::protocol::json::Limits;

/// The parameters of a message, in no order.
///
/// # Errors
/// `TooLarge` for more of them than `limits` allow.
pub fn decode_load(
    parameters: HashMap<String, ModelRepositoryParameter>,
    limits: &Limits,
) -> Result<Vec<(String, LoadParameter)>> {
    limits.check_parameters(parameters.len())?;
    for name in parameters.keys() {
        limits.check_string("a parameter's name", name)?;
    }
    let value = |parameter: ModelRepositoryParameter| match parameter.parameter_choice {
        Some(ParameterChoice::StringParam(text)) => LoadParameter::Text(text),
        Some(ParameterChoice::BytesParam(bytes)) => LoadParameter::Bytes(bytes),
        Some(ParameterChoice::BoolParam(_)) => LoadParameter::Other("true or false"),
        Some(ParameterChoice::Int64Param(_)) => LoadParameter::Other("a number"),
        None => LoadParameter::Other("empty"),
    };
    Ok(parameters.into_iter().map(|(name, parameter)| (name, value(parameter))).collect())
}
