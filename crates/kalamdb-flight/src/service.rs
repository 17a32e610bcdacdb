//! The Flight service: about ten lines a method, each calling the room that knows.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::flight_descriptor::DescriptorType;
use arrow_flight::flight_service_server::{FlightService, FlightServiceServer};
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kalamdb_core::{Error, ErrorCode, Result, TableName};
use kalamdb_sql::{Database, Parameters, StatementKind, TableFilter, TableInfo};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::action;
use crate::auth::{AuthLayer, SessionLease, bearer_token};
use crate::command::{MetadataCommand, Source, not_yet, qualified, source_of, source_of_ticket};
use crate::connection::{Encryption, Limits, accept};
use crate::kept::KeptRows;
use crate::metadata::Constants;
use crate::plan::{Plan, schema_message, table_schema};
use crate::prepared::PreparedStatements;
use crate::query::{Fetch, RunningQueries, addressed, fetch, info, redeem, statement_info};
use crate::request::{IntoStatus, lease_of};
use crate::sql_info::SqlInfoTable;
use crate::status::status_of_preparing;
use crate::stream::FlightDataStream;
use crate::ticket::{self, NewQuery, Work};
use crate::type_info::TypeInfo;
use crate::upload::Upload;
use crate::write;

/// How much a client may send ahead on one stream and on one connection, bytes. HTTP/2's own 64 KiB would make a bulk load wait
/// for an acknowledgement every few batches.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A ping on silent connections: keeps proxies from dropping them during long queries, and finds clients that are gone.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// A connection is closed that has brought no right credentials for so long: otherwise whoever reaches the door could take all places.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);

/// How long connections that were broken off may take to notice.
const BREAK_OFF_TIMEOUT: Duration = Duration::from_secs(1);

/// How to serve.
#[derive(Clone, Debug)]
pub struct FlightOptions {
    /// Aim of one message's size, bytes (1–2 MiB pays best).
    pub message_bytes: usize,
    /// Largest message that a client may send, bytes.
    pub max_request_bytes: usize,
    /// The location put into FlightInfo, if any.
    pub advertise: Option<String>,
    /// Connections at once; more wait until one closes.
    pub max_connections: usize,
    /// How long a stopping server waits for calls under way, milliseconds.
    pub drain_ms: u64,
}

/// Serves until `shutdown` resolves, then drains; with TLS if there is `encryption`.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    encryption: Option<Encryption>,
    database: Arc<Database>,
    options: FlightOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let drain = Duration::from_millis(options.drain_ms);
    let service =
        FlightServiceServer::new(Door::new(Arc::clone(&database), options.clone()).map_err(io::Error::other)?)
            .max_decoding_message_size(options.max_request_bytes)
            .max_encoding_message_size(usize::MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Zstd);
    let (stopping, cord) = (CancellationToken::new(), CancellationToken::new());
    let stop = {
        let stopping = stopping.clone();
        async move {
            shutdown.await;
            stopping.cancel();
        }
    };
    let limits = Limits {
        connections: options.max_connections,
        login: LOGIN_TIMEOUT,
    };
    let mut server = pin!(
        Server::builder()
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
            .layer(AuthLayer::new(database))
            .add_service(service)
            .serve_with_incoming_shutdown(accept(listener, encryption, limits, cord.clone()), stop)
    );
    let too_long = async {
        stopping.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        served = &mut server => return served.map_err(io::Error::other),
        () = too_long => {}
    }
    tracing::warn!(
        drain_ms = options.drain_ms,
        "some calls did not finish in time and are broken off"
    );
    cord.cancel();
    match tokio::time::timeout(BREAK_OFF_TIMEOUT, server).await {
        Ok(served) => served.map_err(io::Error::other),
        Err(_) => Ok(()),
    }
}

/// One server's door.
struct Door {
    database: Arc<Database>,
    options: FlightOptions,
    prepared: PreparedStatements,
    running: Arc<RunningQueries>,
    kept: KeptRows,
    constants: Constants,
}

type Messages<T> = BoxStream<'static, std::result::Result<T, Status>>;

