//! What a statement starts with decides who parses it: sqlparser the queries and writes, this grammar the rest.

use datafusion::logical_expr::ExplainFormat;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;
use kalamdb_core::{Error, ErrorCode, Result, Role, TableKind};

use super::syntax::Source;
use super::{
    Administration, Definition, Show, Statement, WrittenSubject, operation_grammar, refusals, rights_grammar,
    table_grammar, view_grammar,
};
use crate::names::{CATALOG, folded, placed};

/// The option of SET TIME ZONE.
const TIME_ZONE: &str = "time_zone";

/// Parses the statement that comes next.
///
/// # Errors
/// As [`super::parse`].
pub(super) fn statement(source: &mut Source<'_>) -> Result<Statement> {
    if let Some(refused) = refused(source) {
        return Err(refused);
    }
    let Some(first) = source.word(0) else {
        return match source.token() {
            Token::LParen => planned(source),
            Token::EOF => Err(source.here(ErrorCode::SyntaxError, "there is no statement in the text")),
            _ => Err(source.unexpected("a statement")),
        };
    };
    match first.as_str() {
        "SELECT" | "WITH" | "VALUES" | "INSERT" | "UPDATE" | "DELETE" => planned(source),
        "EXPLAIN" => explain(source),
        "CREATE" => create(source),
        "DROP" => drop(source),
        "TRUNCATE" => truncate(source),
        "ALTER" if source.sees(&["ALTER", "ROLE"]) => rights_grammar::alter_role(source),
        "ALTER" => alter_user(source),
        "GRANT" | "REVOKE" => rights_grammar::change_grants(source),
        "USE" => use_namespace(source),
        "SET" | "RESET" => set(source),
        "SHOW" => show(source),
        "DESCRIBE" | "DESC" => describe(source),
        "KILL" => kill(source),
        "FLUSH" | "STORAGE" => operation_grammar::operation(source),
        _ => Err(source.unexpected("a statement")),
    }
}

/// The query of another statement.
pub(super) fn query(source: &mut Source<'_>) -> Result<Box<ast::Query>> {
    let starts =
        matches!(source.word(0).as_deref(), Some("SELECT" | "WITH" | "VALUES")) || *source.token() == Token::LParen;
    if !starts {
        return Err(source.unexpected("SELECT, VALUES or WITH"));
    }
    source.call(|parser| parser.parse_query())
}

/// What sqlparser parses and DataFusion or the write handlers take.
fn planned(source: &mut Source<'_>) -> Result<Statement> {
    let statement = source.call(|parser| parser.parse_statement())?;
    refusals::check(statement, source.sql())
}

fn explain(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["EXPLAIN"])?;
    let mut options = ExplainOptions::default();
    if *source.token() == Token::LParen && !matches!(source.word(1).as_deref(), Some("SELECT" | "WITH" | "VALUES")) {
        options.in_parentheses(source)?;
    } else {
        while options.word(source)? {}
    }
    let explained_at = source.position();
    let inner = match (source.word(0).as_deref(), source.token()) {
        (Some("SELECT" | "WITH" | "VALUES" | "INSERT" | "UPDATE" | "DELETE"), _) | (None, Token::LParen) => {
            planned(source)?
        }
        _ => match refused(source) {
            Some(refused) => return Err(refused),
            None => return Err(source.unexpected("SELECT, VALUES, INSERT, UPDATE or DELETE to explain")),
        },
    };
    let original = match &inner {
        Statement::Query(query) => query.clone(),
        Statement::Insert(insert) => Box::new(ast::Statement::Insert((**insert).clone())),
        Statement::Update(update) => Box::new(ast::Statement::Update(update.write.clone())),
        Statement::Delete(delete) => Box::new(ast::Statement::Delete(delete.write.clone())),
        Statement::Explain { .. }
        | Statement::Definition(_)
        | Statement::Administration(_)
        | Statement::Rights(_)
        | Statement::Show(_)
        | Statement::Operation(_) => {
            return Err(source.here(ErrorCode::InvalidStatement, "this statement has no plan to explain"));
        }
    };
    if options.analyze && !matches!(inner, Statement::Query(_)) {
        let message = "EXPLAIN ANALYZE runs the statement, and is supported for queries only; EXPLAIN alone shows the plan of a write";
        return Err(placed(Error::new(ErrorCode::Unsupported, message), explained_at));
    }
    if options.analyze && matches!(options.format, Some(ExplainFormat::Tree | ExplainFormat::Graphviz)) {
        let message = "EXPLAIN ANALYZE shows what it measured in the formats INDENT and PGJSON; EXPLAIN alone has TREE and GRAPHVIZ too";
        return Err(placed(Error::new(ErrorCode::Unsupported, message), explained_at));
    }
    let ExplainOptions {
        analyze,
        verbose,
        format,
    } = options;
    Ok(Statement::Explain {
        analyze,
        verbose,
        format,
        statement: Box::new(inner),
        original,
    })
}

