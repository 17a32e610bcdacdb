//! CREATE TABLE: columns, key, FLUSH POLICY and WITH options. Whatever would be ignored is refused where it stands.

use std::collections::BTreeMap;

use datafusion::sql::sqlparser::ast::{self, ColumnOption};
use datafusion::sql::sqlparser::tokenizer::Token;
use kalamdb_core::{CreateMode, Error, ErrorCode, Position, Result, TableKind};

use super::dialect::is_a_value_by_itself;
use super::syntax::Source;
use super::{ColumnDefinition, CreateTable, Definition, grammar, refusals, type_grammar};
use crate::names::{folded, placed, suggestion};
use crate::types;

/// CREATE [OR REPLACE] [USER|SHARED|STREAM] TABLE …, from CREATE on.
pub(super) fn create_table(source: &mut Source<'_>) -> Result<Definition> {
    source.expect(&["CREATE"])?;
    let replace = source.eat(&["OR", "REPLACE"]);
    let kind_at = source.position();
    let named_kind = [
        ("USER", TableKind::User),
        ("SHARED", TableKind::Shared),
        ("STREAM", TableKind::Stream),
    ]
    .into_iter()
    .find_map(|(word, kind)| source.eat(&[word]).then_some(kind));
    if named_kind.is_none() && source.sees(&["SYSTEM", "TABLE"]) {
        return Err(source.here(
            ErrorCode::InvalidStatement,
            "SYSTEM tables are the database's own; create USER, SHARED or STREAM tables",
        ));
    }
    if !source.eat(&["TABLE"]) {
        return Err(
            source.unexpected("TABLE, USER TABLE, SHARED TABLE, STREAM TABLE, VIEW, NAMESPACE or USER after CREATE")
        );
    }
    let mode = match (replace, source.eat(&["IF", "NOT", "EXISTS"])) {
        (false, false) => CreateMode::New,
        (false, true) => CreateMode::IfNotExists,
        (true, false) => CreateMode::OrReplace,
        (true, true) => {
            return Err(source.here(
                ErrorCode::InvalidStatement,
                "OR REPLACE and IF NOT EXISTS exclude each other",
            ));
        }
    };
    let name = source.object_name("the name of the table")?;
    let mut columns = Columns::default();
    let has_columns = *source.token() == Token::LParen;
    if has_columns {
        columns.parse(source)?;
    }
    let mut options = Options::default();
    let mut query = None;
    loop {
        if source.sees(&["FLUSH"]) {
            let at = source.position();
            let policy = flush_policy(source)?;
            options.add("FLUSH_POLICY".to_owned(), policy, at)?;
        } else if source.eat(&["WITH"]) {
            options.parse(source)?;
        } else if query.is_none() && source.sees(&["AS"]) {
            source.eat(&["AS"]);
            let parsed = grammar::query(source)?;
            refusals::refuse_parameters(&parsed, "CREATE TABLE … AS")?;
            query = Some(refusals::check_query(parsed, source.sql())?);
        } else {
            break;
        }
    }
    refuse_clause(source)?;
    if !has_columns && query.is_none() {
        return Err(source.unexpected("the columns in parentheses, or AS and a query"));
    }
    let Columns {
        columns,
        primary_key,
        untyped,
    } = columns;
    if let (None, Some(untyped)) = (&query, untyped) {
        return Err(untyped);
    }
    let Options {
        values: mut options,
        places: mut option_places,
    } = options;
    let kind_at = option_places.remove("TYPE").or(kind_at);
    let kind = kind(named_kind, options.remove("TYPE"), kind_at)?;
    let primary_key = primary_key.unwrap_or_default();
    // Without names of columns, those of the query count.
    if query.is_none() || !columns.is_empty() {
        check_key(columns.iter().map(|column| column.name.as_str()), &primary_key)?;
    }
    Ok(Definition::CreateTable(Box::new(CreateTable {
        name,
        kind,
        mode,
        columns,
        primary_key,
        options,
        option_places,
        query,
    })))
}

fn kind(named: Option<TableKind>, option: Option<String>, at: Option<Position>) -> Result<TableKind> {
    let Some(option) = option else {
        return Ok(named.unwrap_or(TableKind::Shared));
    };
    let kind = [TableKind::User, TableKind::Shared, TableKind::Stream]
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(&option));
    match (named, kind) {
        (_, None) => {
            let message = format!("TYPE = '{option}' is not a table type; the types are USER, SHARED and STREAM");
            Err(placed(Error::new(ErrorCode::InvalidArgument, message), at))
        }
        (Some(named), Some(kind)) if named != kind => {
            let message = format!("CREATE {} TABLE and TYPE = '{option}' disagree", named.as_str());
            Err(placed(Error::new(ErrorCode::InvalidArgument, message), at))
        }
        (_, Some(kind)) => Ok(kind),
    }
}

