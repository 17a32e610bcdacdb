//! Bearer tokens (JWTs) of an outside issuer: whether one is good, and which user of the database it stands for.
//!
//! The issuer names users and, if it is asked to, their roles; it cannot stand for `root`, for anybody who has a password here, nor
//! give role `system`. Where its keys come from is not decided here.

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header};
use kalamdb_store::{Counter, ScopeId};
use parking_lot::RwLock;
use serde_json::{Map, Value};

use crate::access::Role;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use crate::scheduler::Wanted;
use crate::system_rows::{UserRow, find_user, user_row};
use crate::system_schema::SystemTable;
use crate::users::{ROOT, UserRecord, check_user_name};

/// Clocks of two machines differ by so much at most, seconds.
const LEEWAY_SECONDS: u64 = 30;

/// Whose tokens are taken, and what in them names the user.
#[derive(Clone, Debug)]
pub struct OutsideIssuer {
    /// What a token's `iss` has to be.
    pub issuer: String,
    /// What has to be in a token's `aud`.
    pub audience: String,
    /// The claim that is the user's name here.
    pub user_claim: String,
    /// The claim with the user's role here, a text or a list of texts; with it, users are made when they first come.
    pub role_claim: Option<String>,
}

/// An issuer, and its keys as far as they are known.
pub(crate) struct OutsideTokens {
    issuer: OutsideIssuer,
    /// None until they are known.
    keys: RwLock<Option<JwkSet>>,
    unknown_key: Wanted,
}

/// What a good token says.
struct Outsider {
    user_id: String,
    role: Option<Role>,
    expires_seconds: u64,
}

impl OutsideTokens {
    pub(crate) fn new(issuer: OutsideIssuer) -> Self {
        OutsideTokens {
            issuer,
            keys: RwLock::new(None),
            unknown_key: Wanted::default(),
        }
    }

