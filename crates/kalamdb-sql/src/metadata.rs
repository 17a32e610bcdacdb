//! What tables there are, for the metadata commands of the protocol, filtered as `information_schema` is.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use kalamdb_core::{
    INFORMATION_SCHEMA, Principal, Result, SYSTEM_NAMESPACE, StoredView, Table, Task, View, field_type_name,
};

use crate::database::Database;
use crate::definition;
use crate::information_schema;
use crate::session::Session;
use crate::types;

/// Which tables; patterns are SQL LIKE with `%` and `_`, `\` escapes.
#[derive(Clone, Debug, Default)]
pub struct TableFilter {
    /// Exact namespace.
    pub namespace: Option<String>,
    /// Namespace pattern.
    pub namespace_pattern: Option<String>,
    /// Exact table name.
    pub table: Option<String>,
    /// Table name pattern.
    pub table_pattern: Option<String>,
    /// `TABLE`, `VIEW`, `SYSTEM TABLE`; empty for all.
    pub table_types: Vec<String>,
}

/// One table as metadata shows it.
#[derive(Clone, Debug)]
pub struct TableInfo {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `TABLE`, `VIEW` or `SYSTEM TABLE`.
    pub table_type: String,
    /// `SELECT *`.
    pub schema: SchemaRef,
    /// Column names in key order; empty for none.
    pub primary_key: Vec<String>,
    /// SQL type name of each column, in order (`BIGINT`, `TEXT`, `DECIMAL(15,2)`).
    pub type_names: Vec<String>,
    /// DEFAULT of each column as SQL, in order.
    pub defaults: Vec<Option<String>>,
    /// Of a view, its query as SQL.
    pub definition: Option<String>,
}

/// Views, and what `information_schema` holds.
pub(crate) const VIEW_TYPE: &str = "VIEW";

/// The namespaces that the session's principal sees, by name.
///
/// # Errors
/// STORAGE_ERROR, UNAUTHENTICATED (the user is gone).
pub(crate) fn namespaces(database: &Arc<Database>, session: &Arc<Session>) -> Result<Vec<String>> {
    let view = database.engine().view();
    let principal = database.principal(&view, session)?;
    Ok(visible_namespaces(&view, &principal))
}

/// The tables that the session's principal sees and the filter names, ordered by namespace and name.
///
/// # Errors
/// As [`namespaces`].
pub(crate) fn tables(database: &Arc<Database>, session: &Arc<Session>, filter: &TableFilter) -> Result<Vec<TableInfo>> {
    let view = database.engine().view();
    let principal = database.principal(&view, session)?;
    visible_tables(&view, &principal, filter)
}

/// The tables that `principal` sees and the filter names, ordered by namespace and name.
///
/// # Errors
/// INTERNAL.
pub(crate) fn visible_tables(view: &View, principal: &Principal, filter: &TableFilter) -> Result<Vec<TableInfo>> {
    let seen = view.catalog().tables.values().filter(|table| principal.sees(table));
    let wanted =
        seen.filter(|table| filter.admits(&table.name.namespace, &table.name.table, table.kind.protocol_type()));
    let mut tables: Vec<TableInfo> = wanted.map(|table| stored_table(table)).collect();
    let catalog = view.catalog();
    let views = catalog.views.values().filter(|view| principal.sees_view(view, catalog));
    let wanted = views.filter(|view| filter.admits(&view.name.namespace, &view.name.table, VIEW_TYPE));
    tables.extend(wanted.map(|view| stored_view(view)));
    for name in information_schema::TABLES {
        if filter.admits(INFORMATION_SCHEMA, name, VIEW_TYPE) {
            tables.extend(information_schema_table(name)?);
        }
    }
    tables.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Ok(tables)
}

/// The namespaces that `principal` sees, by name: all, or those with something they see.
pub(crate) fn visible_namespaces(view: &View, principal: &Principal) -> Vec<String> {
    let names = view
        .catalog()
        .namespaces
        .keys()
        .filter(|name| sees_namespace(view, principal, name))
        .cloned();
    let always = [SYSTEM_NAMESPACE, INFORMATION_SCHEMA].map(str::to_string);
    names.chain(always).collect::<BTreeSet<String>>().into_iter().collect()
}

