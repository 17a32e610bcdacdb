//! Loads that break half-way leave nothing.

use arrow::array::RecordBatch;
use arrow_flight::sql::ProstMessageExt;
use arrow_flight::sql::{TableExistsOption, TableNotExistOption};
use arrow_flight::{FlightData, FlightDescriptor};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kalamdb_tests::{SqlError, eventually};
use prost::Message;
use tonic::Code;

use crate::batches::{batch, ingest_command, int64, payload_rows, text};

use super::Fixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ingests_that_break_half_way_leave_nothing() {
    let mut fixture = Fixture::new().await;
    let create = |table: &str| {
        let options = &[("ingest.primary_key", "id")];
        ingest_command(
            "public",
            table,
            TableNotExistOption::Create,
            TableExistsOption::Fail,
            options,
        )
    };
    let append = || {
        ingest_command(
            "public",
            "items",
            TableNotExistOption::Fail,
            TableExistsOption::Append,
            &[],
        )
    };
    let items = |ids: std::ops::Range<i64>| {
        batch(vec![
            ("id", int64(ids.clone())),
            ("name", text(ids.map(|id| format!("n{id}")))),
        ])
    };

    // The client's stream breaks: it drops the call when it has sent some, small or large.
    for (name, rows, batches) in [("small", 10, 3), ("large", 20_000, 10)] {
        let (reached, was_reached) = tokio::sync::oneshot::channel();
        let mut reached = Some(reached);
        let stream = futures::stream::iter(0..=batches).map(move |number| {
            if number == batches {
                reached
                    .take()
                    .expect("there is one last batch")
                    .send(())
                    .expect("the test waits for it");
            }
            Ok(payload_rows(number * rows..(number + 1) * rows, 100))
        });
        let stream = stream.chain(futures::stream::pending());
        let mut client = fixture.server.root().await;
        let command = create("broken");
        let call = tokio::spawn(async move { client.ingest(command, stream).await });
        if was_reached.await.is_err() {
            panic!("{name}: the load ended before its stream was read: {:?}", call.await);
        }
        call.abort();
        assert!(call.await.is_err(), "{name}: it was cut off");
        assert_eq!(
            fixture.root.error("SELECT * FROM broken").await.code(),
            "TABLE_NOT_FOUND",
            "{name}"
        );
    }

    // A batch half-way that does not fit: of another schema, with a NULL, with a key twice.
    let nulls = batch(vec![
        ("id", int64([120])),
        (
            "name",
            std::sync::Arc::new(arrow::array::StringArray::from(vec![None::<&str>])),
        ),
    ]);
    let with_null = futures::stream::iter([Ok(items(100..110)), Ok(nulls)]);
    let with_duplicate = futures::stream::iter([Ok(items(100..110)), Ok(items(109..112))]);
    let with_existing = futures::stream::iter([Ok(items(100..110)), Ok(items(2..3))]);
    // Of another schema, which is announced or is not.
    let other = || batch(vec![("id", text(["x"]))]);
    let descriptor = FlightDescriptor::new_cmd(append().as_any().encode_to_vec());
    for (name, announced) in [("announced", true), ("not announced", false)] {
        let mut messages = encoded(items(100..110)).await;
        messages[0].flight_descriptor = Some(descriptor.clone());
        messages.extend(encoded(other()).await.into_iter().skip(usize::from(!announced)));
        let put = fixture.root.authorized(futures::stream::iter(messages));
        let error = match fixture.root.raw().do_put(put).await {
            Ok(reply) => reply.into_inner().message().await.err(),
            Err(status) => Some(status),
        };
        let error = SqlError::from(error.unwrap_or_else(|| panic!("{name}: it was taken")));
        assert_eq!(error.grpc, Code::InvalidArgument, "{name}: {error}");
        assert_eq!(error.code(), "INVALID_REQUEST", "{name}: {error}");
    }
    let error = fixture.root.ingest(append(), with_null).await.expect_err("a NULL");
    assert_eq!(error.code(), "NOT_NULL_VIOLATION", "{error}");
    let error = fixture
        .root
        .ingest(append(), with_duplicate)
        .await
        .expect_err("a key twice");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");
    let error = fixture
        .root
        .ingest(append(), with_existing)
        .await
        .expect_err("an existing key");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");
    // The same beyond the size at which rows are staged in bulk.
    let large_duplicate =
        futures::stream::iter((0..10).map(move |n| Ok(items(1_000 + n * 20_000..21_001 + n * 20_000))));
    let error = fixture
        .root
        .ingest(append(), large_duplicate)
        .await
        .expect_err("a key twice");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");
    let large_existing =
        futures::stream::iter((0..10).map(move |n| Ok(items(200_002 - (n + 1) * 20_000..200_002 - n * 20_000))));
    let error = fixture
        .root
        .ingest(append(), large_existing)
        .await
        .expect_err("an existing key");
    assert_eq!(error.code(), "DUPLICATE_KEY", "{error}");

    // Columns that are missing or unknown, tables that are or are not there.
    let unknown_column = || futures::stream::iter([Ok(batch(vec![("id", int64([3])), ("nam", text(["x"]))]))]);
    let error = fixture
        .root
        .ingest(append(), unknown_column())
        .await
        .expect_err("an unknown column");
    assert_eq!(error.code(), "COLUMN_NOT_FOUND", "{error}");
    let error = fixture
        .root
        .ingest(create("items"), unknown_column())
        .await
        .expect_err("the table exists");
    assert_eq!(error.code(), "ALREADY_EXISTS", "{error}");
    let mut elsewhere = append();
    elsewhere.table = "nothing".to_owned();
    let error = fixture
        .root
        .ingest(elsewhere, unknown_column())
        .await
        .expect_err("no such table");
    assert_eq!(error.code(), "TABLE_NOT_FOUND", "{error}");
    let mut unspecified = append();
    unspecified.table_definition_options = None;
    let error = fixture
        .root
        .ingest(unspecified, unknown_column())
        .await
        .expect_err("no options");
    assert!(
        ["INVALID_REQUEST", "INVALID_ARGUMENT"].contains(&error.code()),
        "{error}"
    );

    // An open ingest holds no name and blocks no DDL, and no reader.
    eventually("nothing of the broken loads is open", || {
        let mut root = fixture.root.clone();
        async move {
            let running = "SELECT count(*) FROM system.queries WHERE status = 'running'";
            (root.value(running).await == "1").then_some(())
        }
    })
    .await;
    fixture.check_unchanged().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_damaged_inside_an_ingest() {
    use arrow_flight::encode::FlightDataEncoderBuilder;
    let fixture = Fixture::new().await;
    let command = ingest_command(
        "public",
        "damaged",
        TableNotExistOption::Create,
        TableExistsOption::Fail,
        &[],
    );
    let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
    let rows = futures::stream::iter((0..3).map(|n| Ok(payload_rows(n * 10..(n + 1) * 10, 50))));
    let messages: Vec<_> = FlightDataEncoderBuilder::new()
        .with_flight_descriptor(Some(descriptor))
        .build(rows)
        .collect()
        .await;
    let mut messages: Vec<FlightData> = messages
        .into_iter()
        .map(|message| message.expect("it encodes"))
        .collect();
    let last = messages.last_mut().expect("there are several");
    last.data_header = Bytes::from_static(&[0xff; 64]);
    let mut raw = fixture.root.raw();
    let result = match raw
        .do_put(fixture.root.authorized(futures::stream::iter(messages)))
        .await
    {
        Ok(reply) => reply.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    let error = SqlError::from(result.expect_err("it does not decode"));
    assert_eq!(
        (error.grpc, error.code()),
        (Code::InvalidArgument, "INVALID_REQUEST"),
        "{error}"
    );
    fixture.check_unchanged().await;
}

/// The schema, and then the rows.
async fn encoded(rows: RecordBatch) -> Vec<FlightData> {
    let rows = futures::stream::iter([Ok(rows)]);
    let messages = arrow_flight::encode::FlightDataEncoderBuilder::new().build(rows);
    messages.try_collect().await.expect("it encodes")
}
