//! What descriptors and tickets ask for, as one enum for reading and one for writing. Which command is allowed where is decided
//! here; what it does is not.

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::sql::{
    Any, Command, CommandGetDbSchemas, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTables,
    CommandGetXdbcTypeInfo, CommandStatementIngest, ProstMessageExt,
};
use bytes::Bytes;
use kalamdb_core::{Error, ErrorCode, Result};
use prost::Message;

/// The one catalog there is.
pub(crate) const CATALOG: &str = "kalam";

/// Every command's type starts so.
const TYPE_PREFIX: &str = "type.googleapis.com/";

/// Something to read: by GetFlightInfo, PollFlightInfo, GetSchema, and DoGet.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A statement.
    Sql(String),
    /// A prepared statement, by its handle.
    Prepared(Bytes),
    /// Metadata.
    Metadata(MetadataCommand),
    /// A statement's ticket, for DoGet alone: its handle.
    Ticket(Bytes),
}

/// Something to write, by DoPut.
#[derive(Clone, Debug)]
pub(crate) enum Sink {
    /// Run a statement or a script; no parameters.
    Update(String),
    /// Run a prepared statement with the parameters that follow.
    PreparedUpdate(Bytes),
    /// Keep the parameters that follow for the next run of a prepared statement.
    Bind(Bytes),
    /// Load the rows that follow.
    Ingest(Box<CommandStatementIngest>),
    /// Add the rows that follow to a table that exists; no namespace means the session's.
    Append { namespace: Option<String>, table: String },
}

/// A question about what there is.
#[derive(Clone, Debug)]
pub(crate) enum MetadataCommand {
    Catalogs,
    DbSchemas(CommandGetDbSchemas),
    Tables(CommandGetTables),
    TableTypes,
    PrimaryKeys(CommandGetPrimaryKeys),
    /// Exported keys, imported keys and cross references: one schema, and of no table any rows.
    ForeignKeys,
    SqlInfo(CommandGetSqlInfo),
    XdbcTypeInfo(CommandGetXdbcTypeInfo),
}

/// What a descriptor asks to read: a path names a table, a command is a Flight SQL message or plain SQL text.
///
/// # Errors
/// INVALID_REQUEST, or UNSUPPORTED for what the protocol has and this server does not yet do.
pub(crate) fn source_of(descriptor: &FlightDescriptor) -> Result<Source> {
    match descriptor.r#type() {
        DescriptorType::Path => {
            let (namespace, table) = table_of(&descriptor.path)?;
            Ok(Source::Sql(format!(
                "SELECT * FROM {}",
                qualified(namespace.as_deref(), &table)
            )))
        }
        DescriptorType::Cmd => match read_command(&descriptor.cmd)? {
            Read::Text(sql) => Ok(Source::Sql(sql)),
            Read::Command(command) => source_of_command(command),
        },
        DescriptorType::Unknown => Err(empty_descriptor()),
    }
}

/// What a ticket asks to read.
///
/// # Errors
/// INVALID_TICKET; transactions and Substrait are UNSUPPORTED.
pub(crate) fn source_of_ticket(ticket: &Bytes) -> Result<Source> {
    match read_command(ticket) {
        Ok(Read::Command(command)) => source_of_command(command),
        Ok(Read::Text(_)) | Err(_) => Err(Error::new(
            ErrorCode::InvalidTicket,
            "the ticket is not one of this server; get one from GetFlightInfo",
        )),
    }
}

/// Where DoPut's data goes.
///
/// # Errors
/// INVALID_REQUEST, or UNSUPPORTED for what the protocol has and this server does not yet do.
pub(crate) fn sink_of(descriptor: &FlightDescriptor) -> Result<Sink> {
    match descriptor.r#type() {
        DescriptorType::Path => {
            let (namespace, table) = table_of(&descriptor.path)?;
            Ok(Sink::Append { namespace, table })
        }
        DescriptorType::Cmd => match read_command(&descriptor.cmd)? {
            Read::Text(_) => Err(invalid(
                "DoPut takes a path (namespace, table) or a Flight SQL command; plain SQL text goes to GetFlightInfo",
            )),
            Read::Command(command) => sink_of_command(command),
        },
        DescriptorType::Unknown => Err(empty_descriptor()),
    }
}