/// Whether `principal` may know of a namespace, which is then there.
pub(crate) fn sees_namespace(view: &View, principal: &Principal, name: &str) -> bool {
    let catalog = view.catalog();
    if principal.may_do(Task::KnowNamespaces) {
        return catalog.namespaces.contains_key(name) || name == SYSTEM_NAMESPACE;
    }
    principal.grants.namespaces().contains(name)
        || catalog.tables_in(name).any(|table| principal.sees(table))
        || catalog.views_in(name).any(|view| principal.sees_view(view, catalog))
}

/// SQL LIKE: `%` any text, `_` any character, `\` takes the next character as it is.
pub(crate) fn like(text: &str, pattern: &str) -> bool {
    enum Part {
        Any,
        One,
        Exactly(char),
    }
    let mut letters = pattern.chars();
    let mut parts = Vec::new();
    while let Some(letter) = letters.next() {
        parts.push(match letter {
            '%' => Part::Any,
            '_' => Part::One,
            '\\' => Part::Exactly(letters.next().unwrap_or('\\')),
            other => Part::Exactly(other),
        });
    }
    let text: Vec<char> = text.chars().collect();
    let (mut at, mut part) = (0, 0);
    // Where to go on when what follows the last `%` does not fit: that `%` then takes one character more.
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() || part < parts.len() {
        let fits = match parts.get(part) {
            Some(Part::Any) => {
                retry = Some((at + 1, part));
                part += 1;
                continue;
            }
            Some(Part::One) => at < text.len(),
            Some(Part::Exactly(letter)) => text.get(at) == Some(letter),
            None => false,
        };
        if fits {
            (at, part) = (at + 1, part + 1);
            continue;
        }
        match retry {
            Some((next, any)) if next <= text.len() => (at, part) = (next, any),
            _ => return false,
        }
    }
    true
}

impl TableFilter {
    fn admits(&self, namespace: &str, table: &str, table_type: &str) -> bool {
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self
                .namespace_pattern
                .as_deref()
                .is_none_or(|pattern| like(namespace, pattern))
            && self.table.as_deref().is_none_or(|wanted| wanted == table)
            && self.table_pattern.as_deref().is_none_or(|pattern| like(table, pattern))
            && (self.table_types.is_empty() || self.table_types.iter().any(|wanted| wanted == table_type))
    }
}

fn stored_table(table: &Table) -> TableInfo {
    let columns = || table.schema.columns.iter().filter(|column| !column.internal);
    let key = table
        .schema
        .primary_key
        .iter()
        .map(|&index| &table.schema.columns[index]);
    TableInfo {
        namespace: table.name.namespace.clone(),
        name: table.name.table.clone(),
        table_type: table.kind.protocol_type().to_string(),
        schema: Arc::clone(&table.schema.arrow),
        primary_key: key
            .filter(|column| !column.internal)
            .map(|column| column.name.clone())
            .collect(),
        type_names: columns().map(definition::type_name).collect(),
        defaults: columns().map(|column| column.default.clone()).collect(),
        definition: None,
    }
}

fn stored_view(view: &StoredView) -> TableInfo {
    let columns = &view.schema.columns;
    TableInfo {
        namespace: view.name.namespace.clone(),
        name: view.name.table.clone(),
        table_type: VIEW_TYPE.to_string(),
        schema: Arc::clone(&view.schema.arrow),
        primary_key: Vec::new(),
        type_names: columns.iter().map(definition::type_name).collect(),
        defaults: vec![None; columns.len()],
        definition: Some(view.definition.query.clone()),
    }
}

/// One of `information_schema`'s tables, if there is one of that name.
///
/// # Errors
/// INTERNAL.
pub(crate) fn information_schema_table(name: &str) -> Result<Option<TableInfo>> {
    let Some(schema) = information_schema::schema(name)? else {
        return Ok(None);
    };
    Ok(Some(TableInfo {
        namespace: INFORMATION_SCHEMA.to_string(),
        name: name.to_string(),
        table_type: VIEW_TYPE.to_string(),
        primary_key: Vec::new(),
        type_names: schema.fields().iter().map(|field| field_type_name(field)).collect(),
        defaults: vec![None; schema.fields().len()],
        definition: None,
        schema: plain_schema(&schema),
    }))
}

