//! Where the keys of an outside issuer of tokens come from, and the watch that fetches them again. What they are used for is
//! `kalamdb-core`'s.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::http::Uri;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use kalamdb_core::Engine;
use tokio_rustls::rustls::crypto::ring;

/// A JWK set has a few kilobytes.
const MAX_BYTES: usize = 1 << 20;

/// The issuer has so long to answer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// Issuers change their keys now and then.
const REFRESH_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// A file is looked at, and after a failure or a token with an unknown key an URL is fetched again, this often at most.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Where a JWK set is.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file of this machine.
    File(PathBuf),
    /// Over HTTPS, or over HTTP of this machine.
    Url(Uri),
}

impl KeySource {
    /// # Errors
    /// A message for people.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let has_scheme = ["http:", "https:"].iter().any(|scheme| text.starts_with(scheme));
        if !has_scheme && !text.contains("://") {
            return Ok(KeySource::File(PathBuf::from(text)));
        }
        // The text is not repeated: it may have a password in it.
        let url: Uri = text.parse().map_err(|error| format!("that is no URL: {error}"))?;
        if url
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err("user information before the host is sent to nobody; leave it out".to_owned());
        }
        let host = url.host().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        let is_loopback = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        match url.scheme_str() {
            Some("https") => Ok(KeySource::Url(url)),
            Some("http") if is_loopback => Ok(KeySource::Url(url)),
            Some("http") => {
                Err("whoever is on the network's way could put keys of their own there; use https".to_owned())
            }
            _ => Err("only files, https and, on loopback, http are known".to_owned()),
        }
    }

    async fn fetch(&self) -> Result<String, String> {
        let bytes = match self {
            KeySource::File(path) => tokio::fs::read(path).await.map_err(|error| error.to_string())?,
            KeySource::Url(url) => tokio::time::timeout(FETCH_TIMEOUT, get(url.clone()))
                .await
                .map_err(|_| format!("no answer within {} s", FETCH_TIMEOUT.as_secs()))??,
        };
        String::from_utf8(bytes).map_err(|_| "is not text".to_owned())
    }

    /// When a file was written.
    async fn modified(&self) -> Option<SystemTime> {
        match self {
            KeySource::File(path) => tokio::fs::metadata(path).await.ok()?.modified().ok(),
            KeySource::Url(_) => None,
        }
    }
}

/// Of a URL what is no secret: without its query.
impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::File(path) => path.display().fmt(f),
            KeySource::Url(url) => {
                let (scheme, host) = (url.scheme_str().unwrap_or_default(), url.host().unwrap_or_default());
                write!(f, "{scheme}://{host}")?;
                if let Some(port) = url.port_u16() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

async fn get(url: Uri) -> Result<Vec<u8>, String> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(ring::default_provider())
        .map_err(|error| format!("this machine's certificates cannot be read: {error}"))?
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let answer = client.get(url).await.map_err(|error| with_causes(&error))?;
    if !answer.status().is_success() {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
    Ok(body.map_err(|error| error.to_string())?.to_bytes().to_vec())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Puts the keys in force, and again whenever they may have changed; never ends by itself.
pub(crate) async fn keep(source: KeySource, engine: Arc<Engine>) {
    let mut read = None;
    let mut good = false;
    loop {
        let modified = source.modified().await;
        let unchanged_file = matches!(source, KeySource::File(_)) && good && modified == read;
        if !unchanged_file {
            read = modified;
            good = match put_in_force(&source, &engine).await {
                Ok(()) => true,
                Err(problem) => {
                    tracing::error!(%source, problem, "the keys of the outside issuer cannot be used; earlier ones stay in force");
                    false
                }
            };
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
        if good && matches!(source, KeySource::Url(_)) {
            tokio::select! {
                () = tokio::time::sleep(REFRESH_INTERVAL) => {}
                () = engine.wait_for_unknown_key() => {}
            }
        }
    }
}

async fn put_in_force(source: &KeySource, engine: &Engine) -> Result<(), String> {
    let text = source.fetch().await?;
    engine.set_outside_keys(&text).map_err(|error| error.message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_of_a_url_may_be_a_secret_does_not_show() {
        let check = |text: &str, shown: &str| {
            let source = KeySource::parse(text).expect("a source of keys");
            assert_eq!(
                (source.to_string(), format!("{source:?}")),
                (shown.to_owned(), shown.to_owned())
            );
        };
        check("/etc/keys.json", "/etc/keys.json");
        check("https://issuer.example.org/keys", "https://issuer.example.org/keys");
        check(
            "https://issuer.example.org:8443/keys?token=t",
            "https://issuer.example.org:8443/keys",
        );
        check("http://[::1]:1/?t", "http://[::1]:1/");
        for text in [
            "https://u:p@ x/?token=t",
            "https://u:p@issuer.example.org/?token=t",
            "http://u:p@127.0.0.1/keys",
            "https:/u:p@issuer.example.org/keys",
        ] {
            let error = KeySource::parse(text).expect_err("no source of keys");
            assert!(!error.contains("u:p") && !error.contains("token"), "{error}");
        }
    }

    #[test]
    fn keys_come_from_files_and_over_encrypted_or_local_ways() {
        let check = |text: &str, good: bool| assert_eq!(KeySource::parse(text).is_ok(), good, "{text}");
        check("keys.json", true);
        check("/etc/kalamdb/keys.json", true);
        check("https://issuer.example.org/.well-known/jwks.json", true);
        check("http://127.0.0.1:8000/jwks.json", true);
        check("http://[::1]:8000/jwks.json", true);
        check("http://localhost/jwks.json", true);
        check("http://issuer.example.org/jwks.json", false);
        check("http://localhost.example.org/jwks.json", false);
        check("ftp://issuer.example.org/jwks.json", false);
        check("https://", false);
    }
}
