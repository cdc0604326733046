//! The store behind a socket, speaking as much of Kubernetes' HTTP API as its clients need: objects, subresources, server-side
//! apply, lists, watches with bookmarks and 410. And faults: refusals, watches that end, answers that are lost.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::discovery;
use super::rbac::{Asked, Rights};
use super::store::{Key, Refusal, Store, fits};

/// What the controller is known by: its calls are held against what it was granted.
const CONTROLLER: &str = "controller";
/// The namespace of its Lease.
const HOME: &str = "tensorgate-system";

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A request as a fault sees it.
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
}

/// What goes wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It is refused with this status.
    Refused(u16),
    /// It is done, and the connection ends before the answer.
    AnswerLost,
}

type Fault = Box<dyn Fn(&Call<'_>) -> Option<Trouble> + Send + Sync>;

/// An API server.
#[derive(Clone)]
pub(crate) struct ApiServer {
    shared: Arc<Shared>,
    pub(crate) address: SocketAddr,
}

struct Shared {
    store: Mutex<Store>,
    version: watch::Sender<u64>,
    /// Counts up to end all watches.
    watches: watch::Sender<u64>,
    fault: Mutex<Option<Fault>>,
    calls: Mutex<Vec<String>>,
    rights: Rights,
    /// Plural names of kinds that this cluster does not know.
    unknown: Mutex<BTreeSet<String>>,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            version: watch::Sender::new(0),
            watches: watch::Sender::new(0),
            fault: Mutex::default(),
            calls: Mutex::default(),
            rights: Rights::deployed(HOME),
            unknown: Mutex::default(),
        });
        let server = Self { address: listener.local_addr().unwrap(), shared };
        let accepting = server.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let server = accepting.clone();
                tokio::spawn(async move {
                    let answer = hyper::service::service_fn(move |request| {
                        let server = server.clone();
                        async move { server.answer(request).await }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    // Whoever loses a connection finds out by himself.
                    let _ended = builder.serve_connection(TokioIo::new(socket), answer).await;
                });
            }
        });
        server
    }

    /// For KUBECONFIG, of somebody who may do everything.
    #[allow(dead_code, reason = "for the process of its own, see examples/apiserver.rs")]
    pub(crate) fn kubeconfig(&self) -> String {
        self.kubeconfig_of("anybody")
    }

    /// For KUBECONFIG of the controller, which may do what it was granted.
    pub(crate) fn controllers_kubeconfig(&self) -> String {
        self.kubeconfig_of(CONTROLLER)
    }

    fn kubeconfig_of(&self, token: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: http://{}\n\
             contexts:\n- name: test\n  context: {{cluster: test, user: test, namespace: models}}\nusers:\n- name: test\n  user: {{token: {token}}}\n",
            self.address
        )
    }

    /// Looks at, or changes, the objects; watches see it.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Store) -> T) -> T {
        let mut store = self.shared.store.lock().unwrap();
        let outcome = work(&mut store);
        self.shared.version.send_replace(store.version());
        outcome
    }

    /// Looks at the objects.
    pub(crate) fn look<T>(&self, work: impl FnOnce(&Store) -> T) -> T {
        work(&self.shared.store.lock().unwrap())
    }

    /// Tells each change of the objects.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Waits until `found` gives something.
    pub(crate) async fn wait<T>(&self, what: &str, found: impl Fn(&Store) -> Option<T>) -> T {
        let mut version = self.shared.version.subscribe();
        let waiting = async {
            loop {
                if let Some(found) = found(&self.shared.store.lock().unwrap()) {
                    return found;
                }
                version.changed().await.unwrap();
            }
        };
        match tokio::time::timeout(Duration::from_secs(60), waiting).await {
            Ok(found) => found,
            Err(_) => panic!(
                "waited in vain for {what}; the last calls were {:#?}",
                self.calls().iter().rev().take(20).collect::<Vec<_>>()
            ),
        }
    }

    /// All calls so far but watches, `METHOD path`.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Calls so far that were to change something, but for the lease.
    pub(crate) fn writes(&self) -> usize {
        self.calls().iter().filter(|call| !call.starts_with("GET") && !call.contains("/leases")).count()
    }

    pub(crate) fn break_calls(&self, fault: impl Fn(&Call<'_>) -> Option<Trouble> + Send + Sync + 'static) {
        *self.shared.fault.lock().unwrap() = Some(Box::new(fault));
    }

    pub(crate) fn mend(&self) {
        *self.shared.fault.lock().unwrap() = None;
    }

    /// Takes the definition of a kind away, by its plural name, or gives it back.
    pub(crate) fn define(&self, plural: &str, is_defined: bool) {
        let mut unknown = self.shared.unknown.lock().unwrap();
        if is_defined {
            unknown.remove(plural)
        } else {
            unknown.insert(plural.to_owned())
        };
    }

    /// Ends all watches; what happened before now is forgotten.
    pub(crate) fn drop_watches(&self) {
        self.with(Store::compact);
        self.shared.watches.send_modify(|count| *count += 1);
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, std::io::Error> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        let query = Query(head.uri.query().unwrap_or("").to_owned());
        let path = head.uri.path().to_owned();
        let watches = query.get("watch").is_some_and(|own| ["true", "True", "1"].contains(&own.as_str()));
        let mut trouble = None;
        if !watches {
            let mut calls = self.shared.calls.lock().unwrap();
            let call = Call { method: head.method.as_str(), path: &path };
            trouble = self.shared.fault.lock().unwrap().as_ref().and_then(|fault| fault(&call));
            calls.push(format!("{} {path}", head.method));
        }
        if let Some(Trouble::Refused(code)) = trouble {
            return Ok(failure(&Refusal { code, reason: "Injected", message: format!("a fault of {code}") }));
        }
        if let Some(told) = self.look(|store| discovery::answer(store, &path)) {
            return Ok(answer(200, &told));
        }
        let Some(place) = Place::of(&path) else {
            return Ok(failure(&Refusal { code: 404, reason: "NotFound", message: format!("there is no {path}") }));
        };
        if self.shared.unknown.lock().unwrap().contains(&place.plural) {
            let message = "the server could not find the requested resource".to_owned();
            return Ok(failure(&Refusal { code: 404, reason: "NotFound", message }));
        }
        let is_controller =
            head.headers.get("authorization").is_some_and(|own| own == format!("Bearer {CONTROLLER}").as_str());
        if let Some(refusal) = self.refused(&head.method, &place, watches).filter(|_| is_controller) {
            return Ok(failure(&refusal));
        }
        if watches {
            return Ok(self.watch(&place, &query));
        }
        let header = |name: &str| head.headers.get(name).and_then(|own| own.to_str().ok()).unwrap_or("").to_owned();
        let content_type = header("content-type");
        if head.method == Method::GET && header("accept").contains("as=Table") {
            let told = self.look(|store| place.table(store, &query));
            if let Some(told) = told {
                return Ok(answer(200, &told));
            }
        }
        let outcome = self.with(|store| place.serve(store, &head.method, &query, &content_type, &body));
        if trouble == Some(Trouble::AnswerLost) {
            return Err(std::io::Error::other("the answer is lost"));
        }
        Ok(match outcome {
            Ok((code, object)) => answer(code, &object),
            Err(refusal) => failure(&refusal),
        })
    }

    /// What is not granted to the controller.
    fn refused(&self, method: &Method, place: &Place, watches: bool) -> Option<Refusal> {
        let verb = match (method, &place.name) {
            (&Method::GET, _) if watches => "watch",
            (&Method::GET, None) => "list",
            (&Method::GET, Some(_)) => "get",
            (&Method::POST, _) => "create",
            (&Method::PUT, _) => "update",
            (&Method::PATCH, _) => "patch",
            _ => "delete",
        };
        let resource = [Some(place.plural.as_str()), place.subresource.as_deref()];
        let resource = resource.into_iter().flatten().collect::<Vec<_>>().join("/");
        let group = place.api_version.split_once('/').map_or("", |(group, _)| group);
        let (namespace, name) = (place.namespace.as_deref(), place.name.as_deref());
        let allowed = |verb| self.shared.rights.allow(&Asked { verb, group, resource: &resource, namespace, name });
        // An apply of what is not there creates it.
        let is_new =
            verb == "patch" && name.is_some_and(|name| self.look(|store| store.get(&place.key(name)).is_none()));
        if allowed(verb) && (!is_new || place.subresource.is_some() || allowed("create")) {
            return None;
        }
        let message = format!("{CONTROLLER} cannot {verb} resource {resource:?} in API group {group:?}");
        Some(Refusal { code: 403, reason: "Forbidden", message })
    }

    fn watch(&self, place: &Place, query: &Query) -> Response<Body> {
        let (send, receive) = mpsc::channel::<Value>(64);
        let (server, place, query) = (self.clone(), place.clone(), query.clone());
        tokio::spawn(async move {
            let seconds = query.get("timeoutSeconds").and_then(|own| own.parse().ok()).unwrap_or(290);
            let ended = server.follow(&place, &query, &send);
            // The client asks anew from where this one ended.
            let _timed_out = tokio::time::timeout(Duration::from_secs(seconds), ended).await;
        });
        let lines = futures_util::stream::unfold(receive, |mut receive| async {
            let event = receive.recv().await?;
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n")))), receive))
        });
        let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(lines.boxed())));
        response.headers_mut().insert("content-type", "application/json".parse().unwrap());
        response
    }

    async fn follow(&self, place: &Place, query: &Query, send: &mpsc::Sender<Value>) {
        let mut from: u64 = query.get("resourceVersion").and_then(|own| own.parse().ok()).unwrap_or(0);
        let mut version = self.shared.version.subscribe();
        let mut watches = self.shared.watches.subscribe();
        loop {
            let (changes, now) = {
                let store = self.shared.store.lock().unwrap();
                (store.since(from), store.version())
            };
            let Some(changes) = changes else {
                let status = status(&Refusal {
                    code: 410,
                    reason: "Expired",
                    message: format!("too old resource version: {from}"),
                });
                let _client_has_gone = send.send(json!({"type": "ERROR", "object": status})).await;
                return;
            };
            let mut sent = false;
            for change in changes.iter().filter(|own| place.holds(&own.key) && query.selects(&own.object)) {
                sent = true;
                if send.send(json!({"type": change.kind, "object": change.object})).await.is_err() {
                    return;
                }
            }
            if !sent && now > from && query.get("allowWatchBookmarks").is_some() {
                let object =
                    json!({"apiVersion": "v1", "kind": place.kind, "metadata": {"resourceVersion": now.to_string()}});
                if send.send(json!({"type": "BOOKMARK", "object": object})).await.is_err() {
                    return;
                }
            }
            from = now;
            tokio::select! {
                changed = version.changed() => if changed.is_err() { return },
                _ = watches.changed() => return,
            }
        }
    }
}

