//! Who is calling: one layer in front of every RPC, and the sessions that it finds or makes. The HTTP door uses the same
//! [`authenticate`]. What a session may do is not decided here.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http_body_util::BodyExt as _;
use kalamdb_core::{Claims, Error, ErrorCode, Result, UserRecord};
use kalamdb_sql::{Database, Session, SessionOrigin, SessionValue};
use tonic::body::Body;
use tonic::codegen::http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use crate::connection::Caller;
use crate::status::{broken_request, status, with_our_code};

/// Go's ADBC driver leaves the padding out, everyone else puts it in.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

const HOW_TO_LOG_IN: &str =
    "send a user and password (Basic) or the token of a login (Bearer) in the authorization header";

/// A session for as long as one call needs it. A session made for this call alone is closed when the lease is dropped, so
/// whoever streams a result keeps the lease until the stream ends.
pub struct SessionLease {
    database: Arc<Database>,
    session: Arc<Session>,
    user: UserRecord,
    /// Whether the session goes on when the lease is dropped: until it is closed or idle too long.
    outlasts_lease: AtomicBool,
    /// When the credentials themselves end, seconds since the epoch: an outside token's login is not to outlast it.
    credentials_end_seconds: Option<u64>,
    /// The lease of the session that this one is seen through, see [`SessionLease::with_options`].
    _of_session: Option<Arc<SessionLease>>,
}

impl SessionLease {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Whether the session ends with this call, so that nothing set in it would last.
    pub(crate) fn is_for_one_call(&self) -> bool {
        !self.outlasts_lease.load(Ordering::Acquire)
    }

    /// The same session with these options and no others, for one query. It counts to no limit, having been let in already, and
    /// what ends the session ends the query.
    ///
    /// # Errors
    /// As for [`Session::set_option`].
    pub(crate) fn with_options(self: &Arc<Self>, options: &BTreeMap<String, SessionValue>) -> Result<SessionLease> {
        Ok(SessionLease {
            database: Arc::clone(&self.database),
            session: Arc::new(self.session.with_options(options)?),
            user: self.user.clone(),
            outlasts_lease: AtomicBool::new(true),
            credentials_end_seconds: self.credentials_end_seconds,
            _of_session: Some(Arc::clone(self)),
        })
    }

    /// Makes the session of this call one that outlasts it, and the token that names it. A second session would need room
    /// beside the first: nobody could use their quota's last.
    pub(crate) fn log_in(&self) -> Result<String> {
        let engine = self.database.engine();
        let now_seconds = u64::try_from(engine.clock().now_micros() / 1_000_000).unwrap_or(0);
        let end_seconds = now_seconds.saturating_add(engine.token_life_seconds());
        let token = engine.sign_token(&Claims {
            sub: self.user.principal.user_id.clone(),
            scope: self.user.principal.scope.0,
            session: self.session.id().to_owned(),
            credential_version: self.user.credential_version,
            exp: self
                .credentials_end_seconds
                .map_or(end_seconds, |end| end.min(end_seconds)),
        })?;
        self.outlasts_lease.store(true, Ordering::Release);
        Ok(token)
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        if self.is_for_one_call() {
            self.database.close_session(self.session.id());
        }
    }
}

/// Checks an `Authorization` header (Basic, padded or not; or Bearer, with a token of ours or of the outside issuer) and finds or
/// makes the session. `peer` is the caller's
/// address, with or without port; `client` is what it calls itself.
///
/// # Errors
/// UNAUTHENTICATED says what is missing or wrong, never which of user and password; TOO_MANY_REQUESTS.
pub async fn authenticate(
    database: &Arc<Database>,
    authorization: Option<&str>,
    peer: &str,
    client: &str,
) -> Result<SessionLease> {
    let origin = SessionOrigin {
        peer: peer.to_owned(),
        client: client.to_owned(),
    };
    match Credential::parse(authorization)? {
        Credential::Basic { user_id, password } => {
            let user = database.authenticate(&user_id, &password, &address_of(peer)).await?;
            lease_for_call(database, user, origin, None)
        }
        Credential::Bearer(token) if database.engine().is_outside_token(token) => {
            let outsider = database.engine().authenticate_outside(token).await;
            let (user, expires_seconds) =
                outsider.inspect_err(|error| database.record_failed_login(None, peer, error))?;
            lease_for_call(database, user, origin, Some(expires_seconds))
        }
        Credential::Bearer(token) => {
            lease_of_login(database, token).inspect_err(|error| database.record_failed_login(None, peer, error))
        }
    }
}