impl Door {
    fn new(database: Arc<Database>, options: FlightOptions) -> Result<Self> {
        let clock = Arc::clone(database.engine().clock());
        let constants = Constants {
            sql_info: SqlInfoTable::new(database.options())?,
            type_info: TypeInfo::new()?,
        };
        Ok(Door {
            database,
            options,
            prepared: PreparedStatements::new(Arc::clone(&clock)),
            kept: KeptRows::new(clock),
            running: Arc::default(),
            constants,
        })
    }

    async fn describe(&self, lease: &SessionLease, sql: &str) -> Result<Plan> {
        Plan::of(self.database.describe(lease.session(), sql).await?)
    }

    /// FlightInfo; runs the statement if it changes something.
    async fn flight_info(&self, lease: &SessionLease, descriptor: FlightDescriptor) -> Result<FlightInfo> {
        let session = lease.session();
        let info = match source_of(&descriptor)? {
            Source::Metadata(command) => info(schema_message(&command.schema())?, descriptor.cmd.clone(), -1),
            Source::Sql(sql) => {
                let plan = self.describe(lease, &sql).await;
                let plan = plan.map_err(|error| without_foreign_place(error, &descriptor))?;
                statement_info(&self.database, &self.kept, session, &sql, &plan, None).await?
            }
            Source::Prepared(handle) => {
                let prepared = self.prepared.find(&self.database, session, &handle, None).await?;
                statement_info(
                    &self.database,
                    &self.kept,
                    session,
                    &prepared.sql,
                    &prepared.plan,
                    prepared.parameters,
                )
                .await?
            }
            Source::Ticket(_) => return Err(tickets_go_to_do_get()),
        };
        Ok(addressed(info, descriptor, self.options.advertise.as_deref()))
    }

    /// The schema alone; runs nothing.
    async fn schema(&self, lease: &SessionLease, descriptor: &FlightDescriptor) -> Result<SchemaResult> {
        let schema = match source_of(descriptor)? {
            Source::Metadata(command) => schema_message(&command.schema())?,
            Source::Sql(sql) => {
                let plan = self.describe(lease, &sql).await;
                let plan = plan.map_err(|error| without_foreign_place(error, descriptor))?;
                plan.schema_message.clone()
            }
            Source::Prepared(handle) => {
                let prepared = self.prepared.find(&self.database, lease.session(), &handle, None);
                let prepared = prepared.await?;
                prepared.plan.schema_message.clone()
            }
            Source::Ticket(_) => return Err(tickets_go_to_do_get()),
        };
        Ok(SchemaResult { schema })
    }

    /// The messages of a ticket.
    async fn redeem(&self, lease: Arc<SessionLease>, ticket: &Ticket) -> Result<Messages<FlightData>> {
        match source_of_ticket(&ticket.ticket)? {
            Source::Metadata(command) => self.metadata(lease, command).await,
            Source::Ticket(handle) => {
                let ticket = ticket::open(&handle, lease.session().principal())?;
                match ticket.work {
                    Work::Finished => Ok(self.send(SchemaRef::new(Schema::empty()), stream::empty(), lease)),
                    Work::Report(rows) => Ok(self.send(rows.schema(), stream::iter([Ok(rows)]), lease)),
                    Work::Kept => {
                        let rows = self.kept.find(lease.session().principal(), &ticket.id)?;
                        Ok(self.send(rows.schema(), stream::iter([Ok(rows)]), lease))
                    }
                    Work::Query(query) => {
                        let fetch = redeem(&self.database, &lease, *query).await?;
                        let noted = self.running.note(ticket.id, fetch.rows.query_id());
                        Ok(self.send_rows(fetch, noted))
                    }
                }
            }
            Source::Sql(sql) => {
                let plan = self.describe(&lease, &sql).await?;
                self.run_directly(lease, &sql, &plan, Parameters::none()).await
            }
            Source::Prepared(handle) => {
                let prepared = self.prepared.find(&self.database, lease.session(), &handle, None);
                let prepared = prepared.await?;
                let parameters = Parameters {
                    batch: prepared.parameters,
                };
                self.run_directly(lease, &prepared.sql, &prepared.plan, parameters)
                    .await
            }
        }
    }

