//! What sqlparser understands and neither DataFusion nor the write handlers obey is refused here, at its place in the text.
//!
//! Every struct is taken apart field by field, so that a new field of sqlparser's is a compile error and not a clause that
//! is parsed and ignored.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    self, Cte, Delete, Expr, FromTable, GroupByExpr, Insert, Join, LimitClause, Offset, OnInsert, OrderBy, OrderByExpr,
    OrderByKind, Query, Select, SelectFlavor, SetExpr, Spanned, TableAlias, TableFactor, TableFunctionArgs,
    TableObject, TableWithJoins, Update, UpdateTableFromKind, Value, ValueWithSpan, Values, Visit, Visitor, VisitorMut,
};
use kalamdb_core::{Error, ErrorCode, Position, Result};

use super::join_conditions;
use super::syntax::{find_word, position};
use super::{Named, Statement};
use crate::names::placed;
use crate::tree::{walk, walk_mut};
use crate::values;

/// Checks a query or write that sqlparser parsed.
///
/// # Errors
/// UNSUPPORTED, INVALID_STATEMENT.
pub(super) fn check(statement: ast::Statement, sql: &str) -> Result<Statement> {
    let mut refusals = Refusals { sql };
    let (mut with, mut statement) = with_before(statement);
    if let Some(with) = &mut with {
        refusals.names(with)?;
        walk_mut(with, &mut refusals)?;
    }
    walk_mut(&mut statement, &mut refusals)?;
    Ok(match statement {
        ast::Statement::Query(_) => Statement::Query(Box::new(statement)),
        ast::Statement::Insert(insert) => {
            refusals.insert(&insert)?;
            Statement::Insert(Box::new(insert))
        }
        ast::Statement::Update(update) => {
            refusals.update(&update)?;
            Statement::Update(Box::new(Named { with, write: update }))
        }
        ast::Statement::Delete(delete) => {
            refusals.delete(&delete)?;
            Statement::Delete(Box::new(Named { with, write: delete }))
        }
        _ => return Err(Error::new(ErrorCode::Unsupported, "this statement is not supported")),
    })
}

/// A write with the WITH before it. That of an INSERT goes into its source, `WITH … INSERT INTO t SELECT …` being
/// `INSERT INTO t WITH … SELECT …`.
fn with_before(statement: ast::Statement) -> (Option<ast::With>, ast::Statement) {
    let ast::Statement::Query(mut query) = statement else {
        return (None, statement);
    };
    if query.with.is_none() {
        return (None, ast::Statement::Query(query));
    }
    match query.body.as_mut() {
        SetExpr::Insert(ast::Statement::Insert(insert)) => {
            if let Some(source) = insert.source.take() {
                let mut source = match source.with {
                    None => source,
                    // Its own names go before those of the statement.
                    Some(_) => values::query(SetExpr::Query(source)),
                };
                source.with = query.with.take();
                insert.source = Some(source);
                return (None, ast::Statement::Insert(insert.clone()));
            }
        }
        SetExpr::Update(update @ ast::Statement::Update(_)) => return (query.with.take(), update.clone()),
        SetExpr::Delete(delete @ ast::Statement::Delete(_)) => return (query.with.take(), delete.clone()),
        _ => {}
    }
    (None, ast::Statement::Query(query))
}

/// Checks a query inside a statement of our own.
///
/// # Errors
/// As [`check`].
pub(super) fn check_query(mut query: Box<Query>, sql: &str) -> Result<Box<Query>> {
    walk_mut(&mut query, &mut Refusals { sql })?;
    Ok(query)
}

/// Checks an expression inside a statement of our own.
///
/// # Errors
/// As [`check`].
pub(super) fn check_expression(expression: &mut Expr, sql: &str) -> Result<()> {
    walk_mut(expression, &mut Refusals { sql })
}

