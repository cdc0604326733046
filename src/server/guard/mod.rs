//! What stands before both doors where it is asked for: refused groups of calls, authentication, limits by client.
//!
//! One decision for HTTP and gRPC, from path, headers and peer, before any body is read. Models that only a message names
//! are checked by the door that decodes it, with [`permit`].

mod auth;
mod calls;
mod rate;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use http::{Extensions, HeaderMap};

use super::reload::{FileFault, Reload};
use crate::error::{Error, Kind, Result};

pub(crate) use auth::Client;
use auth::Keys;
pub use calls::Scope;
use calls::{About, Call};
pub use rate::Rate;
use rate::{Caller, Limits};

/// Which of the two protocols a call came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// HTTP.
    Http,
    /// gRPC.
    Grpc,
}

/// What guards the doors; nothing by default.
#[derive(Clone, Debug, Default)]
pub struct GuardConfig {
    /// The keys that clients need.
    pub auth_file: Option<PathBuf>,
    /// How often one client may call.
    pub rate: Option<Rate>,
    /// Groups of calls that a door does not take from anybody.
    pub refused: Vec<(Door, Scope)>,
}

impl Door {
    /// The name of the protocol.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Door::Http => "http",
            Door::Grpc => "grpc",
        }
    }
}

/// The group that a call belongs to, and the model that its path names.
pub(super) fn scope_and_model(door: Door, path: &str) -> (Scope, String) {
    let call = Call::of(door, path);
    let model = match call.about {
        About::Model(model) => model.into_owned(),
        _ => String::new(),
    };
    (call.scope, model)
}

/// See the module.
pub struct Guard {
    refused: Vec<(Door, Scope)>,
    auth_file: Option<PathBuf>,
    keys: Option<RwLock<Arc<Keys>>>,
    limits: Option<Limits>,
}

impl Guard {
    /// The guard that `config` asks for; `None` where that is nothing.
    ///
    /// # Errors
    /// [`FileFault`] about the file of keys.
    pub fn load(config: &GuardConfig) -> Result<Option<Self>, FileFault> {
        let GuardConfig { auth_file, rate, refused } = config;
        if auth_file.is_none() && rate.is_none() && refused.is_empty() {
            return Ok(None);
        }
        let keys = auth_file.as_deref().map(Keys::read).transpose()?.map(|keys| RwLock::new(Arc::new(keys)));
        let limits = rate.map(Limits::new);
        Ok(Some(Self { refused: refused.clone(), auth_file: auth_file.clone(), keys, limits }))
    }

    /// Whether clients need a key.
    pub(super) fn needs_keys(&self) -> bool {
        self.keys.is_some()
    }

    /// The groups of calls that `door` takes from nobody. Health is never among them.
    pub(super) fn refused_at(&self, door: Door) -> Vec<Scope> {
        self.refused.iter().filter(|(refused, _)| *refused == door).map(|(_, scope)| *scope).collect()
    }

    /// Lets a call in, or not. Gives who it is from.
    ///
    /// # Errors
    /// `Forbidden` for a group or model that is not for this caller; `Unauthenticated`; `Overloaded`, with when to try
    /// again, for one who calls too often. Health is open to everybody, always.
    pub(super) fn admit(&self, door: Door, path: &str, headers: &HeaderMap, peer: IpAddr) -> Result<Admitted> {
        let call = Call::of(door, path);
        if self.refused.contains(&(door, call.scope)) {
            return Err(Error::forbidden(format!("{} calls are refused at this door (--refuse)", call.scope.name())));
        }
        if call.scope == Scope::Health {
            return Ok(Admitted { client: None, caller: Caller::peer(peer) });
        }
        let client = match self.identify(headers) {
            Ok(client) => client,
            Err(error) => {
                // Whoever guesses tokens is slowed down like anybody else.
                self.take(&Caller::peer(peer))?;
                return Err(error);
            }
        };
        let caller = match &client {
            Some(client) => Caller::Key(Arc::clone(&client.name)),
            None => Caller::peer(peer),
        };
        self.take(&caller)?;
        client.as_ref().map_or(Ok(()), |client| may(client, &call))?;
        Ok(Admitted { client, caller })
    }

    /// What looks at the requests of a stream that was let in.
    pub(super) fn pass(self: &Arc<Self>, extensions: &Extensions) -> Option<Pass> {
        let admitted = extensions.get::<Admitted>()?.clone();
        Some(Pass { guard: Arc::clone(self), admitted })
    }

    fn identify(&self, headers: &HeaderMap) -> Result<Option<Arc<Client>>> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let keys = keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.identify(headers).cloned().map(Some)
    }

    fn take(&self, caller: &Caller) -> Result<()> {
        let Some(limits) = &self.limits else { return Ok(()) };
        limits.take(caller).map_err(|wait| {
            Error::new(Kind::Overloaded, "you call more often than --rate-limit allows").with_retry_after(wait)
        })
    }
}

impl<'a> Call<'a> {
    fn of(door: Door, path: &'a str) -> Self {
        match door {
            Door::Http => calls::of_http(path),
            Door::Grpc => calls::of_grpc(path),
        }
    }
}

fn may(client: &Client, call: &Call<'_>) -> Result<()> {
    client.may(call.scope)?;
    match &call.about {
        About::Server | About::InMessage => Ok(()),
        About::Model(model) => client.may_use(model),
        About::Unchecked => client.may_use_any(),
    }
}

/// A call that was let in; goes with it among its extensions.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    client: Option<Arc<Client>>,
    caller: Caller,
}

/// Who a call is from, where that is known.
pub(super) fn client(extensions: &Extensions) -> Option<Arc<Client>> {
    extensions.get::<Admitted>()?.client.clone()
}

/// Checks that the client of a call may use `model`, which the message names.
///
/// # Errors
/// `Forbidden`.
pub(super) fn permit(extensions: &Extensions, model: &str) -> Result<()> {
    let client = extensions.get::<Admitted>().and_then(|admitted| admitted.client.as_ref());
    client.map_or(Ok(()), |client| client.may_use(model))
}

/// A call that brings requests for as long as it lasts: each counts like a call of its own.
pub(super) struct Pass {
    guard: Arc<Guard>,
    admitted: Admitted,
}

impl Pass {
    /// # Errors
    /// `Forbidden` for a model that is not for this caller, `Overloaded` for one who asks too often.
    pub(super) fn request(&self, model: &str) -> Result<()> {
        self.guard.take(&self.admitted.caller)?;
        self.admitted.client.as_ref().map_or(Ok(()), |client| client.may_use(model))
    }
}

impl Reload for Guard {
    fn what(&self) -> &'static str {
        "the file of keys"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.auth_file.iter().cloned().collect()
    }

    fn reload(&self) -> Result<(), FileFault> {
        if let (Some(path), Some(keys)) = (&self.auth_file, &self.keys) {
            let new = Arc::new(Keys::read(path)?);
            *keys.write().unwrap_or_else(PoisonError::into_inner) = new;
        }
        Ok(())
    }
}
