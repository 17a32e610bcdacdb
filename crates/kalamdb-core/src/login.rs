//! Logging in by password: back-off after failures, and a memory of recent successes. All of it is in this process alone.
//!
//! Whoever guesses from an address is not told from who logs in from there until a password is checked, so that each chance for
//! the one is a chance for the other. Hence failures from an address never close it: they bound how many passwords are checked
//! there in a time, to [`COMPARED_PER_SECOND`] for a password that was right lately, and to one in [`LONGEST_WAIT_SECONDS`] for
//! any other. The first comes through among guesses up to that rate without noticing them; the second when it comes before the
//! next guess does.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use futures::channel::oneshot;
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

/// Failures that cost nothing: people mistype. As many attempts are under way at once at most.
const FREE_FAILURES: u32 = 5;
/// The longest wait, seconds. It starts at one and doubles. It bounds guesses to 21,600 a day from an address, and what another's
/// guesses cost the user to as many seconds.
const LONGEST_WAIT_SECONDS: i64 = 4;
/// Passwords that are compared with one that was right lately while the others wait, for each user and address.
const COMPARED_PER_SECOND: u32 = 10;
/// Failures are forgotten when none came for so long, µs.
const FAILURES_LIFE_MICROS: i64 = 15 * 60 * 1_000_000;
/// (User, peer) pairs of which something is remembered, about 400 bytes each. The oldest go first.
const PAIRS_KEPT: usize = 16 * 1024;
/// A success spares the next logins their Argon2 for so long, µs: clients that send Basic credentials with every call.
const SUCCESS_LIFE_MICROS: i64 = 5 * 60 * 1_000_000;
/// Users whose last success is remembered.
const SUCCESSES_KEPT: usize = 4 * 1024;
/// Bytes of the key of the password tags.
const TAG_KEY_BYTES: usize = 32;

/// What becomes of a login at first.
pub enum Login {
    /// The password was right lately, and still is.
    Known(UserRecord),
    /// It is to be checked by [`Engine::check_password`].
    Unchecked(Attempt),
    /// As many attempts as may be are under way: begin again when one has ended.
    Busy(Busy),
}

/// A login whose password is to be checked. Dropped before that, it is as if it had not been.
pub struct Attempt {
    logins: Arc<Logins>,
    /// Until it has ended.
    pair: Option<Pair>,
    user: Option<UserRow>,
}

/// Attempts that others have under way.
pub struct Busy {
    an_end: oneshot::Receiver<()>,
}

/// What this process remembers of logins.
pub(crate) struct Logins {
    pairs: Mutex<HashMap<Pair, Tries>>,
    successes: Mutex<HashMap<String, Success>>,
    /// Random in each process: tags are worth nothing outside it.
    tag_key: [u8; TAG_KEY_BYTES],
    /// What a password is checked against when there is no user or no password, so that both take as long.
    nobodys_hash: &'static str,
}

/// The claimed user and the address that the claim came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Pair {
    user_id: String,
    address: String,
}

struct Tries {
    failures: u32,
    last_micros: i64,
    blocked_until_micros: i64,
    /// Attempts whose outcome is not known yet. They count as failures until it is: else whoever asks fast enough is not counted.
    under_way: u32,
    /// Passwords compared with one that was right lately, and the second that they are of.
    compared: u32,
    compared_in_second: i64,
    /// Dropped when an attempt ends, which whoever waits for that hears.
    waiting: Vec<oneshot::Sender<()>>,
}

struct Success {
    /// A keyed hash of the password.
    tag: String,
    scope: ScopeId,
    credential_version: u64,
    until_micros: i64,
}

/// Whether an attempt may be made now.
enum Admission {
    Admitted,
    Busy(Busy),
    Wait { micros: i64 },
}