/// Refuses parameters where a statement keeps or runs a text of its own.
///
/// # Errors
/// UNSUPPORTED.
pub(super) fn refuse_parameters(part: &impl Visit, what: &str) -> Result<()> {
    struct Parameters<'a> {
        what: &'a str,
    }
    impl Visitor for Parameters<'_> {
        type Break = Error;

        fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Error> {
            match &value.value {
                Value::Placeholder(name) => {
                    let message = format!("a parameter ({name}) in {} is not supported", self.what);
                    ControlFlow::Break(placed(
                        Error::new(ErrorCode::Unsupported, message),
                        position(value.span.start),
                    ))
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    walk(part, &mut Parameters { what })
}

struct Refusals<'a> {
    sql: &'a str,
}

impl VisitorMut for Refusals<'_> {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        flow(self.query(query))
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        flow(self.select(select))
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Error> {
        flow(self.table_factor(factor))
    }

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Error> {
        match &value.value {
            Value::Placeholder(name) if !name.starts_with('$') => {
                let message = format!("{name} is not a parameter; write ? or $1, $2, …");
                ControlFlow::Break(placed(
                    Error::new(ErrorCode::SyntaxError, message),
                    position(value.span.start),
                ))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(refusal) => ControlFlow::Break(refusal),
    }
}

impl Refusals<'_> {
    /// The refusal of `what`, which stands where the first of `words` does.
    fn refuse(&self, what: &str, words: &[&str]) -> Error {
        placed(
            Error::new(ErrorCode::Unsupported, format!("{what} is not supported")),
            find_word(self.sql, words),
        )
    }

    fn later(&self, what: &str, words: &[&str]) -> Error {
        placed(
            Error::new(ErrorCode::Unsupported, format!("{what} is not supported yet")),
            find_word(self.sql, words),
        )
    }

    /// Refuses if `present`.
    fn unless(&self, present: bool, what: &str, words: &[&str]) -> Result<()> {
        if present { Err(self.refuse(what, words)) } else { Ok(()) }
    }

    fn query(&self, query: &mut Query) -> Result<()> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if let Some(with) = with {
            self.names(with)?;
        }
        self.body(body)?;
        if let Some(OrderBy { kind, interpolate }) = order_by {
            self.unless(interpolate.is_some(), "INTERPOLATE", &["INTERPOLATE"])?;
            if let OrderByKind::Expressions(expressions) = kind {
                self.order_by(expressions)?;
            }
        }
        if let Some(LimitClause::LimitOffset { limit_by, .. }) = limit_clause {
            self.unless(!limit_by.is_empty(), "LIMIT … BY", &["LIMIT"])?;
        }
        if let Some(ast::Fetch {
            with_ties,
            percent,
            quantity,
        }) = fetch.take()
        {
            self.unless(with_ties, "FETCH … WITH TIES", &["FETCH"])?;
            self.unless(percent, "FETCH … PERCENT", &["FETCH"])?;
            // FETCH is the standard's LIMIT, and DataFusion knows only LIMIT.
            let rows = quantity.unwrap_or_else(|| Expr::value(Value::Number("1".into(), false)));
            let offset: Option<Offset> = match limit_clause.take() {
                None => None,
                Some(LimitClause::LimitOffset {
                    limit: None,
                    offset,
                    limit_by: _,
                }) => offset,
                Some(_) => return Err(self.refuse("LIMIT together with FETCH", &["FETCH"])),
            };
            *limit_clause = Some(LimitClause::LimitOffset {
                limit: Some(rows),
                offset,
                limit_by: vec![],
            });
        }
        self.unless(
            !locks.is_empty(),
            "FOR UPDATE or FOR SHARE (queries read a snapshot and lock nothing)",
            &["FOR"],
        )?;
        self.unless(for_clause.is_some(), "FOR JSON, XML or BROWSE", &["FOR"])?;
        self.unless(settings.is_some(), "SETTINGS", &["SETTINGS"])?;
        self.unless(format_clause.is_some(), "FORMAT", &["FORMAT"])?;
        self.unless(!pipe_operators.is_empty(), "the pipe operator |>", &[])
    }

    /// What WITH names; the queries are visited on their own.
    fn names(&self, with: &ast::With) -> Result<()> {
        for Cte {
            alias,
            query: _,
            from,
            materialized,
            closing_paren_token: _,
        } in &with.cte_tables
        {
            self.alias(Some(alias))?;
            self.unless(from.is_some(), "FROM in WITH", &["FROM"])?;
            self.unless(materialized.is_some(), "AS [NOT] MATERIALIZED", &["MATERIALIZED"])?;
        }
        Ok(())
    }

    /// The set operations of one query; what they hold is visited on its own.
    fn body(&self, body: &SetExpr) -> Result<()> {
        let mut open = vec![body];
        while let Some(part) = open.pop() {
            match part {
                SetExpr::Select(_) | SetExpr::Query(_) => {}
                SetExpr::SetOperation {
                    left,
                    right,
                    op: _,
                    set_quantifier: _,
                } => open.extend([&**left, &**right]),
                // ROW (…) is the standard's long form of a row.
                SetExpr::Values(Values {
                    explicit_row: _,
                    value_keyword,
                    rows: _,
                }) => {
                    self.unless(*value_keyword, "VALUE instead of VALUES", &["VALUE"])?;
                }
                SetExpr::Insert(_) => {
                    return Err(self.refuse("WITH before INSERT (write INSERT INTO t WITH … SELECT …)", &["INSERT"]));
                }
                SetExpr::Update(_) => return Err(self.write_inside("UPDATE")),
                SetExpr::Delete(_) => return Err(self.write_inside("DELETE")),
                SetExpr::Merge(_) => return Err(self.later("MERGE", &["MERGE"])),
                SetExpr::Table(_) => return Err(self.refuse("TABLE as a query (write SELECT * FROM t)", &["TABLE"])),
            }
        }
        Ok(())
    }

    fn write_inside(&self, verb: &str) -> Error {
        let what = format!("{verb} inside of a query (a statement writes once; its RETURNING gives the rows)");
        self.refuse(&what, &[verb])
    }

    fn select(&self, select: &Select) -> Result<()> {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct: _,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection: _,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having: _,
            named_window: _,
            qualify: _,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        self.unless(!optimizer_hints.is_empty(), "an optimizer hint", &["SELECT"])?;
        self.unless(select_modifiers.is_some(), "a modifier after SELECT", &["SELECT"])?;
        self.unless(top.is_some(), "TOP (write LIMIT)", &["TOP"])?;
        if projection.is_empty() {
            let at = position(select.select_token.0.span.start);
            return Err(placed(
                Error::new(ErrorCode::SyntaxError, "syntax error: SELECT needs at least one column"),
                at,
            ));
        }
        self.unless(
            exclude.is_some(),
            "EXCLUDE after the last column (write * EXCLUDE (a, b))",
            &["EXCLUDE"],
        )?;
        self.unless(
            into.is_some(),
            "SELECT INTO (write CREATE TABLE … AS SELECT or INSERT INTO … SELECT)",
            &["INTO"],
        )?;
        self.joins(from)?;
        self.unless(!lateral_views.is_empty(), "LATERAL VIEW", &["LATERAL"])?;
        self.unless(prewhere.is_some(), "PREWHERE", &["PREWHERE"])?;
        self.unless(
            !connect_by.is_empty(),
            "CONNECT BY (write WITH RECURSIVE)",
            &["CONNECT", "START"],
        )?;
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = group_by;
        self.unless(
            !modifiers.is_empty(),
            "GROUP BY … WITH (write ROLLUP (…), CUBE (…) or GROUPING SETS (…))",
            &["GROUP"],
        )?;
        self.unless(!cluster_by.is_empty(), "CLUSTER BY", &["CLUSTER"])?;
        self.unless(!distribute_by.is_empty(), "DISTRIBUTE BY", &["DISTRIBUTE"])?;
        self.unless(!sort_by.is_empty(), "SORT BY (write ORDER BY)", &["SORT"])?;
        self.unless(value_table_mode.is_some(), "SELECT AS STRUCT or VALUE", &["AS"])?;
        self.unless(*flavor != SelectFlavor::Standard, "FROM before SELECT", &["FROM"])
    }

    fn order_by(&self, expressions: &[OrderByExpr]) -> Result<()> {
        for OrderByExpr {
            expr: _,
            options: _,
            with_fill,
        } in expressions
        {
            self.unless(with_fill.is_some(), "WITH FILL", &["FILL"])?;
        }
        Ok(())
    }

    fn joins(&self, tables: &[TableWithJoins]) -> Result<()> {
        for TableWithJoins { relation: _, joins } in tables {
            for Join {
                relation,
                global,
                join_operator,
            } in joins
            {
                self.unless(*global, "GLOBAL JOIN", &["GLOBAL"])?;
                join_conditions::check(join_operator, relation)?;
            }
        }
        Ok(())
    }

    fn alias(&self, alias: Option<&TableAlias>) -> Result<()> {
        let Some(TableAlias {
            explicit: _,
            name: _,
            columns,
            at,
        }) = alias
        else {
            return Ok(());
        };
        self.unless(at.is_some(), "AT after an alias", &["AT"])?;
        match columns.iter().find(|column| column.data_type.is_some()) {
            Some(typed) => {
                let refusal = Error::new(
                    ErrorCode::Unsupported,
                    "a type in an alias's column list is not supported",
                );
                Err(placed(refusal, position(typed.name.span.start)))
            }
            None => Ok(()),
        }
    }

    fn table_factor(&self, factor: &TableFactor) -> Result<()> {
        match factor {
            TableFactor::Table {
                name: _,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                self.alias(alias.as_ref())?;
                if let Some(TableFunctionArgs { args: _, settings }) = args {
                    self.unless(settings.is_some(), "SETTINGS", &["SETTINGS"])?;
                }
                self.unless(!with_hints.is_empty(), "WITH after a table", &["WITH"])?;
                self.unless(
                    version.is_some(),
                    "reading an earlier version of a table",
                    &["VERSION", "TIMESTAMP", "SYSTEM_TIME"],
                )?;
                self.unless(*with_ordinality, "WITH ORDINALITY", &["ORDINALITY"])?;
                self.unless(!partitions.is_empty(), "PARTITION", &["PARTITION"])?;
                self.unless(json_path.is_some(), "a path after a table", &[])?;
                self.unless(sample.is_some(), "TABLESAMPLE", &["TABLESAMPLE", "SAMPLE"])?;
                self.unless(!index_hints.is_empty(), "an index hint", &["INDEX", "KEY"])
            }
            TableFactor::Derived {
                lateral: _,
                subquery: _,
                alias,
                sample,
            } => {
                self.alias(alias.as_ref())?;
                self.unless(sample.is_some(), "TABLESAMPLE", &["TABLESAMPLE", "SAMPLE"])
            }
            TableFactor::Function {
                lateral: _,
                name: _,
                args,
                with_ordinality,
                alias,
            } => {
                self.alias(alias.as_ref())?;
                let named = args.iter().any(|arg| !matches!(arg, ast::FunctionArg::Unnamed(_)));
                self.unless(named, "a named argument of a table function", &[])?;
                self.unless(*with_ordinality, "WITH ORDINALITY", &["ORDINALITY"])
            }
            TableFactor::UNNEST {
                alias,
                array_exprs: _,
                with_offset,
                with_offset_alias,
                with_ordinality,
            } => {
                self.alias(alias.as_ref())?;
                self.unless(*with_offset || with_offset_alias.is_some(), "WITH OFFSET", &["OFFSET"])?;
                self.unless(*with_ordinality, "WITH ORDINALITY", &["ORDINALITY"])
            }
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                self.alias(alias.as_ref())?;
                self.joins(std::slice::from_ref(table_with_joins))
            }
            TableFactor::TableFunction { .. } => {
                Err(self.refuse("TABLE(…) (write the function's name in FROM)", &["TABLE"]))
            }
            TableFactor::JsonTable { .. } => Err(self.refuse("JSON_TABLE", &["JSON_TABLE"])),
            TableFactor::OpenJsonTable { .. } => Err(self.refuse("OPENJSON", &["OPENJSON"])),
            TableFactor::Pivot { .. } => Err(self.refuse("PIVOT", &["PIVOT"])),
            TableFactor::Unpivot { .. } => Err(self.refuse("UNPIVOT", &["UNPIVOT"])),
            TableFactor::MatchRecognize { .. } => Err(self.refuse("MATCH_RECOGNIZE", &["MATCH_RECOGNIZE"])),
            TableFactor::XmlTable { .. } => Err(self.refuse("XMLTABLE", &["XMLTABLE"])),
            TableFactor::SemanticView { .. } => Err(self.refuse("SEMANTIC_VIEW", &["SEMANTIC_VIEW"])),
        }
    }

    fn insert(&self, insert: &Insert) -> Result<()> {
        let Insert {
            insert_token: _,
            optimizer_hints,
            or,
            ignore,
            into,
            table,
            table_alias,
            columns,
            overwrite,
            source: _,
            assignments,
            partitioned,
            after_columns,
            has_table_keyword,
            on,
            returning: _,
            output,
            replace_into,
            priority,
            insert_alias,
            settings,
            format_clause,
            multi_table_insert_type,
            multi_table_into_clauses,
            multi_table_when_clauses,
            multi_table_else_clause,
        } = insert;
        let multi_table = multi_table_insert_type.is_some()
            || !multi_table_into_clauses.is_empty()
            || !multi_table_when_clauses.is_empty()
            || multi_table_else_clause.is_some();
        self.unless(multi_table, "INSERT into several tables", &["ALL", "FIRST", "INTO"])?;
        self.unless(!optimizer_hints.is_empty(), "an optimizer hint", &["INSERT"])?;
        self.unless(or.is_some(), "INSERT OR … (UPDATE changes rows that exist)", &["OR"])?;
        self.unless(*ignore, "INSERT IGNORE", &["IGNORE"])?;
        self.unless(
            *overwrite,
            "INSERT OVERWRITE (write TRUNCATE, then INSERT)",
            &["OVERWRITE"],
        )?;
        self.unless(
            *has_table_keyword,
            "INSERT INTO TABLE (write INSERT INTO t)",
            &["TABLE"],
        )?;
        if !into {
            return Err(placed(
                Error::new(ErrorCode::SyntaxError, "syntax error: expected INTO after INSERT"),
                find_word(self.sql, &["INSERT"]),
            ));
        }
        match table {
            TableObject::TableName(_) => {}
            TableObject::TableFunction(_) => return Err(self.refuse("INSERT into a table function", &["FUNCTION"])),
            TableObject::TableQuery(_) => return Err(self.refuse("INSERT into a query", &["INTO"])),
        }
        if let Some(qualified) = columns.iter().find(|column| column.0.len() != 1) {
            let message = format!("'{qualified}' must be the plain name of a column");
            return Err(placed(
                Error::new(ErrorCode::InvalidStatement, message),
                position(qualified.span().start),
            ));
        }
        self.unless(table_alias.is_some(), "an alias for the table of an INSERT", &["AS"])?;
        self.unless(!assignments.is_empty(), "INSERT … SET (write VALUES)", &["SET"])?;
        self.unless(
            partitioned.is_some() || !after_columns.is_empty(),
            "PARTITION",
            &["PARTITION"],
        )?;
        match on {
            None => {}
            Some(OnInsert::DuplicateKeyUpdate(_)) => {
                return Err(self.later("INSERT … ON DUPLICATE KEY UPDATE", &["ON"]));
            }
            Some(_) => return Err(self.later("INSERT … ON CONFLICT", &["ON"])),
        }
        self.unless(output.is_some(), "OUTPUT", &["OUTPUT"])?;
        self.unless(*replace_into, "REPLACE INTO", &["REPLACE"])?;
        self.unless(
            priority.is_some(),
            "a priority after INSERT",
            &["LOW_PRIORITY", "HIGH_PRIORITY", "DELAYED"],
        )?;
        self.unless(insert_alias.is_some(), "an alias after VALUES", &["AS"])?;
        self.unless(settings.is_some(), "SETTINGS", &["SETTINGS"])?;
        self.unless(format_clause.is_some(), "FORMAT", &["FORMAT"])
    }

    fn update(&self, update: &Update) -> Result<()> {
        let Update {
            update_token: _,
            optimizer_hints,
            table,
            assignments,
            from,
            selection: _,
            returning: _,
            output,
            or,
            order_by,
            limit,
        } = update;
        self.unless(!optimizer_hints.is_empty(), "an optimizer hint", &["UPDATE"])?;
        self.unless(
            !table.joins.is_empty(),
            "UPDATE of a join (write UPDATE t SET … FROM u WHERE …)",
            &["JOIN"],
        )?;
        self.named_table(&table.relation, "UPDATE", &["UPDATE"])?;
        for assignment in assignments {
            match &assignment.target {
                ast::AssignmentTarget::ColumnName(_) => {}
                ast::AssignmentTarget::Tuple(columns) => {
                    let at = columns.first().and_then(|column| position(column.span().start));
                    let message = "SET (a, b) = … is not supported; write SET a = …, b = …";
                    return Err(placed(Error::new(ErrorCode::Unsupported, message), at));
                }
            }
        }
        match from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(tables)) => self.joins(tables)?,
            Some(UpdateTableFromKind::BeforeSet(_)) => {
                return Err(self.refuse("FROM before SET (write it after SET)", &["FROM"]));
            }
        }
        self.unless(output.is_some(), "OUTPUT", &["OUTPUT"])?;
        self.unless(or.is_some(), "UPDATE OR …", &["OR"])?;
        self.unless(!order_by.is_empty(), "UPDATE … ORDER BY", &["ORDER"])?;
        self.unless(limit.is_some(), "UPDATE … LIMIT", &["LIMIT"])
    }

    fn delete(&self, delete: &Delete) -> Result<()> {
        let Delete {
            delete_token: _,
            optimizer_hints,
            tables,
            from,
            using,
            selection: _,
            returning: _,
            output,
            order_by,
            limit,
        } = delete;
        self.unless(!optimizer_hints.is_empty(), "an optimizer hint", &["DELETE"])?;
        self.unless(
            !tables.is_empty(),
            "a list of tables after DELETE (write DELETE FROM t USING u)",
            &["DELETE"],
        )?;
        let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = from;
        match from.as_slice() {
            [TableWithJoins { relation, joins }] => {
                self.unless(
                    !joins.is_empty(),
                    "DELETE from a join (write DELETE FROM t USING u WHERE …)",
                    &["JOIN"],
                )?;
                self.named_table(relation, "DELETE", &["FROM"])?;
            }
            _ => return Err(self.refuse("DELETE from several tables", &["FROM"])),
        }
        self.joins(using.as_deref().unwrap_or_default())?;
        self.unless(output.is_some(), "OUTPUT", &["OUTPUT"])?;
        self.unless(!order_by.is_empty(), "DELETE … ORDER BY", &["ORDER"])?;
        self.unless(limit.is_some(), "DELETE … LIMIT", &["LIMIT"])
    }

    /// The table that is written: a name, perhaps with an alias.
    fn named_table(&self, relation: &TableFactor, verb: &str, words: &[&str]) -> Result<()> {
        match relation {
            TableFactor::Table { args: None, alias, .. } => {
                let columns = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
                self.unless(columns, &format!("a list of columns in {verb}'s alias"), words)
            }
            _ => {
                let at: Option<Position> = find_word(self.sql, words);
                Err(placed(
                    Error::new(ErrorCode::InvalidStatement, format!("{verb} needs the name of a table")),
                    at,
                ))
            }
        }
    }
}