#[derive(Default)]
struct ExplainOptions {
    analyze: bool,
    verbose: bool,
    format: Option<ExplainFormat>,
}

impl ExplainOptions {
    /// `ANALYZE`, `VERBOSE` or `FORMAT name`, if one comes next.
    fn word(&mut self, source: &mut Source<'_>) -> Result<bool> {
        if source.eat_one(&["ANALYZE", "ANALYSE"]) {
            self.analyze = true;
        } else if source.eat(&["VERBOSE"]) {
            self.verbose = true;
        } else if source.eat(&["FORMAT"]) {
            self.format(source)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    fn in_parentheses(&mut self, source: &mut Source<'_>) -> Result<()> {
        source.expect_token(&Token::LParen)?;
        loop {
            let analyze = source.sees(&["ANALYZE"]) || source.sees(&["ANALYSE"]);
            let switch = analyze || source.sees(&["VERBOSE"]);
            if !self.word(source)? {
                return Err(source.unexpected("ANALYZE, VERBOSE or FORMAT"));
            }
            if switch && source.eat_one(&["FALSE", "OFF"]) {
                *(if analyze { &mut self.analyze } else { &mut self.verbose }) = false;
            } else if switch {
                source.eat_one(&["TRUE", "ON"]);
            }
            if !source.eat_token(&Token::Comma) {
                break;
            }
        }
        source.expect_token(&Token::RParen)
    }

    fn format(&mut self, source: &mut Source<'_>) -> Result<()> {
        let formats = [
            ("TEXT", ExplainFormat::Indent),
            ("INDENT", ExplainFormat::Indent),
            ("TREE", ExplainFormat::Tree),
            ("JSON", ExplainFormat::PostgresJSON),
            ("PGJSON", ExplainFormat::PostgresJSON),
            ("GRAPHVIZ", ExplainFormat::Graphviz),
        ];
        for (name, format) in formats {
            if source.eat(&[name]) {
                self.format = Some(format);
                return Ok(());
            }
        }
        Err(source.unexpected("INDENT, TREE, PGJSON or GRAPHVIZ"))
    }
}

fn create(source: &mut Source<'_>) -> Result<Statement> {
    let is_user = source.word(1).as_deref() == Some("USER") && source.word(2).as_deref() != Some("TABLE");
    match source.word(1).as_deref() {
        Some("NAMESPACE" | "SCHEMA") => create_namespace(source),
        Some("USER") if is_user => create_user(source),
        Some("STORAGE") => operation_grammar::create_storage(source),
        Some("VIEW") => view_grammar::create_view(source),
        Some("OR") if source.sees(&["CREATE", "OR", "REPLACE", "VIEW"]) => view_grammar::create_view(source),
        _ => Ok(Statement::Definition(table_grammar::create_table(source)?)),
    }
}

fn create_namespace(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["CREATE"])?;
    source.eat_one(&["NAMESPACE", "SCHEMA"]);
    let if_not_exists = source.eat(&["IF", "NOT", "EXISTS"]);
    source.subject_is_next();
    let name = namespace_name(source)?;
    Ok(Statement::Definition(Definition::CreateNamespace {
        name,
        if_not_exists,
    }))
}

fn drop(source: &mut Source<'_>) -> Result<Statement> {
    if source.sees(&["DROP", "STORAGE"]) {
        return operation_grammar::drop_storage(source);
    }
    if source.sees(&["DROP", "VIEW"]) {
        return view_grammar::drop_view(source);
    }
    source.expect(&["DROP"])?;
    if source.eat_one(&["NAMESPACE", "SCHEMA"]) {
        let if_exists = source.eat(&["IF", "EXISTS"]);
        source.subject_is_next();
        let name = namespace_name(source)?;
        let cascade = source.eat(&["CASCADE"]);
        if !cascade {
            source.eat(&["RESTRICT"]);
        }
        return Ok(Statement::Definition(Definition::DropNamespace {
            name,
            if_exists,
            cascade,
        }));
    }
    let is_user = source.sees(&["USER"]) && !source.sees(&["USER", "TABLE"]);
    if is_user && source.eat(&["USER"]) {
        let if_exists = source.eat(&["IF", "EXISTS"]);
        source.subject_is_next();
        let name = user_name(source)?;
        return Ok(Statement::Administration(Administration::DropUser { name, if_exists }));
    }
    let kinds = [
        ("SHARED", TableKind::Shared),
        ("USER", TableKind::User),
        ("STREAM", TableKind::Stream),
    ];
    let kind = kinds
        .into_iter()
        .find(|(word, _)| source.eat(&[word]))
        .map(|(_, kind)| kind);
    if !source.eat(&["TABLE"]) {
        return Err(source.unexpected("TABLE, VIEW, NAMESPACE, USER or STORAGE after DROP"));
    }
    let if_exists = source.eat(&["IF", "EXISTS"]);
    let names = table_names(source)?;
    if source.sees(&["CASCADE"]) {
        return Err(source.here(
            ErrorCode::Unsupported,
            "DROP TABLE … CASCADE is not supported: views of the table stay, and fail until it is there again",
        ));
    }
    source.eat(&["RESTRICT"]);
    Ok(Statement::Definition(Definition::DropTable { names, kind, if_exists }))
}

fn truncate(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["TRUNCATE"])?;
    source.eat(&["TABLE"]);
    let names = table_names(source)?;
    for clause in ["RESTART", "CONTINUE", "CASCADE", "RESTRICT"] {
        if source.sees(&[clause]) {
            return Err(source.here(ErrorCode::Unsupported, format!("TRUNCATE … {clause} is not supported")));
        }
    }
    Ok(Statement::Definition(Definition::Truncate { names }))
}