impl Busy {
    /// Waits for one of the attempts to end.
    pub async fn ended(&mut self) {
        // It is dropped and never sent.
        (&mut self.an_end).await.unwrap_or_default();
    }
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

impl Tries {
    fn new(now_micros: i64) -> Self {
        Tries {
            failures: 0,
            last_micros: now_micros,
            blocked_until_micros: 0,
            under_way: 0,
            compared: 0,
            compared_in_second: 0,
            waiting: Vec::new(),
        }
    }

    fn forget_old_failures(&mut self, now_micros: i64) {
        if self.last_micros.saturating_add(FAILURES_LIFE_MICROS) <= now_micros {
            self.failures = 0;
        }
    }

    /// Whether the next attempt is one too many, if those under way fail.
    fn is_full(&self) -> bool {
        self.failures.saturating_add(self.under_way) >= FREE_FAILURES
    }

    fn failed(&mut self, now_micros: i64) {
        self.failures = self.failures.saturating_add(1);
        self.last_micros = now_micros;
        if let Some(beyond) = self.failures.checked_sub(FREE_FAILURES) {
            let seconds = 1_i64
                .checked_shl(beyond.min(16))
                .map_or(LONGEST_WAIT_SECONDS, |s| s.min(LONGEST_WAIT_SECONDS));
            self.blocked_until_micros = now_micros.saturating_add(seconds * 1_000_000);
        }
    }
}

impl Logins {
    pub(crate) fn new(clock: &dyn Clock) -> Result<Self> {
        let mut tag_key = [0; TAG_KEY_BYTES];
        clock.fill_random(&mut tag_key);
        Ok(Logins {
            pairs: Mutex::default(),
            successes: Mutex::default(),
            tag_key,
            nobodys_hash: nobodys_hash(clock)?,
        })
    }

    /// Counts an attempt as under way, if it may be made.
    fn admit(&self, pair: &Pair, now_micros: i64) -> Admission {
        let mut pairs = self.pairs.lock();
        if !pairs.contains_key(pair) {
            make_room(&mut pairs, PAIRS_KEPT, |tries| {
                let is_over = tries.last_micros.saturating_add(FAILURES_LIFE_MICROS) <= now_micros;
                (!is_over).then_some(tries.last_micros)
            });
        }
        let tries = pairs.entry(pair.clone()).or_insert_with(|| Tries::new(now_micros));
        tries.forget_old_failures(now_micros);
        if tries.is_full() {
            let micros = tries.blocked_until_micros.saturating_sub(now_micros);
            if micros > 0 {
                return Admission::Wait { micros };
            }
            if tries.under_way > 0 {
                let (waiting, an_end) = oneshot::channel();
                tries.waiting.push(waiting);
                return Admission::Busy(Busy { an_end });
            }
        }
        tries.under_way += 1;
        Admission::Admitted
    }

    /// An attempt is under way no longer.
    fn ended(&self, pair: &Pair, outcome: Outcome) {
        let mut pairs = self.pairs.lock();
        // Nothing is remembered any more of one that had to make room.
        let Some(tries) = pairs.get_mut(pair) else { return };
        tries.under_way = tries.under_way.saturating_sub(1);
        match outcome {
            Outcome::Failed { now_micros } => tries.failed(now_micros),
            Outcome::Succeeded => {
                tries.failures = 0;
                tries.blocked_until_micros = 0;
            }
            Outcome::Abandoned => {}
        }
        tries.waiting.clear();
        if tries.under_way == 0 && tries.failures == 0 {
            pairs.remove(pair);
        }
    }

    /// When the user can log in again from wherever failures hold them up, µs; of one who can, nothing.
    pub(crate) fn locked_until(&self, now_micros: i64) -> HashMap<String, i64> {
        let mut users: HashMap<String, i64> = HashMap::new();
        for (pair, tries) in self.pairs.lock().iter() {
            if tries.blocked_until_micros > now_micros {
                let until = users.entry(pair.user_id.clone()).or_default();
                *until = tries.blocked_until_micros.max(*until);
            }
        }
        users
    }