/// The token of a bearer header, if it is one.
pub(crate) fn bearer_token(authorization: &str) -> Option<&str> {
    match Credential::parse(Some(authorization)) {
        Ok(Credential::Bearer(token)) => Some(token),
        Ok(Credential::Basic { .. }) | Err(_) => None,
    }
}

fn lease_for_call(
    database: &Arc<Database>,
    user: UserRecord,
    origin: SessionOrigin,
    credentials_end_seconds: Option<u64>,
) -> Result<SessionLease> {
    let peer = origin.peer.clone();
    let session = database.open_session(&user, origin);
    let session = session.inspect_err(|error| {
        database.record_failed_login(Some(&user.principal.user_id), &address_of(&peer), error);
    })?;
    Ok(SessionLease {
        database: Arc::clone(database),
        session,
        user,
        outlasts_lease: AtomicBool::new(false),
        credentials_end_seconds,
        _of_session: None,
    })
}

fn lease_of_login(database: &Arc<Database>, token: &str) -> Result<SessionLease> {
    let engine = database.engine();
    let claims = engine.verify_token(token)?;
    let session = database.find_session(&claims.session);
    let user = engine.user(&engine.view(), &claims.sub)?.filter(|user| {
        let version = user.credential_version;
        let made_here = || session.as_ref().is_some_and(|session| session.made_credential(version));
        user.principal.scope.0 == claims.scope && (version == claims.credential_version || made_here())
    });
    let Some(user) = user else {
        return Err(unauthenticated(
            "the user of this token was dropped or has a new password; log in again",
        ));
    };
    let session = session.filter(|session| {
        let owner = session.principal();
        owner.user_id == user.principal.user_id && owner.scope == user.principal.scope
    });
    let Some(session) = session else {
        return Err(unauthenticated("the session ended; log in again"));
    };
    Ok(SessionLease {
        database: Arc::clone(database),
        session,
        user,
        outlasts_lease: AtomicBool::new(true),
        credentials_end_seconds: None,
        _of_session: None,
    })
}

/// What an authorization header holds.
#[derive(Debug, PartialEq, Eq)]
enum Credential<'a> {
    Basic { user_id: String, password: String },
    Bearer(&'a str),
}

impl<'a> Credential<'a> {
    fn parse(header: Option<&'a str>) -> Result<Self> {
        let header = header.map(str::trim).filter(|header| !header.is_empty());
        let header = header.ok_or_else(|| unauthenticated(format!("this call has no credentials; {HOW_TO_LOG_IN}")))?;
        let (scheme, rest) = header.split_once(' ').unwrap_or((header, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") {
            Credential::basic(rest)
        } else if scheme.eq_ignore_ascii_case("bearer") && !rest.is_empty() {
            Ok(Credential::Bearer(rest))
        } else {
            Err(unauthenticated(format!(
                "the authorization header is neither Basic nor Bearer; {HOW_TO_LOG_IN}"
            )))
        }
    }

    fn basic(encoded: &str) -> Result<Self> {
        let text = BASE64
            .decode(encoded)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((user_id, password)) = text.as_deref().and_then(|text| text.split_once(':')) else {
            return Err(unauthenticated("the Basic credentials are not user:password in base64"));
        };
        Ok(Credential::Basic {
            user_id: user_id.to_owned(),
            password: password.to_owned(),
        })
    }
}

fn unauthenticated(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Unauthenticated, message)
}

/// The address without its port: failed logins back off per address, and each connection has another port.
fn address_of(peer: &str) -> String {
    peer.parse::<SocketAddr>()
        .map_or_else(|_| peer.to_owned(), |peer| peer.ip().to_string())
}

/// Puts an authenticated [`SessionLease`] (in an `Arc`) into each request's extensions, or refuses the call.
#[derive(Clone)]
pub(crate) struct AuthLayer {
    database: Arc<Database>,
}

impl AuthLayer {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        AuthLayer { database }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Authenticated {
            inner,
            database: Arc::clone(&self.database),
        }
    }
}

/// A service behind authentication.
#[derive(Clone)]
pub(crate) struct Authenticated<S> {
    inner: S,
    database: Arc<Database>,
}

