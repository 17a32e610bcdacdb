//! EXECUTE AS: on whose behalf a statement runs, and whether it may.

use std::sync::Arc;

use datafusion::common::DFSchema;
use datafusion::common::tree_node::{TreeNodeRecursion, TreeNodeVisitor};
use datafusion::datasource::source_as_provider;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{Expr, Join, LogicalPlan, Projection};
use kalamdb_core::{Error, ErrorCode, MOST_NAME_BYTES, Principal, Result, Role, may_act_as};

use crate::database::Database;
use crate::names::placed;
use crate::provider::{OWNER, has_owners, table_of};
use crate::queries::RunningQuery;
use crate::rights::unknown_user;
use crate::session::{Reach, Session};
use crate::statement::{Actor, Definition, Statement, UserName};

/// What `system.queries.executed_as` shows for EXECUTE AS ALL USERS. No user's id is this: none that is made has a colon, neither by
/// CREATE USER nor for an outside token.
const ALL_USERS: &str = "all users:";

/// The session that a statement runs in: that of whoever asks, or a copy of it that has another's scope and rights. Whom a
/// statement was to run as is recorded, whether it may or not.
///
/// # Errors
/// PERMISSION_DENIED, USER_NOT_FOUND; INVALID_STATEMENT for a statement that runs only in one's own name.
pub(crate) fn session(
    database: &Database,
    session: &Arc<Session>,
    actor: &Actor,
    statement: &Statement,
    query: &RunningQuery,
) -> Result<Arc<Session>> {
    match actor {
        Actor::Oneself => Ok(Arc::clone(session)),
        Actor::User(user) => {
            let target = target(database, session, user, query)?;
            if !runs_for_another(statement) {
                let message = "EXECUTE AS USER does not take statements about users, rights and sessions: those are done \
                               in one's own name";
                return Err(placed(Error::new(ErrorCode::InvalidStatement, message), user.position));
            }
            Ok(Arc::new(session.acting(target, Reach::Own)))
        }
        Actor::AllUsers(position) => {
            query.executed_as(ALL_USERS);
            let Statement::Query(_) = statement else {
                let message = "EXECUTE AS ALL USERS takes a SELECT and nothing else";
                return Err(placed(Error::new(ErrorCode::InvalidStatement, message), *position));
            };
            let principal = session.principal().clone();
            Ok(Arc::new(session.acting(principal, Reach::Everyone)))
        }
    }
}

/// Whom to run as.
fn target(database: &Database, session: &Session, user: &UserName, query: &RunningQuery) -> Result<Principal> {
    // Whether there is such a user or not: who asks does not learn it from the record.
    if user.name.len() <= MOST_NAME_BYTES {
        query.executed_as(&user.name);
    }
    let view = database.engine().view();
    let actor = database.principal(&view, session)?;
    if user.name == actor.user_id {
        return Ok(actor);
    }
    let denied = || {
        let message = format!(
            "user {} has role {}, which may not run statements as user {}",
            actor.user_id,
            actor.role.as_str(),
            user.name
        );
        placed(Error::new(ErrorCode::PermissionDenied, message), user.position)
    };
    // Who may run as nobody else is not told who there is.
    if !Role::ALL.iter().any(|role| may_act_as(actor.role, *role)) {
        return Err(denied());
    }
    let Some(target) = database.engine().user(&view, &user.name)? else {
        return Err(unknown_user(database.engine(), &view, user)?);
    };
    if may_act_as(actor.role, target.principal.role) {
        Ok(target.principal)
    } else {
        Err(denied())
    }
}

/// Whether a statement may run in another's name.
fn runs_for_another(statement: &Statement) -> bool {
    match statement {
        // A view keeps nobody's name and nobody's rights, so that it does not matter as whom it is made.
        Statement::Definition(Definition::CreateView(_) | Definition::DropView { .. }) => true,
        Statement::Query(_)
        | Statement::Explain { .. }
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Definition(
            Definition::CreateNamespace { .. }
            | Definition::DropNamespace { .. }
            | Definition::CreateTable(_)
            | Definition::DropTable { .. }
            | Definition::Truncate { .. }
            | Definition::CreateStorage { .. }
            | Definition::DropStorage { .. },
        )
        | Statement::Show(_)
        | Statement::Operation(_) => true,
        Statement::Administration(_) | Statement::Rights(_) => false,
    }
}

