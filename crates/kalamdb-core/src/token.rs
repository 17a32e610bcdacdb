//! Bearer tokens of our own: signed, of limited life, naming exactly one session and principal.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};

use crate::engine::Engine;
use crate::error::{Error, ErrorCode, Result};

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: String,
    /// The scope of this incarnation of the user: a user dropped and made again is another.
    pub scope: u64,
    /// The session of the handshake.
    pub session: String,
    /// `UserRecord::credential_version` when it was made.
    pub credential_version: u64,
    /// End of life, seconds since the epoch.
    pub exp: u64,
}

/// The database's secret, ready for use.
pub(crate) struct TokenKeys {
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Validation,
}

impl TokenKeys {
    pub(crate) fn new(secret: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would ask the machine for the time; the engine's clock decides instead.
        validation.validate_exp = false;
        validation.leeway = 0;
        TokenKeys {
            sign: EncodingKey::from_secret(secret),
            verify: DecodingKey::from_secret(secret),
            validation,
        }
    }
}

impl Engine {
    /// Signs claims (HS256, with a key of this database).
    ///
    /// # Errors
    /// INTERNAL.
    pub fn sign_token(&self, claims: &Claims) -> Result<String> {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.token_keys().sign)
            .map_err(|error| Error::new(ErrorCode::Internal, format!("the token cannot be signed: {error}")))
    }

    /// Checks signature and life by the engine's clock; that the user is still that user is for the caller to check
    /// against [`Engine::user`].
    ///
    /// # Errors
    /// UNAUTHENTICATED.
    pub fn verify_token(&self, token: &str) -> Result<Claims> {
        let refuse = |message: &str| Error::new(ErrorCode::Unauthenticated, message);
        let keys = self.token_keys();
        let claims = jsonwebtoken::decode::<Claims>(token, &keys.verify, &keys.validation)
            .map_err(|_| refuse("the bearer token is not one of this database; log in again"))?
            .claims;
        let now_seconds = u64::try_from(self.now_micros().div_euclid(1_000_000)).unwrap_or(0);
        if claims.exp <= now_seconds {
            return Err(refuse("the bearer token has expired; log in again"));
        }
        Ok(claims)
    }
}
