//! The first start of a database: its SYSTEM stores, `root`, namespace `public`, storage `local` and the secret of its tokens.
//! A start that crashed before its step was durable counts as none.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kalamdb_store::{Counter, SchemaVersion, ScopeId, StorageId, Store};

use crate::access::Role;
use crate::catalog::{Catalog, Namespace, StorageEntry};
use crate::clock::Clock;
use crate::engine::{Engine, EngineOptions};
use crate::error::{Error, ErrorCode, Result};
use crate::options::DEFAULT_STORAGE;
use crate::password;
use crate::system_rows::{UserRow, user_row};
use crate::system_schema::SystemTable;
use crate::users::ROOT;

/// The default namespace.
pub(crate) const DEFAULT_NAMESPACE: &str = "public";
/// Where `local` is: a path relative to the data directory, so that the database may move with its directory.
const DEFAULT_STORAGE_URI: &str = "segments";
/// The file in the data directory that holds root's first password.
const ROOT_PASSWORD_FILE: &str = "root-password";
/// Random bytes of root's first password, 32 characters as text.
const ROOT_PASSWORD_BYTES: usize = 24;
/// The store's record of the token secret.
const TOKEN_SECRET: &str = "token_secret";
/// HS256 wants at least the hash's own size.
const TOKEN_SECRET_BYTES: usize = 32;

/// What is known before the engine exists.
pub(crate) struct FirstStart {
    /// The database's secret, old or new.
    pub(crate) token_secret: Vec<u8>,
    /// For a database that has none yet: what to write.
    new_root: Option<UserRow>,
}

/// Reads the token secret; for a new database makes one, and root's password.
pub(crate) fn prepare(store: &Arc<Store<Catalog>>, options: &EngineOptions, clock: &dyn Clock) -> Result<FirstStart> {
    if let Some(token_secret) = store.meta_get(TOKEN_SECRET)? {
        return Ok(FirstStart {
            token_secret,
            new_root: None,
        });
    }
    let password = match &options.root_password {
        Some(given) => {
            password::check_rules(given).map_err(|mut error| {
                error.message = format!(
                    "root's first password (KALAMDB_ROOT_PASSWORD) cannot be: {}",
                    error.message
                );
                error
            })?;
            given.clone()
        }
        None => {
            let made = random_password(clock);
            write_root_password(&options.data_dir, &made)?;
            made
        }
    };
    let mut token_secret = vec![0; TOKEN_SECRET_BYTES];
    clock.fill_random(&mut token_secret);
    let now_micros = clock.now_micros();
    let new_root = UserRow {
        user_id: ROOT.to_owned(),
        role: Role::System,
        created_at_micros: now_micros,
        updated_at_micros: now_micros,
        scope: ScopeId(store.next_id(Counter::Scope)?),
        password_hash: Some(password::hash(&password, clock)?),
        credential_version: 1,
    };
    Ok(FirstStart {
        token_secret,
        new_root: Some(new_root),
    })
}

impl Engine {
    /// Writes what a new database begins with, and the stores of SYSTEM tables that a newer version brought, in one step.
    pub(crate) async fn finish_first_start(&self, first: FirstStart) -> Result<()> {
        self.change(|change| {
            for &system in SystemTable::ALL {
                if system.has_store() && change.state.table(system.store()).is_none() {
                    let table = system.table();
                    change.create_store(system.store(), SchemaVersion(1), table.kind.lifetime());
                }
            }
            let Some(root) = first.new_root else { return Ok(()) };
            let now_micros = change.now_micros;
            change.put_meta(TOKEN_SECRET, first.token_secret);
            change.put(SystemTable::Users, &user_row(&root))?;
            let namespace = Namespace {
                namespace_id: DEFAULT_NAMESPACE.to_owned(),
                description: Some("The default namespace".to_owned()),
                created_at_micros: now_micros,
                updated_at_micros: now_micros,
            };
            change
                .catalog
                .namespaces
                .insert(DEFAULT_NAMESPACE.to_owned(), Arc::new(namespace));
            change.refresh_namespace(DEFAULT_NAMESPACE)?;
            let storage = StorageEntry {
                storage_id: DEFAULT_STORAGE.to_owned(),
                id: StorageId::DEFAULT,
                storage_type: "filesystem".to_owned(),
                uri: DEFAULT_STORAGE_URI.to_owned(),
                created_at_micros: now_micros,
                updated_at_micros: now_micros,
            };
            change
                .catalog
                .storages
                .insert(DEFAULT_STORAGE.to_owned(), Arc::new(storage));
            change.refresh_storage(DEFAULT_STORAGE)
        })
        .await
    }
}

fn random_password(clock: &dyn Clock) -> String {
    let mut bytes = [0; ROOT_PASSWORD_BYTES];
    clock.fill_random(&mut bytes);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes the password durably, readable by its owner alone, before any database needs it.
fn write_root_password(data_dir: &Path, password: &str) -> Result<()> {
    let path = data_dir.join(ROOT_PASSWORD_FILE);
    let failed = |error: std::io::Error| {
        Error::new(
            ErrorCode::StorageError,
            format!("cannot write root's first password to {}: {error}", path.display()),
        )
    };
    // One that a first start left which did not get further.
    match std::fs::remove_file(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    file.write_all(password.as_bytes()).map_err(failed)?;
    file.write_all(b"\n").map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::File::open(data_dir)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}