/// The schema as results leave: plain types.
fn plain_schema(schema: &arrow::datatypes::Schema) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_data_type(types::plain(field.data_type())));
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_is_sql_like() {
        let check = |text: &str, pattern: &str, expected: bool| {
            assert_eq!(like(text, pattern), expected, "{text} LIKE {pattern}")
        };
        check("messages", "messages", true);
        check("messages", "message", false);
        check("messages", "", false);
        check("", "", true);
        check("", "%", true);
        check("messages", "%", true);
        check("messages", "m%s", true);
        check("messages", "%sag%", true);
        check("messages", "%sagx%", false);
        check("messages", "message_", true);
        check("messages", "_essages_", false);
        check("a_b", "a\\_b", true);
        check("axb", "a\\_b", false);
        check("50%", "50\\%", true);
        check("500", "50\\%", false);
        check("a\\b", "a\\\\b", true);
        check("trailing\\", "trailing\\", true);
        check("Größe", "Gr__e", true);
        check("aaaaaaaaaaaaaaaaaaaaaaaaaaaaab", "%a%a%a%a%a%a%a%a%c", false);
        check("abcabcabd", "%abc%abd", true);
        check("Messages", "messages", false);
    }

    #[test]
    fn tables_show_to_those_who_see_them() {
        let fixture = crate::testing::Fixture::new();
        fixture.run(&[
            "CREATE USER 'ann' ROLE user",
            "CREATE NAMESPACE chat",
            "CREATE USER TABLE chat.messages (body TEXT, id BIGINT DEFAULT 7 PRIMARY KEY, price DECIMAL(15, 2))",
            "CREATE TABLE chat.secret (a INT)",
        ]);
        let ann = fixture.session("ann");
        let tables = |session, filter: &TableFilter| {
            let tables = fixture
                .block_on(fixture.database.tables(session, filter))
                .expect("readable");
            assert!(tables.is_sorted_by_key(|table| (table.namespace.clone(), table.name.clone())));
            tables
        };
        let named = |session, filter: &TableFilter| {
            let tables = tables(session, filter).into_iter();
            tables
                .map(|table| format!("{}.{} {}", table.namespace, table.name, table.table_type))
                .collect::<Vec<_>>()
        };
        let chat = TableFilter {
            namespace: Some("chat".into()),
            ..TableFilter::default()
        };
        assert_eq!(named(&ann, &chat), ["chat.messages TABLE"]);
        assert_eq!(
            named(&fixture.root, &chat),
            ["chat.messages TABLE", "chat.secret TABLE"]
        );
        let messages = &tables(&ann, &chat)[0];
        assert_eq!(messages.primary_key, ["id"]);
        assert_eq!(messages.type_names[..2], ["TEXT", "BIGINT"]);
        assert_eq!(messages.defaults, [None, Some("7".to_string()), None]);
        let fields: Vec<&str> = messages
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!(fields, ["body", "id", "price"]);
        let patterns = TableFilter {
            namespace_pattern: Some("information\\_%".into()),
            table_pattern: Some("%ables".into()),
            table_types: vec!["VIEW".into(), "TABLE".into()],
            ..TableFilter::default()
        };
        assert_eq!(named(&ann, &patterns), ["information_schema.tables VIEW"]);
        let system = TableFilter {
            table: Some("users".into()),
            ..TableFilter::default()
        };
        assert_eq!(named(&ann, &system), ["system.users SYSTEM TABLE"]);
        let namespaces = |session| {
            fixture
                .block_on(fixture.database.namespaces(session))
                .expect("readable")
        };
        assert_eq!(namespaces(&ann), ["chat", "information_schema", "system"]);
        assert_eq!(
            namespaces(&fixture.root),
            ["chat", "information_schema", "public", "system"]
        );
    }
}
