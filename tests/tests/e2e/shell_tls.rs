//! `kalamdb sql` over TLS: whom it trusts, whom the server trusts, and what it says when one of them does not.

use std::path::{Path, PathBuf};
use std::process::Output;

use kalamdb_tests::{ROOT_PASSWORD, Server, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::command_line::{run, stdout};

/// Who certifies.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    directory: PathBuf,
    /// Its certificate.
    file: String,
}

impl Authority {
    fn new(name: &str, directory: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names are fine");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let file = write(directory, &format!("{name}.pem"), &issuer.as_ref().pem());
        Authority {
            issuer,
            directory: directory.to_owned(),
            file,
        }
    }

    /// The files of a certificate and its key.
    fn certify(&self, stem: &str, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the names are fine");
        params.distinguished_name.push(DnType::CommonName, stem);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let certificate = write(&self.directory, &format!("{stem}.pem"), &certificate.pem());
        (
            certificate,
            write(&self.directory, &format!("{stem}.key"), &key.serialize_pem()),
        )
    }
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("the file can be written");
    path.display().to_string()
}

/// Asks for two as root.
fn ask(url: &str, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut all = vec!["sql", "--format", "csv", "-c", "SELECT 1 + 1 AS two", "--url", url];
    all.extend(args);
    run(&all, &[&[("KALAMDB_PASSWORD", ROOT_PASSWORD)], env].concat())
}

fn answers(output: &Output) {
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(output), "two\n2\n");
}

fn refuses(output: &Output, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
    assert!(!stderr.contains(ROOT_PASSWORD), "{stderr}");
}

#[test]
fn the_shell_trusts_the_servers_authority_and_no_other() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let authority = Authority::new("authority", directory.path());
    let other = Authority::new("another", directory.path());
    let (certificate, key) = authority.certify("server", &["localhost", "127.0.0.1", "db.example"]);
    let data_dir = directory.path().join("data");
    let settings = Settings::with_args(&["--tls-certificate", &certificate, "--tls-key", &key]);
    let server = Server::start_with(&data_dir, &settings);
    let url = format!("grpc+tls://{}", server.flight);

    let trusted = ["--tls-authority", authority.file.as_str()];
    answers(&ask(&url, &trusted, &[]));
    answers(&ask(&format!("https://{}", server.flight), &trusted, &[]));
    answers(&ask(&url, &[], &[("KALAMDB_TLS_AUTHORITY", &authority.file)]));
    // Without the option, whom the system trusts; this is how OpenSSL and rustls are told of one more.
    answers(&ask(&url, &[], &[("SSL_CERT_FILE", &authority.file)]));

    refuses(
        &ask(&url, &["--tls-authority", &other.file], &[]),
        &[
            "its certificate is of an authority that is none in --tls-authority",
            &url,
        ],
    );
    refuses(
        &ask(&url, &[], &[("SSL_CERT_FILE", &other.file)]),
        &[
            "of an authority that is none that this system trusts",
            "--tls-authority",
        ],
    );
    refuses(
        &ask(&url, &["--tls-authority", "/no/such.pem"], &[]),
        &["--tls-authority: there is no file /no/such.pem"],
    );
    refuses(&ask(&url, &["--tls-authority", &key], &[]), &["has no certificate"]);

    // The certificate must be for the server that was asked for.
    let by_name = |name: &str| {
        let args = ["--tls-authority", &authority.file, "--tls-server-name", name];
        ask(&url, &args, &[])
    };
    answers(&by_name("db.example"));
    refuses(
        &by_name("other.example"),
        &["its certificate is not for name \"other.example\"", "--tls-server-name"],
    );

    // Neither side takes the other for what it is not.
    refuses(&ask(&format!("grpc://{}", server.flight), &[], &[]), &["grpc+tls://"]);
    server.terminate();
    let server = Server::start(&data_dir);
    refuses(
        &ask(&format!("grpc+tls://{}", server.flight), &trusted, &[]),
        &["does not speak TLS"],
    );
    refuses(
        &ask(&format!("grpc://{}", server.flight), &trusted, &[]),
        &["--tls-authority is for TLS"],
    );
    server.terminate();
}

#[test]
fn the_shell_shows_its_certificate_to_a_server_that_wants_one() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let authority = Authority::new("authority", directory.path());
    let other = Authority::new("another", directory.path());
    let (certificate, key) = authority.certify("server", &["127.0.0.1"]);
    let settings = Settings::with_args(&[
        "--tls-certificate",
        &certificate,
        "--tls-key",
        &key,
        "--tls-client-authority",
        &authority.file,
    ]);
    let server = Server::start_with(&directory.path().join("data"), &settings);
    let url = format!("grpc+tls://{}", server.flight);
    let ask = |own: &[&str], env: &[(&str, &str)]| {
        let trusted = ["--tls-authority", authority.file.as_str()];
        ask(&url, &[&trusted, own].concat(), env)
    };

    let (own, own_key) = authority.certify("ann", &["ann"]);
    answers(&ask(
        &["--tls-client-certificate", &own, "--tls-client-key", &own_key],
        &[],
    ));
    answers(&ask(
        &[],
        &[
            ("KALAMDB_TLS_CLIENT_CERTIFICATE", &own),
            ("KALAMDB_TLS_CLIENT_KEY", &own_key),
        ],
    ));
    refuses(
        &ask(&[], &[]),
        &[
            "certificate of its clients",
            "--tls-client-certificate and --tls-client-key",
        ],
    );
    let (strange, strange_key) = other.certify("bob", &["bob"]);
    refuses(
        &ask(
            &["--tls-client-certificate", &strange, "--tls-client-key", &strange_key],
            &[],
        ),
        &["may not take the certificate in --tls-client-certificate"],
    );
    refuses(&ask(&["--tls-client-certificate", &own], &[]), &["--tls-client-key"]);
    refuses(
        &ask(
            &["--tls-client-certificate", &own, "--tls-client-key", &strange_key],
            &[],
        ),
        &["belong together?"],
    );
    server.terminate();
}

#[test]
fn a_password_crosses_no_network_in_clear_unawares() {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    // It is this machine, and no loopback address.
    let url = format!("grpc://0.0.0.0:{}", server.flight.port());
    refuses(
        &ask(&url, &[], &[]),
        &["in clear", "grpc+tls://", "--allow-plaintext-on-network"],
    );
    refuses(
        &ask(&url, &[], &[("KALAMDB_ALLOW_PLAINTEXT_ON_NETWORK", "false")]),
        &["in clear"],
    );
    answers(&ask(&url, &["--allow-plaintext-on-network"], &[]));
    answers(&ask(&url, &[], &[("KALAMDB_ALLOW_PLAINTEXT_ON_NETWORK", "true")]));
    server.terminate();
}