    /// A command sent as its own ticket: only what changes nothing, as some clients redeem tickets twice.
    async fn run_directly(
        &self,
        lease: Arc<SessionLease>,
        sql: &str,
        plan: &Plan,
        parameters: Parameters,
    ) -> Result<Messages<FlightData>> {
        match plan.kind {
            StatementKind::Query => {
                plan.check_parameters(parameters.batch.as_ref())?;
                let fetch = fetch(&self.database, lease, sql, Arc::clone(&plan.schema), parameters).await?;
                Ok(self.send_rows(fetch, ()))
            }
            StatementKind::Update | StatementKind::Operation => Err(Error::new(
                ErrorCode::InvalidTicket,
                "a statement that changes something runs at GetFlightInfo or DoPut, not at DoGet",
            )),
        }
    }

    async fn metadata(&self, lease: Arc<SessionLease>, command: MetadataCommand) -> Result<Messages<FlightData>> {
        let rows = command.rows(&self.database, lease.session(), &self.constants).await?;
        Ok(self.send(command.schema(), stream::iter([Ok(rows)]), lease))
    }

    fn send_rows(&self, fetch: Fetch, noted: impl Send + Unpin + 'static) -> Messages<FlightData> {
        let Fetch { schema, rows, lease } = fetch;
        self.send(schema, rows, (noted, lease))
    }

    fn send(
        &self,
        schema: SchemaRef,
        rows: impl futures::Stream<Item = Result<RecordBatch>> + Send + 'static,
        guard: impl Send + Unpin + 'static,
    ) -> Messages<FlightData> {
        FlightDataStream::new(schema, rows, self.options.message_bytes, guard).boxed()
    }

    /// What ListFlights says of a table.
    fn table_flight(&self, lease: &SessionLease, table: &TableInfo) -> Result<FlightInfo> {
        let name = TableName::new(table.namespace.clone(), table.name.clone());
        let schema = schema_message(&table_schema(&table.schema, &name, &table.type_names))?;
        let query = NewQuery {
            sql: &format!("SELECT * FROM {}", qualified(Some(&table.namespace), &table.name)),
            schema: schema.clone(),
            parameters: None,
            session_options: &lease.session().options(),
        };
        let ticket = ticket::for_query(
            self.database.engine().clock().as_ref(),
            lease.session().principal(),
            query,
        )?;
        let descriptor = FlightDescriptor::new_path(vec![table.namespace.clone(), table.name.clone()]);
        Ok(addressed(
            info(schema, ticket, -1),
            descriptor,
            self.options.advertise.as_deref(),
        ))
    }
}

#[async_trait]
impl FlightService for Door {
    type HandshakeStream = Messages<HandshakeResponse>;
    type ListFlightsStream = Messages<FlightInfo>;
    type DoGetStream = Messages<FlightData>;
    type DoPutStream = Messages<PutResult>;
    type DoExchangeStream = Messages<FlightData>;
    type DoActionStream = Messages<arrow_flight::Result>;
    type ListActionsStream = Messages<ActionType>;