/// A table's name as SQL text that means exactly that name.
pub(crate) fn qualified(namespace: Option<&str>, table: &str) -> String {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    match namespace {
        Some(namespace) => format!("{}.{}", quoted(namespace), quoted(table)),
        None => quoted(table),
    }
}

/// Refuses what names a transaction.
///
/// # Errors
/// UNSUPPORTED.
pub(crate) fn outside_transactions(transaction_id: Option<&Bytes>) -> Result<()> {
    match transaction_id {
        Some(id) if !id.is_empty() => Err(not_yet("transactions are")),
        Some(_) | None => Ok(()),
    }
}

/// The error for what the protocol has and a later version will do.
pub(crate) fn not_yet(what_is: &str) -> Error {
    Error::new(ErrorCode::Unsupported, format!("{what_is} not supported yet"))
}

/// The body of an action that comes wrapped in an Any.
///
/// # Errors
/// INVALID_REQUEST.
pub(crate) fn unwrap_any<M: ProstMessageExt>(body: &[u8]) -> Result<M> {
    let expected = || M::type_url().rsplit('.').next().unwrap_or_default();
    if body.is_empty() {
        return Err(invalid(format!(
            "the action's body is empty; it takes {} in an Any",
            expected()
        )));
    }
    let any = Any::decode(body).map_err(|error| {
        invalid(format!(
            "the action's body is not an Any around {}: {error}",
            expected()
        ))
    })?;
    any.unpack::<M>()
        .map_err(|error| invalid(format!("the action's {} does not decode: {error}", expected())))?
        .ok_or_else(|| {
            invalid(match any.type_url.is_empty() {
                true => format!("the action takes {} in an Any, and its Any names no type", expected()),
                false => format!("the action takes {}, not {}", expected(), printable(&any.type_url)),
            })
        })
}

/// A command's bytes, told apart.
enum Read {
    Command(Command),
    Text(String),
}

fn read_command(bytes: &Bytes) -> Result<Read> {
    if bytes.is_empty() {
        return Err(empty_descriptor());
    }
    let any = Any::decode(bytes.clone());
    if let Ok(any) = any
        && any.type_url.starts_with(TYPE_PREFIX)
    {
        let type_url = any.type_url.clone();
        return match Command::try_from(any) {
            Ok(Command::Unknown(_)) => Err(invalid(format!("{} is no command of Flight SQL", printable(&type_url)))),
            Ok(command) => Ok(Read::Command(command)),
            Err(error) => Err(invalid(format!(
                "the command {} does not decode: {error}",
                printable(&type_url)
            ))),
        };
    }
    // A cut-off Any is no SQL: its text begins with the tag and length of the type's name.
    let looks_like_any = bytes
        .get(2..)
        .is_some_and(|rest| rest.starts_with(TYPE_PREFIX.as_bytes()));
    match std::str::from_utf8(bytes) {
        Ok(text) if !looks_like_any && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace()) => {
            Ok(Read::Text(text.to_owned()))
        }
        Ok(_) | Err(_) => Err(invalid("the command is neither a Flight SQL message nor SQL text")),
    }
}

