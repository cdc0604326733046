//! Paths of the HTTP door.

use http::Method;
use percent_encoding::percent_decode_str;

use crate::error::{Error, Result};

/// What a path asks for. Names are percent-decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Route {
    Alive,
    V1Models,
    V1Model { model: String, version: Option<String> },
    Predict { model: String, version: Option<String> },
    Explain { model: String, version: Option<String> },
    Embeddings,
    Rerank,
    OpenAiModels,
    OpenAiModel { model: String },
    Server,
    Live,
    Ready,
    Metrics,
    OpenApi,
    Models,
    Model { model: String, version: Option<String> },
    Config { model: String, version: Option<String> },
    Statistics { model: Option<String>, version: Option<String> },
    ModelReady { model: String, version: Option<String> },
    Infer { model: String, version: Option<String> },
    RepositoryIndex,
    Load { model: String },
    Unload { model: String },
    TraceSetting { model: Option<String> },
    Traffic { model: String },
    Logging,
    SharedMemory { extension: Memory, call: RegionCall, region: Option<String> },
}

/// Which shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum Memory {
    System,
    Cuda,
}

/// What is asked of a region of shared memory, or of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub(super) enum RegionCall {
    Status,
    Register,
    Unregister,
}

impl Route {
    /// The methods it takes, as an `Allow` header lists them.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Route::Infer { .. }
            | Route::RepositoryIndex
            | Route::Load { .. }
            | Route::Unload { .. }
            | Route::Predict { .. }
            | Route::Explain { .. }
            | Route::Embeddings
            | Route::Rerank
            | Route::SharedMemory { call: RegionCall::Register | RegionCall::Unregister, .. } => "POST, OPTIONS",
            Route::TraceSetting { .. } | Route::Logging => "GET, HEAD, POST, OPTIONS",
            Route::Traffic { .. } => "GET, HEAD, PUT, DELETE, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    pub(super) fn accepts(&self, method: &Method) -> bool {
        match self.methods() {
            "POST, OPTIONS" => method == Method::POST,
            "GET, HEAD, OPTIONS" => method == Method::GET || method == Method::HEAD,
            several => several.split(", ").any(|known| method == known) && method != Method::OPTIONS,
        }
    }
}

/// The route of `path`; `None` where there is none. A slash at the end does not matter.
///
/// # Errors
/// `InvalidRequest` for a name that is not UTF-8 once decoded.
pub(super) fn parse(path: &str) -> Result<Option<Route>> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    // The request path has at most six segments; more match nothing.
    let mut segments = [""; 7];
    let mut count = 0;
    for segment in path.split('/') {
        if count == segments.len() {
            return Ok(None);
        }
        segments[count] = segment;
        count += 1;
    }
    let route = match &segments[..count] {
        // A model called "stats" has every other path of its own.
        ["v2", "models", "stats"] => Route::Statistics { model: None, version: None },
        ["v2", "models", model, rest @ ..] if !model.is_empty() => return of_model(model, rest),
        ["v1", "models", rest @ ..] => return of_v1(rest),
        ["openai", "v1", "embeddings"] | ["v1", "embeddings"] => Route::Embeddings,
        ["openai", "v1", "rerank"] | ["v1", "rerank"] | ["rerank"] => Route::Rerank,
        ["openai", "v1", "models"] => Route::OpenAiModels,
        ["openai", "v1", "models", model] if !model.is_empty() => Route::OpenAiModel { model: decoded(model)? },
        [""] => Route::Alive,
        ["v2"] => Route::Server,
        ["v2", "models"] => Route::Models,
        ["v2", "health", "live"] => Route::Live,
        ["v2", "health", "ready"] => Route::Ready,
        ["metrics"] => Route::Metrics,
        ["openapi.json"] => Route::OpenApi,
        ["v2", "repository", "index"] => Route::RepositoryIndex,
        ["v2", "repository", "models", model, "load"] if !model.is_empty() => Route::Load { model: decoded(model)? },
        ["v2", "repository", "models", model, "unload"] if !model.is_empty() => {
            Route::Unload { model: decoded(model)? }
        }
        ["v2", "trace", "setting"] => Route::TraceSetting { model: None },
        ["v2", "logging"] => Route::Logging,
        ["v2", memory @ ("systemsharedmemory" | "cudasharedmemory"), call @ ..] => {
            return shared_memory(memory, call);
        }
        _ => return Ok(None),
    };
    Ok(Some(route))
}

fn of_model(model: &str, rest: &[&str]) -> Result<Option<Route>> {
    let (version, rest) = match rest {
        ["versions", version, rest @ ..] if !version.is_empty() => (Some(decoded(version)?), rest),
        rest => (None, rest),
    };
    let model = decoded(model)?;
    Ok(match rest {
        ["infer"] => Some(Route::Infer { model, version }),
        [] => Some(Route::Model { model, version }),
        ["ready"] => Some(Route::ModelReady { model, version }),
        ["config"] => Some(Route::Config { model, version }),
        ["stats"] => Some(Route::Statistics { model: Some(model), version }),
        ["traffic"] if version.is_none() => Some(Route::Traffic { model }),
        ["trace", "setting"] if version.is_none() => Some(Route::TraceSetting { model: Some(model) }),
        _ => None,
    })
}