pub(super) fn table_names(source: &mut Source<'_>) -> Result<Vec<super::ObjectName>> {
    let mut names = vec![source.object_name("a table name")?];
    while source.eat_token(&Token::Comma) {
        names.push(source.object_name("a table name")?);
    }
    Ok(names)
}

/// The name of a namespace: one part, or two with the catalog first.
pub(super) fn namespace_name(source: &mut Source<'_>) -> Result<String> {
    let at = source.position();
    let parts = source.object_name("the name of a namespace")?;
    match parts.namespace.as_deref() {
        None | Some(CATALOG) => Ok(parts.name),
        Some(catalog) => {
            let message = format!("a namespace's name has one part; '{catalog}' is not a catalog");
            Err(placed(Error::new(ErrorCode::InvalidStatement, message), at))
        }
    }
}

pub(super) fn user_name(source: &mut Source<'_>) -> Result<String> {
    match source.eat_string() {
        Some(name) => Ok(name),
        None => Ok(folded(&source.identifier("the name of a user, as 'name'")?)),
    }
}

pub(super) fn role(source: &mut Source<'_>) -> Result<Role> {
    let at = source.position();
    let name = user_name(source).map_err(|_| source.unexpected("a role: user, service, dba or system"))?;
    Role::parse(&name).ok_or_else(|| {
        let message = format!("'{name}' is not a role; the roles are user, service, dba and system");
        placed(Error::new(ErrorCode::InvalidArgument, message), at)
    })
}

