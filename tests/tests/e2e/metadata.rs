//! Flight SQL's metadata commands, as their schemas and rows are on the wire.

use arrow::array::AsArray;
use arrow::datatypes::DataType;
use arrow_flight::sql::{
    CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys, CommandGetImportedKeys,
    CommandGetPrimaryKeys, CommandGetTables, CommandGetXdbcTypeInfo, SqlInfo,
};
use kalamdb_tests::{Client, Outcome, Server, text_rows};

async fn start() -> (tempfile::TempDir, Server, Client) {
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let server = Server::start(directory.path());
    let mut root = server.root().await;
    root.ok("CREATE NAMESPACE app").await;
    root.ok("CREATE TABLE app.lines (note TEXT, a INTEGER, b TEXT, d DECIMAL(10,2), PRIMARY KEY (b, a))")
        .await;
    root.ok("CREATE TABLE app.log (line TEXT)").await;
    root.ok("CREATE USER TABLE app.a_b (id BIGINT PRIMARY KEY)").await;
    root.ok("CREATE USER TABLE app.axb (id BIGINT PRIMARY KEY)").await;
    (directory, server, root)
}

async fn fetch(root: &mut Client, info: Result<arrow_flight::FlightInfo, arrow_flight::error::FlightError>) -> Outcome {
    let info = info.unwrap_or_else(|error| panic!("{error}"));
    let promised = info.clone().try_decode_schema().expect("it has a schema");
    let outcome = root.fetch(info).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        promised.fields(),
        outcome.schema.fields(),
        "the schema of the rows is the promised one"
    );
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catalogs_namespaces_and_tables() {
    let (_directory, server, mut root) = start().await;
    let info = root.flight.get_catalogs().await;
    assert_eq!(text_rows(&fetch(&mut root, info).await.batches), [["kalam"]]);
    let info = root.flight.get_table_types().await;
    let mut types = text_rows(&fetch(&mut root, info).await.batches);
    types.sort();
    assert_eq!(types, [["SYSTEM TABLE"], ["TABLE"], ["VIEW"]]);

    let schemas = |pattern: &str| CommandGetDbSchemas {
        catalog: None,
        db_schema_filter_pattern: Some(pattern.to_owned()),
    };
    for (pattern, expected) in [
        ("app", &["app"][..]),
        ("a%", &["app"]),
        ("_pp", &["app"]),
        ("none", &[]),
    ] {
        let info = root.flight.get_db_schemas(schemas(pattern)).await;
        let found = text_rows(&fetch(&mut root, info).await.batches);
        let expected: Vec<_> = expected
            .iter()
            .map(|name| vec!["kalam".to_owned(), (*name).to_owned()])
            .collect();
        assert_eq!(found, expected, "{pattern}");
    }
    let elsewhere = CommandGetDbSchemas {
        catalog: Some("other".to_owned()),
        db_schema_filter_pattern: None,
    };
    let info = root.flight.get_db_schemas(elsewhere).await;
    assert!(
        text_rows(&fetch(&mut root, info).await.batches).is_empty(),
        "there is one catalog"
    );

    let tables = |pattern: &str, types: &[&str]| CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some("app".to_owned()),
        table_name_filter_pattern: Some(pattern.to_owned()),
        table_types: types.iter().map(|name| (*name).to_owned()).collect(),
        include_schema: false,
    };
    for (pattern, types, expected) in [
        ("%", &[][..], &["a_b", "axb", "lines", "log"][..]),
        ("l%", &[], &["lines", "log"]),
        ("a_b", &[], &["a_b", "axb"]),
        (r"a\_b", &[], &["a_b"]),
        ("%", &["TABLE"], &["a_b", "axb", "lines", "log"]),
        ("%", &["VIEW", "SYSTEM TABLE"], &[]),
        ("LINES", &[], &[]),
    ] {
        let info = root.flight.get_tables(tables(pattern, types)).await;
        let found: Vec<_> = text_rows(&fetch(&mut root, info).await.batches)
            .into_iter()
            .map(|row| row[2].clone())
            .collect();
        assert_eq!(found, expected, "{pattern} {types:?}");
    }
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_in_the_schemas_of_tables() {
    let (_directory, server, mut root) = start().await;
    let command = CommandGetTables {
        catalog: None,
        db_schema_filter_pattern: Some("app".to_owned()),
        table_name_filter_pattern: Some("lines".to_owned()),
        table_types: vec![],
        include_schema: true,
    };
    let info = root.flight.get_tables(command).await;
    let outcome = fetch(&mut root, info).await;
    let bytes = outcome.batches[0]
        .column_by_name("table_schema")
        .expect("it was asked for")
        .as_binary::<i32>();
    let schema = arrow_flight::IpcMessage(bytes.value(0).to_vec().into());
    let schema = arrow::datatypes::Schema::try_from(schema).expect("an IPC schema");
    let fields: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| (field.name().as_str(), field.data_type().clone(), field.is_nullable()))
        .collect();
    assert_eq!(
        fields,
        [
            ("note", DataType::Utf8, true),
            ("a", DataType::Int32, false),
            ("b", DataType::Utf8, false),
            ("d", DataType::Decimal128(10, 2), true),
        ]
    );
    let metadata = |column: &str, key: &str| {
        let field = schema.field_with_name(column).expect("the column is there");
        field.metadata().get(&format!("ARROW:FLIGHT:SQL:{key}")).cloned()
    };
    assert_eq!(metadata("d", "PRECISION").as_deref(), Some("10"));
    assert_eq!(metadata("d", "SCALE").as_deref(), Some("2"));
    assert_eq!(metadata("d", "TABLE_NAME").as_deref(), Some("lines"));
    assert!(metadata("d", "TYPE_NAME").is_some_and(|name| name.starts_with("DECIMAL")));
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys() {
    let (_directory, server, mut root) = start().await;
    let primary = |table: &str| CommandGetPrimaryKeys {
        catalog: None,
        db_schema: Some("app".to_owned()),
        table: table.to_owned(),
    };
    let info = root.flight.get_primary_keys(primary("lines")).await;
    let outcome = fetch(&mut root, info).await;
    // Keys have no names.
    let expected = [
        ["kalam", "app", "lines", "b", "NULL", "1"],
        ["kalam", "app", "lines", "a", "NULL", "2"],
    ];
    assert_eq!(text_rows(&outcome.batches), expected);
    let info = root.flight.get_primary_keys(primary("log")).await;
    assert!(
        text_rows(&fetch(&mut root, info).await.batches).is_empty(),
        "a table without a key"
    );

    // There are no foreign keys, and that is an empty answer.
    let exported = CommandGetExportedKeys {
        table: "lines".to_owned(),
        ..Default::default()
    };
    let info = root.flight.get_exported_keys(exported).await;
    assert!(text_rows(&fetch(&mut root, info).await.batches).is_empty());
    let imported = CommandGetImportedKeys {
        table: "lines".to_owned(),
        ..Default::default()
    };
    let info = root.flight.get_imported_keys(imported).await;
    assert!(text_rows(&fetch(&mut root, info).await.batches).is_empty());
    let cross = CommandGetCrossReference {
        pk_table: "lines".into(),
        fk_table: "log".into(),
        ..Default::default()
    };
    let info = root.flight.get_cross_reference(cross).await;
    assert!(text_rows(&fetch(&mut root, info).await.batches).is_empty());
    server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn type_info_and_its_filter() {
    let (_directory, server, mut root) = start().await;
    let info = root
        .flight
        .get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: None })
        .await;
    let all = fetch(&mut root, info).await;
    let rows = text_rows(&all.batches);
    assert!(rows.len() > 10, "{rows:?}");
    let data_type = all.schema.index_of("data_type").expect("the column is there");
    // 4 is INTEGER in X/Open's list.
    let info = root
        .flight
        .get_xdbc_type_info(CommandGetXdbcTypeInfo { data_type: Some(4) })
        .await;
    let filtered = text_rows(&fetch(&mut root, info).await.batches);
    let expected: Vec<_> = rows.into_iter().filter(|row| row[data_type] == "4").collect();
    assert!(!expected.is_empty());
    assert_eq!(filtered, expected);
    server.terminate();
}