/// What a path names.
#[derive(Debug, Clone)]
struct Place {
    kind: &'static str,
    plural: String,
    api_version: String,
    namespace: Option<String>,
    name: Option<String>,
    subresource: Option<String>,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let mut steps = path.trim_matches('/').split('/');
        let api_version = match steps.next()? {
            "api" => steps.next()?.to_owned(),
            "apis" => format!("{}/{}", steps.next()?, steps.next()?),
            _ => return None,
        };
        let mut namespace = None;
        let mut plural = steps.next()?;
        let mut name = steps.next().map(str::to_owned);
        // What is below a namespace's own name is in it.
        if plural == "namespaces"
            && let Some(below) = steps.next()
        {
            (namespace, plural) = (name, below);
            name = steps.next().map(str::to_owned);
        }
        let (kind, plural) = (discovery::kind_of(plural)?, plural.to_owned());
        Some(Self { kind, plural, api_version, namespace, name, subresource: steps.next().map(str::to_owned) })
    }

    /// The objects as people see them, where their kind has a table.
    fn table(&self, store: &Store, query: &Query) -> Option<Value> {
        let mut objects = store.list(self.kind, self.namespace.as_deref(), "");
        objects.retain(|own| {
            query.selects(own) && self.name.as_ref().is_none_or(|name| own["metadata"]["name"] == **name)
        });
        discovery::table(store, self.kind, &objects).filter(|_| self.name.is_none() || !objects.is_empty())
    }

    fn holds(&self, key: &Key) -> bool {
        key.0 == self.kind && self.namespace.as_ref().is_none_or(|own| *own == key.1)
    }

    fn key(&self, name: &str) -> Key {
        (self.kind.into(), self.namespace.clone().unwrap_or_default(), name.to_owned())
    }

    fn serve(
        &self,
        store: &mut Store,
        method: &Method,
        query: &Query,
        content_type: &str,
        body: &[u8],
    ) -> Result<(u16, Value), Refusal> {
        let parse = || {
            serde_json::from_slice::<Value>(body).map_err(|error| Refusal {
                code: 400,
                reason: "BadRequest",
                message: error.to_string(),
            })
        };
        let manager = query.get("fieldManager").unwrap_or_else(|| "unknown".into());
        let subresource = self.subresource.as_deref();
        let missing = |name: &str| Refusal {
            code: 404,
            reason: "NotFound",
            message: format!("{} \"{name}\" not found", self.kind),
        };
        match (method, &self.name) {
            (&Method::GET, None) => {
                let mut items = store.list(self.kind, self.namespace.as_deref(), "");
                items.retain(|item| query.selects(item));
                let version = json!({"resourceVersion": store.version().to_string()});
                Ok((
                    200,
                    json!({"apiVersion": self.api_version, "kind": format!("{}List", self.kind), "metadata": version, "items": items}),
                ))
            }
            (&Method::GET, Some(name)) => {
                let object = store.get(&self.key(name)).cloned().ok_or_else(|| missing(name))?;
                Ok((200, if subresource == Some("scale") { scale(&object) } else { object }))
            }
            (&Method::POST, None) => {
                let object = parse()?;
                let name = object["metadata"]["name"].as_str().map(str::to_owned);
                let name = name.unwrap_or_else(|| format!("generated-{}", store.version()));
                let mut object = object;
                object["metadata"]["name"] = json!(name);
                store.create(self.key(&name), object, &manager).map(|object| (201, object))
            }
            (&Method::PUT, Some(name)) => {
                store.update(&self.key(name), parse()?, subresource, &manager).map(|object| (200, object))
            }
            (&Method::PATCH, Some(name)) => {
                let patch = parse()?;
                let key = self.key(name);
                if content_type.starts_with("application/apply-patch+yaml") {
                    let force = query.get("force").is_some_and(|own| own == "true");
                    return store.apply(&key, &patch, subresource, &manager, force).map(|object| (200, object));
                }
                let object = store.merge(&key, &patch, subresource, &manager)?;
                Ok((200, if subresource == Some("scale") { scale(&object) } else { object }))
            }
            (&Method::DELETE, Some(name)) => {
                let options = if body.is_empty() { Value::Null } else { parse()? };
                store.delete(&self.key(name), options["preconditions"]["uid"].as_str()).map(|object| (200, object))
            }
            _ => Err(Refusal {
                code: 405,
                reason: "MethodNotAllowed",
                message: format!("{method} is not possible here"),
            }),
        }
    }
}

