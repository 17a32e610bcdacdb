//! One SQL text into one statement: sqlparser's tree for what DataFusion plans, our own for the rest. No text is ever replaced.

mod dialect;
mod grammar;
mod join_conditions;
mod operation_grammar;
mod placeholders;
mod refusals;
mod rights_grammar;
mod syntax;
mod table_grammar;
mod type_grammar;
mod view_grammar;

use std::collections::BTreeMap;
use std::ops::Range;

use datafusion::logical_expr::ExplainFormat;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::tokenizer::Token;
use kalamdb_core::{CreateMode, Error, ErrorCode, Position, Result, Role, TableKind};

use crate::names::{CATALOG, folded, placed};
pub(crate) use crate::statement::table_grammar::check_key;
use crate::types::SqlType;

pub(crate) use rights_grammar::{Actor, Rights, UserName, WrittenObject, WrittenSubject};

/// A name as written: unquoted parts folded to lower case, quoted ones kept. One part: the session's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
    /// Where it stands in the text.
    pub(crate) position: Option<Position>,
}

/// A statement, ready to be checked and run.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    /// SELECT, VALUES, WITH: for DataFusion as they are (always [`ast::Statement::Query`]).
    Query(Box<ast::Statement>),
    /// EXPLAIN [ANALYZE] of a query, INSERT, UPDATE or DELETE; ANALYZE only of a query.
    Explain {
        analyze: bool,
        verbose: bool,
        format: Option<ExplainFormat>,
        /// The statement explained.
        statement: Box<Statement>,
        /// The same as sqlparser's tree.
        original: Box<ast::Statement>,
    },
    /// INSERT; `source` is `None` for DEFAULT VALUES.
    Insert(Box<ast::Insert>),
    /// UPDATE of one table, perhaps with FROM.
    Update(Box<Named<ast::Update>>),
    /// DELETE from one table, perhaps with USING.
    Delete(Box<Named<ast::Delete>>),
    /// DDL.
    Definition(Definition),
    /// Users, sessions, operations.
    Administration(Administration),
    /// Grants and quotas.
    Rights(Rights),
    /// SHOW and DESCRIBE: become a query over system tables.
    Show(Show),
    /// FLUSH, COMPACT, CHECK: done once, with rows that say what was done.
    Operation(Operation),
}

/// A write, and the queries that WITH names before it.
#[derive(Clone, Debug)]
pub(crate) struct Named<W> {
    pub(crate) with: Option<ast::With>,
    pub(crate) write: W,
}

/// A statement, and on whose behalf it runs.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    pub(crate) actor: Actor,
    pub(crate) statement: Statement,
    /// Where the user, namespace, storage, setting or id stands that it is about.
    pub(crate) subject: Option<Position>,
}

/// What is done to tables' segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Flush(Tables),
    Compact(Tables),
    Check(Tables),
}

/// Which tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    One(ObjectName),
    /// All that the principal may.
    All,
}

/// DDL.
#[derive(Clone, Debug)]
pub(crate) enum Definition {
    CreateNamespace {
        name: String,
        if_not_exists: bool,
    },
    DropNamespace {
        name: String,
        if_exists: bool,
        cascade: bool,
    },
    CreateTable(Box<CreateTable>),
    DropTable {
        names: Vec<ObjectName>,
        /// What the tables are said to be.
        kind: Option<TableKind>,
        if_exists: bool,
    },
    Truncate {
        names: Vec<ObjectName>,
    },
    CreateView(Box<CreateView>),
    DropView {
        names: Vec<ObjectName>,
        if_exists: bool,
    },
    CreateStorage {
        name: String,
        location: String,
        if_not_exists: bool,
    },
    DropStorage {
        name: String,
        if_exists: bool,
    },
}

/// CREATE TABLE.
#[derive(Clone, Debug)]
pub(crate) struct CreateTable {
    pub(crate) name: ObjectName,
    pub(crate) kind: TableKind,
    pub(crate) mode: CreateMode,
    /// Where a query gives the rows: of its first columns, as far as something is said of them.
    pub(crate) columns: Vec<ColumnDefinition>,
    /// Column names in key order, from the column or the table constraint.
    /// Each column with its place.
    pub(crate) primary_key: Vec<(String, Option<Position>)>,
    /// WITH options (TYPE taken out) and FLUSH POLICY, names in upper case.
    pub(crate) options: BTreeMap<String, String>,
    /// Where each of them stands.
    pub(crate) option_places: BTreeMap<String, Position>,
    /// CREATE TABLE … AS.
    pub(crate) query: Option<Box<ast::Query>>,
}

