//! What a call is about, by its path alone: which scope it needs, and which model it names.
//!
//! Whatever is not known here needs the scope `admin`, so that a call that is added later is closed until somebody opens it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// Groups of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Health: open to everybody, since probes have no credentials.
    Health,
    /// Inference.
    Infer,
    /// Metadata, configuration, statistics, the index.
    Metadata,
    /// Load and unload, and which version gets what.
    Repository,
    /// `/metrics`.
    Metrics,
    /// Settings of the server, and what is not known.
    Admin,
}

impl Scope {
    /// The scopes that a key can have.
    pub const GRANTED: [Scope; 5] = [Scope::Infer, Scope::Metadata, Scope::Repository, Scope::Metrics, Scope::Admin];

    /// The name in files, flags and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Health => "health",
            Scope::Infer => "infer",
            Scope::Metadata => "metadata",
            Scope::Repository => "repository",
            Scope::Metrics => "metrics",
            Scope::Admin => "admin",
        }
    }

    /// The scope called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::GRANTED.into_iter().find(|scope| scope.name() == name)
    }
}

/// The model that a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum About<'a> {
    /// None, or all of them.
    Server,
    /// This one.
    Model(Cow<'a, str>),
    /// The message says, and the door checks it ([`super::permit`], [`super::Pass`]).
    InMessage,
    /// Some model, but nobody checks which: closed to clients that may use only some.
    Unchecked,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call<'a> {
    pub(super) scope: Scope,
    pub(super) about: About<'a>,
}

/// The HTTP call of `path`. A slash at the end does not matter, as in the door's routes.
pub(super) fn of_http(path: &str) -> Call<'_> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = [""; 7];
    let mut count = 0;
    for segment in path.split('/').take(segments.len()) {
        segments[count] = segment;
        count += 1;
    }
    let (scope, about) = match &segments[..count] {
        [""] | ["v2", "health", "live" | "ready"] => (Scope::Health, About::Server),
        ["v2"]
        | ["openapi.json"]
        | ["v2", "repository", "index"]
        | ["v1" | "v2", "models"]
        | ["openai", "v1", "models"]
        | ["v2", "models", "stats"] => (Scope::Metadata, About::Server),
        ["metrics"] => (Scope::Metrics, About::Server),
        ["v2", "models", model, rest @ ..] => (of_model(rest), named(model)),
        ["v2", "repository", "models", model, "load" | "unload"] => (Scope::Repository, named(model)),
        ["v1", "models", model] => match v1_verb(model) {
            Some(model) => (Scope::Infer, named(model)),
            None => (Scope::Health, named(model)),
        },
        ["v1", "models", model, "versions", version] => match v1_verb(version) {
            Some(_) => (Scope::Infer, named(model)),
            None => (Scope::Health, named(model)),
        },
        ["openai", "v1", "models", model] => (Scope::Metadata, named(model)),
        ["openai", "v1", "embeddings" | "rerank"] | ["v1", "embeddings" | "rerank"] | ["rerank"] => {
            (Scope::Infer, About::InMessage)
        }
        ["v1" | "openai", ..] => (Scope::Infer, About::Unchecked),
        _ => (Scope::Admin, About::Server),
    };
    Call { scope, about }
}

/// What stands before a verb of V1; `None` without one, where a path asks whether a model is ready.
fn v1_verb(last: &str) -> Option<&str> {
    let (name, verb) = last.rsplit_once(':')?;
    (!name.is_empty() && matches!(verb, "predict" | "explain")).then_some(name)
}

fn of_model(rest: &[&str]) -> Scope {
    let (whole, rest) = match rest {
        ["versions", _, rest @ ..] => (false, rest),
        rest => (true, rest),
    };
    match rest {
        ["ready"] => Scope::Health,
        // Of the model alone: below a version there is no such path.
        ["traffic"] if whole => Scope::Repository,
        [] | ["config" | "stats"] => Scope::Metadata,
        ["infer" | "generate" | "generate_stream"] => Scope::Infer,
        _ => Scope::Admin,
    }
}

fn named(segment: &str) -> About<'_> {
    // One that is not UTF-8 is refused by the door; here it is some name that nobody has.
    About::Model(percent_decode_str(segment).decode_utf8_lossy())
}

