//! Enums of the model's configuration, which JSON says by name.

use serde::Serializer;

use super::{ModelDataType, model_input, model_instance_group, model_optimization_policy, model_queue_policy};
use crate::tensor::DataType;

macro_rules! by_name {
    ($($field:ident: $kind:ty),* $(,)?) => {
        $(pub(super) fn $field<S: Serializer>(number: &i32, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_str(<$kind>::try_from(*number).unwrap_or_default().as_str_name())
        })*
    };
}

by_name! {
    data_type: ModelDataType,
    format: model_input::Format,
    kind: model_instance_group::Kind,
    priority: model_optimization_policy::ModelPriority,
    timeout_action: model_queue_policy::TimeoutAction,
}

/// Triton's name of a datatype in a configuration: BYTES is TYPE_STRING there.
pub fn data_type_of(datatype: DataType) -> ModelDataType {
    match datatype {
        DataType::Bool => ModelDataType::TypeBool,
        DataType::Uint8 => ModelDataType::TypeUint8,
        DataType::Uint16 => ModelDataType::TypeUint16,
        DataType::Uint32 => ModelDataType::TypeUint32,
        DataType::Uint64 => ModelDataType::TypeUint64,
        DataType::Int8 => ModelDataType::TypeInt8,
        DataType::Int16 => ModelDataType::TypeInt16,
        DataType::Int32 => ModelDataType::TypeInt32,
        DataType::Int64 => ModelDataType::TypeInt64,
        DataType::Fp16 => ModelDataType::TypeFp16,
        DataType::Bf16 => ModelDataType::TypeBf16,
        DataType::Fp32 => ModelDataType::TypeFp32,
        DataType::Fp64 => ModelDataType::TypeFp64,
        DataType::Bytes => ModelDataType::TypeString,
    }
}