fn source_of_command(command: Command) -> Result<Source> {
    let metadata = match command {
        Command::CommandStatementQuery(query) => {
            outside_transactions(query.transaction_id.as_ref())?;
            return Ok(Source::Sql(query.query));
        }
        Command::CommandPreparedStatementQuery(query) => return Ok(Source::Prepared(query.prepared_statement_handle)),
        Command::TicketStatementQuery(ticket) => return Ok(Source::Ticket(ticket.statement_handle)),
        Command::CommandStatementSubstraitPlan(_) => return Err(not_yet("Substrait plans are")),
        Command::CommandGetCatalogs(_) => MetadataCommand::Catalogs,
        Command::CommandGetDbSchemas(command) => MetadataCommand::DbSchemas(command),
        Command::CommandGetTables(command) => MetadataCommand::Tables(command),
        Command::CommandGetTableTypes(_) => MetadataCommand::TableTypes,
        Command::CommandGetPrimaryKeys(command) => MetadataCommand::PrimaryKeys(command),
        Command::CommandGetExportedKeys(_)
        | Command::CommandGetImportedKeys(_)
        | Command::CommandGetCrossReference(_) => MetadataCommand::ForeignKeys,
        Command::CommandGetSqlInfo(command) => MetadataCommand::SqlInfo(command),
        Command::CommandGetXdbcTypeInfo(command) => MetadataCommand::XdbcTypeInfo(command),
        other => {
            return Err(invalid(format!(
                "{} returns no data; send it with DoPut or DoAction",
                name_of(&other)
            )));
        }
    };
    Ok(Source::Metadata(metadata))
}

fn sink_of_command(command: Command) -> Result<Sink> {
    match command {
        Command::CommandStatementUpdate(update) => {
            outside_transactions(update.transaction_id.as_ref())?;
            Ok(Sink::Update(update.query))
        }
        Command::CommandPreparedStatementUpdate(update) => Ok(Sink::PreparedUpdate(update.prepared_statement_handle)),
        Command::CommandPreparedStatementQuery(query) => Ok(Sink::Bind(query.prepared_statement_handle)),
        Command::CommandStatementIngest(ingest) => Ok(Sink::Ingest(Box::new(ingest))),
        Command::CommandStatementSubstraitPlan(_) => Err(not_yet("Substrait plans are")),
        other => Err(invalid(format!(
            "{} takes no data; send it with GetFlightInfo or DoAction",
            name_of(&other)
        ))),
    }
}

fn table_of(path: &[String]) -> Result<(Option<String>, String)> {
    let (namespace, table) = match path {
        [table] => (None, table),
        [namespace, table] => (Some(namespace), table),
        [catalog, namespace, table] if catalog == CATALOG => (Some(namespace), table),
        _ => return Err(invalid("a path has the parts namespace and table")),
    };
    if table.is_empty() || namespace.is_some_and(String::is_empty) {
        return Err(invalid(
            "a part of the path is empty; it has the parts namespace and table",
        ));
    }
    Ok((namespace.cloned(), table.clone()))
}

fn name_of(command: &Command) -> String {
    printable(command.type_url().rsplit('.').next().unwrap_or_default())
}

/// At most a line of what a client sent as a name.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(100).collect()
}

