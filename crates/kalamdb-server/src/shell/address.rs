//! Where a server is, as its URL says, and whether the way there is encrypted.

use std::fmt;
use std::net::IpAddr;

/// The schemes of Flight clients, and whether they are TLS.
const SCHEMES: [(&str, bool); 5] = [
    ("grpc://", false),
    ("grpc+tcp://", false),
    ("http://", false),
    ("grpc+tls://", true),
    ("https://", true),
];

/// `scheme://host:port`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    host: String,
    port: u16,
    pub(crate) is_encrypted: bool,
}

impl Address {
    /// # Errors
    /// A message for people.
    pub(crate) fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("--url {url}: it must be grpc://host:port, or grpc+tls://host:port for TLS");
        let (rest, is_encrypted) = SCHEMES
            .iter()
            .find_map(|(scheme, is_encrypted)| Some((url.strip_prefix(scheme)?, *is_encrypted)))
            .ok_or_else(wrong)?;
        let (host, port) = rest.trim_end_matches('/').rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().map_err(|_| wrong())?;
        let is_host =
            !host.is_empty() && !host.contains(['/', '?', '#']) && (!host.contains(':') || is_bracketed(host));
        if host.contains('@') {
            // It would be obeyed by some clients, and it is shown wherever the URL is.
            return Err("--url: a URL says neither user nor password here; use --user and KALAMDB_PASSWORD".to_owned());
        }
        if !is_host {
            return Err(wrong());
        }
        Ok(Address {
            host: host.to_owned(),
            port,
            is_encrypted,
        })
    }

    /// Whether only this machine is asked.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

/// As HTTP has it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

fn is_bracketed(host: &str) -> bool {
    host.starts_with('[') && host.ends_with(']')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_and_a_port() {
        let check = |url: &str, expected: Option<&str>| {
            let found = Address::parse(url).map(|address| address.to_string());
            assert_eq!(found.as_deref().ok(), expected, "{url}: {found:?}");
        };
        check("grpc://127.0.0.1:50051", Some("http://127.0.0.1:50051"));
        check("http://127.0.0.1:50051", Some("http://127.0.0.1:50051"));
        check("grpc+tcp://db.example:1/", Some("http://db.example:1"));
        check("grpc://[::1]:50051", Some("http://[::1]:50051"));
        check("grpc+tls://db.example:50051", Some("https://db.example:50051"));
        check("https://[::1]:50051/", Some("https://[::1]:50051"));
        check("grpc://127.0.0.1", None);
        check("127.0.0.1:50051", None);
        check("grpc://::1:50051", None);
        check("grpc://db.example:1/path", None);
        check("grpc://db.example/path:1", None);
        check("grpc://:50051", None);
        check("grpc://db.example:port", None);
        check("ftp://db.example:1", None);
        let with_password = Address::parse("grpc://ann:secret@db.example:1").expect_err("refused");
        assert!(!with_password.contains("secret"), "{with_password}");
    }

    #[test]
    fn loopback_is_this_machine_alone() {
        let check = |url: &str, expected: bool| {
            let address = Address::parse(url).expect("a URL");
            assert_eq!(address.is_loopback(), expected, "{url}");
        };
        check("grpc://127.0.0.1:50051", true);
        check("grpc://127.8.0.1:50051", true);
        check("grpc+tls://localhost:1", true);
        check("grpc://[::1]:50051", true);
        check("grpc://10.0.0.1:50051", false);
        check("grpc://localhost.example:50051", false);
        check("grpc://[fe80::1]:50051", false);
    }
}