/// `[region/{name}/]{call}` behind either kind.
fn shared_memory(memory: &str, call: &[&str]) -> Result<Option<Route>> {
    let extension = if memory == "systemsharedmemory" { Memory::System } else { Memory::Cuda };
    let (region, call) = match call {
        ["region", region, call] if !region.is_empty() => (Some(decoded(region)?), *call),
        [call @ ("status" | "unregister")] => (None, *call),
        _ => return Ok(None),
    };
    let call = match call {
        "status" => RegionCall::Status,
        "register" => RegionCall::Register,
        "unregister" => RegionCall::Unregister,
        _ => return Ok(None),
    };
    Ok(Some(Route::SharedMemory { extension, call, region }))
}

/// V1 puts the verb behind the last name.
fn of_v1(rest: &[&str]) -> Result<Option<Route>> {
    let split = |last: &str| match last.rsplit_once(':') {
        Some((name, verb @ ("predict" | "explain"))) if !name.is_empty() => (decoded(name), Some(verb == "predict")),
        _ => (decoded(last), None),
    };
    let (model, version, predict) = match rest {
        [] => return Ok(Some(Route::V1Models)),
        [last] if !last.is_empty() => {
            let (model, predict) = split(last);
            (model?, None, predict)
        }
        [model, "versions", last] if !model.is_empty() && !last.is_empty() => {
            let (version, predict) = split(last);
            (decoded(model)?, Some(version?), predict)
        }
        _ => return Ok(None),
    };
    Ok(Some(match predict {
        Some(true) => Route::Predict { model, version },
        Some(false) => Route::Explain { model, version },
        None => Route::V1Model { model, version },
    }))
}

fn decoded(segment: &str) -> Result<String> {
    let decoded = percent_decode_str(segment).decode_utf8();
    decoded
        .map(Into::into)
        .map_err(|_| Error::invalid(format!("the path segment '{segment}' is not UTF-8 once decoded")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Option<Route> {
        parse(path).unwrap()
    }

    #[test]
    fn a_model_may_be_named_with_or_without_a_version() {
        let model = || "m".to_owned();
        assert_eq!(route("/v2/models/m/infer"), Some(Route::Infer { model: model(), version: None }));
        let version = Some("3".into());
        assert_eq!(
            route("/v2/models/m/versions/3/infer"),
            Some(Route::Infer { model: model(), version: version.clone() })
        );
        assert_eq!(route("/v2/models/m/versions/3"), Some(Route::Model { model: model(), version: version.clone() }));
        assert_eq!(route("/v2/models/m/versions/3/ready/"), Some(Route::ModelReady { model: model(), version }));
    }

    #[test]
    fn statistics_are_of_all_models_of_one_or_of_a_version() {
        let statistics = |model: Option<&str>, version: Option<&str>| {
            Some(Route::Statistics { model: model.map(Into::into), version: version.map(Into::into) })
        };
        assert_eq!(route("/v2/models/stats"), statistics(None, None));
        assert_eq!(route("/v2/models/m/stats"), statistics(Some("m"), None));
        assert_eq!(route("/v2/models/m/versions/2/stats"), statistics(Some("m"), Some("2")));
        assert_eq!(route("/v2/models/stats/infer"), Some(Route::Infer { model: "stats".into(), version: None }));
    }

    #[test]
    fn v1_has_its_verb_behind_the_name() {
        let (model, version) = (|| "m".to_owned(), Some("2".to_owned()));
        assert_eq!(route("/v1/models"), Some(Route::V1Models));
        assert_eq!(route("/v1/models/m"), Some(Route::V1Model { model: model(), version: None }));
        assert_eq!(route("/v1/models/m:predict"), Some(Route::Predict { model: model(), version: None }));
        assert_eq!(route("/v1/models/m:explain"), Some(Route::Explain { model: model(), version: None }));
        assert_eq!(route("/v1/models/m/versions/2:predict"), Some(Route::Predict { model: model(), version }));
        assert_eq!(route("/v1/models/a:b"), Some(Route::V1Model { model: "a:b".into(), version: None }));
        assert_eq!(route("/"), Some(Route::Alive));
    }

    #[test]
    fn openais_paths_stand_alone_or_behind_kserves_prefix() {
        for prefix in ["/openai/v1", "/v1"] {
            assert_eq!(route(&format!("{prefix}/embeddings")), Some(Route::Embeddings));
            assert_eq!(route(&format!("{prefix}/rerank/")), Some(Route::Rerank));
        }
        assert_eq!(route("/rerank"), Some(Route::Rerank));
        assert_eq!(route("/openai/v1/models"), Some(Route::OpenAiModels));
        assert_eq!(route("/openai/v1/models/a%2Fb"), Some(Route::OpenAiModel { model: "a/b".into() }));
    }

    #[test]
    fn names_are_percent_decoded() {
        assert_eq!(route("/v2/models/a%20b%2Fc"), Some(Route::Model { model: "a b/c".into(), version: None }));
        assert!(parse("/v2/models/%ff/infer").is_err());
    }

    #[test]
    fn anything_else_is_no_route() {
        for path in [
            "/x",
            "/v1",
            "/v1/models//",
            "/v1/models/m/infer",
            "/v2/models//infer",
            "/v2/models/m/versions/1/trace/setting",
            "/v2/models/m/versions/1/traffic",
            "/v2/systemsharedmemory",
            "/v2/models/m/versions",
            "/v2/models/m/infer/x",
            "/v3",
            "/openai",
            "/openai/v1/completions",
            "/openai/rerank",
            "/embeddings",
            "/v2/health",
            "/a/b/c/d/e/f/g/h/i/j",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
    }
}
