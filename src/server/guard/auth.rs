//! Who calls, and what they may do: a pure decision from headers and a scope.
//!
//! A token is compared by its SHA-256 digest, in constant time and with every key, so that neither the file nor the time
//! that an answer takes gives a token away.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::calls::Scope;
use crate::error::{Error, Result};
use crate::server::reload::FileFault;

const FLAG: &str = "--auth-file";
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Keys of one file: every request without a match looks at each, some 20 ns a key.
const KEYS_MAX: usize = 1000;

/// Somebody who showed a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    /// The key's name, for limits and logs.
    pub(crate) name: Arc<str>,
    scopes: Vec<Scope>,
    models: Option<Vec<String>>,
}

impl Client {
    /// # Errors
    /// `Forbidden`, naming the scope.
    pub(super) fn may(&self, scope: Scope) -> Result<()> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let (name, scope) = (&self.name, scope.name());
        Err(Error::forbidden(format!("key '{name}' does not have the scope '{scope}', which this call needs")))
    }

    /// # Errors
    /// `Forbidden`, naming the model.
    pub(super) fn may_use(&self, model: &str) -> Result<()> {
        match &self.models {
            Some(models) if !models.iter().any(|known| known == model) => {
                let shown: String = model.chars().take(100).collect();
                Err(Error::forbidden(format!("key '{}' may not use model '{shown}'", self.name)))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// `Forbidden` for a client that may use only some models.
    pub(super) fn may_use_any(&self) -> Result<()> {
        match self.models {
            Some(_) => Err(Error::forbidden(format!("key '{}' is for some models only, not for this call", self.name))),
            None => Ok(()),
        }
    }
}

/// The keys.
#[derive(Debug)]
pub(super) struct Keys(Vec<([u8; 32], Arc<Client>)>);

impl Keys {
    /// Whose token the headers bring.
    ///
    /// # Errors
    /// `Unauthenticated` where there is none, or nobody's.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<&Arc<Client>> {
        let token = token(headers).ok_or_else(|| {
            Error::unauthenticated(
                "credentials are missing, expected 'authorization: Bearer TOKEN' or 'x-api-key: TOKEN'",
            )
        })?;
        let given = digest(&SHA256, token);
        // Without a branch on what matched: the number of the key that fits, or one beyond the last.
        let mut found = self.0.len() as u64;
        for (number, (digest, _)) in self.0.iter().enumerate() {
            let fits: Choice = digest.as_slice().ct_eq(given.as_ref());
            found = u64::conditional_select(&found, &(number as u64), fits);
        }
        let found = self.0.get(found as usize).map(|(_, client)| client);
        found.ok_or_else(|| Error::unauthenticated("the token is not known"))
    }

    /// Reads a file of keys.
    pub(super) fn read(path: &Path) -> Result<Self, FileFault> {
        let fault = |message: String| FileFault::new(FLAG, path, message.trim_end());
        let text = fs::read_to_string(path).map_err(|cause| fault(cause.to_string()))?;
        Self::parse(&text).map_err(fault)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: KeyFile = toml::from_str(text).map_err(|cause| cause.to_string())?;
        if file.key.is_empty() || file.key.len() > KEYS_MAX {
            return Err(format!("has {} entries [[key]], expected 1 to {KEYS_MAX}", file.key.len()));
        }
        let mut keys: Vec<([u8; 32], Arc<Client>)> = Vec::with_capacity(file.key.len());
        for entry in file.key {
            let within = |message: &str| format!("key '{}': {message}", entry.name);
            let digest = entry.digest().map_err(|message| within(&message))?;
            let scopes = entry.scopes.iter().map(|name| {
                let known = Scope::GRANTED.map(Scope::name).join(", ");
                Scope::parse(name).ok_or_else(|| within(&format!("scope '{name}' is unknown, expected {known}")))
            });
            let scopes: Vec<Scope> = scopes.collect::<Result<_, _>>()?;
            if entry.name.is_empty() || scopes.is_empty() {
                return Err(within("needs a name and at least one scope"));
            }
            if keys.iter().any(|(known, client)| *known == digest || *client.name == *entry.name) {
                return Err(within("its name or token is another key's, too"));
            }
            keys.push((digest, Arc::new(Client { name: entry.name.into(), scopes, models: entry.models })));
        }
        Ok(Self(keys))
    }
}

/// The token of the headers; over gRPC they are the call's metadata.
fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
    });
    bearer.or_else(|| headers.get(&API_KEY).map(|value| value.as_bytes())).filter(|token| !token.is_empty())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    key: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    sha256: Option<String>,
    token: Option<String>,
    scopes: Vec<String>,
    models: Option<Vec<String>>,
}

