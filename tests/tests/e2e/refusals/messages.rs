//! Tickets, messages and bytes that are not what the protocol wants.

use arrow_flight::sql::{Any, CommandPreparedStatementQuery, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{Action, FlightData, FlightDescriptor, Ticket};
use bytes::{Buf, BufMut, Bytes};
use futures::TryStreamExt;
use kalamdb_tests::{Client, SqlError};
use prost::Message;
use tonic::Code;

use super::Fixture;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_tickets() {
    let fixture = Fixture::new().await;
    let mut raw = fixture.root.raw();
    let any = |type_url: &str, value: &[u8]| Any {
        type_url: type_url.into(),
        value: Bytes::copy_from_slice(value),
    };
    let statement = TicketStatementQuery {
        statement_handle: Bytes::from_static(b"not a handle"),
    };
    let tickets = [
        ("empty", Bytes::new()),
        ("text", Bytes::from_static(b"SELECT 1")),
        (
            "random bytes",
            Bytes::from_static(&[0xff, 0xfe, 0x00, 0x80, 0x13, 0x37]),
        ),
        ("a handle of nobody", statement.as_any().encode_to_vec().into()),
        (
            "no protobuf inside",
            any(
                "type.googleapis.com/arrow.flight.protocol.sql.TicketStatementQuery",
                &[0xff; 9],
            )
            .encode_to_vec()
            .into(),
        ),
        (
            "an unknown message",
            any("type.googleapis.com/arrow.flight.protocol.sql.NoSuchTicket", &[])
                .encode_to_vec()
                .into(),
        ),
    ];
    for (name, ticket) in tickets {
        let error = get_error(&fixture.root, &mut raw, ticket).await;
        assert_eq!(error.grpc, Code::InvalidArgument, "{name}: {error}");
        assert!(
            ["INVALID_TICKET", "INVALID_REQUEST"].contains(&error.code()),
            "{name}: {error}"
        );
    }

    // A good ticket, each of its bytes damaged in turn: never an answer, never a crash.
    let descriptor = FlightDescriptor::new_cmd(Bytes::from_static(b"SELECT * FROM items"));
    let info = raw
        .get_flight_info(fixture.root.authorized(descriptor))
        .await
        .expect("a plain descriptor")
        .into_inner();
    let good = info.endpoint[0]
        .ticket
        .clone()
        .expect("an endpoint has a ticket")
        .ticket;
    for at in 0..good.len() {
        let mut damaged = good.to_vec();
        damaged[at] ^= 0x5a;
        let error = get_error(&fixture.root, &mut raw, damaged.into()).await;
        assert!(
            error.grpc != Code::Internal && error.grpc != Code::Unknown,
            "byte {at}: {error}"
        );
    }
    fixture.check_unchanged().await;
}

async fn get_error(
    root: &Client,
    raw: &mut arrow_flight::flight_service_client::FlightServiceClient<tonic::transport::Channel>,
    ticket: Bytes,
) -> SqlError {
    let status = match raw.do_get(root.authorized(Ticket { ticket: ticket.clone() })).await {
        Err(status) => status,
        Ok(reply) => {
            let mut stream = reply.into_inner();
            loop {
                match stream.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the ticket {ticket:?} has an answer"),
                    Err(status) => break status,
                }
            }
        }
    };
    SqlError::from(status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tickets_belong_to_their_principal() {
    let mut fixture = Fixture::new().await;
    // On its own server: a user is one of the things that must stay unchanged in the others.
    fixture
        .root
        .ok("CREATE USER 'ann' WITH PASSWORD 'ann has a long password' ROLE user")
        .await;
    let ann = fixture.server.login("ann", "ann has a long password").await;
    let descriptor = FlightDescriptor::new_cmd(Bytes::from_static(b"SELECT * FROM items"));
    let info = fixture
        .root
        .raw()
        .get_flight_info(fixture.root.authorized(descriptor))
        .await
        .expect("root may")
        .into_inner();
    let ticket = info.endpoint[0]
        .ticket
        .clone()
        .expect("an endpoint has a ticket")
        .ticket;
    let error = get_error(&ann, &mut ann.raw(), ticket).await;
    assert!(
        ["INVALID_TICKET", "PERMISSION_DENIED"].contains(&error.code()),
        "{error}"
    );
    fixture.server.terminate();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_protobuf() {
    let fixture = Fixture::new().await;
    let mut raw = fixture.root.raw();
    let garbage = |name: &str| Any {
        type_url: format!("type.googleapis.com/arrow.flight.protocol.sql.{name}"),
        value: Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff]),
    };
    for name in [
        "CommandStatementQuery",
        "CommandPreparedStatementQuery",
        "CommandGetTables",
        "CommandGetSqlInfo",
        "CommandGetDbSchemas",
        "CommandStatementUpdate",
        "CommandStatementIngest",
        "NoSuchCommand",
    ] {
        let descriptor = FlightDescriptor::new_cmd(garbage(name).encode_to_vec());
        let info = raw.get_flight_info(fixture.root.authorized(descriptor.clone())).await;
        check(&format!("GetFlightInfo({name})"), info.map(|_| ()));
        let put = FlightData {
            flight_descriptor: Some(descriptor),
            ..FlightData::default()
        };
        let result = raw.do_put(fixture.root.authorized(futures::stream::iter([put]))).await;
        let result = match result {
            Ok(reply) => reply.into_inner().message().await.map(|_| ()),
            Err(status) => Err(status),
        };
        check(&format!("DoPut({name})"), result);
    }
    // No descriptor at all, and one that is neither a command nor text.
    let info = raw
        .get_flight_info(fixture.root.authorized(FlightDescriptor::default()))
        .await;
    check("GetFlightInfo()", info.map(|_| ()));
    let descriptor = FlightDescriptor::new_cmd(Bytes::from_static(&[0xff, 0x00, 0xfe]));
    let info = raw.get_flight_info(fixture.root.authorized(descriptor)).await;
    check("GetFlightInfo(bytes)", info.map(|_| ()));

    for name in ["CreatePreparedStatement", "ClosePreparedStatement", "SetSessionOptions"] {
        let body = Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff]);
        let result = raw
            .do_action(fixture.root.authorized(Action {
                r#type: name.to_owned(),
                body,
            }))
            .await;
        let result = match result {
            Ok(reply) => reply.into_inner().message().await.map(|_| ()),
            Err(status) => Err(status),
        };
        check(&format!("DoAction({name})"), result);
    }

    // Handles that were never given out.
    let handle = CommandPreparedStatementQuery {
        prepared_statement_handle: Bytes::from_static(b"none"),
    };
    let descriptor = FlightDescriptor::new_cmd(handle.as_any().encode_to_vec());
    let status = raw
        .get_flight_info(fixture.root.authorized(descriptor))
        .await
        .expect_err("it is unknown");
    let error = SqlError::from(status);
    assert!(
        ["NOT_FOUND", "INVALID_REQUEST", "INVALID_TICKET"].contains(&error.code()),
        "{error}"
    );
    fixture.check_unchanged().await;

    fn check(what: &str, result: Result<(), tonic::Status>) {
        let error = SqlError::from(result.err().unwrap_or_else(|| panic!("{what} was taken")));
        let expected = ["INVALID_REQUEST", "UNSUPPORTED"].contains(&error.code());
        assert!(
            expected && [Code::InvalidArgument, Code::Unimplemented].contains(&error.grpc),
            "{what}: {error}"
        );
    }
}