    fn remember(&self, user: &UserRow, password: &str, now_micros: i64) -> Result<()> {
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

    /// Whether the password was right lately, whatever wait there is. Comparing takes no time, so what is wrong counts where the
    /// others wait: else guesses at this would be free.
    fn succeeded_lately(&self, pair: &Pair, user: &UserRow, password: &str, now_micros: i64) -> bool {
        let second = now_micros.div_euclid(1_000_000);
        let mut pairs = self.pairs.lock();
        let mut counted = pairs.get_mut(pair).filter(|tries| tries.is_full());
        if let Some(tries) = &mut counted {
            if tries.compared_in_second != second {
                tries.compared_in_second = second;
                tries.compared = 0;
            }
            if tries.compared >= COMPARED_PER_SECOND {
                return false;
            }
        }
        let same = self.is_remembered(user, password, now_micros);
        if let Some(tries) = counted
            && !same
        {
            tries.compared += 1;
        }
        same
    }

    fn is_remembered(&self, user: &UserRow, password: &str, now_micros: i64) -> bool {
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

/// How an attempt ended.
#[derive(Clone, Copy)]
enum Outcome {
    Succeeded,
    Failed { now_micros: i64 },
    Abandoned,
}

impl Attempt {
    fn end(&mut self, outcome: Outcome) {
        if let Some(pair) = self.pair.take() {
            self.logins.ended(&pair, outcome);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(Outcome::Abandoned);
    }
}

impl Engine {
    /// Checks a password at once, for whoever logs in one at a time; slow by design (Argon2id). Fails alike, and as slowly, for an
    /// unknown user. Failures back off per (user, peer address), in memory. `peer` may carry a port, which does not count.
    ///
    /// # Errors
    /// UNAUTHENTICATED; TOO_MANY_REQUESTS says when to try again.
    pub fn authenticate(&self, user_id: &str, password: &str, peer: &str) -> Result<UserRecord> {
        match self.begin_login(user_id, password, peer)? {
            Login::Known(user) => Ok(user),
            Login::Unchecked(attempt) => self.check_password(attempt, password),
            Login::Busy(_) => Err(Error::new(
                ErrorCode::TooManyRequests,
                "too many logins of this user from this address are under way; try again",
            )),
        }
    }

    /// What comes before a password is checked, and may make that needless. Quick.
    ///
    /// # Errors
    /// TOO_MANY_REQUESTS says when to try again.
    pub fn begin_login(&self, user_id: &str, password: &str, peer: &str) -> Result<Login> {
        let view = self.view();
        let now_micros = view.now_micros();
        let logins = self.logins();
        let pair = Pair {
            // No user has a name this long; one entry for all of them keeps what is remembered small.
            user_id: if user_id.len() > MOST_NAME_BYTES { "" } else { user_id }.to_owned(),
            address: address_of(peer),
        };
        let user = find_user(&view.state, &pair.user_id)?;
        if let Some(user) = &user
            && user.password_hash.is_some()
            && logins.succeeded_lately(&pair, user, password, now_micros)
        {
            return Ok(Login::Known(UserRecord::of(user)));
        }
        match logins.admit(&pair, now_micros) {
            Admission::Admitted => Ok(Login::Unchecked(Attempt {
                logins: Arc::clone(logins),
                pair: Some(pair),
                user,
            })),
            Admission::Busy(busy) => Ok(Login::Busy(busy)),
            Admission::Wait { micros } => {
                let seconds = (micros + 999_999).div_euclid(1_000_000);
                Err(Error::new(
                    ErrorCode::TooManyRequests,
                    format!("too many failed logins of this user from this address; try again in {seconds} s"),
                ))
            }
        }
    }

    /// Checks the password of an attempt: tens of milliseconds of CPU and 19 MiB, so bound how many of these run at once.
    ///
    /// # Errors
    /// UNAUTHENTICATED.
    pub fn check_password(&self, mut attempt: Attempt, password: &str) -> Result<UserRecord> {
        let logins = self.logins();
        let hashed = attempt.user.as_ref().and_then(|user| user.password_hash.as_deref());
        let matches = password::verify(password, hashed.unwrap_or(logins.nobodys_hash)) && hashed.is_some();
        let now_micros = self.now_micros();
        match &attempt.user {
            Some(user) if matches => {
                let record = UserRecord::of(user);
                // Before those who wait for this attempt begin again.
                logins.remember(user, password, now_micros)?;
                attempt.end(Outcome::Succeeded);
                Ok(record)
            }
            Some(_) | None => {
                // A name that nobody has may be a password in the wrong field.
                let known = attempt.user.as_ref().map(|user| user.user_id.as_str());
                let peer = attempt.pair.as_ref().map(|pair| pair.address.as_str());
                tracing::warn!(user = known.unwrap_or("(unknown)"), peer, "a login failed");
                attempt.end(Outcome::Failed { now_micros });
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
    use futures::FutureExt;

    use super::*;
    use crate::clock::SystemClock;

    const SECOND: i64 = 1_000_000;

    fn pair(user_id: &str, address: &str) -> Pair {
        Pair {
            user_id: user_id.to_owned(),
            address: address.to_owned(),
        }
    }

    fn wait(logins: &Logins, pair: &Pair, now_micros: i64) -> i64 {
        match logins.admit(pair, now_micros) {
            Admission::Admitted => {
                logins.ended(pair, Outcome::Abandoned);
                0
            }
            Admission::Wait { micros } => micros / SECOND,
            Admission::Busy(_) => panic!("nothing is under way"),
        }
    }

    fn fail(logins: &Logins, pair: &Pair, now_micros: i64) {
        assert!(matches!(logins.admit(pair, now_micros), Admission::Admitted));
        logins.ended(pair, Outcome::Failed { now_micros });
    }

    #[test]
    fn the_wait_doubles_up_to_its_longest_and_is_forgotten() {
        let logins = Logins::new(&SystemClock).expect("hashes");
        let mut now_micros = 0;
        let guessed = pair("a", "p");
        let waits: Vec<i64> = (0..10)
            .map(|_| {
                fail(&logins, &guessed, now_micros);
                let wait = wait(&logins, &guessed, now_micros);
                now_micros += wait * SECOND;
                wait
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 4, 4, 4]);
        for other in [pair("a", "q"), pair("b", "p")] {
            assert_eq!(wait(&logins, &other, 0), 0);
        }

        now_micros += FAILURES_LIFE_MICROS;
        fail(&logins, &guessed, now_micros);
        assert_eq!(wait(&logins, &guessed, now_micros), 0);
    }

    #[test]
    fn attempts_under_way_count_as_failures_until_they_end() {
        let logins = Logins::new(&SystemClock).expect("hashes");
        let pair = pair("a", "p");
        let admitted = |now_micros| {
            let admissions = (0..100).map(|_| logins.admit(&pair, now_micros));
            admissions
                .filter(|admission| matches!(admission, Admission::Admitted))
                .count()
        };
        assert_eq!(admitted(0), 5);
        let Admission::Busy(mut busy) = logins.admit(&pair, 0) else {
            panic!("five are under way");
        };
        logins.ended(&pair, Outcome::Abandoned);
        assert_eq!(busy.ended().now_or_never(), Some(()));
        assert_eq!(admitted(0), 1, "for the one that was abandoned");
        for _ in 0..5 {
            logins.ended(&pair, Outcome::Failed { now_micros: 0 });
        }
        assert!(matches!(logins.admit(&pair, 0), Admission::Wait { micros: SECOND }));
        assert_eq!(admitted(SECOND), 1, "one at a time");
        logins.ended(&pair, Outcome::Succeeded);
        assert_eq!(admitted(SECOND), 5);
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