fn create_user(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["CREATE", "USER"])?;
    let mut if_not_exists = source.eat(&["IF", "NOT", "EXISTS"]);
    source.subject_is_next();
    let name = user_name(source)?;
    let (mut password, mut given_role) = (None, None);
    loop {
        if password.is_none() && (source.eat(&["WITH", "PASSWORD"]) || source.eat(&["PASSWORD"])) {
            password = Some(source.string("the password, as a text literal")?);
        } else if given_role.is_none() && (source.eat(&["WITH", "ROLE"]) || source.eat(&["ROLE"])) {
            given_role = Some(role(source)?);
        } else if !if_not_exists && source.eat(&["IF", "NOT", "EXISTS"]) {
            if_not_exists = true;
        } else {
            break;
        }
    }
    let Some(role) = given_role else {
        return Err(source.unexpected("ROLE user, service, dba or system"));
    };
    Ok(Statement::Administration(Administration::CreateUser {
        name,
        password,
        role,
        if_not_exists,
    }))
}

fn alter_user(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["ALTER"])?;
    if source.sees(&["STORAGE"]) {
        return Err(source.here(
            ErrorCode::Unsupported,
            "ALTER STORAGE is not supported yet: a storage keeps its directory; CREATE STORAGE makes another",
        ));
    }
    if !source.eat(&["USER"]) {
        return Err(source.unexpected("USER, ROLE or TABLE after ALTER"));
    }
    source.subject_is_next();
    let user = rights_grammar::written_user(source)?;
    if source.sees(&["SET", "QUOTA"]) {
        return rights_grammar::set_quotas(source, WrittenSubject::User(user));
    }
    let name = user.name;
    let (mut password, mut new_role) = (None, None);
    loop {
        let changed = password.is_some() || new_role.is_some();
        if source.sees(&["WITH"]) || source.sees(&["SET"]) {
            source.eat_one(&["WITH", "SET"]);
        }
        if password.is_none() && source.eat(&["PASSWORD"]) {
            password = Some(match source.eat(&["NULL"]) {
                true => None,
                false => Some(source.string("the new password as a text literal, or NULL for no login by password")?),
            });
        } else if new_role.is_none() && source.eat(&["ROLE"]) {
            new_role = Some(role(source)?);
        } else if changed {
            break;
        } else {
            return Err(source.unexpected("PASSWORD, ROLE or SET QUOTA"));
        }
    }
    Ok(Statement::Administration(Administration::AlterUser {
        name,
        password,
        role: new_role,
    }))
}

fn use_namespace(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["USE"])?;
    if source.sees(&["NAMESPACE"]) || source.sees(&["SCHEMA"]) {
        // `USE schema` may also name a namespace `schema`.
        if source.word(1).is_some() {
            source.eat_one(&["NAMESPACE", "SCHEMA"]);
        }
    }
    source.subject_is_next();
    let namespace = namespace_name(source)?;
    Ok(Statement::Administration(Administration::Use { namespace }))
}

fn set(source: &mut Source<'_>) -> Result<Statement> {
    if source.eat(&["RESET"]) {
        source.subject_is_next();
        let name = match source.eat(&["TIME", "ZONE"]) {
            true => TIME_ZONE.to_string(),
            false => option_name(source)?,
        };
        return Ok(Statement::Administration(Administration::Set { name, value: None }));
    }
    source.expect(&["SET"])?;
    for scope in ["LOCAL", "GLOBAL", "TRANSACTION", "ROLE", "NAMES", "CONSTRAINTS"] {
        if source.sees(&[scope]) && !matches!(source.token_at(1), Token::Eq | Token::Period) {
            return Err(source.here(
                ErrorCode::Unsupported,
                format!("SET {scope} is not supported; SET name = value sets an option of the session"),
            ));
        }
    }
    if source.sees(&["SESSION"]) && source.word(1).is_some() && source.word(1).as_deref() != Some("TO") {
        source.eat(&["SESSION"]);
    }
    source.subject_is_next();
    if source.eat(&["TIME", "ZONE"]) {
        return Ok(Statement::Administration(Administration::Set {
            name: TIME_ZONE.to_string(),
            value: time_zone(source)?,
        }));
    }
    let name = option_name(source)?;
    if !source.eat_token(&Token::Eq) && !source.eat(&["TO"]) {
        return Err(source.unexpected("= or TO"));
    }
    if name == "schema" {
        source.subject_is_next();
    }
    let value = if name == TIME_ZONE {
        time_zone(source)?
    } else {
        option_value(source)?
    };
    Ok(Statement::Administration(Administration::Set { name, value }))
}

