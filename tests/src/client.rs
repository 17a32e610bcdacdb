//! A Flight SQL client: one session by handshake, statements by their text, results as batches or text.

use std::net::SocketAddr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::CommandStatementIngest;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{FlightData, FlightInfo, HandshakeRequest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::transport::{Channel, Endpoint};

/// Messages up to this size are taken, so that a single large value comes through.
const MESSAGE_LIMIT_BYTES: usize = 256 << 20;

/// A logged-in session.
#[derive(Clone)]
pub struct Client {
    /// The client of the arrow-flight crate, with the session's token.
    pub flight: FlightSqlServiceClient<Channel>,
    channel: Channel,
}

/// What a statement did.
#[derive(Debug)]
pub struct Outcome {
    /// Columns of the result; none for a statement that returns no rows.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
    /// `total_records` of the FlightInfo: the count of an update; -1 where unknown.
    pub total_records: i64,
}

/// An error as a client sees it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{grpc:?} {message}")]
pub struct SqlError {
    /// The gRPC status.
    pub grpc: tonic::Code,
    /// Its message, which begins with the product's code.
    pub message: String,
}

impl SqlError {
    /// The product's code: what stands before the first colon.
    pub fn code(&self) -> &str {
        self.message.split(':').next().unwrap_or_default()
    }
}

impl From<tonic::Status> for SqlError {
    fn from(status: tonic::Status) -> Self {
        SqlError {
            grpc: status.code(),
            message: status.message().to_owned(),
        }
    }
}

impl From<FlightError> for SqlError {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => SqlError::from(*status),
            other => SqlError {
                grpc: tonic::Code::Unknown,
                message: other.to_string(),
            },
        }
    }
}