    /// Checks everything that the token says of itself, by the clock `now_seconds`.
    fn verify(&self, token: &str, now_seconds: u64) -> Result<Outsider> {
        let header = decode_header(token).map_err(|_| refused("is not one that this server knows"))?;
        // RFC 7515, 4.1.11: what it says must be understood, and none of it is.
        if header.crit.is_some() {
            return Err(refused("asks for what this server does not understand (crit)"));
        }
        let algorithm = header.alg;
        // A key that signs and verifies would let whoever may verify make tokens.
        if algorithm.family() == AlgorithmFamily::Hmac {
            return Err(refused("is not signed with a key of the issuer"));
        }
        let key = self.key(header.kid.as_deref(), algorithm)?;
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.issuer.issuer]);
        validation.set_audience(&[&self.issuer.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // The library would ask the machine for the time; the engine's clock decides instead.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = decode::<Map<String, Value>>(token, &key, &validation)
            .map_err(|error| refused(why(&error)))?
            .claims;
        let expires_seconds = seconds(&claims, "exp").ok_or_else(|| refused("says no time at which it ends (exp)"))?;
        if expires_seconds.saturating_add(LEEWAY_SECONDS) <= now_seconds {
            return Err(refused("has expired"));
        }
        if claims.contains_key("nbf") {
            let starts_seconds = seconds(&claims, "nbf").ok_or_else(|| refused("has a start (nbf) that is no time"))?;
            if starts_seconds > now_seconds.saturating_add(LEEWAY_SECONDS) {
                return Err(refused("is not valid yet"));
            }
        }
        let user_claim = &self.issuer.user_claim;
        let user_id = claims
            .get(user_claim)
            .and_then(Value::as_str)
            .filter(|name| !name.is_empty());
        let user_id = user_id.ok_or_else(|| refused(&format!("names no user in its claim '{user_claim}'")))?;
        Ok(Outsider {
            user_id: user_id.to_owned(),
            role: self.role(&claims)?,
            expires_seconds,
        })
    }

    /// The issuer's key of that id; without an id, its only one.
    fn key(&self, id: Option<&str>, algorithm: Algorithm) -> Result<DecodingKey> {
        let keys = self.keys.read();
        let Some(keys) = keys.as_ref() else {
            self.unknown_key.tell();
            let message = "the keys of the tokens' issuer are not known yet; try again later, or see the server's log";
            return Err(Error::new(ErrorCode::Unavailable, message));
        };
        let fits = |key: &&Jwk| {
            let common = &key.common;
            let for_signatures = !matches!(common.public_key_use, Some(PublicKeyUse::Encryption));
            let same = common
                .key_algorithm
                .is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
            for_signatures && same
        };
        let mut found = keys.keys.iter().filter(fits).filter(|key| match id {
            Some(id) => key.common.key_id.as_deref() == Some(id),
            None => true,
        });
        match (found.next(), found.next()) {
            (Some(key), None) => DecodingKey::from_jwk(key)
                .ok()
                .filter(|made| made.family() == algorithm.family())
                .ok_or_else(|| refused("is signed with a key of another kind")),
            (Some(_), Some(_)) => Err(refused("does not say which of the issuer's keys it is signed with")),
            (None, _) => {
                self.unknown_key.tell();
                Err(refused("is signed with a key that is not known to be the issuer's"))
            }
        }
    }

    /// The highest role that the token gives; none if nothing is asked of it.
    fn role(&self, claims: &Map<String, Value>) -> Result<Option<Role>> {
        let Some(name) = &self.issuer.role_claim else {
            return Ok(None);
        };
        let words: Vec<&str> = match claims.get(name) {
            Some(Value::String(word)) => vec![word],
            Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        let given = words.into_iter().filter_map(Role::parse).max();
        match given {
            Some(Role::System) => Err(refused("gives role system, which no outside issuer may give")),
            Some(role) => Ok(Some(role)),
            None => Err(refused(&format!(
                "gives no role of this database in its claim '{name}'"
            ))),
        }
    }
}

impl Engine {
    /// Whether tokens of an outside issuer are taken, and this one looks like one of theirs: its own are signed in another way.
    pub fn is_outside_token(&self, token: &str) -> bool {
        self.outside_tokens().is_some()
            && decode_header(token).is_ok_and(|header| header.alg.family() != AlgorithmFamily::Hmac)
    }

    /// Puts the issuer's keys in force, a JWK set as JSON.
    ///
    /// # Errors
    /// INVALID_ARGUMENT says why it is none, or has no key for signatures; earlier keys then stay.
    pub fn set_outside_keys(&self, keys: &str) -> Result<()> {
        let wrong = |problem: String| Error::new(ErrorCode::InvalidArgument, problem);
        let keys: JwkSet = serde_json::from_str(keys).map_err(|error| wrong(format!("is no JWK set: {error}")))?;
        let usable = keys
            .keys
            .iter()
            .any(|key| DecodingKey::from_jwk(key).is_ok_and(|key| key.family() != AlgorithmFamily::Hmac));
        if !usable {
            return Err(wrong("has no public key for signatures".to_owned()));
        }
        if let Some(outside) = self.outside_tokens() {
            *outside.keys.write() = Some(keys);
        }
        Ok(())
    }

    /// Resolves when a token came that is signed with a key that is not known: the issuer may have new ones. For one task.
    pub async fn wait_for_unknown_key(&self) {
        match self.outside_tokens() {
            Some(outside) => outside.unknown_key.wait().await,
            None => std::future::pending().await,
        }
    }

    /// The user that an outside token stands for, made or given another role if the issuer says so; and the time at which the
    /// token ends, seconds since the epoch.
    ///
    /// # Errors
    /// UNAUTHENTICATED says what is wrong with the token, INVALID_ARGUMENT with the name of a user to be made; UNAVAILABLE while the
    /// issuer's keys are not known.
    pub async fn authenticate_outside(&self, token: &str) -> Result<(UserRecord, u64)> {
        let outside = self
            .outside_tokens()
            .ok_or_else(|| refused("is not one of this database"))?;
        let now_seconds = u64::try_from(self.now_micros().div_euclid(1_000_000)).unwrap_or(0);
        let outsider = outside.verify(token, now_seconds)?;
        let known = find_user(&self.view().state, &outsider.user_id)?;
        let user = match known {
            Some(user) if outsider.role.is_none_or(|role| role == user.role) => checked(user)?,
            Some(_) | None => self.welcome(&outsider).await?,
        };
        Ok((UserRecord::of(&user), outsider.expires_seconds))
    }

    /// Makes the user, or gives them the role that the issuer says.
    async fn welcome(&self, outsider: &Outsider) -> Result<UserRow> {
        let user_id = outsider.user_id.clone();
        let Some(role) = outsider.role else {
            let message = format!("the token is for user '{user_id}', who does not exist here; CREATE USER makes one");
            return Err(Error::new(ErrorCode::Unauthenticated, message));
        };
        check_user_name(&user_id)?;
        let scope = ScopeId(self.store().next_id(Counter::Scope)?);
        self.change(move |change| {
            let now_micros = change.now_micros;
            let mut row = match find_user(&change.state, &user_id)? {
                Some(row) => checked(row)?,
                None => UserRow {
                    user_id,
                    role,
                    created_at_micros: now_micros,
                    updated_at_micros: now_micros,
                    scope,
                    password_hash: None,
                    credential_version: 1,
                },
            };
            row.role = role;
            row.updated_at_micros = now_micros;
            change.put(SystemTable::Users, &user_row(&row))?;
            Ok(row)
        })
        .await
    }
}

/// Refuses users of our own: a name that an issuer lets somebody choose must not open their account.
fn checked(user: UserRow) -> Result<UserRow> {
    if user.user_id == ROOT || user.password_hash.is_some() || user.role == Role::System {
        let message = format!(
            "the token is for user '{}', who logs in here with a password; an outside token does not stand for them",
            user.user_id
        );
        return Err(Error::new(ErrorCode::Unauthenticated, message));
    }
    Ok(user)
}

fn refused(problem: &str) -> Error {
    Error::new(ErrorCode::Unauthenticated, format!("the bearer token {problem}"))
}

fn why(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => "is not signed by the issuer, or was changed",
        ErrorKind::InvalidIssuer => "is of another issuer",
        ErrorKind::InvalidAudience => "is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "lacks its issuer, audience or end (iss, aud, exp)",
        _ => "cannot be read",
    }
}

/// Seconds since the epoch, which may be written with a fraction.
fn seconds(claims: &Map<String, Value>, name: &str) -> Option<u64> {
    let value = claims.get(name)?;
    value.as_u64().or_else(|| {
        // Negative and absurd ones become 0 and the largest: both far from now.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, as wanted"
        )]
        value.as_f64().map(|seconds| seconds as u64)
    })
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::testing::Database;

    #[test]
    fn an_issuer_names_users_by_the_rules_of_create_user() {
        let db = Database::new();
        let welcome = |name: &str| {
            let outsider = Outsider {
                user_id: name.to_owned(),
                role: Some(Role::User),
                expires_seconds: 0,
            };
            block_on(db.engine.welcome(&outsider)).map(|user| user.user_id)
        };
        assert_eq!(welcome("ann").as_deref(), Ok("ann"));
        // What system.queries calls everyone.
        for name in ["all users:", "a:b", ":"] {
            let refused = welcome(name).map_err(|error| error.code);
            assert_eq!(refused, Err(ErrorCode::InvalidArgument), "{name}");
            assert!(db.engine.user(&db.view(), name).expect("reads").is_none());
        }
    }
}