/// The codes of the specification.
const STANDARD_CODES: [std::ops::RangeInclusive<u32>; 3] = [0..=11, 100..=101, 500..=576];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_standard_sql_info_and_no_other() {
    let (_directory, server, mut root) = start().await;
    // An empty list asks for all.
    let info = root.flight.get_sql_info(vec![]).await;
    let outcome = fetch(&mut root, info).await;
    let mut found = Vec::new();
    for batch in &outcome.batches {
        let names = batch.column(0).as_primitive::<arrow::datatypes::UInt32Type>();
        let values = batch.column(1).as_union();
        for row in 0..batch.num_rows() {
            let child = values.type_id(row);
            found.push((names.value(row), child, values.value(row)));
        }
    }
    let codes: Vec<u32> = found.iter().map(|(code, ..)| *code).collect();
    let standard: Vec<u32> = STANDARD_CODES.into_iter().flatten().collect();
    let missing: Vec<_> = standard.iter().filter(|code| !codes.contains(code)).collect();
    let extra: Vec<_> = codes.iter().filter(|code| !standard.contains(code)).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "missing {missing:?}, not of the standard {extra:?}"
    );

    let child_of = |code: SqlInfo| {
        let wanted = u32::try_from(code as i32).expect("codes are positive");
        found
            .iter()
            .find(|(code, ..)| *code == wanted)
            .map(|(_, child, _)| *child)
    };
    // 0 string, 1 bool, 2 bigint, 3 int32 bit mask or enum, 4 list of text, 5 map.
    for (code, child) in [
        (SqlInfo::FlightSqlServerName, 0),
        (SqlInfo::FlightSqlServerReadOnly, 1),
        (SqlInfo::FlightSqlServerSql, 1),
        (SqlInfo::FlightSqlServerSubstrait, 1),
        (SqlInfo::FlightSqlServerTransaction, 3),
        (SqlInfo::FlightSqlServerCancel, 1),
        (SqlInfo::SqlDdlCatalog, 1),
        (SqlInfo::SqlIdentifierCase, 3),
        (SqlInfo::SqlKeywords, 4),
        (SqlInfo::SqlMaxColumnsInTable, 2),
        (SqlInfo::SqlMaxStatementLength, 2),
        (SqlInfo::SqlDefaultTransactionIsolation, 2),
        (SqlInfo::SqlTransactionsSupported, 1),
        (SqlInfo::SqlSupportedTransactionsIsolationLevels, 3),
        (SqlInfo::SqlSupportsConvert, 5),
    ] {
        assert_eq!(child_of(code), Some(child), "{code:?}");
    }
    // One that is asked for alone comes alone.
    let info = root.flight.get_sql_info(vec![SqlInfo::FlightSqlServerName]).await;
    let rows = text_rows(&fetch(&mut root, info).await.batches);
    assert_eq!(rows.len(), 1);
    assert!(rows[0][1].contains("KalamDB"), "{rows:?}");
    server.terminate();
}