/// Messages of the service itself that are none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_messages() {
    let fixture = Fixture::new().await;
    let address = format!("http://{}", fixture.server.flight);
    let channel = tonic::transport::Endpoint::from_shared(address).expect("an address");
    let mut grpc = tonic::client::Grpc::new(channel.connect().await.expect("the server listens"));
    for rpc in [
        "ListFlights",
        "GetFlightInfo",
        "PollFlightInfo",
        "GetSchema",
        "DoGet",
        "DoPut",
        "DoExchange",
        "DoAction",
        "ListActions",
    ] {
        let path = format!("/arrow.flight.protocol.FlightService/{rpc}");
        grpc.ready().await.expect("it takes calls");
        let message = fixture
            .root
            .authorized(futures::stream::iter([Bytes::from_static(&[0x0a, 0xff, 0xff, 0xff])]));
        let path = path.parse().expect("a path");
        let status = match grpc.streaming(message, path, RawBytes).await {
            Ok(reply) => reply.into_inner().try_for_each(|_| async { Ok(()) }).await.err(),
            Err(status) => Some(status),
        };
        let error = SqlError::from(status.unwrap_or_else(|| panic!("{rpc} took what is no message")));
        // DoExchange and PollFlightInfo are none of this server's.
        let expected = ["INVALID_REQUEST", "UNSUPPORTED"].contains(&error.code());
        assert!(
            expected && error.message.len() > error.code().len() + 2,
            "{rpc}: {error}"
        );
    }
    fixture.check_unchanged().await;
}

/// Messages as the bytes that they are.
#[derive(Clone, Copy, Default)]
struct RawBytes;

impl tonic::codec::Codec for RawBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawBytes;
    type Decoder = RawBytes;

    fn encoder(&mut self) -> RawBytes {
        RawBytes
    }

    fn decoder(&mut self) -> RawBytes {
        RawBytes
    }
}

impl tonic::codec::Encoder for RawBytes {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        out.put(item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawBytes {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_not_grpc() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let fixture = Fixture::new().await;
    for (port, bytes) in [
        (fixture.server.flight, &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..]),
        (fixture.server.flight, &[0xff; 4096][..]),
        (fixture.server.http, &[0xff; 4096][..]),
        (
            fixture.server.http,
            &b"POST /api/sql HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\n{"[..],
        ),
    ] {
        let mut socket = tokio::net::TcpStream::connect(port).await.expect("the server listens");
        socket.write_all(bytes).await.expect("the bytes can be sent");
        socket.shutdown().await.expect("the half can be closed");
        let mut reply = Vec::new();
        // Whatever comes back, or a reset: the server only has to live on.
        let _ = socket.read_to_end(&mut reply).await;
    }
    fixture.check_unchanged().await;
}
