//! L1 of `make bench`: a Flight server that does nothing but send resident batches, and drop what it is sent.
//!
//! `flight_noop FILE` reads an Arrow IPC stream once and answers every DoGet with its batches, as they are. It checks no
//! credentials. It prints `ready flight=<address>` and ends when its standard input closes.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest,
    HandshakeResponse, PollInfo, PutResult, SchemaResult, Ticket,
};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tonic::{Request, Response, Status, Streaming};

/// A message may be as large as one batch: batches are sized by whoever wrote the file.
const MESSAGE_LIMIT_BYTES: usize = 64 << 20;

type Stream<T> = BoxStream<'static, Result<T, Status>>;

struct Resident {
    schema: SchemaRef,
    batches: Arc<[RecordBatch]>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args()
        .nth(1)
        .ok_or("usage: flight_noop FILE (an Arrow IPC stream)")?;
    let resident = Resident::read(&path)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("ready flight={}", listener.local_addr()?);

    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener)
        .and_then(|stream| async move { stream.set_nodelay(true).map(|()| stream) });
    let service = FlightServiceServer::new(resident)
        .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
        .max_encoding_message_size(MESSAGE_LIMIT_BYTES);
    let until_stdin_closes = async {
        let waited = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
        if let Err(error) = waited.await {
            eprintln!("standard input: {error}");
        }
    };
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, until_stdin_closes)
        .await?;
    Ok(())
}

impl Resident {
    fn read(path: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let reader = StreamReader::try_new(BufReader::new(File::open(path)?), None)?;
        let schema = reader.schema();
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        Ok(Resident {
            schema,
            batches: batches.into(),
        })
    }
}

#[tonic::async_trait]
impl FlightService for Resident {
    type HandshakeStream = Stream<HandshakeResponse>;
    type ListFlightsStream = Stream<FlightInfo>;
    type DoGetStream = Stream<FlightData>;
    type DoPutStream = Stream<PutResult>;
    type DoActionStream = Stream<arrow_flight::Result>;
    type ListActionsStream = Stream<ActionType>;
    type DoExchangeStream = Stream<FlightData>;

    async fn do_get(&self, _request: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let batches = Arc::clone(&self.batches);
        let batches = futures::stream::iter(0..batches.len()).map(move |index| Ok(batches[index].clone()));
        let messages = FlightDataEncoderBuilder::new()
            .with_schema(Arc::clone(&self.schema))
            .with_max_flight_data_size(MESSAGE_LIMIT_BYTES)
            .build(batches)
            .map_err(Status::from);
        Ok(Response::new(messages.boxed()))
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        let messages = request.into_inner().map_err(FlightError::from);
        let mut batches = FlightRecordBatchStream::new_from_flight_data(messages);
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows();
        }
        let result = PutResult {
            app_metadata: rows.to_string().into(),
        };
        Ok(Response::new(futures::stream::iter([Ok(result)]).boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        let info = FlightInfo::new()
            .try_with_schema(&self.schema)
            .map_err(|error| Status::internal(error.to_string()))?
            .with_descriptor(request.into_inner())
            .with_endpoint(FlightEndpoint::new().with_ticket(Ticket::new("resident")));
        Ok(Response::new(info))
    }

    async fn handshake(
        &self,
        _request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        let mut response = Response::new(futures::stream::empty().boxed());
        let bearer = "Bearer none"
            .parse()
            .map_err(|_| Status::internal("the token is not ASCII"))?;
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    async fn list_flights(&self, _request: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        Err(Status::unimplemented("a no-op server lists nothing"))
    }

    async fn poll_flight_info(&self, _request: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        Err(Status::unimplemented("a no-op server has nothing to poll"))
    }

    async fn get_schema(&self, _request: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        Err(Status::unimplemented(
            "a no-op server's schema comes with GetFlightInfo",
        ))
    }

    async fn do_action(&self, _request: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        Err(Status::unimplemented("a no-op server acts on nothing"))
    }

    async fn list_actions(&self, _request: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        Err(Status::unimplemented("a no-op server has no actions"))
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> Result<Response<Self::DoExchangeStream>, Status> {
        Err(Status::unimplemented("a no-op server exchanges nothing"))
    }
}
