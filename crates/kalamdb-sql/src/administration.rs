//! Runs statements about users, sessions and operations.

use std::sync::Arc;

use kalamdb_core::{
    Error, ErrorCode, INFORMATION_SCHEMA, NewUser, PasswordChange, Principal, Result, Task, UserChange, View,
};

use crate::database::Database;
use crate::execution::Completion;
use crate::metadata;
use crate::missing;
use crate::names::DEFAULT_NAMESPACE;
use crate::queries::RunningQuery;
use crate::session::{Session, SessionValue};
use crate::statement::Administration;

/// Runs an administration statement; called on the query runtime.
///
/// # Errors
/// Those of the engine's calls about users; NAMESPACE_NOT_FOUND for USE; NOT_FOUND for an option, query or session that
/// is not there or is another's.
pub(crate) async fn run(
    database: &Arc<Database>,
    session: &Arc<Session>,
    statement: Administration,
    query: &RunningQuery,
) -> Result<Completion> {
    // Short: it ends before a cancellation is heard, so that its outcome is known.
    query.committing()?;
    let engine = database.engine();
    let view = engine.view();
    let principal = database.principal(&view, session)?;
    let message = match statement {
        Administration::CreateUser {
            name,
            password,
            role,
            if_not_exists,
        } => {
            let new = NewUser {
                user_id: name.clone(),
                password,
                role,
                if_not_exists,
            };
            match engine.create_user(&principal, new).await? {
                true => format!("user '{name}' created"),
                false => format!("user '{name}' exists already"),
            }
        }
        Administration::AlterUser { name, password, role } => {
            let changes_password = password.is_some();
            let password = match password {
                None => PasswordChange::Keep,
                Some(None) => PasswordChange::Remove,
                Some(Some(password)) => PasswordChange::Set(password),
            };
            let change = UserChange {
                user_id: name.clone(),
                password,
                role,
            };
            if let Err(error) = engine.alter_user(&principal, change).await {
                return Err(missing::with_nearest_user(error, engine, &view, &name)?);
            }
            if let (true, Some(user)) = (changes_password, engine.user(&engine.view(), &name)?) {
                if name == principal.user_id {
                    session.set_own_credential(user.credential_version);
                }
                database.end_sessions(&user.principal, session);
            }
            format!("user '{name}' changed")
        }
        Administration::DropUser { name, if_exists } => {
            let user = engine.user(&view, &name)?;
            match engine.drop_user(&principal, &name, if_exists).await {
                Ok(true) => {
                    if let Some(user) = user {
                        database.end_sessions(&user.principal, session);
                    }
                    format!("user '{name}' dropped")
                }
                Ok(false) => format!("there is no user '{name}'"),
                Err(error) => return Err(missing::with_nearest_user(error, engine, &view, &name)?),
            }
        }
        Administration::Use { namespace } => {
            set_option(
                database,
                session,
                "schema",
                Some(SessionValue::String(namespace.clone())),
            )?;
            format!("names without a namespace are now looked up in {namespace}")
        }
        Administration::Set { name, value } => {
            let erased = value.is_none();
            set_option(database, session, &name, value.map(SessionValue::String))?;
            if erased {
                format!("{name} has its default again")
            } else {
                format!("{name} is set")
            }
        }
        Administration::KillQuery { query_id } => {
            // Another's query is as good as none: its id tells nobody anything.
            if !database.cancel_query(session, &query_id)? {
                return Err(Error::new(
                    ErrorCode::NotFound,
                    format!("no query '{query_id}' is running; system.queries lists them"),
                ));
            }
            format!("query '{query_id}' is being cancelled")
        }
        Administration::KillSession { session_id } => {
            kill_session(database, &view, &principal, &session_id)?;
            format!("session '{session_id}' ended")
        }
        Administration::KillJob { job_id } => {
            engine.cancel_job(&principal, &job_id)?;
            format!("job '{job_id}' is being cancelled")
        }
    };
    Ok(Completion { rows: None, message })
}

/// Whether names may be looked up there: it exists, and the principal may know of it.
pub(crate) fn check_namespace(view: &View, principal: &Principal, namespace: &str) -> Result<()> {
    // Everyone starts in the default namespace, whether they see a table in it or not.
    let known = [DEFAULT_NAMESPACE, INFORMATION_SCHEMA].contains(&namespace);
    if known || metadata::sees_namespace(view, principal, namespace) {
        return Ok(());
    }
    Err(missing::namespace(view, principal, namespace))
}

/// Sets or erases an option of the session; a namespace has to be one that its user sees.
///
/// # Errors
/// NAMESPACE_NOT_FOUND, UNAUTHENTICATED for a user who is gone, and those of [`Session::set_option`].
pub(crate) fn set_option(
    database: &Database,
    session: &Session,
    name: &str,
    value: Option<SessionValue>,
) -> Result<()> {
    if let ("schema", Some(SessionValue::String(namespace))) = (name, &value) {
        let view = database.engine().view();
        check_namespace(&view, &database.principal(&view, session)?, namespace)?;
    }
    session.set_option(name, value).map_err(|mut error| {
        let settings = &database.options().settings;
        if error.code == ErrorCode::NotFound && settings.iter().any(|setting| setting.name == name) {
            error.message = format!("{name} is a setting of the server, which is given when it starts");
        }
        error
    })
}

