//! Logging in by password: back-off after failures, and a memory of recent successes. All of it is in this process alone.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::OnceLock;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use kalamdb_store::ScopeId;
use parking_lot::Mutex;

use crate::clock::Clock;
use crate::define::MOST_NAME_BYTES;
use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};
use crate::password;
use crate::system_rows::{UserRow, find_user};
use crate::users::UserRecord;

/// Failures that cost nothing: people mistype.
const FREE_FAILURES: u32 = 5;
/// The longest wait, seconds. It starts at one and doubles.
const LONGEST_WAIT_SECONDS: i64 = 60;
/// Failures are forgotten when none came for so long, µs.
const FAILURES_LIFE_MICROS: i64 = 15 * 60 * 1_000_000;
/// (User, peer) pairs whose failures are remembered, about 200 bytes each. The oldest go first.
const FAILURES_KEPT: usize = 16 * 1024;
/// A success spares the next logins their Argon2 for so long, µs: clients that send Basic credentials with every call.
const SUCCESS_LIFE_MICROS: i64 = 5 * 60 * 1_000_000;
/// Users whose last success is remembered.
const SUCCESSES_KEPT: usize = 4 * 1024;
/// Bytes of the key of the password tags.
const TAG_KEY_BYTES: usize = 32;

/// What this process remembers of logins.
pub(crate) struct Logins {
    failures: Mutex<HashMap<(String, String), Failures>>,
    successes: Mutex<HashMap<String, Success>>,
    /// Random in each process: tags are worth nothing outside it.
    tag_key: [u8; TAG_KEY_BYTES],
    /// What a password is checked against when there is no user or no password, so that both take as long.
    nobodys_hash: &'static str,
}

struct Failures {
    count: u32,
    last_micros: i64,
    blocked_until_micros: i64,
}

struct Success {
    /// A keyed hash of the password.
    tag: String,
    scope: ScopeId,
    credential_version: u64,
    until_micros: i64,
}

/// Made once in a process: hashing takes longer than anything else at the start of a database.
fn nobodys_hash(clock: &dyn Clock) -> Result<&'static str> {
    static HASH: OnceLock<String> = OnceLock::new();
    if let Some(hash) = HASH.get() {
        return Ok(hash);
    }
    let hash = password::hash("nobody's password", clock)?;
    Ok(HASH.get_or_init(|| hash))
}

impl Logins {
    pub(crate) fn new(clock: &dyn Clock) -> Result<Self> {
        let mut tag_key = [0; TAG_KEY_BYTES];
        clock.fill_random(&mut tag_key);
        Ok(Logins {
            failures: Mutex::default(),
            successes: Mutex::default(),
            tag_key,
            nobodys_hash: nobodys_hash(clock)?,
        })
    }

    fn check_wait(&self, user_id: &str, peer: &str, now_micros: i64) -> Result<()> {
        let failures = self.failures.lock();
        let Some(failed) = failures.get(&(user_id.to_owned(), peer.to_owned())) else {
            return Ok(());
        };
        let wait_micros = failed.blocked_until_micros.saturating_sub(now_micros);
        if wait_micros <= 0 {
            return Ok(());
        }
        let seconds = (wait_micros + 999_999).div_euclid(1_000_000);
        Err(Error::new(
            ErrorCode::TooManyRequests,
            format!("too many failed logins of this user from this address; try again in {seconds} s"),
        ))
    }

    /// When the user can log in again from wherever failures hold them up, µs; of one who can, nothing.
    pub(crate) fn locked_until(&self, now_micros: i64) -> HashMap<String, i64> {
        let mut users: HashMap<String, i64> = HashMap::new();
        for ((user_id, _), failed) in self.failures.lock().iter() {
            if failed.blocked_until_micros > now_micros {
                let until = users.entry(user_id.clone()).or_default();
                *until = failed.blocked_until_micros.max(*until);
            }
        }
        users
    }

    fn failed(&self, user_id: &str, peer: &str, now_micros: i64) {
        let mut failures = self.failures.lock();
        let key = (user_id.to_owned(), peer.to_owned());
        if !failures.contains_key(&key) {
            make_room(&mut failures, FAILURES_KEPT, |failed| {
                (failed.last_micros.saturating_add(FAILURES_LIFE_MICROS) > now_micros).then_some(failed.last_micros)
            });
        }
        let failed = failures.entry(key).or_insert(Failures {
            count: 0,
            last_micros: now_micros,
            blocked_until_micros: 0,
        });
        if failed.last_micros.saturating_add(FAILURES_LIFE_MICROS) <= now_micros {
            failed.count = 0;
        }
        failed.count = failed.count.saturating_add(1);
        failed.last_micros = now_micros;
        if let Some(beyond) = failed.count.checked_sub(FREE_FAILURES) {
            let seconds = 1_i64
                .checked_shl(beyond.min(16))
                .map_or(LONGEST_WAIT_SECONDS, |s| s.min(LONGEST_WAIT_SECONDS));
            failed.blocked_until_micros = now_micros.saturating_add(seconds * 1_000_000);
        }
    }