/// CREATE VIEW.
#[derive(Clone, Debug)]
pub(crate) struct CreateView {
    pub(crate) name: ObjectName,
    pub(crate) mode: CreateMode,
    /// Names for the first columns; the others have those of the query.
    pub(crate) columns: Vec<String>,
    pub(crate) query: Box<ast::Query>,
    /// The query as written.
    pub(crate) text: String,
}

/// One column of CREATE TABLE.
#[derive(Clone, Debug)]
pub(crate) struct ColumnDefinition {
    pub(crate) name: String,
    /// `None`: that of the query's column.
    pub(crate) sql_type: Option<SqlType>,
    pub(crate) nullable: bool,
    pub(crate) default: Option<ast::Expr>,
    pub(crate) position: Option<Position>,
}

/// Users, sessions, operations.
#[derive(Clone)]
pub(crate) enum Administration {
    CreateUser {
        name: String,
        password: Option<String>,
        role: Role,
        if_not_exists: bool,
    },
    /// `password`: unchanged, removed (`Some(None)`) or new.
    AlterUser {
        name: String,
        password: Option<Option<String>>,
        role: Option<Role>,
    },
    DropUser {
        name: String,
        if_exists: bool,
    },
    Use {
        namespace: String,
    },
    /// SET name = value and RESET name; only session options.
    Set {
        name: String,
        value: Option<String>,
    },
    KillQuery {
        query_id: String,
    },
    KillSession {
        session_id: String,
    },
    KillJob {
        job_id: String,
    },
}

/// SHOW and DESCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Show {
    Namespaces,
    Tables {
        namespace: Option<String>,
        like: Option<String>,
    },
    Storages,
    Jobs,
    Segments,
    Columns {
        table: ObjectName,
    },
    Describe {
        table: ObjectName,
        history: bool,
    },
    Grants {
        user: Option<UserName>,
    },
    Quotas {
        user: Option<UserName>,
    },
    /// SHOW name, SHOW ALL: session and server settings.
    Setting {
        name: Option<String>,
    },
}

/// Passwords stay out of debug output.
impl std::fmt::Debug for Administration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Administration::CreateUser { name, role, .. } => write!(f, "CreateUser({name}, {role:?})"),
            Administration::AlterUser { name, role, .. } => write!(f, "AlterUser({name}, {role:?})"),
            Administration::DropUser { name, .. } => write!(f, "DropUser({name})"),
            Administration::Use { namespace } => write!(f, "Use({namespace})"),
            Administration::Set { name, value } => write!(f, "Set({name}, {value:?})"),
            Administration::KillQuery { query_id } => write!(f, "KillQuery({query_id})"),
            Administration::KillSession { session_id } => write!(f, "KillSession({session_id})"),
            Administration::KillJob { job_id } => write!(f, "KillJob({job_id})"),
        }
    }
}

/// Parses exactly one statement, with on whose behalf it runs.
///
/// # Errors
/// SYNTAX_ERROR with line and column, UNSUPPORTED for what this version does not do (naming it), INVALID_ARGUMENT and
/// INVALID_STATEMENT for UNIQUE, CHECK, REFERENCES and the like; more than one statement is INVALID_STATEMENT.
pub(crate) fn parse_whole(sql: &str) -> Result<Parsed> {
    with_source(sql, |source| {
        let (actor, statement) = rights_grammar::whole(source)?;
        Ok(Parsed {
            actor,
            statement,
            subject: source.subject(),
        })
    })
}

/// Parses exactly one statement that does not say on whose behalf it runs, as the query of a view does not.
///
/// # Errors
/// As [`parse_whole`]; INVALID_STATEMENT for EXECUTE AS.
pub(crate) fn parse(sql: &str) -> Result<Statement> {
    with_source(sql, grammar::statement)
}

