//! Prepared statements between their calls: handles bound to a principal, kept in memory within stated bounds, forgotten when
//! idle. Clients often leave them open, and some ignore a handle that DoPut returns anew, so what they bind is kept here rather
//! than in the handle. Planning and running are not here.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use bytes::Bytes;
use kalamdb_core::{Catalog, Clock, Error, ErrorCode, Principal, Result};
use kalamdb_sql::{Database, Parameters, Session, SessionValue};
use parking_lot::Mutex;
use prost::Message;

use crate::plan::Plan;
use crate::proto::own::PreparedHandle;

/// The newest kind of handle this server knows.
const VERSION: u32 = 1;

/// A statement that nobody used for this long is forgotten. SqlInfo says so to clients.
pub(crate) const IDLE_LIMIT_MS: i32 = 30 * 60 * 1_000;

/// Statements of one principal at once; beyond it the one idle for longest goes. Far above what a pool of connections holds.
const STATEMENTS_PER_PRINCIPAL: usize = 1_000;

/// Text and bound parameters of one principal's statements; beyond it those idle for longest go.
const BYTES_PER_PRINCIPAL: usize = 64 << 20;

/// Text and bound parameters of all statements; beyond it no more are taken.
const BYTES_IN_ALL: usize = 512 << 20;

/// How often at most all principals are looked through for idle statements.
const SWEEP_INTERVAL_MICROS: i64 = 60 * 1_000_000;

type StatementId = [u8; 16];

/// The prepared statements of everyone.
pub(crate) struct PreparedStatements {
    clock: Arc<dyn Clock>,
    owners: Mutex<Owners>,
}

#[derive(Default)]
struct Owners {
    by_user: HashMap<String, Owner>,
    size_bytes: usize,
    swept_micros: i64,
}

/// One principal's statements.
struct Owner {
    /// A user dropped and made again is another principal.
    scope: u64,
    statements: HashMap<StatementId, Statement>,
    size_bytes: usize,
}

struct Statement {
    sql: Arc<str>,
    planned: Option<Planned>,
    parameters: Option<RecordBatch>,
    parameters_bytes: usize,
    used_micros: i64,
}

/// A plan and what it depends on.
#[derive(Clone)]
struct Planned {
    plan: Arc<Plan>,
    /// Any definition makes another catalog. Weak, so that an idle statement keeps no old catalog alive.
    catalog: Weak<Catalog>,
    session_options: BTreeMap<String, SessionValue>,
    /// Those of what was bound.
    bound_types: Vec<DataType>,
}

/// A statement, ready to run.
pub(crate) struct Prepared {
    pub(crate) sql: Arc<str>,
    pub(crate) plan: Arc<Plan>,
    /// What it runs with.
    pub(crate) parameters: Option<RecordBatch>,
}