/// What CREATE TABLE has elsewhere and not here; a clause that is no such thing stays for the caller to stumble over.
fn refuse_clause(source: &Source<'_>) -> Result<()> {
    const CLAUSES: &[&str] = &[
        "PARTITION",
        "PARTITIONED",
        "CLUSTER",
        "CLUSTERED",
        "DISTRIBUTED",
        "SORTED",
        "INHERITS",
        "TABLESPACE",
        "LOCATION",
        "STORED",
        "USING",
        "ENGINE",
        "COMMENT",
        "ON",
        "ORDER",
        "TBLPROPERTIES",
        "OPTIONS",
        "LIKE",
        "CLONE",
        "STRICT",
        "WITHOUT",
        "TTL",
        "COLLATE",
        "CHARSET",
        "AUTO_INCREMENT",
        "ROW",
        "DISTKEY",
        "SORTKEY",
        "DISTSTYLE",
    ];
    match source.word(0) {
        Some(word) if CLAUSES.contains(&word.as_str()) => {
            let message =
                format!("CREATE TABLE … {word} is not supported; options are given as WITH (NAME = 'value', …)");
            Err(source.here(ErrorCode::Unsupported, message))
        }
        _ => Ok(()),
    }
}

/// The key may stand before its columns, so that they are looked for when all are there.
///
/// # Errors
/// COLUMN_NOT_FOUND with its place.
pub(crate) fn check_key<'a>(
    columns: impl Iterator<Item = &'a str> + Clone,
    primary_key: &[(String, Option<Position>)],
) -> Result<()> {
    for (key, at) in primary_key {
        if columns.clone().all(|name| name != key) {
            let hint = suggestion(key, columns.clone());
            let message = format!("the primary key names column '{key}', which the table does not have{hint}");
            return Err(placed(Error::new(ErrorCode::ColumnNotFound, message), *at));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Columns {
    columns: Vec<ColumnDefinition>,
    /// Each with its place.
    primary_key: Option<Vec<(String, Option<Position>)>>,
    /// The error for the first column without a type, if no query gives it one.
    untyped: Option<Error>,
}

impl Columns {
    /// `( column | constraint, … )`
    fn parse(&mut self, source: &mut Source<'_>) -> Result<()> {
        source.expect_token(&Token::LParen)?;
        loop {
            if self.starts_constraint(source) {
                self.table_constraint(source)?;
            } else {
                self.column(source)?;
            }
            if source.eat_token(&Token::RParen) {
                return Ok(());
            }
            if !source.eat_token(&Token::Comma) {
                return Err(source.unexpected("',' or ')' after the column"));
            }
        }
    }

    /// A column may be named `primary` or `check`; a constraint goes on as only a constraint does.
    fn starts_constraint(&self, source: &Source<'_>) -> bool {
        let opens = *source.token_at(1) == Token::LParen;
        match source.word(0).as_deref() {
            Some("PRIMARY" | "FOREIGN") => source.word(1).as_deref() == Some("KEY"),
            Some("CONSTRAINT" | "EXCLUDE" | "LIKE") => source.word(1).is_some() || opens,
            Some("UNIQUE" | "CHECK" | "INDEX" | "KEY") => opens || source.word(1).as_deref() == Some("KEY"),
            _ => false,
        }
    }

    fn table_constraint(&mut self, source: &mut Source<'_>) -> Result<()> {
        if source.eat(&["CONSTRAINT"]) {
            // The name is of no use: the only constraint that can be named is the primary key.
            source.identifier("the name of the constraint")?;
        }
        if !source.sees(&["PRIMARY", "KEY"]) {
            return Err(refused_constraint(source));
        }
        let at = source.position();
        source.eat(&["PRIMARY", "KEY"]);
        source.expect_token(&Token::LParen)?;
        let mut names = Vec::new();
        loop {
            let at = source.position();
            let name = folded(&source.identifier("the name of a key column")?);
            if names.iter().any(|(other, _)| *other == name) {
                let message = format!("column '{name}' is named twice in the primary key");
                return Err(placed(Error::new(ErrorCode::InvalidStatement, message), at));
            }
            names.push((name, at));
            if source.eat_token(&Token::RParen) {
                break;
            }
            if !source.eat_token(&Token::Comma) {
                return Err(source.unexpected("',' or ')' after the key column"));
            }
        }
        self.set_key(names, at)?;
        refuse_characteristics(source)
    }

    fn set_key(&mut self, names: Vec<(String, Option<Position>)>, at: Option<Position>) -> Result<()> {
        if self.primary_key.is_some() {
            let message = "the table has two primary keys; a key of several columns is written PRIMARY KEY (a, b)";
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), at));
        }
        self.primary_key = Some(names);
        Ok(())
    }

    fn column(&mut self, source: &mut Source<'_>) -> Result<()> {
        let position = source.position();
        if let Token::Word(word) = source.token()
            && word.quote_style.is_none()
            && is_a_value_by_itself(word.keyword)
        {
            let (word, quoted) = (&word.value, word.value.to_ascii_lowercase());
            let message = format!("{word} is a value, not a name; a column may be called \"{quoted}\", in quotes");
            return Err(placed(Error::new(ErrorCode::SyntaxError, message), position));
        }
        let name = folded(&source.identifier("a column or PRIMARY KEY (…)")?);
        if self.columns.iter().any(|column| column.name == name) {
            let message = format!("column '{name}' is there twice");
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), position));
        }
        let type_at = source.position();
        let sql_type = match (source.token(), source.word(0).as_deref()) {
            (Token::Comma | Token::RParen, _) | (_, Some("NOT" | "NULL" | "DEFAULT" | "PRIMARY" | "CONSTRAINT")) => {
                let missing = source.unexpected(&format!("the type of column '{name}'"));
                self.untyped.get_or_insert(missing);
                None
            }
            (Token::Word(_), _) => {
                let written = type_grammar::data_type(source)?;
                Some(types::from_sql(&written).map_err(|error| placed(error, type_at))?)
            }
            _ => return Err(source.unexpected(&format!("the type of column '{name}'"))),
        };
        let mut column = ColumnDefinition {
            name,
            sql_type,
            nullable: true,
            default: None,
            position,
        };
        let mut said_null = false;
        loop {
            let at = source.position();
            let named = source.sees(&["CONSTRAINT"]);
            if named {
                source.eat(&["CONSTRAINT"]);
                source.identifier("the name of the constraint")?;
            }
            match source.word(0).as_deref() {
                Some("NOT" | "NULL" | "DEFAULT") => {
                    match source.call(|parser| parser.parse_optional_column_option())? {
                        Some(ColumnOption::NotNull) => column.nullable = false,
                        Some(ColumnOption::Null) => said_null = true,
                        Some(ColumnOption::Default(_)) if column.default.is_some() => {
                            return Err(placed(
                                Error::new(ErrorCode::InvalidStatement, "DEFAULT is given twice"),
                                at,
                            ));
                        }
                        Some(ColumnOption::Default(mut expression)) => {
                            refusals::check_expression(&mut expression, source.sql())?;
                            refusals::refuse_parameters(&expression, "a DEFAULT")?;
                            column.default = Some(expression);
                        }
                        _ => return Err(source.unexpected("NOT NULL, NULL or DEFAULT and a value")),
                    }
                }
                Some("PRIMARY") if source.word(1).as_deref() == Some("KEY") => {
                    source.eat(&["PRIMARY", "KEY"]);
                    self.set_key(vec![(column.name.clone(), at)], at)?;
                    refuse_characteristics(source)?;
                    if said_null {
                        let message = format!("column '{}' is of the primary key and cannot be NULL", column.name);
                        return Err(placed(Error::new(ErrorCode::InvalidStatement, message), at));
                    }
                    column.nullable = false;
                }
                Some(_) => return Err(refused_constraint(source)),
                None if named => return Err(source.unexpected("the constraint")),
                None => break,
            }
        }
        if said_null && !column.nullable {
            let message = format!("column '{}' is said to be both NULL and NOT NULL", column.name);
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), position));
        }
        self.columns.push(column);
        Ok(())
    }
}

