//! Writers and readers of one table at once: the server they share, and how each of them is started and ended.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kalamdb_tests::{Client, ROOT_PASSWORD, Server, Settings};
use tokio::task::JoinHandle;

/// A server that takes as many statements at once as all of them send: they are one user.
pub(crate) fn server_for_many(directory: &Path) -> Server {
    Server::start_with(directory, &Settings::with_args(&["--max-queries-per-user", "64"]))
}

/// The writers that are still at work.
#[derive(Clone, Default)]
pub(crate) struct AtWork(Arc<AtomicUsize>);

impl AtWork {
    /// Runs a writer; it is counted out even when it fails, so that the others come to their end.
    pub(crate) fn run(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        struct One(AtWork);
        impl Drop for One {
            fn drop(&mut self) {
                self.0.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        let one = One(self.clone());
        tokio::spawn(async move {
            let _one = one;
            work.await;
        })
    }

    /// Whether any of them is.
    pub(crate) fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

pub(crate) async fn login(flight: SocketAddr) -> Client {
    Client::login(flight, "root", ROOT_PASSWORD)
        .await
        .expect("root can log in")
}

/// Runs a statement again as long as it conflicts, as its error says. The others come to their end, so this does.
pub(crate) async fn retried(client: &mut Client, sql: &str) -> i64 {
    loop {
        match client.update(sql).await {
            Ok(count) => return count,
            Err(error) if error.code() == "CONFLICT" => assert_eq!(error.grpc, tonic::Code::Aborted, "{error}"),
            Err(error) => panic!("{sql}: {error}"),
        }
    }
}

/// Moves an amount between two rows of `accounts`, whose sum stays.
pub(crate) async fn transfer(client: &mut Client, from: i64, to: i64, amount: i64) {
    let sql = format!(
        "UPDATE accounts SET amount = amount + CASE WHEN id = {from} THEN -{amount} ELSE {amount} END WHERE id IN ({from}, {to})"
    );
    assert_eq!(retried(client, &sql).await, 2, "{sql}");
}