impl PreparedStatements {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        PreparedStatements {
            clock,
            owners: Mutex::default(),
        }
    }

    /// Describes a statement and keeps it; its handle and its plan.
    ///
    /// # Errors
    /// Whatever describing says; TOO_MANY_REQUESTS when all statements together are too large.
    pub(crate) async fn create(
        &self,
        database: &Arc<Database>,
        session: &Arc<Session>,
        sql: &str,
    ) -> Result<(Bytes, Arc<Plan>)> {
        let planned = describe(database, session, sql, None).await?;
        let plan = Arc::clone(&planned.plan);
        let handle = self.keep(session.principal(), sql.into(), Some(planned))?;
        Ok((handle, plan))
    }

    /// The statement of a handle, with a plan that is true now, for the parameters that come with the call, or else for those that
    /// were bound last.
    ///
    /// # Errors
    /// NOT_FOUND for a handle that is unknown, closed, expired or another principal's; whatever describing anew says.
    pub(crate) async fn find(
        &self,
        database: &Arc<Database>,
        session: &Arc<Session>,
        handle: &[u8],
        given: Option<RecordBatch>,
    ) -> Result<Prepared> {
        let (sql, planned, bound) = self.with_statement(session.principal(), handle, |statement| {
            (
                Arc::clone(&statement.sql),
                statement.planned.clone(),
                statement.parameters.clone(),
            )
        })?;
        let parameters = given.or(bound);
        if let Some(planned) = planned
            && planned.holds(database, session, parameters.as_ref())
        {
            return Ok(Prepared {
                sql,
                plan: planned.plan,
                parameters,
            });
        }
        let planned = describe(database, session, &sql, parameters.clone()).await?;
        let plan = Arc::clone(&planned.plan);
        // Closed meanwhile or not, this call had its statement.
        if let Err(error) = self.with_statement(session.principal(), handle, |statement| {
            statement.planned = Some(planned)
        }) {
            tracing::debug!(%error, "a prepared statement was closed while it was planned anew");
        }
        Ok(Prepared { sql, plan, parameters })
    }

    /// Keeps parameters for the runs that follow, in place of what was bound before.
    ///
    /// # Errors
    /// NOT_FOUND as for [`PreparedStatements::find`]; STATEMENT_TOO_LARGE, TOO_MANY_REQUESTS.
    pub(crate) fn bind(&self, principal: &Principal, handle: &[u8], parameters: Option<RecordBatch>) -> Result<()> {
        let new_bytes = parameters.as_ref().map_or(0, RecordBatch::get_array_memory_size);
        if new_bytes > BYTES_PER_PRINCIPAL {
            return Err(Error::new(
                ErrorCode::StatementTooLarge,
                format!(
                    "{new_bytes} bytes of parameters are more than the {BYTES_PER_PRINCIPAL} that can be bound; load them by ingest",
                ),
            ));
        }
        let id = self.with_statement(principal, handle, |_| parse(handle))??;
        let mut owners = self.owners.lock();
        let Owners {
            by_user, size_bytes, ..
        } = &mut *owners;
        let owner = by_user.get_mut(&principal.user_id).ok_or_else(unknown)?;
        let statement = owner.statements.get_mut(&id).ok_or_else(unknown)?;
        let old_bytes = std::mem::replace(&mut statement.parameters_bytes, 0);
        statement.parameters = None;
        owner.size_bytes -= old_bytes;
        *size_bytes -= old_bytes;
        *size_bytes -= owner.make_room(new_bytes, STATEMENTS_PER_PRINCIPAL, Some(&id));
        if *size_bytes + new_bytes > BYTES_IN_ALL {
            return Err(too_many());
        }
        let statement = owner.statements.get_mut(&id).ok_or_else(unknown)?;
        statement.parameters = parameters;
        statement.parameters_bytes = new_bytes;
        owner.size_bytes += new_bytes;
        *size_bytes += new_bytes;
        Ok(())
    }

    /// Forgets a statement.
    ///
    /// # Errors
    /// NOT_FOUND as for [`PreparedStatements::find`].
    pub(crate) fn close(&self, principal: &Principal, handle: &[u8]) -> Result<()> {
        let id = self.with_statement(principal, handle, |_| parse(handle))??;
        let mut owners = self.owners.lock();
        let owner = owners.by_user.get_mut(&principal.user_id).ok_or_else(unknown)?;
        let freed = owner.remove(&id);
        if owner.statements.is_empty() {
            owners.by_user.remove(&principal.user_id);
        }
        owners.size_bytes -= freed;
        Ok(())
    }

    fn keep(&self, principal: &Principal, sql: Arc<str>, planned: Option<Planned>) -> Result<Bytes> {
        let now_micros = self.clock.now_micros();
        let mut id = StatementId::default();
        self.clock.fill_random(&mut id);
        let mut owners = self.owners.lock();
        owners.sweep(now_micros);
        let Owners {
            by_user, size_bytes, ..
        } = &mut *owners;
        let scope = principal.scope.0;
        let owner = by_user
            .entry(principal.user_id.clone())
            .or_insert_with(|| Owner::new(scope));
        if owner.scope != scope {
            *size_bytes -= std::mem::replace(owner, Owner::new(scope)).size_bytes;
        }
        *size_bytes -= owner.make_room(sql.len(), STATEMENTS_PER_PRINCIPAL - 1, None);
        if *size_bytes + sql.len() > BYTES_IN_ALL {
            return Err(too_many());
        }
        owner.size_bytes += sql.len();
        *size_bytes += sql.len();
        let statement = Statement {
            sql,
            planned,
            parameters: None,
            parameters_bytes: 0,
            used_micros: now_micros,
        };
        owner.statements.insert(id, statement);
        Ok(PreparedHandle {
            version: VERSION,
            id: Bytes::copy_from_slice(&id),
        }
        .encode_to_vec()
        .into())
    }

    /// Looks a statement up, marked as used.
    fn with_statement<T>(
        &self,
        principal: &Principal,
        handle: &[u8],
        look: impl FnOnce(&mut Statement) -> T,
    ) -> Result<T> {
        let id = parse(handle)?;
        let now_micros = self.clock.now_micros();
        let mut owners = self.owners.lock();
        let owner = owners
            .by_user
            .get_mut(&principal.user_id)
            .filter(|owner| owner.scope == principal.scope.0);
        let statement = owner
            .and_then(|owner| owner.statements.get_mut(&id))
            .filter(|statement| !statement.is_idle(now_micros));
        let statement = statement.ok_or_else(unknown)?;
        statement.used_micros = now_micros;
        Ok(look(statement))
    }
}