impl KeyEntry {
    fn digest(&self) -> Result<[u8; 32], String> {
        match (&self.sha256, &self.token) {
            (Some(hex), None) => unhex(hex).ok_or_else(|| "sha256 is not 64 hexadecimal digits".into()),
            (None, Some(token)) if !token.trim().is_empty() => {
                let mut bytes = [0; 32];
                bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
                Ok(bytes)
            }
            _ => Err("needs either sha256, the digest of its token, or the token itself".into()),
        }
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    /// The digest of "abc" (FIPS 180-2, B.1).
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn keys() -> Keys {
        let text = format!(
            "[[key]]\nname = \"app\"\nsha256 = \"{ABC}\"\nscopes = [\"infer\"]\nmodels = [\"iris\"]\n\
             [[key]]\nname = \"ops\"\ntoken = \"secret\"\nscopes = [\"metadata\", \"repository\"]\n"
        );
        Keys::parse(&text).unwrap()
    }

    fn identify(name: &'static str, value: &'static str) -> Result<Arc<Client>> {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())]);
        keys().identify(&headers).cloned()
    }

    #[test]
    fn a_token_is_taken_as_bearer_or_as_api_key() {
        assert_eq!(&*identify("authorization", "Bearer abc").unwrap().name, "app");
        assert_eq!(&*identify("authorization", "bearer  abc").unwrap().name, "app");
        assert_eq!(&*identify("x-api-key", "secret").unwrap().name, "ops");
    }

    #[test]
    fn whoever_brings_no_known_token_is_not_authenticated() {
        for (name, value) in [
            ("authorization", "Bearer abd"),
            ("authorization", "Basic abc"),
            ("authorization", "abc"),
            ("authorization", "Bearer "),
            ("x-api-key", ""),
            ("x-api-key", ABC),
            ("accept", "abc"),
        ] {
            assert_eq!(identify(name, value).unwrap_err().kind(), Kind::Unauthenticated, "{name}: {value}");
        }
    }

    #[test]
    fn scopes_and_models_are_what_the_file_says() {
        let app = identify("x-api-key", "abc").unwrap();
        assert!(app.may(Scope::Infer).is_ok() && app.may_use("iris").is_ok());
        let error = app.may(Scope::Repository).unwrap_err();
        assert_eq!(error.kind(), Kind::Forbidden);
        assert!(error.message().contains("'repository'"));
        assert!(app.may_use("digits").is_err() && app.may_use_any().is_err());
        let ops = identify("x-api-key", "secret").unwrap();
        assert!(ops.may(Scope::Infer).is_err() && ops.may_use("digits").is_ok() && ops.may_use_any().is_ok());
    }

    #[test]
    fn a_file_that_makes_no_sense_says_where() {
        for (text, told) in [
            ("", "0 entries"),
            ("[[key]]\nname = \"a\"\nscopes = [\"infer\"]", "needs either sha256"),
            ("[[key]]\nname = \"a\"\nsha256 = \"abc\"\nscopes = [\"infer\"]", "64 hexadecimal digits"),
            ("[[key]]\nname = \"a\"\ntoken = \"x\"\nscopes = [\"root\"]", "scope 'root' is unknown"),
            ("[[key]]\nname = \"a\"\ntoken = \"x\"\nscopes = []", "at least one scope"),
            ("[[key]]\nname = \"a\"\ntoken = \"x\"\nscopes = [\"infer\"]\nmodel = 1", "unknown field `model`"),
            (
                "[[key]]\nname = \"a\"\ntoken = \"x\"\nscopes = [\"infer\"]\n[[key]]\nname = \"b\"\ntoken = \"x\"\nscopes = [\"infer\"]",
                "another key's",
            ),
        ] {
            let fault = Keys::parse(text).unwrap_err();
            assert!(fault.contains(told), "{told}: {fault}");
        }
    }
}
