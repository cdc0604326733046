//! Triton's extensions over gRPC: configuration, statistics, trace and log settings, regions of shared memory.

use std::collections::HashMap;

use super::some;
use crate::error::{Error, Result};
use crate::protocol::proto::{
    LogSettingsRequest, LogSettingsResponse, ModelConfigRequest, ModelConfigResponse, ModelStatisticsRequest,
    ModelStatisticsResponse, SystemSharedMemoryStatusRequest, SystemSharedMemoryStatusResponse, TraceSettingRequest,
    TraceSettingResponse, log_settings_request, log_settings_response, system_shared_memory_status_response,
    trace_setting_response,
};
use crate::server::{Doors, describe, regions};
use crate::shared_memory::Region;
use crate::telemetry::{LogSetting, change_logs, log_settings};

pub(super) async fn config(request: &ModelConfigRequest, doors: &Doors) -> Result<ModelConfigResponse> {
    doors.repository.learn(&request.name, some(&request.version), None).await?;
    let model = doors.repository.resolve(&request.name, some(&request.version))?;
    Ok(ModelConfigResponse { config: Some(describe::config(&model)) })
}

pub(super) async fn statistics(request: &ModelStatisticsRequest, doors: &Doors) -> Result<ModelStatisticsResponse> {
    if let Some(name) = some(&request.name) {
        doors.repository.learn(name, some(&request.version), None).await?;
    }
    let models = doors.repository.ready(some(&request.name), some(&request.version))?;
    Ok(ModelStatisticsResponse { model_stats: describe::statistics(&models).await })
}

pub(super) fn region_status(
    request: &SystemSharedMemoryStatusRequest,
    doors: &Doors,
) -> Result<SystemSharedMemoryStatusResponse> {
    let found = regions::system(doors)?.status(some(&request.name))?;
    let status = |region: &Region| system_shared_memory_status_response::RegionStatus {
        name: region.name().into(),
        key: region.key().into(),
        offset: region.offset(),
        byte_size: region.byte_size(),
    };
    let regions = found.iter().map(|region| (region.name().to_owned(), status(region))).collect();
    Ok(SystemSharedMemoryStatusResponse { regions })
}

pub(super) fn trace_setting(request: TraceSettingRequest, doors: &Doors) -> Result<TraceSettingResponse> {
    let model = some(&request.model_name);
    model.map_or(Ok(()), |model| doors.repository.knows(model))?;
    let traces = doors.telemetry.trace_settings();
    if !request.settings.is_empty() {
        traces.change(model, request.settings.into_iter().map(|(name, setting)| (name, setting.value)).collect())?;
    }
    let shown = traces
        .of(model)
        .into_iter()
        .map(|setting| (setting.name.to_owned(), trace_setting_response::SettingValue { value: setting.values }));
    Ok(TraceSettingResponse { settings: shown.collect() })
}

pub(super) fn log_setting(request: LogSettingsRequest) -> Result<LogSettingsResponse> {
    use log_settings_request::setting_value::ParameterChoice as Given;
    use log_settings_response::SettingValue;
    use log_settings_response::setting_value::ParameterChoice as Shown;
    let change = |(name, value): (String, log_settings_request::SettingValue)| {
        let value = match value.parameter_choice {
            Some(Given::BoolParam(on)) => LogSetting::Switch(on),
            Some(Given::Uint32Param(number)) => LogSetting::Number(number),
            Some(Given::StringParam(text)) => LogSetting::Text(text),
            None => return Err(Error::invalid(format!("log setting '{name}' has no value"))),
        };
        Ok((name, value))
    };
    let changes: Vec<_> = request.settings.into_iter().map(change).collect::<Result<_>>()?;
    let settings = if changes.is_empty() { log_settings() } else { change_logs(&changes)? };
    let shown = |(name, value): (&str, LogSetting)| {
        let value = match value {
            LogSetting::Switch(on) => Shown::BoolParam(on),
            LogSetting::Number(number) => Shown::Uint32Param(number),
            LogSetting::Text(text) => Shown::StringParam(text),
        };
        (name.to_owned(), SettingValue { parameter_choice: Some(value) })
    };
    Ok(LogSettingsResponse { settings: settings.list().into_iter().map(shown).collect::<HashMap<_, _>>() })
}