    fn succeeded(&self, user: &UserRow, password: &str, peer: &str, now_micros: i64) -> Result<()> {
        self.failures.lock().remove(&(user.user_id.clone(), peer.to_owned()));
        let success = Success {
            tag: jsonwebtoken::crypto::sign(
                &tagged(user, password),
                &EncodingKey::from_secret(&self.tag_key),
                Algorithm::HS256,
            )
            .map_err(|error| Error::new(ErrorCode::Internal, format!("the login cannot be remembered: {error}")))?,
            scope: user.scope,
            credential_version: user.credential_version,
            until_micros: now_micros.saturating_add(SUCCESS_LIFE_MICROS),
        };
        let mut successes = self.successes.lock();
        if !successes.contains_key(&user.user_id) {
            make_room(&mut successes, SUCCESSES_KEPT, |kept| {
                (kept.until_micros > now_micros).then_some(kept.until_micros)
            });
        }
        successes.insert(user.user_id.clone(), success);
        Ok(())
    }

    fn succeeded_lately(&self, user: &UserRow, password: &str, now_micros: i64) -> bool {
        let successes = self.successes.lock();
        let Some(success) = successes.get(&user.user_id) else {
            return false;
        };
        success.until_micros > now_micros
            && success.scope == user.scope
            && success.credential_version == user.credential_version
            && jsonwebtoken::crypto::verify(
                &success.tag,
                &tagged(user, password),
                &DecodingKey::from_secret(&self.tag_key),
                Algorithm::HS256,
            )
            .is_ok_and(|same| same)
    }
}

impl Engine {
    /// Checks a password; slow by design (Argon2id), so call it on the query runtime. Fails alike, and as slowly, for an
    /// unknown user. Failures back off per (user, peer address), in memory. `peer` may carry a port, which does not count.
    ///
    /// # Errors
    /// UNAUTHENTICATED; TOO_MANY_REQUESTS says when to try again.
    pub fn authenticate(&self, user_id: &str, password: &str, peer: &str) -> Result<UserRecord> {
        let peer = address_of(peer);
        // No user has a name this long; one entry for all of them keeps what is remembered small.
        let user_id = if user_id.len() > MOST_NAME_BYTES { "" } else { user_id };
        let view = self.view();
        let now_micros = view.now_micros();
        let logins = self.logins();
        logins.check_wait(user_id, &peer, now_micros)?;

        let user = find_user(&view.state, user_id)?;
        if let Some(user) = &user
            && user.password_hash.is_some()
            && logins.succeeded_lately(user, password, now_micros)
        {
            return Ok(UserRecord::of(user));
        }
        let hashed = user.as_ref().and_then(|user| user.password_hash.as_deref());
        let matches = password::verify(password, hashed.unwrap_or(logins.nobodys_hash));
        match &user {
            Some(user) if matches && hashed.is_some() => {
                logins.succeeded(user, password, &peer, self.now_micros())?;
                Ok(UserRecord::of(user))
            }
            Some(_) | None => {
                logins.failed(user_id, &peer, self.now_micros());
                // A name that nobody has may be a password in the wrong field.
                let known = user.as_ref().map(|user| user.user_id.as_str());
                tracing::warn!(user = known.unwrap_or("(unknown)"), peer, "a login failed");
                Err(Error::new(ErrorCode::Unauthenticated, "wrong user name or password"))
            }
        }
    }
}

/// What the tag of a success is made of.
fn tagged(user: &UserRow, password: &str) -> Vec<u8> {
    [user.user_id.as_bytes(), b"\0", password.as_bytes()].concat()
}

/// The address without its port: each connection has another.
fn address_of(peer: &str) -> String {
    peer.parse::<SocketAddr>()
        .map_or_else(|_| peer.to_owned(), |address| address.ip().to_string())
}

/// Makes room for one more entry in a full map: entries without an age are over and go, else the one of the least age.
fn make_room<K: Clone + Eq + Hash, V>(map: &mut HashMap<K, V>, most: usize, age: impl Fn(&V) -> Option<i64>) {
    if map.len() < most {
        return;
    }
    map.retain(|_, value| age(value).is_some());
    if map.len() < most {
        return;
    }
    let oldest = map
        .iter()
        .min_by_key(|(_, value)| age(value))
        .map(|(key, _)| key.clone());
    if let Some(oldest) = oldest {
        map.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn the_wait_doubles_up_to_a_minute_and_is_forgotten() {
        let logins = Logins::new(&SystemClock).expect("hashes");
        let mut now_micros = 0;
        let waits: Vec<i64> = (0..14)
            .map(|_| {
                logins.failed("a", "p", now_micros);
                let wait = (0..=61).find(|wait| logins.check_wait("a", "p", now_micros + wait * SECOND).is_ok());
                let wait = wait.expect("a minute at most");
                now_micros += wait * SECOND;
                wait
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert!(logins.check_wait("a", "q", 0).is_ok());
        assert!(logins.check_wait("b", "p", 0).is_ok());

        now_micros += FAILURES_LIFE_MICROS;
        logins.failed("a", "p", now_micros);
        assert!(logins.check_wait("a", "p", now_micros).is_ok());
    }

    #[test]
    fn full_maps_lose_what_is_over_then_the_oldest() {
        let mut map: HashMap<u32, i64> = (0..4).map(|n| (n, i64::from(n))).collect();
        make_room(&mut map, 4, |&age| (age >= 2).then_some(age));
        assert_eq!(map.len(), 2);
        make_room(&mut map, 2, |&age| Some(age));
        assert_eq!(map.keys().copied().collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn ports_do_not_count() {
        for (peer, address) in [
            ("10.0.0.1:50", "10.0.0.1"),
            ("[::1]:50", "::1"),
            ("10.0.0.1", "10.0.0.1"),
            ("x", "x"),
        ] {
            assert_eq!(address_of(peer), address);
        }
    }
}