/// A name or an offset; as PostgreSQL has it also a number of hours, and LOCAL for DEFAULT.
fn time_zone(source: &mut Source<'_>) -> Result<Option<String>> {
    if source.eat(&["LOCAL"]) {
        return Ok(None);
    }
    if source.eat(&["INTERVAL"]) {
        let offset = source.string("an offset as '+02:00'")?;
        source.eat(&["HOUR", "TO", "MINUTE"]);
        return Ok(Some(offset));
    }
    let at = source.position();
    let is_number = matches!(source.token(), Token::Number(..) | Token::Minus);
    let value = option_value(source)?;
    let hours = match value {
        Some(hours) if is_number => hours,
        other => return Ok(other),
    };
    let minutes = hours.parse::<f64>().map(|hours| hours * 60.0);
    match minutes {
        Ok(minutes) if minutes.fract() == 0.0 && minutes.abs() < 24.0 * 60.0 => {
            let sign = if minutes < 0.0 { '-' } else { '+' };
            let minutes = minutes.abs();
            Ok(Some(format!(
                "{sign}{:02}:{:02}",
                (minutes / 60.0).trunc(),
                minutes % 60.0
            )))
        }
        Ok(_) | Err(_) => {
            let message = format!("{hours} is not a number of hours; write an offset as '+02:00'");
            Err(placed(Error::new(ErrorCode::InvalidArgument, message), at))
        }
    }
}

/// `time_zone`, which is `timezone` to PostgreSQL's clients, or `ingest.table_type`.
fn option_name(source: &mut Source<'_>) -> Result<String> {
    let mut name = folded(&source.identifier("the name of a session option")?);
    while source.eat_token(&Token::Period) {
        name.push('.');
        name.push_str(&folded(&source.identifier("the rest of the option's name")?));
    }
    if name == "timezone" {
        return Ok(TIME_ZONE.to_string());
    }
    Ok(name)
}

fn option_value(source: &mut Source<'_>) -> Result<Option<String>> {
    if source.eat(&["DEFAULT"]) {
        return Ok(None);
    }
    let mut values = Vec::new();
    loop {
        let negative = source.eat_token(&Token::Minus);
        let sign = if negative { "-" } else { "" };
        values.push(match (source.eat_number(), negative) {
            (Some(number), _) => format!("{sign}{number}"),
            (None, true) => return Err(source.unexpected("a number")),
            (None, false) => match source.eat_string() {
                Some(text) => text,
                None => folded(&source.identifier("a value: text, a number or a word")?),
            },
        });
        if !source.eat_token(&Token::Comma) {
            return Ok(Some(values.join(",")));
        }
    }
}

fn show(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["SHOW"])?;
    let show = if source.eat_one(&["NAMESPACES", "SCHEMAS"]) {
        Show::Namespaces
    } else if source.eat(&["TABLES"]) {
        let mut namespace = None;
        if source.eat_one(&["IN", "FROM"]) {
            source.subject_is_next();
            namespace = Some(namespace_name(source)?);
        }
        let like = match source.eat(&["LIKE"]) {
            true => Some(source.string("a pattern as a text literal")?),
            false => None,
        };
        Show::Tables { namespace, like }
    } else if source.eat(&["STORAGES"]) {
        Show::Storages
    } else if source.eat(&["JOBS"]) {
        Show::Jobs
    } else if source.eat(&["SEGMENTS"]) {
        Show::Segments
    } else if source.eat(&["COLUMNS"]) {
        if !source.eat_one(&["FROM", "IN"]) {
            return Err(source.unexpected("FROM and the name of a table"));
        }
        Show::Columns {
            table: source.object_name("the name of a table")?,
        }
    } else if let Some(show) = rights_grammar::show(source)? {
        show
    } else if source.eat(&["ALL"]) {
        Show::Setting { name: None }
    } else if source.eat(&["TIME", "ZONE"]) {
        Show::Setting {
            name: Some(TIME_ZONE.to_string()),
        }
    } else if let Some(what @ ("CREATE" | "FUNCTIONS")) = source.word(0).as_deref() {
        return Err(source.here(ErrorCode::Unsupported, format!("SHOW {what} is not supported")));
    } else if matches!(source.token(), Token::Word(_)) {
        source.subject_is_next();
        Show::Setting {
            name: Some(option_name(source)?),
        }
    } else {
        return Err(source.unexpected(
            "NAMESPACES, TABLES, COLUMNS, STORAGES, JOBS, SEGMENTS, GRANTS, QUOTAS, ALL or the name of a setting",
        ));
    };
    Ok(Statement::Show(show))
}