/// The gRPC call of `path`: "/package.Service/Method".
pub(super) fn of_grpc(path: &str) -> Call<'static> {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let (scope, about) = match (service, method) {
        ("grpc.health.v1.Health", _) => (Scope::Health, About::Server),
        ("grpc.reflection.v1.ServerReflection" | "grpc.reflection.v1alpha.ServerReflection", _) => {
            (Scope::Metadata, About::Server)
        }
        ("inference.GRPCInferenceService", method) => match method {
            "ServerLive" | "ServerReady" | "ModelReady" => (Scope::Health, About::Server),
            "ServerMetadata" | "RepositoryIndex" => (Scope::Metadata, About::Server),
            "ModelMetadata" | "ModelConfig" | "ModelStatistics" => (Scope::Metadata, About::InMessage),
            "ModelInfer" | "ModelStreamInfer" => (Scope::Infer, About::InMessage),
            "RepositoryModelLoad" | "RepositoryModelUnload" => (Scope::Repository, About::InMessage),
            _ => (Scope::Admin, About::Server),
        },
        _ => (Scope::Admin, About::Server),
    };
    Call { scope, about }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> About<'_> {
        About::Model(name.into())
    }

    #[test]
    fn http_calls_are_told_apart_by_their_path() {
        for (path, scope, about) in [
            ("/", Scope::Health, About::Server),
            ("/v2/health/ready", Scope::Health, About::Server),
            ("/v2/models/m/ready/", Scope::Health, model("m")),
            ("/v2/models/m/versions/2/ready", Scope::Health, model("m")),
            ("/v2/models/m/versions/ready", Scope::Metadata, model("m")),
            ("/v2", Scope::Metadata, About::Server),
            ("/openapi.json", Scope::Metadata, About::Server),
            ("/v2/models/a%20b", Scope::Metadata, model("a b")),
            ("/v2/models/m/versions/2/config", Scope::Metadata, model("m")),
            ("/v2/models/m/infer", Scope::Infer, model("m")),
            ("/v2/models/m/versions/1/infer", Scope::Infer, model("m")),
            ("/v1/models/m:predict", Scope::Infer, model("m")),
            ("/v1/models/a:b:predict", Scope::Infer, model("a:b")),
            ("/v1/models/a:b", Scope::Health, model("a:b")),
            ("/v1/models/m/versions/2:predict", Scope::Infer, model("m")),
            ("/v1/models/m/versions/2", Scope::Health, model("m")),
            ("/v1/completions", Scope::Infer, About::Unchecked),
            ("/v1/embeddings", Scope::Infer, About::InMessage),
            ("/openai/v1/embeddings/", Scope::Infer, About::InMessage),
            ("/rerank", Scope::Infer, About::InMessage),
            ("/openai/v1/models", Scope::Metadata, About::Server),
            ("/openai/v1/models/a%2Fb", Scope::Metadata, model("a/b")),
            ("/v2/repository/models/m/load", Scope::Repository, model("m")),
            ("/v2/models/m/trace/setting", Scope::Admin, model("m")),
            ("/v2/models/m/traffic", Scope::Repository, model("m")),
            ("/v2/models/m/versions/1/traffic", Scope::Admin, model("m")),
            ("/metrics", Scope::Metrics, About::Server),
            ("/v2/logging", Scope::Admin, About::Server),
            // Whoever registers a region has the server open a file, and all who infer can name it.
            ("/v2/systemsharedmemory/region/r/register", Scope::Admin, About::Server),
            ("/v2/health/live/x", Scope::Admin, About::Server),
            ("//v2/health/live", Scope::Admin, About::Server),
        ] {
            assert_eq!(of_http(path), Call { scope, about }, "{path}");
        }
    }

    #[test]
    fn grpc_calls_are_told_apart_by_their_method_and_the_unknown_is_closed() {
        let of = |method: &str| of_grpc(&format!("/inference.GRPCInferenceService/{method}"));
        assert_eq!(of("ModelInfer"), Call { scope: Scope::Infer, about: About::InMessage });
        assert_eq!(of("ServerReady").scope, Scope::Health);
        assert_eq!(of("RepositoryModelLoad").scope, Scope::Repository);
        assert_eq!(of("LogSettings").scope, Scope::Admin);
        assert_eq!(of("SystemSharedMemoryRegister").scope, Scope::Admin);
        assert_eq!(of_grpc("/other.Service/ServerReady").scope, Scope::Admin);
        assert_eq!(of_grpc("ServerReady").scope, Scope::Admin);
    }
}
