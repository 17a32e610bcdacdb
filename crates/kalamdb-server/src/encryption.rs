//! TLS of both doors: what is read of the certificate files, and the watch that takes them up again when they change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::config::Config;

/// How often the files are looked at for renewed certificates.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(10);

/// Where certificate, key and the authority of clients are.
#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    client_authority: Option<PathBuf>,
}

/// What both doors encrypt with.
pub(crate) struct Encryptions {
    flight: kalamdb_flight::Encryption,
    http: kalamdb_flight::Encryption,
    files: Files,
    read: Vec<Option<SystemTime>>,
}

/// The same for each door, taken up as it changes; none without TLS.
#[derive(Clone, Default)]
pub(crate) struct Encryption {
    pub(crate) flight: Option<kalamdb_flight::Encryption>,
    pub(crate) http: Option<kalamdb_flight::Encryption>,
}

impl Encryptions {
    /// What the doors serve with.
    pub(crate) fn of_doors(&self) -> Encryption {
        Encryption {
            flight: Some(Arc::clone(&self.flight)),
            http: Some(Arc::clone(&self.http)),
        }
    }

    /// Reads what the configuration names; none if it names nothing.
    ///
    /// # Errors
    /// A message for people that names the file.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, String> {
        let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_key) else {
            return Ok(None);
        };
        let files = Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_authority: config.tls_client_authority.clone(),
        };
        let read = files.modified();
        let (flight, http) = files.load()?;
        Ok(Some(Encryptions {
            flight: Arc::new(ArcSwap::from_pointee(flight)),
            http: Arc::new(ArcSwap::from_pointee(http)),
            files,
            read,
        }))
    }

    /// Takes up files that change; never ends by itself. Files that cannot be used change nothing.
    pub(crate) async fn renew(mut self) {
        loop {
            tokio::time::sleep(RENEWAL_INTERVAL).await;
            self.renew_once();
        }
    }

    /// Whether the files had changed.
    fn renew_once(&mut self) -> bool {
        let modified = self.files.modified();
        if modified == self.read {
            return false;
        }
        self.read = modified;
        match self.files.load() {
            Ok((flight, http)) => {
                self.flight.store(Arc::new(flight));
                self.http.store(Arc::new(http));
                tracing::info!(certificate = %self.files.certificate.display(), "the TLS files changed and are in use");
            }
            Err(message) => {
                tracing::error!("the TLS files changed and cannot be used, so the earlier ones stay in use: {message}");
            }
        }
        true
    }
}

impl Files {
    /// When each was written; none for one that is not there.
    fn modified(&self) -> Vec<Option<SystemTime>> {
        [Some(&self.certificate), Some(&self.key), self.client_authority.as_ref()]
            .into_iter()
            .flatten()
            .map(|path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok())
            .collect()
    }

    /// For gRPC, which is HTTP/2, and for HTTP/1.1.
    fn load(&self) -> Result<(ServerConfig, ServerConfig), String> {
        let certificates = certificates("tls_certificate", &self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| unreadable("tls_key", &self.key, &error, "private key"))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in self::certificates("tls_client_authority", path)? {
                    roots
                        .add(certificate)
                        .map_err(|error| format!("tls_client_authority {}: {error}", path.display()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| format!("tls_client_authority {}: {error}", path.display()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let plain = builder.with_single_cert(certificates, key).map_err(|error| {
            format!(
                "tls_certificate {} and tls_key {} do not serve together: {error}",
                self.certificate.display(),
                self.key.display()
            )
        })?;
        let with_protocol = |protocol: &[u8]| {
            let mut config = plain.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            config
        };
        Ok((with_protocol(b"h2"), with_protocol(b"http/1.1")))
    }
}

/// The certificates of a PEM file, one at least; `setting` is what the file is named by.
///
/// # Errors
/// A message for people that names setting and file.
pub(crate) fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| unreadable(setting, path, &error, "certificate"))?;
    if certificates.is_empty() {
        return Err(unreadable(setting, path, &pem::Error::NoItemsFound, "certificate"));
    }
    Ok(certificates)
}

pub(crate) fn unreadable(setting: &str, path: &Path, error: &pem::Error, wanted: &str) -> String {
    let path = path.display();
    match error {
        pem::Error::NoItemsFound => format!("{setting} {path} has no {wanted} in PEM form"),
        pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            format!("{setting}: there is no file {path}")
        }
        other => format!("{setting} {path} cannot be read: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        directory: tempfile::TempDir,
        config: Config,
    }

    impl Fixture {
        fn new() -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let mut config = Config::new(directory.path());
            config.tls_certificate = Some(directory.path().join("server.pem"));
            config.tls_key = Some(directory.path().join("server.key"));
            let fixture = Fixture { directory, config };
            fixture.certify();
            fixture
        }

        /// Writes a certificate and key of today.
        fn certify(&self) {
            let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
            self.write("server.pem", &made.cert.pem());
            self.write("server.key", &made.signing_key.serialize_pem());
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.directory.path().join(name), text).expect("writes");
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let check = |prepare: fn(&mut Fixture), expected: &str| {
            let mut fixture = Fixture::new();
            prepare(&mut fixture);
            let refused = Encryptions::open(&fixture.config).err().expect("refused");
            assert!(refused.contains(expected), "{refused}");
        };
        let missing = |fixture: &mut Fixture| {
            fixture.config.tls_key = Some(fixture.directory.path().join("nowhere.key"));
        };
        check(missing, "tls_key: there is no file");
        check(|fixture| fixture.write("server.pem", "hello"), "has no certificate");
        check(|fixture| fixture.write("server.key", "hello"), "has no private key");
        let strange = |fixture: &mut Fixture| {
            let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
            fixture.write("server.key", &other.signing_key.serialize_pem());
        };
        check(strange, "do not serve together");
        let authority = |fixture: &mut Fixture| {
            fixture.config.tls_client_authority = Some(fixture.directory.path().join("server.key"));
        };
        check(authority, "tls_client_authority");
    }

    #[test]
    fn changed_files_are_taken_up_and_broken_ones_are_not() {
        let fixture = Fixture::new();
        let mut encryptions = Encryptions::open(&fixture.config).expect("opens").expect("some");
        let first = encryptions.flight.load_full();
        assert!(!encryptions.renew_once());
        assert!(Arc::ptr_eq(&first, &encryptions.flight.load_full()));
        let written = encryptions.files.modified()[0].expect("a time");
        let touch = |seconds: u64| {
            let file = fs::File::options()
                .write(true)
                .open(fixture.directory.path().join("server.pem"))
                .expect("opens");
            file.set_modified(written + Duration::from_secs(seconds))
                .expect("a time");
        };
        fixture.certify();
        touch(5);
        assert!(encryptions.renew_once());
        let second = encryptions.flight.load_full();
        assert!(!Arc::ptr_eq(&first, &second));
        fixture.write("server.pem", "broken");
        touch(10);
        assert!(encryptions.renew_once());
        assert!(Arc::ptr_eq(&second, &encryptions.flight.load_full()));
    }
}