impl Owners {
    /// Drops what nobody used, now and then.
    fn sweep(&mut self, now_micros: i64) {
        if now_micros.saturating_sub(self.swept_micros) < SWEEP_INTERVAL_MICROS {
            return;
        }
        self.swept_micros = now_micros;
        let mut freed = 0;
        self.by_user.retain(|_, owner| {
            let idle: Vec<StatementId> = owner
                .statements
                .iter()
                .filter(|(_, statement)| statement.is_idle(now_micros))
                .map(|(id, _)| *id)
                .collect();
            freed += idle.iter().map(|id| owner.remove(id)).sum::<usize>();
            !owner.statements.is_empty()
        });
        self.size_bytes -= freed;
    }
}

impl Owner {
    fn new(scope: u64) -> Self {
        Owner {
            scope,
            statements: HashMap::new(),
            size_bytes: 0,
        }
    }

    /// Drops the statements idle for longest, but never `spared`, until `more_bytes` fit and at most `count` are left; how
    /// many bytes that freed.
    fn make_room(&mut self, more_bytes: usize, count: usize, spared: Option<&StatementId>) -> usize {
        let mut freed = 0;
        while self.statements.len() > count || self.size_bytes + more_bytes > BYTES_PER_PRINCIPAL {
            let others = self.statements.iter().filter(|(id, _)| Some(*id) != spared);
            let Some(id) = others
                .min_by_key(|(_, statement)| statement.used_micros)
                .map(|(id, _)| *id)
            else {
                break;
            };
            freed += self.remove(&id);
        }
        freed
    }

    /// Drops a statement; its size.
    fn remove(&mut self, id: &StatementId) -> usize {
        let size = self
            .statements
            .remove(id)
            .map_or(0, |statement| statement.sql.len() + statement.parameters_bytes);
        self.size_bytes -= size;
        size
    }
}

impl Statement {
    fn is_idle(&self, now_micros: i64) -> bool {
        now_micros.saturating_sub(self.used_micros) > i64::from(IDLE_LIMIT_MS) * 1_000
    }
}

impl Planned {
    fn holds(&self, database: &Database, session: &Session, parameters: Option<&RecordBatch>) -> bool {
        std::ptr::eq(self.catalog.as_ptr(), Arc::as_ptr(database.engine().view().catalog()))
            && self.session_options == session.options()
            && (!self.plan.follows_bound_types || self.bound_types == types(parameters))
    }
}

fn types(parameters: Option<&RecordBatch>) -> Vec<DataType> {
    let columns = parameters.into_iter().flat_map(RecordBatch::columns);
    columns.map(|column| column.data_type().clone()).collect()
}

async fn describe(
    database: &Arc<Database>,
    session: &Arc<Session>,
    sql: &str,
    parameters: Option<RecordBatch>,
) -> Result<Planned> {
    // Taken before describing: a definition in between makes the plan look too old rather than too new.
    let catalog = Arc::downgrade(database.engine().view().catalog());
    let session_options = session.options();
    let bound_types = types(parameters.as_ref());
    let parameters = Parameters { batch: parameters };
    let description = database.describe_bound(session, sql, &parameters).await?;
    Ok(Planned {
        plan: Arc::new(Plan::of(description)?),
        catalog,
        session_options,
        bound_types,
    })
}

fn parse(handle: &[u8]) -> Result<StatementId> {
    let handle = PreparedHandle::decode(handle).map_err(|_| unknown())?;
    if handle.version != VERSION {
        return Err(unknown());
    }
    handle.id.as_ref().try_into().map_err(|_| unknown())
}

/// Alike for all reasons, so that nobody learns of another's statements.
fn unknown() -> Error {
    Error::new(
        ErrorCode::NotFound,
        "there is no such prepared statement: it was closed or idle too long; prepare it again",
    )
}