/// Ends one's own session; dba and system end those of users whose role is not above theirs.
fn kill_session(database: &Arc<Database>, view: &View, principal: &Principal, session_id: &str) -> Result<()> {
    let missing = || {
        Error::new(
            ErrorCode::NotFound,
            format!("no session '{session_id}' is open; system.sessions lists them"),
        )
    };
    let owner = database
        .sessions()
        .into_iter()
        .find(|open| open.session_id == session_id)
        .ok_or_else(missing)?
        .user_id;
    if owner != principal.user_id {
        if principal.require(Task::KillSession).is_err() {
            return Err(missing());
        }
        let owner_role = database.engine().user(view, &owner)?.map(|user| user.principal.role);
        if owner_role.is_some_and(|role| role > principal.role) {
            return Err(Error::new(
                ErrorCode::PermissionDenied,
                format!(
                    "session '{session_id}' belongs to a user of a higher role than yours ({})",
                    principal.role.as_str()
                ),
            ));
        }
    }
    if database.close_session(session_id) {
        Ok(())
    } else {
        Err(missing())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    #[test]
    fn users_change_by_those_who_may() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' WITH PASSWORD 'a long enough secret' ROLE user",
            "CREATE USER IF NOT EXISTS 'ann' ROLE dba",
            "CREATE USER dan ROLE dba",
        ]);
        fixture.check(
            "SELECT user_id, role FROM system.users ORDER BY user_id",
            &["ann|user", "dan|dba", "root|system"],
        );
        fixture.check_error(
            "CREATE USER 'ann' ROLE user",
            ErrorCode::AlreadyExists,
            Some((1, 13)),
            "ann",
        );
        fixture.check_error(
            "ALTER USER 'nobody' SET ROLE user",
            ErrorCode::UserNotFound,
            Some((1, 12)),
            "nobody",
        );
        let (ann, dan) = (fixture.session("ann"), fixture.session("dan"));
        let as_user = |session, sql: &str| {
            fixture
                .execute_as(session, sql, Parameters::none())
                .map(|_| ())
                .map_err(|error| error.code)
        };
        assert_eq!(
            as_user(&ann, "ALTER USER 'ann' SET PASSWORD 'another long secret'"),
            Ok(())
        );
        assert_eq!(
            as_user(&ann, "ALTER USER 'ann' SET ROLE dba"),
            Err(ErrorCode::PermissionDenied)
        );
        assert_eq!(
            as_user(&ann, "CREATE USER 'eve' ROLE user"),
            Err(ErrorCode::PermissionDenied)
        );
        assert_eq!(
            as_user(&dan, "CREATE USER 'eve' ROLE system"),
            Err(ErrorCode::PermissionDenied)
        );
        assert_eq!(as_user(&dan, "CREATE USER 'eve' ROLE service"), Ok(()));
        fixture.run(&["DROP USER 'eve'", "DROP USER IF EXISTS 'eve'"]);
    }

    #[test]
    fn sessions_are_set_and_ended() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE NAMESPACE chat",
            "CREATE USER 'ann' ROLE user",
            "CREATE USER 'dan' ROLE dba",
            "USE chat",
        ]);
        fixture.run(&["CREATE TABLE t (a INT)", "DESCRIBE chat.t", "RESET schema"]);
        fixture.check_error("DESCRIBE t", ErrorCode::TableNotFound, Some((1, 10)), "public.t");
        fixture.check_error("USE chatt", ErrorCode::NamespaceNotFound, Some((1, 5)), "chat");
        fixture.check_error(
            "SET schema = 'chatt'",
            ErrorCode::NamespaceNotFound,
            Some((1, 14)),
            "chat",
        );
        fixture.check_error("SET time_zoone = 'UTC'", ErrorCode::NotFound, Some((1, 5)), "time_zone");
        let (ann, dan) = (fixture.session("ann"), fixture.session("dan"));
        let kill = |by: &Arc<Session>, whose: &Arc<Session>| {
            let sql = format!("KILL SESSION '{}'", whose.id());
            fixture
                .execute_as(by, &sql, Parameters::none())
                .map(|_| ())
                .map_err(|error| error.code)
        };
        assert_eq!(
            kill(&ann, &dan),
            Err(ErrorCode::NotFound),
            "another's session is as good as none"
        );
        assert_eq!(kill(&dan, &fixture.root), Err(ErrorCode::PermissionDenied));
        assert_eq!(kill(&dan, &ann), Ok(()));
        assert_eq!(kill(&dan, &ann), Err(ErrorCode::NotFound));
        fixture.check_error("KILL QUERY 'x'", ErrorCode::NotFound, Some((1, 12)), "system.queries");
    }

    #[test]
    fn a_new_password_and_a_drop_end_the_sessions_of_their_user() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE USER 'ann' ROLE user", "CREATE USER 'bob' ROLE user"]);
        let (here, there, bob) = (fixture.session("ann"), fixture.session("ann"), fixture.session("bob"));
        let is_open = |session: &Arc<Session>| {
            let open = fixture.database.sessions();
            open.iter().any(|open| open.session_id == session.id())
        };
        let run = |by: &Arc<Session>, sql: &str| fixture.execute_as(by, sql, Parameters::none()).map(|_| ());
        let refused = run(&there, "ALTER USER 'ann' SET PASSWORD 'short'");
        assert_eq!(refused.map_err(|error| error.code), Err(ErrorCode::InvalidArgument));
        assert!([&here, &there, &bob].into_iter().all(is_open), "nothing changed");
        run(&here, "ALTER USER 'ann' SET PASSWORD 'a long enough secret'").expect("she may");
        assert_eq!([&here, &there, &bob].map(is_open), [true, false, true]);
        fixture.run(&["ALTER USER 'ann' SET ROLE service"]);
        assert!(is_open(&here), "a role is read anew by each statement");
        fixture.run(&["ALTER USER 'ann' SET PASSWORD 'another long secret'"]);
        assert_eq!([&here, &bob].map(is_open), [false, true]);
        let again = fixture.session("ann");
        fixture.run(&["DROP USER 'ann'"]);
        assert_eq!([&again, &bob].map(is_open), [false, true]);
    }
}
