//! TLS to a server: whom to trust, with which certificate to come, and what a failed handshake means for people.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::encryption::{certificates, unreadable};

/// What the options say about TLS.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trust {
    /// Certificates of those who certify the server; the system's otherwise.
    pub(crate) authority: Option<PathBuf>,
    /// Our certificate and its key, for a server that asks for one.
    pub(crate) client_certificate: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
    /// The name in the server's certificate, where it is not the URL's.
    pub(crate) server_name: Option<String>,
}

impl Trust {
    /// The first option that is given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let options = [
            (self.authority.is_some(), "--tls-authority"),
            (self.client_certificate.is_some(), "--tls-client-certificate"),
            (self.client_key.is_some(), "--tls-client-key"),
            (self.server_name.is_some(), "--tls-server-name"),
        ];
        options.iter().find_map(|(is_given, name)| is_given.then_some(*name))
    }

    /// # Errors
    /// A message for people that names the file.
    pub(crate) fn config(&self, handshake_timeout: Duration) -> Result<ClientTlsConfig, String> {
        let mut config = ClientTlsConfig::new().timeout(handshake_timeout);
        config = match &self.authority {
            Some(path) => {
                certificates("--tls-authority", path)?;
                config.ca_certificate(Certificate::from_pem(read("--tls-authority", path)?))
            }
            None => config.with_native_roots(),
        };
        match (&self.client_certificate, &self.client_key) {
            (Some(certificate), Some(key)) => {
                certificates("--tls-client-certificate", certificate)?;
                PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable("--tls-client-key", key, &error, "private key"))?;
                config = config.identity(Identity::from_pem(
                    read("--tls-client-certificate", certificate)?,
                    read("--tls-client-key", key)?,
                ));
            }
            (Some(_), None) => return Err("--tls-client-certificate needs its key: --tls-client-key".to_owned()),
            (None, Some(_)) => {
                return Err("--tls-client-key needs its certificate: --tls-client-certificate".to_owned());
            }
            (None, None) => {}
        }
        if let Some(name) = &self.server_name {
            ServerName::try_from(name.as_str())
                .map_err(|_| format!("--tls-server-name {name} is neither a host's name nor an address"))?;
            config = config.domain_name(name);
        }
        Ok(config)
    }

    /// Why a handshake failed, and what to do; `cause` is rustls' or the server's word for it.
    pub(crate) fn explain(&self, cause: &str) -> Option<String> {
        let has = |part: &str| cause.contains(part);
        if has("received fatal alert: CertificateRequired") {
            return Some(
                "it wants a certificate of its clients: --tls-client-certificate and --tls-client-key name one"
                    .to_owned(),
            );
        }
        let hung_up = ["Broken pipe", "reset by peer"].into_iter().any(has);
        if hung_up || (has("received fatal alert") && self.client_certificate.is_some()) {
            return Some(self.unwelcome().to_owned());
        }
        if has("UnknownIssuer") {
            let known = match &self.authority {
                Some(path) => format!("none in --tls-authority {}", path.display()),
                None => "none that this system trusts; name its certificate with --tls-authority".to_owned(),
            };
            return Some(format!("its certificate is of an authority that is {known}"));
        }
        if has("not valid for name") {
            let names = cause.split("certificate not valid for").nth(1).unwrap_or_default();
            return Some(format!(
                "its certificate is not for{names}; --tls-server-name says which name to expect"
            ));
        }
        if has("certificate expired") || has("not valid yet") {
            return Some(cause.replace("invalid peer certificate: certificate", "its certificate is"));
        }
        if has("invalid peer certificate") {
            return Some(cause.replace("invalid peer", "its"));
        }
        if has("received corrupt message") || has("handshake eof") {
            return Some("what answers there does not speak TLS; its URL is grpc://host:port".to_owned());
        }
        None
    }

    /// What a server may mean that hangs up instead of answering.
    pub(crate) fn unwelcome(&self) -> &'static str {
        match self.client_certificate {
            None => "it may want a certificate of its clients: --tls-client-certificate and --tls-client-key name one",
            Some(_) => "it may not take the certificate in --tls-client-certificate",
        }
    }
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{option} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_handshake_says_what_to_do() {
        let check = |trust: &Trust, cause: &str, expected: Option<&str>| {
            let found = trust.explain(cause);
            match expected {
                Some(part) => assert!(
                    found.as_ref().is_some_and(|text| text.contains(part)),
                    "{cause}: {found:?}"
                ),
                None => assert_eq!(found, None, "{cause}"),
            }
        };
        let plain = Trust::default();
        let own = Trust {
            authority: Some(PathBuf::from("ca.pem")),
            client_certificate: Some(PathBuf::from("me.pem")),
            ..Trust::default()
        };
        check(
            &plain,
            "invalid peer certificate: UnknownIssuer",
            Some("--tls-authority"),
        );
        check(
            &own,
            "invalid peer certificate: UnknownIssuer",
            Some("none in --tls-authority ca.pem"),
        );
        check(
            &plain,
            "invalid peer certificate: certificate not valid for name \"a\"; certificate is only valid for DnsName(\"b\")",
            Some("not for name \"a\"; certificate is only valid for DnsName(\"b\"); --tls-server-name"),
        );
        check(
            &plain,
            "invalid peer certificate: certificate expired: verification time 2 (UNIX)",
            Some("its certificate is expired"),
        );
        check(
            &plain,
            "invalid peer certificate: BadEncoding",
            Some("its certificate: BadEncoding"),
        );
        check(
            &plain,
            "received fatal alert: CertificateRequired",
            Some("it wants a certificate of its clients"),
        );
        let unwelcome = Some("may not take the certificate in --tls-client-certificate");
        check(&own, "received fatal alert: UnknownCA", unwelcome);
        check(&own, "Connection reset by peer (os error 104)", unwelcome);
        check(
            &plain,
            "received corrupt message of type InvalidContentType",
            Some("does not speak TLS"),
        );
        check(&plain, "Connection refused (os error 111)", None);
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("writes");
            Some(path)
        };
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let certificate = file("me.pem", &made.cert.pem());
        let key = file("me.key", &made.signing_key.serialize_pem());
        let check = |trust: Trust, expected: Option<&str>| {
            let outcome = trust.config(Duration::from_secs(1)).map(|_| ());
            match expected {
                Some(part) => assert!(
                    outcome.as_ref().is_err_and(|text| text.contains(part)),
                    "{part}: {outcome:?}"
                ),
                None => assert_eq!(outcome, Ok(())),
            }
        };
        let whole = Trust {
            authority: certificate.clone(),
            client_certificate: certificate.clone(),
            client_key: key,
            server_name: Some("db.example".to_owned()),
        };
        check(whole.clone(), None);
        assert_eq!(whole.given(), Some("--tls-authority"));
        assert_eq!(Trust::default().given(), None);
        let with = |change: fn(&mut Trust)| {
            let mut trust = whole.clone();
            change(&mut trust);
            trust
        };
        check(
            with(|trust| trust.authority = Some(PathBuf::from("/no/such.pem"))),
            Some("--tls-authority: there is no file /no/such.pem"),
        );
        check(
            with(|trust| trust.authority = trust.client_key.clone()),
            Some("has no certificate"),
        );
        check(
            with(|trust| trust.client_key = trust.client_certificate.clone()),
            Some("has no private key"),
        );
        check(with(|trust| trust.client_key = None), Some("needs its key"));
        check(
            with(|trust| trust.client_certificate = None),
            Some("needs its certificate"),
        );
        check(
            with(|trust| trust.server_name = Some("no name".to_owned())),
            Some("neither a host's name"),
        );
    }
}