fn describe(source: &mut Source<'_>) -> Result<Statement> {
    source.eat_one(&["DESCRIBE", "DESC"]);
    if matches!(
        source.word(0).as_deref(),
        Some("SELECT" | "WITH" | "VALUES" | "INSERT" | "UPDATE" | "DELETE")
    ) {
        return Err(source.here(
            ErrorCode::Unsupported,
            "DESCRIBE takes a table; EXPLAIN shows a statement's plan",
        ));
    }
    // `DESCRIBE table` may also name a table `table`.
    if source.word(1).is_some() || !matches!(source.token_at(1), Token::EOF | Token::SemiColon | Token::Period) {
        source.eat(&["TABLE"]);
    }
    let table = source.object_name("the name of a table")?;
    let history = source.eat(&["HISTORY"]);
    Ok(Statement::Show(Show::Describe { table, history }))
}

fn kill(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["KILL"])?;
    let kill = if source.eat(&["QUERY"]) {
        source.subject_is_next();
        Administration::KillQuery {
            query_id: source.string("the query's id as a text literal")?,
        }
    } else if source.eat(&["SESSION"]) {
        source.subject_is_next();
        Administration::KillSession {
            session_id: source.string("the session's id as a text literal")?,
        }
    } else if source.eat(&["JOB"]) {
        source.subject_is_next();
        Administration::KillJob {
            job_id: source.string("the job's id as a text literal")?,
        }
    } else {
        return Err(source.unexpected("QUERY, SESSION or JOB"));
    };
    Ok(Statement::Administration(kill))
}

