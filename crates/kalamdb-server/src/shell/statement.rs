//! Runs one statement and prints what comes; Ctrl-C ends it, here and on the server.

use std::cell::RefCell;
use std::future::Future;
use std::io;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::PreparedStatement;
use arrow_flight::{Action, CancelFlightInfoRequest, FlightInfo};
use futures::{FutureExt, StreamExt};
use prost::Message as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tonic::transport::Channel;

use crate::shell::connection::{Client, TIDY_TIMEOUT, is_lost, message};
use crate::shell::output::Printer;

/// Rows printed in one go; between two goes Ctrl-C is heard.
const PRINT_ROWS: usize = 1_000;

/// Why a statement did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server's words, or ours.
    Refused(String),
    /// There is no session any more. `ran` says whether the statement may have run.
    Lost {
        message: String,
        ran: bool,
    },
    Output(io::Error),
    /// By Ctrl-C.
    Cancelled(Effect),
}

/// What a cancelled statement may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    None,
    /// It changes something, and may have been committing.
    Unknown,
}

impl Effect {
    /// What to say of such a statement.
    pub(crate) fn cancelled(self) -> &'static str {
        match self {
            Effect::None => "Cancelled.",
            Effect::Unknown => "Cancelled. If it was being committed already, it has taken effect.",
        }
    }
}

/// Ctrl-C came first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interrupted;

impl From<FlightError> for Failure {
    fn from(error: FlightError) -> Self {
        if is_lost(&error) {
            Failure::Lost {
                message: message(&error),
                ran: true,
            }
        } else {
            Failure::Refused(message(&error))
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// What ends a statement before its time: signals, which are ours from now on.
pub(crate) struct Interrupts {
    interrupt: Signal,
    /// A script leaves nothing half-done either when it is told to end.
    terminate: Option<Signal>,
}

impl Interrupts {
    /// Ctrl-C.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub(crate) fn of_a_prompt() -> Result<Self, String> {
        Ok(Interrupts {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: None,
        })
    }

    /// Ctrl-C and SIGTERM.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub(crate) fn of_a_script() -> Result<Self, String> {
        Ok(Interrupts {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: Some(listen(SignalKind::terminate())?),
        })
    }

    /// Forgets those that came until now.
    pub(crate) fn forget(&mut self) {
        while self.next().now_or_never().is_some() {}
    }

    /// What `work` comes to, unless it is interrupted.
    pub(crate) async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            biased;
            () = self.next() => Err(Interrupted),
            outcome = work => Ok(outcome),
        }
    }

    async fn next(&mut self) {
        match &mut self.terminate {
            Some(terminate) => tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            None => {
                self.interrupt.recv().await;
            }
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("signals cannot be received: {error}"))
}

/// Runs a statement and prints its result; a word about where that went, if it is not on standard output.
///
/// # Errors
/// The statement failed, was cancelled, or its result cannot be printed; the printer is to [abandon](Printer::abandon) it then.
pub(crate) async fn run(
    client: &mut Client,
    sql: &str,
    printer: &mut Printer,
    interrupts: &mut Interrupts,
) -> Result<Option<String>, Failure> {
    let Ok(prepared) = interrupts.unless(client.prepare(sql.to_owned(), None)).await else {
        return Err(Failure::Cancelled(Effect::None));
    };
    let mut prepared = prepared.map_err(|error| match Failure::from(error) {
        // Preparing executes nothing.
        Failure::Lost { message, .. } => Failure::Lost { message, ran: false },
        other => other,
    })?;
    let running = RefCell::new(None);
    let executed = interrupts
        .unless(execute(client, &mut prepared, printer, &running))
        .await;
    let outcome = match (executed, running.take()) {
        (Ok(outcome), _) => outcome,
        // Whatever changes something has done so when its FlightInfo comes: what runs then is a query.
        (Err(Interrupted), Some(info)) => {
            cancel(client, info).await;
            Err(Failure::Cancelled(Effect::None))
        }
        (Err(Interrupted), None) => Err(Failure::Cancelled(Effect::Unknown)),
    };
    match tokio::time::timeout(TIDY_TIMEOUT, prepared.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error = message(&error), "the statement was not closed"),
        Err(_) => tracing::debug!("the statement was not closed in time"),
    }
    outcome
}

async fn execute(
    client: &mut Client,
    prepared: &mut PreparedStatement<Channel>,
    printer: &mut Printer,
    running: &RefCell<Option<FlightInfo>>,
) -> Result<Option<String>, Failure> {
    let schema = prepared.dataset_schema()?.clone();
    if schema.fields().is_empty() {
        let rows = prepared.execute_update().await?;
        printer.completion(rows)?;
        return Ok(None);
    }
    printer.check().map_err(Failure::Refused)?;
    let schema = SchemaRef::new(schema);
    let info = prepared.execute().await?;
    running.replace(Some(info.clone()));
    let mut has_begun = false;
    for endpoint in info.endpoint {
        let Some(ticket) = endpoint.ticket else { continue };
        let mut batches = client.do_get(ticket).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            if !has_begun {
                printer.begin(&batch.schema())?;
                has_begun = true;
            }
            for part in parts(&batch) {
                printer.rows(&part)?;
                tokio::task::yield_now().await;
            }
        }
        if let (Some(schema), false) = (batches.schema(), has_begun) {
            printer.begin(schema)?;
            has_begun = true;
        }
    }
    if !has_begun {
        printer.begin(&schema)?;
    }
    Ok(printer.end()?)
}

fn parts(batch: &RecordBatch) -> impl Iterator<Item = RecordBatch> {
    let rows = batch.num_rows();
    (0..rows)
        .step_by(PRINT_ROWS)
        .map(move |start| batch.slice(start, PRINT_ROWS.min(rows - start)))
}

/// Tells the server in so many words. To ours the end of the stream says it already, and then there is nothing to cancel.
async fn cancel(client: &mut Client, info: FlightInfo) {
    let action = Action {
        r#type: "CancelFlightInfo".to_owned(),
        body: CancelFlightInfoRequest::new(info).encode_to_vec().into(),
    };
    match tokio::time::timeout(TIDY_TIMEOUT, client.do_action(action)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::debug!(error = message(&error), "nothing was cancelled"),
        Err(_) => tracing::debug!("the server did not answer to the cancellation in time"),
    }
}