fn with_source<T>(sql: &str, parse: impl FnOnce(&mut syntax::Source<'_>) -> Result<T>) -> Result<T> {
    let dialect = dialect::KalamDialect::for_text(sql);
    let tokens = placeholders::number(placeholders::operators(syntax::tokenize(&dialect, sql)?))?;
    syntax::check_depth(&tokens)?;
    let dialect = dialect.for_tokens(&tokens);
    let mut source = syntax::Source::new(&dialect, sql, tokens);
    let parsed = parse(&mut source)?;
    source.expect_end()?;
    Ok(parsed)
}

/// Parses one expression, as a column's DEFAULT is kept: the whole text, without parameters.
///
/// # Errors
/// SYNTAX_ERROR.
pub(crate) fn parse_expression(sql: &str) -> Result<ast::Expr> {
    let dialect = dialect::KalamDialect::for_text(sql);
    let tokens = placeholders::operators(syntax::tokenize(&dialect, sql)?);
    syntax::check_depth(&tokens)?;
    let mut source = syntax::Source::new(&dialect, sql, tokens);
    let mut expression = source.call(|parser| parser.parse_expr())?;
    source.expect_end()?;
    refusals::check_expression(&mut expression, sql)?;
    Ok(expression)
}

/// Splits a script into the texts of its statements by the SQL tokenizer: a semicolon in a literal or comment does not split.
///
/// # Errors
/// SYNTAX_ERROR where it cannot be tokenized.
pub fn split(sql: &str) -> Result<Vec<String>> {
    let ranges = statement_ranges(sql)?;
    Ok(ranges.into_iter().map(|range| sql[range].to_string()).collect())
}

/// The same as where the statements stand in the script, in bytes. A comment before a statement belongs to it.
///
/// # Errors
/// As [`split`].
pub fn statement_ranges(sql: &str) -> Result<Vec<Range<usize>>> {
    let dialect = dialect::KalamDialect::for_text(sql);
    let tokens = syntax::tokenize(&dialect, sql)?;
    let mut lines = syntax::Lines::new(sql);
    let trimmed = |start: usize, end: usize| {
        let text = &sql[start..end];
        let start = start + text.len() - text.trim_start().len();
        start..start + text.trim().len()
    };
    let mut statements = Vec::new();
    let mut start = 0;
    let mut holds_something = false;
    for token in &tokens {
        match token.token {
            Token::SemiColon => {
                let end = lines.offset(token.span.start);
                if holds_something {
                    statements.push(trimmed(start, end));
                }
                start = end + 1;
                holds_something = false;
            }
            Token::Whitespace(_) => {}
            _ => holds_something = true,
        }
    }
    if holds_something {
        statements.push(trimmed(start, sql.len()));
    }
    Ok(statements)
}

/// Splits sqlparser's name into ours; the catalog, if given, must be `kalam`.
///
/// # Errors
/// TABLE_NOT_FOUND for another catalog, INVALID_STATEMENT for more parts or parts that are no identifiers.
pub(crate) fn object_name(name: &ast::ObjectName) -> Result<ObjectName> {
    let idents: Option<Vec<&ast::Ident>> = name.0.iter().map(|part| part.as_ident()).collect();
    let Some(idents) = idents else {
        return Err(Error::new(
            ErrorCode::InvalidStatement,
            format!("{name} is not a table name"),
        ));
    };
    let position = idents.first().and_then(|ident| syntax::position(ident.span.start));
    let (namespace, name) = match idents.as_slice() {
        [name] => (None, folded(name)),
        [namespace, name] => (Some(folded(namespace)), folded(name)),
        [catalog, namespace, name] => {
            let catalog = folded(catalog);
            if catalog != CATALOG {
                let message = format!("there is no catalog '{catalog}'; the only one is {CATALOG}");
                return Err(placed(Error::new(ErrorCode::TableNotFound, message), position));
            }
            (Some(folded(namespace)), folded(name))
        }
        _ => {
            let message = format!("the name {name} has too many parts; write namespace.table");
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), position));
        }
    };
    Ok(ObjectName {
        namespace,
        name,
        position,
    })
}

#[cfg(test)]
mod coverage;
#[cfg(test)]
mod robustness;
#[cfg(test)]
mod tests;