/// Statements that are understood and not done: of later versions, and of none.
fn refused(source: &Source<'_>) -> Option<Error> {
    const LATER: &[&[&str]] = &[
        &["ALTER", "TABLE"],
        &["ALTER", "USER", "TABLE"],
        &["ALTER", "SHARED", "TABLE"],
        &["ALTER", "STREAM", "TABLE"],
        &["ALTER", "NAMESPACE"],
        &["ALTER", "SCHEMA"],
        &["ALTER", "VIEW"],
        &["BEGIN"],
        &["START", "TRANSACTION"],
        &["COMMIT"],
        &["END"],
        &["ROLLBACK"],
        &["ABORT"],
        &["SAVEPOINT"],
        &["RELEASE"],
        &["MERGE"],
        &["SUBSCRIBE"],
        &["UNSUBSCRIBE"],
    ];
    // With what to do instead, where there is something.
    const NEVER: &[(&[&str], &str)] = &[
        (
            &["COPY"],
            "no SQL reads or writes the server's files; load and fetch over Arrow Flight SQL or HTTP",
        ),
        (&["LOAD"], "no SQL loads code or files into the server"),
        (
            &["UNLOAD"],
            "no SQL reads or writes the server's files; fetch over Arrow Flight SQL or HTTP",
        ),
        (&["INSTALL"], "no SQL loads code into the server"),
        (&["ATTACH"], "no SQL reaches the server's files"),
        (&["DETACH"], "no SQL reaches the server's files"),
        (
            &["EXPORT"],
            "no SQL writes the server's files; fetch over Arrow Flight SQL or HTTP",
        ),
        (
            &["IMPORT"],
            "no SQL reads the server's files; load over Arrow Flight SQL",
        ),
        (
            &["CREATE", "EXTERNAL"],
            "no SQL reaches the server's files; load rows with INSERT or bulk ingest",
        ),
        (
            &["CREATE", "UNBOUNDED"],
            "no SQL reaches the server's files; load rows with INSERT or bulk ingest",
        ),
        (&["CREATE", "FUNCTION"], ""),
        (&["CREATE", "OR", "REPLACE", "FUNCTION"], ""),
        (&["CREATE", "PROCEDURE"], ""),
        (&["CREATE", "TRIGGER"], ""),
        (&["CREATE", "MACRO"], ""),
        (&["CREATE", "INDEX"], "rows are found by their primary key"),
        (&["CREATE", "UNIQUE"], "only the primary key is unique"),
        (
            &["CREATE", "SEQUENCE"],
            "SNOWFLAKE_ID(), UUID_V7() and ULID() make keys",
        ),
        (&["CREATE", "TYPE"], ""),
        (&["CREATE", "DOMAIN"], ""),
        (&["CREATE", "EXTENSION"], ""),
        (
            &["CREATE", "MATERIALIZED"],
            "CREATE TABLE … AS SELECT keeps a query's rows",
        ),
        (
            &["CREATE", "DATABASE"],
            "there is one catalog, kalam; namespaces divide it: CREATE NAMESPACE",
        ),
        (
            &["DROP", "DATABASE"],
            "there is one catalog, kalam; namespaces divide it: DROP NAMESPACE",
        ),
        (
            &["CREATE", "ROLE"],
            "the roles are user, service, dba and system: CREATE USER 'name' ROLE role",
        ),
        (&["DROP", "FUNCTION"], ""),
        (&["DROP", "INDEX"], ""),
        (
            &["CREATE", "TEMPORARY"],
            "every table is kept until it is dropped; STREAM tables hold rows for a stated time",
        ),
        (
            &["CREATE", "TEMP"],
            "every table is kept until it is dropped; STREAM tables hold rows for a stated time",
        ),
        (
            &["CREATE", "LOCAL"],
            "every table is kept until it is dropped; STREAM tables hold rows for a stated time",
        ),
        (
            &["CREATE", "GLOBAL"],
            "every table is kept until it is dropped; STREAM tables hold rows for a stated time",
        ),
        (&["CREATE", "UNLOGGED"], "every write is durable"),
        (
            &["PREPARE"],
            "prepare statements over the protocol; parameters are ? or $1",
        ),
        (
            &["EXECUTE"],
            "prepare statements over the protocol; parameters are ? or $1",
        ),
        (
            &["DEALLOCATE"],
            "prepare statements over the protocol; parameters are ? or $1",
        ),
        (&["PRAGMA"], "SET and SHOW are for settings"),
        (&["DECLARE"], ""),
        (&["FETCH"], ""),
        (&["CALL"], ""),
        (&["DO"], ""),
        (&["LISTEN"], ""),
        (&["NOTIFY"], ""),
        (&["LOCK"], ""),
        (&["COMMENT"], ""),
        (&["VACUUM"], "space is reclaimed by itself"),
        (&["COMPACT"], "STORAGE COMPACT TABLE merges a table's segments"),
        (
            &["ANALYZE"],
            "statistics are kept by themselves; EXPLAIN ANALYZE measures a query",
        ),
        (
            &["REPLACE"],
            "UPDATE changes rows, and bulk ingest has on_conflict = replace",
        ),
        (
            &["UPSERT"],
            "UPDATE changes rows, and bulk ingest has on_conflict = replace",
        ),
        (&["CACHE"], ""),
        (&["UNCACHE"], ""),
        (&["MSCK"], ""),
        (&["RENAME"], ""),
    ];
    if let Some(nested) = rights_grammar::nested(source) {
        return Some(nested);
    }
    if let Some(words) = LATER.iter().find(|words| source.sees(words)) {
        let message = format!("{} is not supported yet", words.join(" "));
        return Some(source.here(ErrorCode::Unsupported, message));
    }
    let (words, advice) = NEVER.iter().find(|(words, _)| source.sees(words))?;
    let advice = if advice.is_empty() {
        String::new()
    } else {
        format!(": {advice}")
    };
    Some(source.here(
        ErrorCode::Unsupported,
        format!("{} is not part of KalamDB's SQL{advice}", words.join(" ")),
    ))
}