fn too_many() -> Error {
    Error::new(
        ErrorCode::TooManyRequests,
        "the prepared statements of all users are too large together; close some",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, StringArray};
    use kalamdb_core::{DrivenClock, Role};
    use kalamdb_store::ScopeId;

    fn principal(user_id: &str, scope: u64) -> Principal {
        Principal {
            user_id: user_id.to_owned(),
            role: Role::User,
            scope: ScopeId(scope),
            grants: Default::default(),
        }
    }

    fn statements() -> (Arc<DrivenClock>, PreparedStatements) {
        let clock = Arc::new(DrivenClock::new(1_000_000));
        (Arc::clone(&clock), PreparedStatements::new(clock))
    }

    fn batch(bytes: usize) -> RecordBatch {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(bytes)]));
        RecordBatch::try_from_iter([("$1", column)]).expect("a batch")
    }

    fn sql_of(statements: &PreparedStatements, who: &Principal, handle: &[u8]) -> Option<String> {
        statements
            .with_statement(who, handle, |statement| statement.sql.to_string())
            .ok()
    }

    #[test]
    fn a_handle_is_its_principals_alone() {
        let (_, statements) = statements();
        let handle = statements
            .keep(&principal("a", 1), "SELECT 1".into(), None)
            .expect("keeps");
        assert_eq!(
            sql_of(&statements, &principal("a", 1), &handle).as_deref(),
            Some("SELECT 1")
        );
        for other in [principal("b", 2), principal("a", 3), principal("b", 1)] {
            assert_eq!(sql_of(&statements, &other, &handle), None);
            assert_eq!(
                statements.close(&other, &handle).map_err(|error| error.code),
                Err(ErrorCode::NotFound)
            );
            assert!(statements.bind(&other, &handle, None).is_err());
        }
        for damaged in [&b""[..], b"abc", &handle[1..], &[0xff; 100]] {
            assert_eq!(sql_of(&statements, &principal("a", 1), damaged), None);
        }
        statements.close(&principal("a", 1), &handle).expect("closes");
        assert_eq!(sql_of(&statements, &principal("a", 1), &handle), None);
        assert_eq!(statements.owners.lock().size_bytes, 0);
    }

    #[test]
    fn idle_statements_are_forgotten() {
        let (clock, statements) = statements();
        let who = principal("a", 1);
        let limit_micros = i64::from(IDLE_LIMIT_MS) * 1_000;
        let (used, idle) = (
            statements.keep(&who, "used".into(), None).expect("keeps"),
            statements.keep(&who, "idle".into(), None).expect("keeps"),
        );
        clock.advance_micros(limit_micros);
        assert!(sql_of(&statements, &who, &used).is_some());
        clock.advance_micros(1);
        assert!(sql_of(&statements, &who, &used).is_some());
        assert!(sql_of(&statements, &who, &idle).is_none());
        statements.keep(&principal("b", 2), "more".into(), None).expect("keeps");
        assert_eq!(statements.owners.lock().size_bytes, "used".len() + "more".len());
    }

    #[test]
    fn numbers_and_sizes_are_bounded() {
        let (clock, statements) = statements();
        let who = principal("a", 1);
        let first = statements.keep(&who, "first".into(), None).expect("keeps");
        for _ in 1..STATEMENTS_PER_PRINCIPAL {
            clock.advance_micros(1);
            statements.keep(&who, "s".into(), None).expect("keeps");
        }
        assert!(sql_of(&statements, &who, &first).is_some());
        // Looking it up made `first` the youngest, so another one goes.
        clock.advance_micros(1);
        let last = statements.keep(&who, "last".into(), None).expect("keeps");
        assert_eq!(
            statements.owners.lock().by_user["a"].statements.len(),
            STATEMENTS_PER_PRINCIPAL
        );
        statements
            .bind(&who, &first, Some(batch(BYTES_PER_PRINCIPAL / 2)))
            .expect("binds");
        clock.advance_micros(1);
        statements
            .bind(&who, &last, Some(batch(BYTES_PER_PRINCIPAL / 2)))
            .expect("binds in place of the first");
        assert!(sql_of(&statements, &who, &first).is_none());
        assert!(sql_of(&statements, &who, &last).is_some());
        let refused = statements.bind(&who, &last, Some(batch(BYTES_PER_PRINCIPAL + 1)));
        assert_eq!(refused.map_err(|error| error.code), Err(ErrorCode::StatementTooLarge));
        let owners = statements.owners.lock();
        assert_eq!(owners.size_bytes, owners.by_user["a"].size_bytes);
        assert!(owners.size_bytes <= BYTES_PER_PRINCIPAL);
    }
}
