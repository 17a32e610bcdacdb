//! One statement from its text to its outcome: parsed once, then sent to whoever runs its kind.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{FieldRef, Fields, Schema, SchemaRef};
use datafusion::logical_expr::{ExplainFormat, ExplainOption, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast;
use futures::StreamExt;
use kalamdb_core::{Error, ErrorCode, Position, Result};
use tokio::sync::{mpsc, oneshot};

use crate::database::{Database, Head};
use crate::diagnostics;
use crate::dml::{self, Change};
use crate::execution::{Completion, Report};
use crate::insert;
use crate::names::placed;
use crate::parameters::Parameters;
use crate::planned::Planned;
use crate::planning::{Description, Planner, StatementKind};
use crate::queries::RunningQuery;
use crate::result_names;
use crate::returning::Returning;
use crate::session::Session;
use crate::statement::{self, Parsed, Statement};
use crate::{administration, definition, execute_as, operations, rights, show};

/// Where a statement's outcome goes: first what it is, then its batches.
pub(crate) struct Output {
    head: Option<oneshot::Sender<Result<Head>>>,
    batches: mpsc::Sender<Result<RecordBatch>>,
}

impl Output {
    pub(crate) fn new(head: oneshot::Sender<Result<Head>>, batches: mpsc::Sender<Result<RecordBatch>>) -> Self {
        Output {
            head: Some(head),
            batches,
        }
    }

    fn start(&mut self, schema: SchemaRef) {
        self.answer(Ok(Head::Rows(schema)));
    }

    /// CANCELLED if nobody reads any more.
    async fn send(&self, batch: RecordBatch) -> Result<()> {
        self.batches
            .send(Ok(batch))
            .await
            .map_err(|_| Error::new(ErrorCode::Cancelled, "the rows were not read to their end"))
    }

    pub(crate) fn done(mut self, ended: Ended) {
        match ended {
            // Their stream ends.
            Ended::Rows => {}
            Ended::Completion(completion) => self.answer(Ok(Head::Done(completion))),
            Ended::Report(report) => self.answer(Ok(Head::Report(report))),
        }
    }

    pub(crate) async fn failed(mut self, error: Error) {
        if self.head.is_some() {
            self.answer(Err(error));
        } else {
            // A reader who went away does not want the reason.
            let _gone = self.batches.send(Err(error)).await;
        }
    }

    fn answer(&mut self, answer: Result<Head>) {
        if let Some(head) = self.head.take() {
            // A caller who went away does not want the answer.
            let _gone = head.send(answer);
        }
    }
}

/// What a statement that did not fail comes to.
pub(crate) enum Ended {
    /// Its rows went to the output.
    Rows,
    Completion(Completion),
    Report(Report),
}

impl Ended {
    /// A write, with the rows of its RETURNING if it has one.
    pub(crate) fn of_write(completion: Completion, returned: Option<RecordBatch>) -> Self {
        match returned {
            Some(rows) => Ended::Report(Report { rows, completion }),
            None => Ended::Completion(completion),
        }
    }

    /// Rows that it changed.
    pub(crate) fn changed_rows(&self) -> Option<u64> {
        match self {
            Ended::Rows => None,
            Ended::Completion(completion) | Ended::Report(Report { completion, .. }) => completion.rows,
        }
    }
}

/// Runs a statement; the rows of a query go to `output`.
///
/// # Errors
/// Whatever parsing, planning and running say.
pub(crate) async fn statement(
    database: &Arc<Database>,
    session: &Arc<Session>,
    sql: &str,
    parameters: Parameters,
    query: &RunningQuery,
    output: &mut Output,
) -> Result<Ended> {
    let Parsed {
        actor,
        statement,
        subject,
    } = statement::parse_whole(sql)?;
    query.show_text(sql);
    let session = &execute_as::session(database, session, &actor, &statement, query)?;
    match statement {
        Statement::Query(statement) => {
            let planner = Planner::new(database, session, query.interruption())?.with_bound(parameters.types());
            let planned = result_names::plan(&planner, *statement)?;
            rows(&planner, planned, &parameters, query, output).await?;
            Ok(Ended::Rows)
        }
        Statement::Explain {
            analyze,
            verbose,
            format,
            statement,
            original,
        } => {
            let planner = Planner::new(database, session, query.interruption())?.with_bound(parameters.types());
            let planned = explained(&planner, analyze, verbose, format, &statement, *original)?;
            rows(&planner, planned, &parameters, query, output).await?;
            Ok(Ended::Rows)
        }
        Statement::Insert(statement) => insert::run(database, session, &statement, &parameters, query).await,
        Statement::Update(statement) => {
            dml::run(database, session, Change::Update(&statement), &parameters, query).await
        }
        Statement::Delete(statement) => {
            dml::run(database, session, Change::Delete(&statement), &parameters, query).await
        }
        Statement::Definition(statement) => {
            parameters.check_count(0)?;
            query.planned();
            definition::run(database, session, statement, query)
                .await
                .map(Ended::Completion)
                .map_err(|error| at_subject(error, subject))
        }
        Statement::Administration(statement) => {
            parameters.check_count(0)?;
            query.planned();
            administration::run(database, session, statement, query)
                .await
                .map(Ended::Completion)
                .map_err(|error| at_subject(error, subject))
        }
        Statement::Rights(statement) => {
            parameters.check_count(0)?;
            query.planned();
            rights::run(database, session, statement, query)
                .await
                .map(Ended::Completion)
        }
        Statement::Show(show) => {
            parameters.check_count(0)?;
            let view = database.engine().view();
            let principal = database.principal(&view, session)?;
            query.planned();
            let batch = show::rows(database, session, &principal, &view, &show).await;
            let batch = batch.map_err(|error| at_subject(error, subject))?;
            output.start(batch.schema());
            if batch.num_rows() > 0 {
                send(batch, query, output).await?;
            }
            Ok(Ended::Rows)
        }
        Statement::Operation(operation) => {
            parameters.check_count(0)?;
            query.planned();
            operations::run(database, session, &operation).await.map(Ended::Report)
        }
    }
}

/// Puts the place of what a statement is about on an error that says that it is not there, or is there already.
fn at_subject(error: Error, subject: Option<Position>) -> Error {
    match error.code {
        ErrorCode::NotFound | ErrorCode::NamespaceNotFound | ErrorCode::UserNotFound | ErrorCode::AlreadyExists => {
            placed(error, subject)
        }
        _ => error,
    }
}

/// Describes a statement without running it; `bound` are the types of what is bound to it, as far as anything is.
///
/// # Errors
/// Whatever parsing and planning say.
pub(crate) fn describe(
    database: &Arc<Database>,
    session: &Arc<Session>,
    sql: &str,
    bound: Vec<Option<FieldRef>>,
    running: &RunningQuery,
) -> Result<Description> {
    let Parsed { actor, statement, .. } = statement::parse_whole(sql)?;
    running.show_text(sql);
    let session = &execute_as::session(database, session, &actor, &statement, running)?;
    let planner = Planner::new(database, session, running.interruption())?.with_bound(bound);
    let query = |planned: Planned| -> Result<Description> {
        Ok(Description {
            kind: StatementKind::Query,
            result: planner.result_schema(&planned)?,
            origins: planned.origins(),
            follows_bound_types: planned.follows_bound_types,
            parameters: Arc::new(Schema::new(planned.parameters)),
        })
    };
    let update = |parameters: Fields| Description {
        kind: StatementKind::Update,
        result: Arc::new(Schema::empty()),
        origins: Vec::new(),
        parameters: Arc::new(Schema::new(parameters)),
        follows_bound_types: false,
    };
    let operation = |result: SchemaRef, parameters: Fields| Description {
        kind: StatementKind::Operation,
        origins: vec![None; result.fields().len()],
        result,
        parameters: Arc::new(Schema::new(parameters)),
        follows_bound_types: false,
    };
    let write = |parameters: &Fields, returning: Option<&Returning>| match returning {
        Some(returning) => Ok(operation(returning.schema(&planner)?, parameters.clone())),
        None => Ok(update(parameters.clone())),
    };
    match statement {
        Statement::Query(statement) => query(result_names::plan(&planner, *statement)?),
        Statement::Explain {
            analyze,
            verbose,
            format,
            statement,
            original,
        } => query(explained(&planner, analyze, verbose, format, &statement, *original)?),
        Statement::Insert(statement) => {
            let plan = insert::plan(&planner, &statement)?;
            write(plan.parameters(), plan.returning())
        }
        Statement::Update(statement) => {
            let plan = dml::plan(&planner, Change::Update(&statement))?;
            write(plan.parameters(), plan.returning())
        }
        Statement::Delete(statement) => {
            let plan = dml::plan(&planner, Change::Delete(&statement))?;
            write(plan.parameters(), plan.returning())
        }
        Statement::Definition(_) | Statement::Administration(_) | Statement::Rights(_) => Ok(update(Fields::empty())),
        Statement::Show(show) => {
            let result = show::schema(&show);
            Ok(Description {
                kind: StatementKind::Query,
                origins: vec![None; result.fields().len()],
                result,
                parameters: Arc::new(Schema::empty()),
                follows_bound_types: false,
            })
        }
        Statement::Operation(statement) => Ok(operation(operations::schema(&statement), Fields::empty())),
    }
}

/// The plan that explains a statement: a write is explained by the query that finds or makes its rows.
fn explained(
    planner: &Planner,
    analyze: bool,
    verbose: bool,
    format: Option<ExplainFormat>,
    statement: &Statement,
    original: ast::Statement,
) -> Result<Planned> {
    let query = match statement {
        Statement::Query(_) => original,
        Statement::Insert(statement) => ast::Statement::Query(insert::plan(planner, statement)?.query()?),
        Statement::Update(statement) => ast::Statement::Query(dml::plan(planner, Change::Update(statement))?.query()),
        Statement::Delete(statement) => ast::Statement::Query(dml::plan(planner, Change::Delete(statement))?.query()),
        Statement::Explain { .. }
        | Statement::Definition(_)
        | Statement::Administration(_)
        | Statement::Rights(_)
        | Statement::Show(_)
        | Statement::Operation(_) => {
            return Err(Error::new(
                ErrorCode::InvalidStatement,
                "this statement has no plan to explain",
            ));
        }
    };
    let Planned {
        plan,
        parameters,
        follows_bound_types,
        correlation,
        places,
        names: _,
    } = planner.plan(query, &[])?;
    let option = ExplainOption::default()
        .with_analyze(analyze)
        .with_verbose(verbose)
        .with_format(format.unwrap_or(ExplainFormat::Indent));
    let plan: Result<LogicalPlan, _> = LogicalPlanBuilder::from(plan)
        .explain_option_format(option)
        .and_then(LogicalPlanBuilder::build);
    Ok(Planned {
        plan: plan.map_err(diagnostics::from_datafusion)?,
        parameters,
        follows_bound_types,
        names: None,
        correlation,
        places,
    })
}

async fn rows(
    planner: &Planner,
    planned: Planned,
    given: &Parameters,
    query: &RunningQuery,
    output: &mut Output,
) -> Result<()> {
    let values = given.one_row(&planned.parameters, planner.time_zone())?;
    let bound = if planned.parameters.is_empty() {
        planned
    } else {
        planner.bind(planned, values)?
    };
    let mut running = planner.run(bound).await?;
    query.planned();
    output.start(running.stream.schema());
    while let Some(batch) = running.stream.next().await {
        query.memory_peak(running.memory.peak_bytes());
        let batch = batch.map_err(diagnostics::from_datafusion)?;
        if batch.num_rows() > 0 {
            send(batch, query, output).await?;
        }
    }
    query.memory_peak(running.memory.peak_bytes());
    query.interruption().check()
}

async fn send(batch: RecordBatch, query: &RunningQuery, output: &Output) -> Result<()> {
    // A poll that took long may have gone past the statement's end.
    query.interruption().check()?;
    query.return_rows(&batch)?;
    output.send(batch).await
}