impl<S> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let database = Arc::clone(&self.database);
        // The clone takes the readiness that `poll_ready` asserted of the original.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        Box::pin(async move {
            let caller = request.extensions().get::<Caller>().cloned();
            if let Some(refused) = caller.as_ref().and_then(|caller| caller.refused.clone()) {
                return Ok(status(refused).into_http());
            }
            let peer = caller.as_ref().and_then(|caller| caller.peer);
            let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
            let lease = {
                let headers = request.headers();
                authenticate(
                    &database,
                    header(headers, "authorization"),
                    &peer,
                    header(headers, "user-agent").unwrap_or(""),
                )
                .await
            };
            let lease = match lease {
                Ok(lease) => lease,
                Err(error) => return Ok(status(error).into_http()),
            };
            let held = caller.map_or(Ok(()), |caller| caller.login.succeeded(lease.session.principal()));
            if let Err(error) = held {
                return Ok(status(error).into_http());
            }
            answer_in_kind(request.headers_mut());
            request.extensions_mut().insert(Arc::new(lease));
            // Every request stream passes here, so that none can take a reset for its end.
            let request = request.map(|body| Body::new(body.map_err(broken_request)));
            inner.call(request).await.map(with_our_code)
        })
    }
}

/// Leaves a response's compression to the client: as it compresses the request.
///
/// What a client *accepts* does not say what it wants: gRPC's C++ and Java libraries accept gzip on every call, and would
/// have every bulk fetch squeezed through one core.
fn answer_in_kind(headers: &mut HeaderMap) {
    match headers.get("grpc-encoding").cloned() {
        Some(encoding) => headers.insert("grpc-accept-encoding", encoding),
        None => headers.remove("grpc-accept-encoding"),
    };
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_in_every_usual_form() {
        let basic = |user_id: &str, password: &str| {
            Some(Credential::Basic {
                user_id: user_id.to_owned(),
                password: password.to_owned(),
            })
        };
        let check = |header: Option<&str>, expected: Option<Credential<'_>>| match (Credential::parse(header), expected)
        {
            (Ok(parsed), Some(expected)) => assert_eq!(parsed, expected),
            (Err(error), None) => assert_eq!(error.code, ErrorCode::Unauthenticated),
            (parsed, expected) => panic!("{header:?} gave {parsed:?} instead of {expected:?}"),
        };
        check(Some("Basic cm9vdDpzZWNyZXQ="), basic("root", "secret"));
        check(Some("Basic cm9vdDpzZWNyZXQ"), basic("root", "secret"));
        check(Some("basic  cm9vdDpzZWNyZXQ= "), basic("root", "secret"));
        // The password may hold a colon, the user may not.
        check(Some("Basic YTpiOmM="), basic("a", "b:c"));
        check(Some("Basic YTo="), basic("a", ""));
        check(Some("Basic OmI="), basic("", "b"));
        check(Some("Basic w6Q6w7Y="), basic("ä", "ö"));
        check(Some("Bearer a.b.c"), Some(Credential::Bearer("a.b.c")));
        check(Some("bearer a.b.c"), Some(Credential::Bearer("a.b.c")));
        check(None, None);
        check(Some(""), None);
        check(Some("Basic"), None);
        check(Some("Bearer"), None);
        check(Some("Bearer "), None);
        check(Some("Basic !!!"), None);
        check(Some("Basic cm9vdA=="), None);
        check(Some("Basic /////w=="), None);
        check(Some("Negotiate abc"), None);
    }

    #[test]
    fn back_off_counts_addresses_not_ports() {
        assert_eq!(address_of("10.0.0.1:4711"), "10.0.0.1");
        assert_eq!(address_of("[::1]:4711"), "::1");
        assert_eq!(address_of("10.0.0.1"), "10.0.0.1");
        assert_eq!(address_of(""), "");
    }

    #[test]
    fn responses_are_compressed_as_requests_are() {
        let check = |given: &[(&'static str, &'static str)], expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            for &(name, value) in given {
                headers.insert(name, value.parse().expect("a header value"));
            }
            answer_in_kind(&mut headers);
            assert_eq!(header(&headers, "grpc-accept-encoding"), expected);
        };
        check(&[("grpc-accept-encoding", "identity, deflate, gzip")], None);
        check(
            &[("grpc-accept-encoding", "gzip"), ("grpc-encoding", "gzip")],
            Some("gzip"),
        );
        check(&[("grpc-encoding", "zstd")], Some("zstd"));
        check(&[], None);
    }
}