/// DEFERRABLE, USING INDEX and the like after a key.
fn refuse_characteristics(source: &Source<'_>) -> Result<()> {
    match source.word(0).as_deref() {
        Some(word @ ("DEFERRABLE" | "INITIALLY" | "ENFORCED" | "USING" | "INCLUDE" | "ASC" | "DESC" | "CLUSTERED")) => {
            Err(source.here(ErrorCode::Unsupported, format!("PRIMARY KEY … {word} is not supported")))
        }
        Some("NOT") if matches!(source.word(1).as_deref(), Some("DEFERRABLE" | "ENFORCED")) => Err(source.here(
            ErrorCode::Unsupported,
            "PRIMARY KEY … NOT ENFORCED is not supported: the key always is",
        )),
        _ => Ok(()),
    }
}

/// The error for the constraint or column option that comes next.
fn refused_constraint(source: &Source<'_>) -> Error {
    let word = source.word(0).unwrap_or_default();
    let advice = match word.as_str() {
        "UNIQUE" => "only the primary key is unique",
        "CHECK" => "check values before they are written",
        "REFERENCES" | "FOREIGN" => "tables do not depend on each other",
        "COLLATE" | "CHARACTER" => "text is UTF-8, ordered by its bytes",
        "GENERATED" | "AS" | "MATERIALIZED" | "ALIAS" => "compute it in the query",
        "IDENTITY" | "AUTO_INCREMENT" | "AUTOINCREMENT" => "use BIGINT DEFAULT SNOWFLAKE_ID()",
        "KEY" | "INDEX" => "rows are found by their primary key",
        "EXCLUDE" | "LIKE" | "COMMENT" | "OPTIONS" | "ASC" | "DESC" | "ON" | "UNSIGNED" | "STORED" | "VIRTUAL"
        | "SORTKEY" | "DISTKEY" | "ENCODE" | "TTL" | "CODEC" => "",
        _ => return source.unexpected("NOT NULL, DEFAULT, PRIMARY KEY, ',' or ')'"),
    };
    let advice = if advice.is_empty() {
        String::new()
    } else {
        format!(": {advice}")
    };
    source.here(ErrorCode::InvalidStatement, format!("{word} is not supported{advice}"))
}