fn empty_descriptor() -> Error {
    invalid("the descriptor is empty; name a table by path (namespace, table) or send a command")
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_flight::sql::{
        ActionCreatePreparedStatementRequest, CommandGetTableTypes, CommandStatementQuery, CommandStatementUpdate,
    };

    fn any_bytes(message: &impl ProstMessageExt) -> Vec<u8> {
        message.as_any().encode_to_vec()
    }

    fn query(text: &str) -> CommandStatementQuery {
        CommandStatementQuery {
            query: text.to_owned(),
            transaction_id: None,
        }
    }

    #[test]
    fn descriptors_are_read() {
        let check = |descriptor: FlightDescriptor, expected: &str| {
            let found = match source_of(&descriptor) {
                Ok(Source::Sql(sql)) => sql,
                Ok(other) => format!("{other:?}"),
                Err(error) => error.code.as_str().to_owned(),
            };
            assert_eq!(found, expected, "{descriptor:?}");
        };
        let path = |parts: &[&str]| FlightDescriptor::new_path(parts.iter().map(|&part| part.to_owned()).collect());
        check(path(&["chat", "messages"]), r#"SELECT * FROM "chat"."messages""#);
        check(path(&["messages"]), r#"SELECT * FROM "messages""#);
        check(path(&["kalam", "a\"b", "C d"]), r#"SELECT * FROM "a""b"."C d""#);
        check(path(&["other", "a", "b"]), "INVALID_REQUEST");
        check(path(&[]), "INVALID_REQUEST");
        check(path(&["", "t"]), "INVALID_REQUEST");
        check(path(&["a", ""]), "INVALID_REQUEST");
        check(FlightDescriptor::default(), "INVALID_REQUEST");
        check(FlightDescriptor::new_cmd(Vec::new()), "INVALID_REQUEST");
        check(FlightDescriptor::new_cmd("SELECT 1"), "SELECT 1");
        check(FlightDescriptor::new_cmd("\n>SELECT 'ä'\n"), "\n>SELECT 'ä'\n");
        check(FlightDescriptor::new_cmd(any_bytes(&query("SELECT 2"))), "SELECT 2");
        check(
            FlightDescriptor::new_cmd(any_bytes(&CommandGetTableTypes {})),
            "Metadata(TableTypes)",
        );
        let update = CommandStatementUpdate {
            query: "DELETE FROM t".to_owned(),
            transaction_id: None,
        };
        check(FlightDescriptor::new_cmd(any_bytes(&update)), "INVALID_REQUEST");
        let in_transaction = CommandStatementQuery {
            query: "SELECT 1".to_owned(),
            transaction_id: Some("t".into()),
        };
        check(FlightDescriptor::new_cmd(any_bytes(&in_transaction)), "UNSUPPORTED");
        check(FlightDescriptor::new_cmd(vec![0xff, 0xfe, 0x00]), "INVALID_REQUEST");
        let unknown = Any {
            type_url: format!("{TYPE_PREFIX}some.Thing"),
            value: Bytes::new(),
        };
        check(FlightDescriptor::new_cmd(unknown.encode_to_vec()), "INVALID_REQUEST");
    }

    #[test]
    fn a_cut_off_command_is_never_taken_for_sql() {
        let whole = any_bytes(&query("SELECT 3"));
        for length in 0..whole.len() {
            let cut = FlightDescriptor::new_cmd(whole[..length].to_vec());
            match source_of(&cut) {
                // The first bytes alone do not show what they were meant to be.
                Ok(Source::Sql(sql)) => assert!(length < 2 + TYPE_PREFIX.len() || sql.is_empty(), "{length}: {sql:?}"),
                Ok(other) => panic!("{length}: {other:?}"),
                Err(error) => assert_eq!(error.code, ErrorCode::InvalidRequest, "{length}"),
            }
        }
    }

    #[test]
    fn a_body_without_its_request_says_what_is_missing() {
        let check = |body: &[u8], part: &str| {
            let error = unwrap_any::<ActionCreatePreparedStatementRequest>(body).expect_err("no request");
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert!(error.message.contains(part), "{error}");
            assert!(
                error.message.contains("ActionCreatePreparedStatementRequest"),
                "{error}"
            );
        };
        check(&[], "is empty");
        let nameless = Any {
            type_url: String::new(),
            value: Bytes::from_static(b"x"),
        };
        check(&nameless.encode_to_vec(), "names no type");
        check(&any_bytes(&query("SELECT 1")), "not ");
    }

    #[test]
    fn tickets_are_ours_or_invalid() {
        let check = |ticket: Vec<u8>, expected: &str| {
            let found = source_of_ticket(&ticket.into()).map_or_else(|error| error.code.as_str(), |_| "ok");
            assert_eq!(found, expected);
        };
        check(b"SELECT 1".to_vec(), "INVALID_TICKET");
        check(Vec::new(), "INVALID_TICKET");
        check(vec![0xff; 40], "INVALID_TICKET");
        check(any_bytes(&CommandGetTableTypes {}), "ok");
        check(any_bytes(&query("SELECT 1")), "ok");
    }
}