impl Client {
    /// A connection without credentials.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn channel(address: SocketAddr) -> Result<Channel, tonic::transport::Error> {
        Endpoint::from_shared(format!("http://{address}"))?
            .tcp_nodelay(true)
            .connect()
            .await
    }

    /// A raw service client without credentials.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn anonymous(address: SocketAddr) -> FlightServiceClient<Channel> {
        let channel = Client::channel(address).await.expect("the server listens");
        service(channel)
    }

    /// Basic credentials by handshake, then the bearer token that comes back in the response headers.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn login(address: SocketAddr, user: &str, password: &str) -> Result<Self, SqlError> {
        let channel = Client::channel(address).await.map_err(|error| SqlError {
            grpc: tonic::Code::Unavailable,
            message: format!("cannot connect to {address}: {error}"),
        })?;
        let mut request = tonic::Request::new(futures::stream::iter([HandshakeRequest::default()]));
        let basic = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        request
            .metadata_mut()
            .insert("authorization", basic.parse().expect("base64 is ASCII"));
        let reply = service(channel.clone()).handshake(request).await?;
        let bearer = reply
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        let token = bearer
            .and_then(|value| value.strip_prefix("Bearer "))
            .map(str::to_owned);
        let Some(token) = token else {
            return Err(SqlError {
                grpc: tonic::Code::Unknown,
                message: format!("the handshake's response headers have no bearer token but {bearer:?}"),
            });
        };
        let mut flight = FlightSqlServiceClient::new_from_inner(service(channel.clone()));
        flight.set_token(token);
        Ok(Client { flight, channel })
    }

    /// The bearer token of this session.
    ///
    /// # Panics
    /// Never after a login.
    pub fn token(&self) -> &str {
        self.flight.token().expect("a login sets it")
    }

    /// A raw service client on the same connection; requests need [`Client::authorized`].
    pub fn raw(&self) -> FlightServiceClient<Channel> {
        service(self.channel.clone())
    }

    /// A request with this session's token.
    ///
    /// # Panics
    /// Never: a token is ASCII.
    pub fn authorized<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let bearer = format!("Bearer {}", self.token());
        request
            .metadata_mut()
            .insert("authorization", bearer.parse().expect("a token is ASCII"));
        request
    }

    /// GetFlightInfo, then DoGet of every endpoint: how stock drivers run any statement.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn run(&mut self, sql: &str) -> Result<Outcome, SqlError> {
        let info = self.flight.execute(sql.to_owned(), None).await?;
        self.fetch(info).await
    }

    /// Reads every endpoint of a FlightInfo.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn fetch(&mut self, info: FlightInfo) -> Result<Outcome, SqlError> {
        let total_records = info.total_records;
        let mut schema = info
            .clone()
            .try_decode_schema()
            .map(SchemaRef::new)
            .map_err(FlightError::from)?;
        let mut batches = Vec::new();
        for endpoint in info.endpoint {
            let ticket = endpoint.ticket.unwrap_or_default();
            let mut stream = self.flight.do_get(ticket).await?;
            while let Some(batch) = stream.next().await {
                batches.push(batch?);
            }
            if let Some(sent) = stream.schema() {
                schema = SchemaRef::clone(sent);
            }
        }
        Ok(Outcome {
            schema,
            batches,
            total_records,
        })
    }

    /// The rows of a query as text.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>, SqlError> {
        Ok(text_rows(&self.run(sql).await?.batches))
    }

    /// Runs a statement that must succeed; its rows as text.
    ///
    /// # Panics
    /// When it fails.
    pub async fn ok(&mut self, sql: &str) -> Vec<Vec<String>> {
        match self.rows(sql).await {
            Ok(rows) => rows,
            Err(error) => panic!("{error}\nin: {}", shortened(sql)),
        }
    }

    /// The one value of a query that must succeed with one row of one column.
    ///
    /// # Panics
    /// When it does not.
    pub async fn value(&mut self, sql: &str) -> String {
        let rows = self.ok(sql).await;
        assert!(
            rows.len() == 1 && rows[0].len() == 1,
            "one value expected from {sql}, got {rows:?}"
        );
        rows[0][0].clone()
    }

    /// Runs a statement that must fail.
    ///
    /// # Panics
    /// When it succeeds.
    pub async fn error(&mut self, sql: &str) -> SqlError {
        match self.run(sql).await {
            Ok(outcome) => panic!("an error expected, got {outcome:?}\nin: {}", shortened(sql)),
            Err(error) => error,
        }
    }

    /// CommandStatementUpdate by DoPut; the count.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn update(&mut self, sql: &str) -> Result<i64, SqlError> {
        Ok(self.flight.execute_update(sql.to_owned(), None).await?)
    }

    /// Prepares, binds these rows, executes as an update, closes; the count.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn update_bound(&mut self, sql: &str, rows: RecordBatch) -> Result<i64, SqlError> {
        let mut prepared = self.flight.prepare(sql.to_owned(), None).await?;
        prepared.set_parameters(rows)?;
        let count = prepared.execute_update().await?;
        prepared.close().await?;
        Ok(count)
    }

    /// Prepares, binds one row, executes as a query, closes.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn query_bound(&mut self, sql: &str, row: RecordBatch) -> Result<Outcome, SqlError> {
        let mut prepared = self.flight.prepare(sql.to_owned(), None).await?;
        prepared.set_parameters(row)?;
        let info = prepared.execute().await?;
        let outcome = self.fetch(info).await?;
        prepared.close().await?;
        Ok(outcome)
    }

    /// CommandStatementIngest by DoPut; the count.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn ingest<S>(&mut self, command: CommandStatementIngest, batches: S) -> Result<i64, SqlError>
    where
        S: Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
    {
        self.ingest_encoded(command, batches, FlightDataEncoderBuilder::new())
            .await
    }

    /// The same, encoded as `encoder` has it.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn ingest_encoded<S>(
        &mut self,
        command: CommandStatementIngest,
        batches: S,
        encoder: FlightDataEncoderBuilder,
    ) -> Result<i64, SqlError>
    where
        S: Stream<Item = Result<RecordBatch, FlightError>> + Send + 'static,
    {
        // The encoder of the arrow-flight client learns the schema from the first batch: the stream must have one.
        let mut request = Box::pin(
            encoder
                .with_flight_descriptor(Some(arrow_flight::FlightDescriptor::new_cmd(command_bytes(command))))
                .build(batches)
                .map_err(|error| tonic::Status::aborted(error.to_string())),
        );
        let (sender, receiver) = tokio::sync::mpsc::channel(2);
        let sender = UnlessFinished(Some(sender));
        let feed = async move {
            while let Some(message) = request.next().await {
                // An error of the test's own stream cuts the call off, as a client that breaks does.
                if sender.send(message?).await.is_err() {
                    break;
                }
            }
            sender.finish();
            Ok(())
        };
        let call = async {
            let request = self.authorized(tokio_stream::wrappers::ReceiverStream::new(receiver));
            let mut reply = self.raw().do_put(request).await?.into_inner();
            let result = reply.message().await?;
            let Some(result) = result else {
                return Err(SqlError {
                    grpc: tonic::Code::Unknown,
                    message: "DoPut ended without a result".to_owned(),
                });
            };
            let result: arrow_flight::sql::DoPutUpdateResult =
                prost::Message::decode(result.app_metadata).map_err(|error| SqlError {
                    grpc: tonic::Code::Unknown,
                    message: error.to_string(),
                })?;
            Ok(result.record_count)
        };
        let (count, ()) = futures::future::try_join(call, feed).await?;
        Ok(count)
    }
}

/// The sending end of a request's messages. Dropped before it is finished, it stays open for ever: closing it would look
/// to the server like the orderly end of the stream, where a client that breaks resets the call.
struct UnlessFinished(Option<tokio::sync::mpsc::Sender<FlightData>>);

impl UnlessFinished {
    async fn send(&self, message: FlightData) -> Result<(), tokio::sync::mpsc::error::SendError<FlightData>> {
        match &self.0 {
            Some(sender) => sender.send(message).await,
            None => Ok(()),
        }
    }

    fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for UnlessFinished {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            std::mem::forget(sender);
        }
    }
}

/// Every row of every batch as text; NULL is `NULL`.
///
/// # Panics
/// When arrow cannot show a type.
pub fn text_rows(batches: &[RecordBatch]) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let columns: Vec<ArrayFormatter<'_>> = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column, &options).expect("arrow shows every type"))
            .collect();
        for row in 0..batch.num_rows() {
            rows.push(columns.iter().map(|column| column.value(row).to_string()).collect());
        }
    }
    rows
}

fn service(channel: Channel) -> FlightServiceClient<Channel> {
    FlightServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
        .max_encoding_message_size(MESSAGE_LIMIT_BYTES)
}

fn command_bytes(command: CommandStatementIngest) -> bytes::Bytes {
    use arrow_flight::sql::ProstMessageExt;
    use prost::Message;
    command.as_any().encode_to_vec().into()
}

fn shortened(sql: &str) -> String {
    sql.chars().take(500).collect()
}
