//! The grammar of storages and of what is done to tables' segments: CREATE and DROP STORAGE, FLUSH, COMPACT, CHECK.

use kalamdb_core::{Error, ErrorCode, Result};

use super::syntax::Source;
use super::{Definition, Operation, Statement, Tables};
use crate::names::{folded, placed};

/// Types of storage that later versions have.
const LATER_TYPES: &[&str] = &["s3", "gcs", "gs", "azure", "az", "http", "https"];

/// `CREATE STORAGE [IF NOT EXISTS] name [TYPE 'filesystem'] PATH '/directory'`.
pub(super) fn create_storage(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["CREATE", "STORAGE"])?;
    let if_not_exists = source.eat(&["IF", "NOT", "EXISTS"]);
    source.subject_is_next();
    let name = storage_name(source)?;
    let mut location = None;
    let mut typed = false;
    loop {
        if !typed && source.eat(&["TYPE"]) {
            storage_type(source)?;
            typed = true;
        } else if location.is_none() && source.eat_one(&["PATH", "URI"]) {
            location = Some(source.string("the directory as a text literal, such as '/mnt/fast/kalamdb'")?);
        } else {
            break;
        }
    }
    let Some(location) = location else {
        return Err(source.unexpected("PATH and the storage's directory, such as '/mnt/fast/kalamdb'"));
    };
    Ok(Statement::Definition(Definition::CreateStorage {
        name,
        location,
        if_not_exists,
    }))
}

/// `DROP STORAGE [IF EXISTS] name`.
pub(super) fn drop_storage(source: &mut Source<'_>) -> Result<Statement> {
    source.expect(&["DROP", "STORAGE"])?;
    let if_exists = source.eat(&["IF", "EXISTS"]);
    source.subject_is_next();
    let name = storage_name(source)?;
    Ok(Statement::Definition(Definition::DropStorage { name, if_exists }))
}

/// As in a table's option STORAGE, or as an identifier.
fn storage_name(source: &mut Source<'_>) -> Result<String> {
    match source.eat_string() {
        Some(name) => Ok(name),
        None => Ok(folded(&source.identifier("the name of a storage")?)),
    }
}

fn storage_type(source: &mut Source<'_>) -> Result<()> {
    let at = source.position();
    let name = match source.eat_string() {
        Some(name) => name,
        None => source.identifier("a type of storage: 'filesystem'")?.value,
    };
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    if is("filesystem") {
        return Ok(());
    }
    let (code, message) = if LATER_TYPES.iter().any(|later| is(later)) {
        (
            ErrorCode::Unsupported,
            format!("storage of type '{name}' is not supported yet; the one type is filesystem"),
        )
    } else {
        (
            ErrorCode::InvalidArgument,
            format!("'{name}' is not a type of storage; the one type is filesystem"),
        )
    };
    Err(placed(Error::new(code, message), at))
}

/// `FLUSH TABLE n.t`, and `STORAGE FLUSH | COMPACT | CHECK …`.
pub(super) fn operation(source: &mut Source<'_>) -> Result<Statement> {
    let operation = if source.eat(&["FLUSH"]) {
        source.expect(&["TABLE"])?;
        Operation::Flush(Tables::One(source.object_name("the name of a table")?))
    } else {
        source.expect(&["STORAGE"])?;
        if source.eat(&["FLUSH"]) {
            Operation::Flush(tables(source)?)
        } else if source.eat(&["COMPACT"]) {
            Operation::Compact(tables(source)?)
        } else if source.eat(&["CHECK"]) {
            Operation::Check(tables(source)?)
        } else {
            return Err(source.unexpected("FLUSH, COMPACT or CHECK after STORAGE"));
        }
    };
    Ok(Statement::Operation(operation))
}

/// `TABLE n.t`, `TABLE ALL` or `ALL`; a table `all` is quoted.
fn tables(source: &mut Source<'_>) -> Result<Tables> {
    if source.eat(&["ALL"]) || source.eat(&["TABLE", "ALL"]) {
        return Ok(Tables::All);
    }
    if !source.eat(&["TABLE"]) {
        return Err(source.unexpected("TABLE and the name of a table, or ALL"));
    }
    Ok(Tables::One(source.object_name("the name of a table")?))
}