    /// The credentials are in the header, which the layer has checked; what the stream carries is not needed. The token goes
    /// back in the headers, where drivers look, and in the payload.
    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> std::result::Result<Response<Self::HandshakeStream>, Status> {
        let lease = lease_of(&request)?;
        let header = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok());
        // An outside token opens a session as a password does; one of ours names its session already.
        let token = match header.and_then(bearer_token).filter(|_| !lease.is_for_one_call()) {
            Some(token) => token.to_owned(),
            None => lease.log_in().or_status()?,
        };
        let bearer = format!("Bearer {token}").parse();
        let bearer = bearer
            .map_err(|_| Error::new(ErrorCode::Internal, "the token does not fit a header"))
            .or_status()?;
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: token.into(),
        };
        let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
        response.metadata_mut().insert("authorization", bearer);
        Ok(response)
    }

    /// Every table that the caller sees, or those of the namespace that the criteria name.
    async fn list_flights(
        &self,
        request: Request<Criteria>,
    ) -> std::result::Result<Response<Self::ListFlightsStream>, Status> {
        let lease = lease_of(&request)?;
        let namespace = String::from_utf8(request.into_inner().expression.to_vec());
        let namespace = namespace
            .map_err(|_| {
                Error::new(
                    ErrorCode::InvalidRequest,
                    "the criteria are the name of a namespace, or empty",
                )
            })
            .or_status()?;
        let filter = TableFilter {
            namespace: Some(namespace).filter(|name| !name.is_empty()),
            ..TableFilter::default()
        };
        let tables = self.database.tables(lease.session(), &filter).await.or_status()?;
        let flights: Result<Vec<FlightInfo>> = tables.iter().map(|table| self.table_flight(&lease, table)).collect();
        Ok(Response::new(
            stream::iter(flights.or_status()?.into_iter().map(Ok)).boxed(),
        ))
    }

    async fn get_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<FlightInfo>, Status> {
        let lease = lease_of(&request)?;
        self.flight_info(&lease, request.into_inner())
            .await
            .map(Response::new)
            .or_status()
    }

    /// The info is complete at once: a query runs at DoGet, so there is nothing to poll for.
    async fn poll_flight_info(
        &self,
        request: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<PollInfo>, Status> {
        let lease = lease_of(&request)?;
        let info = self.flight_info(&lease, request.into_inner()).await.or_status()?;
        Ok(Response::new(PollInfo {
            info: Some(info),
            flight_descriptor: None,
            progress: Some(1.0),
            expiration_time: None,
        }))
    }

    async fn get_schema(
        &self,
        request: Request<FlightDescriptor>,
    ) -> std::result::Result<Response<SchemaResult>, Status> {
        let lease = lease_of(&request)?;
        self.schema(&lease, request.get_ref())
            .await
            .map(Response::new)
            .or_status()
    }

    async fn do_get(&self, request: Request<Ticket>) -> std::result::Result<Response<Self::DoGetStream>, Status> {
        let lease = lease_of(&request)?;
        self.redeem(lease, request.get_ref())
            .await
            .map(Response::new)
            .or_status()
    }

    async fn do_put(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> std::result::Result<Response<Self::DoPutStream>, Status> {
        let lease = lease_of(&request)?;
        let upload = Upload::open(request.into_inner()).await.or_status()?;
        let scene = write::Scene {
            database: &self.database,
            prepared: &self.prepared,
            session: lease.session(),
            parameters_limit_bytes: self.options.max_request_bytes,
        };
        let result = write::put(scene, upload).await.or_status()?;
        Ok(Response::new(stream::iter([Ok(result)]).boxed()))
    }

    async fn do_exchange(
        &self,
        _request: Request<Streaming<FlightData>>,
    ) -> std::result::Result<Response<Self::DoExchangeStream>, Status> {
        Err(not_yet("DoExchange is")).or_status()
    }

    async fn do_action(&self, request: Request<Action>) -> std::result::Result<Response<Self::DoActionStream>, Status> {
        let lease = lease_of(&request)?;
        let scene = action::Scene {
            database: &self.database,
            prepared: &self.prepared,
            running: &self.running,
            lease: &lease,
        };
        let action = request.into_inner();
        let prepares_parameters = action::prepares_parameters(&action);
        let body = match action::run(scene, action).await {
            Err(error) if prepares_parameters => return Err(status_of_preparing(error)),
            outcome => outcome.or_status()?,
        };
        Ok(Response::new(
            stream::iter(body.map(|body| Ok(arrow_flight::Result { body }))).boxed(),
        ))
    }

    async fn list_actions(
        &self,
        _request: Request<Empty>,
    ) -> std::result::Result<Response<Self::ListActionsStream>, Status> {
        Ok(Response::new(stream::iter(action::list().into_iter().map(Ok)).boxed()))
    }
}

/// A path becomes SQL that nobody wrote: a place in it would say nothing.
fn without_foreign_place(error: Error, descriptor: &FlightDescriptor) -> Error {
    match descriptor.r#type() {
        DescriptorType::Path => Error {
            position: None,
            ..error
        },
        DescriptorType::Cmd | DescriptorType::Unknown => error,
    }
}

fn tickets_go_to_do_get() -> Error {
    Error::new(
        ErrorCode::InvalidRequest,
        "a ticket goes to DoGet, not into a descriptor",
    )
}