/// `FLUSH POLICY [ROWS n] [INTERVAL '5 minutes']`, as the text of the FLUSH_POLICY option.
fn flush_policy(source: &mut Source<'_>) -> Result<String> {
    source.expect(&["FLUSH", "POLICY"])?;
    let mut parts: Vec<String> = Vec::new();
    if source.eat(&["ROWS"]) {
        let rows = source
            .eat_number()
            .ok_or_else(|| source.unexpected("a number of rows"))?;
        parts.push(format!("rows:{rows}"));
    }
    if source.eat(&["INTERVAL"]) {
        let at = source.position();
        let mut text = source.string("an interval as '5 minutes'")?;
        if let Some(unit) = source.word(0).filter(|unit| unit_seconds(unit).is_some()) {
            source.eat(&[&unit]);
            text = format!("{text} {unit}");
        }
        let seconds = interval_seconds(&text).ok_or_else(|| {
            let message = format!(
                "'{text}' is not an interval of whole seconds; write it as '90 seconds', '5 minutes' or '1 hour'"
            );
            placed(Error::new(ErrorCode::InvalidArgument, message), at)
        })?;
        parts.push(format!("interval:{seconds}s"));
    }
    if parts.is_empty() {
        return Err(source.unexpected("ROWS and a number, or INTERVAL and a time as '5 minutes'"));
    }
    Ok(parts.join(","))
}

/// `5 minutes`, `1 hour 30 minutes`, `300s`.
fn interval_seconds(text: &str) -> Option<u64> {
    let mut total: u64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        total = total.checked_add(number.checked_mul(unit_seconds(&rest[..letters])?)?)?;
        rest = rest[letters..].trim_start();
    }
    Some(total)
}

fn unit_seconds(unit: &str) -> Option<u64> {
    match unit.to_ascii_lowercase().as_str() {
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60),
        "h" | "hour" | "hours" => Some(3_600),
        "d" | "day" | "days" => Some(86_400),
        _ => None,
    }
}

/// What WITH and FLUSH POLICY give, by names in upper case.
#[derive(Default)]
struct Options {
    values: BTreeMap<String, String>,
    places: BTreeMap<String, Position>,
}

impl Options {
    fn add(&mut self, name: String, value: String, at: Option<Position>) -> Result<()> {
        if self.values.contains_key(&name) {
            let message = format!("{name} is given twice");
            return Err(placed(Error::new(ErrorCode::InvalidStatement, message), at));
        }
        if let Some(at) = at {
            self.places.insert(name.clone(), at);
        }
        self.values.insert(name, value);
        Ok(())
    }

    /// `( NAME = value, … )` after WITH.
    fn parse(&mut self, source: &mut Source<'_>) -> Result<()> {
        source.expect_token(&Token::LParen)?;
        loop {
            let at = source.position();
            let name = source.identifier("the name of an option")?.value.to_ascii_uppercase();
            source.expect_token(&Token::Eq)?;
            let value = option_value(source)?;
            self.add(name, value, at)?;
            if source.eat_token(&Token::RParen) {
                return Ok(());
            }
            if !source.eat_token(&Token::Comma) {
                return Err(source.unexpected("',' or ')' after the option"));
            }
        }
    }
}

fn option_value(source: &mut Source<'_>) -> Result<String> {
    if source.eat_token(&Token::Minus) {
        return source
            .eat_number()
            .map(|number| format!("-{number}"))
            .ok_or_else(|| source.unexpected("a number"));
    }
    if let Some(value) = source.eat_string().or_else(|| source.eat_number()) {
        return Ok(value);
    }
    let word: ast::Ident = source.identifier("a value: text, a number or a word")?;
    Ok(word.value)
}
