//! Bulk loads as the protocol asks for them, turned into the requests of `kalamdb-sql`. Reading the stream and loading it are
//! not here.

use std::collections::{BTreeMap, HashMap};

use arrow_flight::sql::{CommandStatementIngest, TableDefinitionOptions, TableExistsOption, TableNotExistOption};
use kalamdb_core::{Error, ErrorCode, OnConflict, Result, TableKind};
use kalamdb_sql::{IfExists, IfNotExists, IngestRequest};

use crate::command::{CATALOG, not_yet, outside_transactions};

const TABLE_TYPE: &str = "ingest.table_type";
const PRIMARY_KEY: &str = "ingest.primary_key";
const ON_CONFLICT: &str = "ingest.on_conflict";
const OPTIONS: [&str; 3] = [TABLE_TYPE, PRIMARY_KEY, ON_CONFLICT];

/// `ingest.with.` and the name of a WITH option of CREATE TABLE, such as `ingest.with.ttl_seconds`.
const WITH_PREFIX: &str = "ingest.with.";

/// The request of CommandStatementIngest.
///
/// # Errors
/// INVALID_REQUEST for a mode that is not stated; INVALID_ARGUMENT for an unknown option, with the nearest, or a bad value;
/// NAMESPACE_NOT_FOUND for another catalog; UNSUPPORTED for temporary tables and transactions.
pub(crate) fn request(command: CommandStatementIngest) -> Result<IngestRequest> {
    outside_transactions(command.transaction_id.as_ref())?;
    if command.temporary {
        return Err(not_yet("temporary tables are"));
    }
    if let Some(catalog) = command
        .catalog
        .filter(|catalog| !catalog.is_empty() && catalog != CATALOG)
    {
        return Err(Error::new(
            ErrorCode::NamespaceNotFound,
            format!("catalog {catalog} does not exist; the only one is {CATALOG}"),
        ));
    }
    if command.table.is_empty() {
        return Err(Error::new(ErrorCode::InvalidRequest, "the load names no table"));
    }
    let (if_not_exists, if_exists) = modes(command.table_definition_options)?;
    let options = parse_options(command.options)?;
    Ok(IngestRequest {
        namespace: command.schema.filter(|schema| !schema.is_empty()),
        table: command.table,
        if_not_exists,
        if_exists,
        table_type: options.table_type,
        primary_key: options.primary_key,
        on_conflict: options.on_conflict,
        table_options: options.table_options,
    })
}

/// The request of a DoPut to a path: adds to a table that exists.
pub(crate) fn append(namespace: Option<String>, table: String) -> IngestRequest {
    IngestRequest {
        namespace,
        table,
        if_not_exists: IfNotExists::Fail,
        if_exists: IfExists::Append,
        table_type: None,
        primary_key: None,
        on_conflict: None,
        table_options: BTreeMap::new(),
    }
}

fn modes(options: Option<TableDefinitionOptions>) -> Result<(IfNotExists, IfExists)> {
    let unstated = |field: &str, values: &str| {
        Error::new(
            ErrorCode::InvalidRequest,
            format!("the load does not state {field}; it is one of {values}"),
        )
    };
    let options = options.ok_or_else(|| unstated("table_definition_options", "if_not_exist with if_exists"))?;
    let if_not_exists = match TableNotExistOption::try_from(options.if_not_exist) {
        Ok(TableNotExistOption::Create) => IfNotExists::Create,
        Ok(TableNotExistOption::Fail) => IfNotExists::Fail,
        Ok(TableNotExistOption::Unspecified) | Err(_) => return Err(unstated("if_not_exist", "CREATE and FAIL")),
    };
    let if_exists = match TableExistsOption::try_from(options.if_exists) {
        Ok(TableExistsOption::Fail) => IfExists::Fail,
        Ok(TableExistsOption::Append) => IfExists::Append,
        Ok(TableExistsOption::Replace) => IfExists::Replace,
        Ok(TableExistsOption::Unspecified) | Err(_) => return Err(unstated("if_exists", "FAIL, APPEND and REPLACE")),
    };
    Ok((if_not_exists, if_exists))
}

#[derive(Debug, Default, PartialEq)]
struct Options {
    table_type: Option<TableKind>,
    primary_key: Option<Vec<String>>,
    on_conflict: Option<OnConflict>,
    table_options: BTreeMap<String, String>,
}

fn parse_options(given: HashMap<String, String>) -> Result<Options> {
    let mut options = Options::default();
    for (name, value) in given {
        match name.as_str() {
            TABLE_TYPE => options.table_type = Some(table_type(&value)?),
            PRIMARY_KEY => options.primary_key = Some(primary_key(&value)?),
            ON_CONFLICT => options.on_conflict = Some(on_conflict(&value)?),
            other => match other.strip_prefix(WITH_PREFIX).filter(|option| !option.is_empty()) {
                Some(option) => {
                    options.table_options.insert(option.to_ascii_uppercase(), value);
                }
                None => return Err(unknown_option(other)),
            },
        }
    }
    Ok(options)
}

fn table_type(value: &str) -> Result<TableKind> {
    [TableKind::Shared, TableKind::User, TableKind::Stream]
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(value.trim()))
        .ok_or_else(|| bad_value(TABLE_TYPE, value, "shared, user or stream"))
}

fn primary_key(value: &str) -> Result<Vec<String>> {
    let columns: Vec<String> = value.split(',').map(|column| column.trim().to_owned()).collect();
    if columns.iter().any(String::is_empty) {
        return Err(bad_value(PRIMARY_KEY, value, "column names separated by commas"));
    }
    Ok(columns)
}