/// Adds the owner of each row to what a query of all users gives, where its rows are those of one table of users' own rows and it
/// does not say the owner itself.
pub(crate) fn with_owner(plan: LogicalPlan) -> DataFusionResult<LogicalPlan> {
    if owners(plan.schema()) > 0 {
        return Ok(plan);
    }
    Ok(extended(&plan)?.unwrap_or(plan))
}

fn extended(plan: &LogicalPlan) -> DataFusionResult<Option<LogicalPlan>> {
    match plan {
        LogicalPlan::Limit(limit) => rebuilt(plan, extended(&limit.input)?),
        LogicalPlan::Sort(sort) => rebuilt(plan, extended(&sort.input)?),
        LogicalPlan::Projection(projection) => {
            let mut input = Arc::clone(&projection.input);
            // Columns to sort by that are not selected are projected below the sort.
            if owners(input.schema()) == 0
                && matches!(input.as_ref(), LogicalPlan::Sort(_))
                && let Some(inner) = extended(&input)?
            {
                input = Arc::new(inner);
            }
            let mut columns = input
                .schema()
                .columns()
                .into_iter()
                .filter(|column| column.name == OWNER);
            let (Some(owner), None) = (columns.next(), columns.next()) else {
                return Ok(None);
            };
            let mut expressions = projection.expr.clone();
            expressions.push(Expr::Column(owner));
            Ok(Some(LogicalPlan::Projection(Projection::try_new(expressions, input)?)))
        }
        _ => Ok(None),
    }
}

fn rebuilt(plan: &LogicalPlan, input: Option<LogicalPlan>) -> DataFusionResult<Option<LogicalPlan>> {
    input
        .map(|input| plan.with_new_exprs(plan.expressions(), vec![input]))
        .transpose()
}

fn owners(schema: &DFSchema) -> usize {
    schema.fields().iter().filter(|field| field.name() == OWNER).count()
}

/// Whether rows of one user meet those of another in a plan of a query of all users: two tables of users' own rows in a join that
/// is not by owner, or one in a subquery over another. Each for itself they may be listed below each other.
pub(crate) fn mixes_users(plan: &LogicalPlan) -> DataFusionResult<bool> {
    let mut meetings = Meetings::default();
    plan.visit_with_subqueries(&mut meetings)?;
    Ok(meetings.found)
}

#[derive(Default)]
struct Meetings {
    /// For each plan from the whole down to the one that is looked at, in how many of its parts there are users' own rows.
    parts: Vec<usize>,
    found: bool,
}

impl<'n> TreeNodeVisitor<'n> for Meetings {
    type Node = LogicalPlan;

    fn f_down(&mut self, _plan: &'n LogicalPlan) -> DataFusionResult<TreeNodeRecursion> {
        self.parts.push(0);
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, plan: &'n LogicalPlan) -> DataFusionResult<TreeNodeRecursion> {
        let mut parts = self.parts.pop().unwrap_or_default();
        match plan {
            LogicalPlan::Union(_) => {}
            LogicalPlan::Join(join) if is_by_owner(join) => {}
            LogicalPlan::TableScan(scan) => {
                let provider = source_as_provider(&scan.source)?;
                parts += usize::from(table_of(provider.as_ref()).is_some_and(|table| has_owners(table)));
            }
            _ => self.found |= parts > 1,
        }
        if let Some(outer) = self.parts.last_mut() {
            *outer += usize::from(parts > 0);
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

fn is_by_owner(join: &Join) -> bool {
    let is_owner = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == OWNER);
    join.on.iter().any(|(left, right)| is_owner(left) && is_owner(right))
}
