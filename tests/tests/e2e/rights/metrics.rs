//! `/metrics` from another machine. Of what a test has, the nearest is a network namespace of its own with an address that is not a
//! loopback one: the test runs itself once more in there. Where namespaces are not for it to make, it takes an address that the
//! machine has.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;

use kalamdb_tests::{Http, Settings};

use super::{PASSWORD, ROLES, everyone, least, start_with};

/// The document's row that is tried here.
pub(super) const ROW: &str = "reading /metrics from another machine";

/// Of the addresses that are for documentation.
const ADDRESS: &str = "192.0.2.1";

/// Set for the test that is inside, to the address that it has there.
const INSIDE: &str = "ADDRESS_OF_THE_NAMESPACE";

/// What a shell exits with when there is no such namespace.
const NO_NAMESPACE: i32 = 77;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_read_from_another_machine_by_whom_the_document_says() {
    if let Ok(address) = std::env::var(INSIDE) {
        ask_from(address.parse().expect("an address")).await;
        return;
    }
    let name = concat!(
        module_path!(),
        "::metrics_are_read_from_another_machine_by_whom_the_document_says"
    );
    let (_crate, name) = name.split_once("::").expect("a path begins with its crate");
    let script = format!(
        "ip link set lo up && ip addr add {ADDRESS}/32 dev lo || exit {NO_NAMESPACE}; \
         exec \"$0\" --exact {name} --nocapture --test-threads 1"
    );
    let itself = std::env::current_exe().expect("the running executable has a path");
    let ran = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
        .arg(itself)
        .env(INSIDE, ADDRESS)
        .output();
    let why_not = match ran {
        Ok(output) => {
            let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            if told.contains("1 passed") && output.status.success() {
                return;
            }
            // It began, so that what went wrong is the matter itself.
            assert!(!told.contains("running 1 test"), "inside the namespace:\n{told}");
            told
        }
        Err(error) => error.to_string(),
    };
    println!(
        "no network namespace can be made here ({}), so an address of this machine is tried",
        why_not.trim()
    );
    match own_address() {
        Some(address) => ask_from(address).await,
        None => println!("this machine has no address but loopback ones: '{ROW}' is not tried"),
    }
}

/// By which this machine would reach others; nothing is sent.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect((ADDRESS, 9)).ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The server listens everywhere; whoever calls an address calls from it.
async fn ask_from(address: IpAddr) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let settings = Settings {
        http_listen: Some("0.0.0.0:0".to_owned()),
        ..Settings::with_args(&["--allow-plaintext-on-network"])
    };
    let (server, _root) = start_with(directory.path(), settings).await;
    let clients = everyone(&server).await;
    let least = least("Other statements", ROW, "from role").expect("somebody may");
    let port = server.http.port();
    let (near, far) = (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::new(address, port));
    tokio::task::spawn_blocking(move || {
        let mut wrong = Vec::new();
        for (role, (name, client)) in ROLES.into_iter().zip(&clients).enumerate() {
            let user = format!("a_{name}");
            for (way, http) in [
                ("a password", Http::basic(far, &user, PASSWORD)),
                ("a token", Http::bearer(far, client.token())),
            ] {
                let reply = http.get("/metrics");
                let told = reply.text();
                let expected = if role < least { 403 } else { 200 };
                let shows = told.contains("kalamdb_") || told.contains("# HELP");
                if reply.status != expected || shows != (role >= least) {
                    wrong.push(format!(
                        "{name} by {way}: {} instead of {expected}: {told}",
                        reply.status
                    ));
                }
                if role < least && reply.json()["error"]["code"] != "PERMISSION_DENIED" {
                    wrong.push(format!("{name} by {way}: {told}"));
                }
            }
        }
        for http in [
            Http::anonymous(far),
            Http::basic(far, "a_system", "a wrong password"),
            Http::bearer(far, "no.token.atall"),
        ] {
            let reply = http.get("/metrics");
            if reply.status != 401 {
                wrong.push(format!("nobody: {}: {}", reply.status, reply.text()));
            }
        }
        // What leads there is open, and from here it takes nobody.
        assert_eq!(Http::anonymous(far).get("/health").status, 200);
        assert_eq!(Http::anonymous(near).get("/metrics").status, 200);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    })
    .await
    .expect("the calls go through");
    server.terminate();
}