fn scale(object: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {"name": object["metadata"]["name"], "resourceVersion": object["metadata"]["resourceVersion"]},
        "spec": {"replicas": object["spec"]["replicas"]}, "status": {"replicas": object["status"]["replicas"]},
    })
}

#[derive(Debug, Clone)]
struct Query(String);

impl Query {
    /// By labels, and by the one field that everything can be selected by.
    fn selects(&self, object: &Value) -> bool {
        let name = self.get("fieldSelector");
        let named = name.as_deref().and_then(|own| own.strip_prefix("metadata.name="));
        fits(object, &self.get("labelSelector").unwrap_or_default())
            && named.is_none_or(|name| object["metadata"]["name"] == *name)
    }

    fn get(&self, name: &str) -> Option<String> {
        let found = self
            .0
            .split('&')
            .find_map(|pair| pair.split_once('=').filter(|(own, _)| *own == name).map(|(_, value)| value));
        // What selectors are made of: `/`, `=`, `,` and `!`.
        found.map(|own| {
            own.replace("%2F", "/").replace("%3D", "=").replace("%2C", ",").replace("%21", "!").replace('+', " ")
        })
    }
}

fn status(refusal: &Refusal) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": refusal.message, "reason": refusal.reason, "code": refusal.code,
    })
}

fn failure(refusal: &Refusal) -> Response<Body> {
    answer(refusal.code, &status(refusal))
}

fn answer(code: u16, object: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(object.to_string())).boxed_unsync());
    *response.status_mut() = hyper::StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}