fn on_conflict(value: &str) -> Result<OnConflict> {
    match value.trim().to_ascii_lowercase().as_str() {
        "error" => Ok(OnConflict::Error),
        "replace" => Ok(OnConflict::Replace),
        "ignore" => Ok(OnConflict::Ignore),
        _ => Err(bad_value(ON_CONFLICT, value, "error, replace or ignore")),
    }
}

fn bad_value(name: &str, value: &str, wanted: &str) -> Error {
    Error::new(
        ErrorCode::InvalidArgument,
        format!("{name} takes {wanted}, not '{}'", value.escape_debug()),
    )
}

fn unknown_option(name: &str) -> Error {
    let nearest = OPTIONS
        .into_iter()
        .min_by_key(|option| strsim::levenshtein(option, name))
        .unwrap_or(TABLE_TYPE);
    Error::new(
        ErrorCode::InvalidArgument,
        format!(
            "there is no load option '{}'; the nearest is {nearest}",
            name.escape_debug()
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> CommandStatementIngest {
        CommandStatementIngest {
            table_definition_options: Some(TableDefinitionOptions {
                if_not_exist: TableNotExistOption::Create.into(),
                if_exists: TableExistsOption::Append.into(),
            }),
            table: "t".to_owned(),
            ..CommandStatementIngest::default()
        }
    }

    #[test]
    fn every_mode_is_taken_over_and_none_is_guessed() {
        let check = |if_not_exist: TableNotExistOption, if_exists: TableExistsOption, expected| {
            let options = TableDefinitionOptions {
                if_not_exist: if_not_exist.into(),
                if_exists: if_exists.into(),
            };
            let found = modes(Some(options)).map_err(|error| error.code);
            assert_eq!(found, expected);
        };
        let unstated = Err(ErrorCode::InvalidRequest);
        check(
            TableNotExistOption::Create,
            TableExistsOption::Fail,
            Ok((IfNotExists::Create, IfExists::Fail)),
        );
        check(
            TableNotExistOption::Create,
            TableExistsOption::Append,
            Ok((IfNotExists::Create, IfExists::Append)),
        );
        check(
            TableNotExistOption::Create,
            TableExistsOption::Replace,
            Ok((IfNotExists::Create, IfExists::Replace)),
        );
        check(
            TableNotExistOption::Fail,
            TableExistsOption::Append,
            Ok((IfNotExists::Fail, IfExists::Append)),
        );
        check(TableNotExistOption::Unspecified, TableExistsOption::Append, unstated);
        check(TableNotExistOption::Create, TableExistsOption::Unspecified, unstated);
        assert_eq!(modes(None).map_err(|error| error.code), unstated);
        let unheard_of = TableDefinitionOptions {
            if_not_exist: 77,
            if_exists: 1,
        };
        assert_eq!(modes(Some(unheard_of)).map_err(|error| error.code), unstated);
    }

    #[test]
    fn options_are_read_or_refused() {
        let check = |name: &str, value: &str, expected: Result<Options, ErrorCode>| {
            let given = HashMap::from([(name.to_owned(), value.to_owned())]);
            assert_eq!(
                parse_options(given).map_err(|error| error.code),
                expected,
                "{name}={value}"
            );
        };
        let refused = Err(ErrorCode::InvalidArgument);
        check(
            TABLE_TYPE,
            "USER",
            Ok(Options {
                table_type: Some(TableKind::User),
                ..Options::default()
            }),
        );
        check(TABLE_TYPE, "system", refused);
        let key = Some(vec!["a".to_owned(), "b".to_owned()]);
        check(
            PRIMARY_KEY,
            "a, b",
            Ok(Options {
                primary_key: key,
                ..Options::default()
            }),
        );
        check(PRIMARY_KEY, "a,,b", Err(ErrorCode::InvalidArgument));
        check(
            ON_CONFLICT,
            "Replace",
            Ok(Options {
                on_conflict: Some(OnConflict::Replace),
                ..Options::default()
            }),
        );
        check(ON_CONFLICT, "merge", Err(ErrorCode::InvalidArgument));
        let table_options = BTreeMap::from([("TTL_SECONDS".to_owned(), "60".to_owned())]);
        check(
            "ingest.with.ttl_seconds",
            "60",
            Ok(Options {
                table_options,
                ..Options::default()
            }),
        );
        check("ingest.with.", "60", Err(ErrorCode::InvalidArgument));
        let message = parse_options(HashMap::from([("ingest.primary_keys".to_owned(), "a".to_owned())]));
        assert!(message.is_err_and(|error| error.message.contains("nearest is ingest.primary_key")));
    }

    #[test]
    fn what_a_load_cannot_do_is_an_error() {
        let check = |change: fn(&mut CommandStatementIngest), expected: Option<ErrorCode>| {
            let mut command = command();
            change(&mut command);
            assert_eq!(request(command).map_err(|error| error.code).err(), expected);
        };
        check(|_| {}, None);
        check(|command| command.catalog = Some("kalam".to_owned()), None);
        check(|command| command.catalog = Some(String::new()), None);
        check(
            |command| command.catalog = Some("other".to_owned()),
            Some(ErrorCode::NamespaceNotFound),
        );
        check(|command| command.temporary = true, Some(ErrorCode::Unsupported));
        check(
            |command| command.transaction_id = Some("t".into()),
            Some(ErrorCode::Unsupported),
        );
        check(|command| command.table.clear(), Some(ErrorCode::InvalidRequest));
    }
}
