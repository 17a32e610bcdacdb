//! RETURNING: a SELECT over the rows that a write makes or removes, planned with the write and run before its commit, so that
//! an error in it changes nothing.
//!
//! The rows come in batches. Each is run through the plan as it comes, and what is kept is the result alone.

use std::collections::HashSet;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, FieldRef, Fields, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{Column, TableReference};
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::provider_as_source;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::{self, Spanned, Visitor};
use futures::StreamExt;
use kalamdb_core::{Error, ErrorCode, Position, Result};
use parking_lot::Mutex;

use crate::diagnostics;
use crate::insert::batch;
use crate::names::{folded, placed};
use crate::parameters;
use crate::planned::Planned;
use crate::planning::Planner;
use crate::provider::{SEQ, UPDATED};
use crate::result_names;
use crate::tree::walk;
use crate::values;

/// Stands in FROM for the rows of the write. No statement that parses has it.
pub(crate) const MARK: &str = "\u{1}returned";

/// What RETURNING gives at most, bytes. It is there as a whole before the write is committed, and until it is fetched.
const MOST_BYTES: usize = 64 << 20;

/// So many rows are run through the plan at once, if they come in smaller batches, and so many bytes of longer ones.
const ROWS_AT_ONCE: usize = 8_192;
const BYTES_AT_ONCE: usize = 8 << 20;

/// A column that RETURNING can name.
#[derive(Clone, Debug)]
pub(crate) struct Readable {
    pub(crate) qualifier: Option<TableReference>,
    pub(crate) field: FieldRef,
}

/// A RETURNING clause with its names resolved.
pub(crate) struct Returning {
    rows: Arc<WrittenRows>,
    planned: Planned,
    /// Whether parameters stand in it.
    has_own_parameters: bool,
}

impl Returning {
    /// Plans the clause over rows of these columns; `known` are the parameters of the rest of the statement, and `with` names the
    /// queries that those in the clause may read.
    ///
    /// # Errors
    /// COLUMN_NOT_FOUND, INVALID_STATEMENT, UNSUPPORTED, …
    pub(crate) fn plan(
        planner: &Planner,
        items: &[ast::SelectItem],
        columns: &[Readable],
        known: &Fields,
        with: Option<&ast::With>,
    ) -> Result<Self> {
        refuse_system_columns(items)?;
        let rows = Arc::new(WrittenRows::new(columns));
        let from = ast::TableWithJoins {
            relation: marked_factor(),
            joins: Vec::new(),
        };
        let select = values::select(items.to_vec(), vec![from], None);
        let mut query = values::query(ast::SetExpr::Select(Box::new(select)));
        query.with = with.cloned();
        let known: Vec<Option<FieldRef>> = known.iter().map(|field| Some(Arc::clone(field))).collect();
        let relation = Arc::new(WrittenRelation {
            columns: columns.to_vec(),
            rows: Arc::clone(&rows),
        });
        let statement = ast::Statement::Query(query);
        let names = result_names::of(&statement);
        let planned = result_names::given(names, planner.plan_over(statement, &known, relation)?, None);
        check_shape(&planned.plan, items)?;
        let own = planned.plan.get_parameter_names();
        Ok(Returning {
            rows,
            has_own_parameters: !own.map_err(diagnostics::from_datafusion)?.is_empty(),
            planned,
        })
    }

    /// Those of the whole statement, `$1` first.
    pub(crate) fn parameters(&self) -> &Fields {
        &self.planned.parameters
    }

    /// The columns of what it gives.
    ///
    /// # Errors
    /// Whatever coercion says.
    pub(crate) fn schema(&self, planner: &Planner) -> Result<SchemaRef> {
        planner.result_schema(&self.planned)
    }

    /// Ready to take rows of a statement with these parameters.
    ///
    /// # Errors
    /// UNSUPPORTED for several rows of parameters where RETURNING has parameters of its own.
    pub(crate) fn begin<'a>(&'a self, planner: &'a Planner, given: &RecordBatch) -> Result<Returned<'a>> {
        let bound = if self.has_own_parameters {
            if given.num_rows() != 1 {
                return Err(Error::new(
                    ErrorCode::Unsupported,
                    "a parameter in RETURNING takes one row of parameters; run the statement once for each row",
                ));
            }
            planner.bind(self.planned.clone(), parameters::row(given, 0)?)?
        } else {
            self.planned.clone()
        };
        Ok(Returned {
            planner,
            bound,
            rows: &self.rows,
            schema: self.schema(planner)?,
            waiting: Vec::new(),
            waiting_rows: 0,
            waiting_bytes: 0,
            done: Vec::new(),
            bytes: 0,
        })
    }
}

/// The result so far.
pub(crate) struct Returned<'a> {
    planner: &'a Planner,
    bound: Planned,
    rows: &'a WrittenRows,
    schema: SchemaRef,
    waiting: Vec<RecordBatch>,
    waiting_rows: usize,
    waiting_bytes: usize,
    done: Vec<RecordBatch>,
    bytes: usize,
}

impl Returned<'_> {
    /// Takes rows: a column for each that [`Returning::plan`] was given.
    ///
    /// # Errors
    /// Whatever evaluating says; STATEMENT_TOO_LARGE.
    pub(crate) async fn take(&mut self, columns: Vec<ArrayRef>, rows: usize) -> Result<()> {
        if rows == 0 {
            return Ok(());
        }
        let taken = batch(Arc::clone(&self.rows.schema), columns, rows)?;
        self.waiting_rows += rows;
        self.waiting_bytes += size_bytes(&taken);
        self.waiting.push(taken);
        if self.waiting_rows >= ROWS_AT_ONCE || self.waiting_bytes >= BYTES_AT_ONCE {
            self.run().await?;
        }
        Ok(())
    }

    /// The whole result.
    ///
    /// # Errors
    /// As [`Returned::take`].
    pub(crate) async fn finish(mut self) -> Result<RecordBatch> {
        if self.waiting_rows > 0 {
            self.run().await?;
        }
        concat_batches(&self.schema, &self.done).map_err(|error| diagnostics::from_arrow(&error))
    }

    /// What it holds in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.waiting_bytes
    }

    async fn run(&mut self) -> Result<()> {
        self.waiting_rows = 0;
        self.waiting_bytes = 0;
        *self.rows.batches.lock() = std::mem::take(&mut self.waiting);
        let mut running = self.planner.run(self.bound.clone()).await?;
        while let Some(result) = running.stream.next().await {
            let result = result.map_err(diagnostics::from_datafusion)?;
            self.bytes += size_bytes(&result);
            if self.bytes > MOST_BYTES {
                return Err(Error::new(
                    ErrorCode::StatementTooLarge,
                    format!(
                        "RETURNING gives more than {} MiB; write fewer rows at once, return less of them, or read them with SELECT",
                        MOST_BYTES >> 20
                    ),
                ));
            }
            self.done.push(result);
        }
        Ok(())
    }
}

/// What its rows take: columns may be parts of larger ones.
fn size_bytes(batch: &RecordBatch) -> usize {
    let columns = batch.columns().iter().map(|column| {
        let of_slice = column.to_data().get_slice_memory_size();
        of_slice.unwrap_or_else(|_| column.get_array_memory_size())
    });
    columns.sum()
}

/// What of a FROM or USING a RETURNING clause may name, so that nothing else is read for it.
pub(crate) struct Names {
    names: HashSet<String>,
    all: bool,
}

impl Names {
    pub(crate) fn of(items: &[ast::SelectItem]) -> Self {
        struct Mentioned(HashSet<String>);
        impl Visitor for Mentioned {
            type Break = Error;
            fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
                match expr {
                    ast::Expr::Identifier(name) => self.0.extend([folded(name)]),
                    ast::Expr::CompoundIdentifier(parts) => self.0.extend(parts.iter().map(folded)),
                    _ => {}
                }
                ControlFlow::Continue(())
            }
        }
        let mut mentioned = Mentioned(HashSet::new());
        for item in items {
            walk(item, &mut mentioned).expect("this visitor does not break");
        }
        let wildcard = |item: &ast::SelectItem| {
            matches!(
                item,
                ast::SelectItem::Wildcard(_) | ast::SelectItem::QualifiedWildcard(..)
            )
        };
        Names {
            names: mentioned.0,
            all: items.iter().any(wildcard),
        }
    }

    pub(crate) fn hold(&self, column: &str) -> bool {
        self.all || self.names.contains(column)
    }
}

/// The rows of the write as a table of the clause's plan: one batch of them after the other.
struct WrittenRows {
    /// Columns under their numbers, as two of them may have one name.
    schema: SchemaRef,
    batches: Mutex<Vec<RecordBatch>>,
}

impl WrittenRows {
    fn new(columns: &[Readable]) -> Self {
        let fields = columns
            .iter()
            .enumerate()
            .map(|(index, column)| column.field.as_ref().clone().with_name(index.to_string()));
        WrittenRows {
            schema: Arc::new(Schema::new(fields.collect::<Vec<Field>>())),
            batches: Mutex::default(),
        }
    }
}

impl fmt::Debug for WrittenRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WrittenRows").finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for WrittenRows {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let batches = std::mem::take(&mut *self.batches.lock());
        Ok(MemorySourceConfig::try_new_exec(
            &[batches],
            Arc::clone(&self.schema),
            projection.cloned(),
        )?)
    }
}

/// Plans [`MARK`] as the rows of the write, their columns under the names that the statement has for them.
#[derive(Debug)]
struct WrittenRelation {
    columns: Vec<Readable>,
    rows: Arc<WrittenRows>,
}

impl RelationPlanner for WrittenRelation {
    fn plan_relation(
        &self,
        relation: ast::TableFactor,
        _context: &mut dyn RelationPlannerContext,
    ) -> DataFusionResult<RelationPlanning> {
        if !is_marked(&relation) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        let provider = Arc::clone(&self.rows) as Arc<dyn TableProvider>;
        let scanned = TableReference::bare(MARK);
        let named = self.columns.iter().enumerate().map(|(index, column)| {
            Expr::Column(Column::new(Some(scanned.clone()), index.to_string()))
                .alias_qualified(column.qualifier.clone(), column.field.name())
        });
        let plan = LogicalPlanBuilder::scan(scanned.clone(), provider_as_source(provider), None)?
            .project(named.collect::<Vec<Expr>>())?
            .build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}

fn marked_factor() -> ast::TableFactor {
    ast::TableFactor::Table {
        name: ast::Ident::with_quote('"', MARK).into(),
        alias: None,
        args: None,
        with_hints: vec![ast::Expr::Identifier(ast::Ident::new(MARK))],
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    }
}

fn is_marked(relation: &ast::TableFactor) -> bool {
    let ast::TableFactor::Table { with_hints, .. } = relation else {
        return false;
    };
    matches!(with_hints.as_slice(), [ast::Expr::Identifier(hint)] if hint.value == MARK)
}

/// A row that is written has no place in the commit order yet.
fn refuse_system_columns(items: &[ast::SelectItem]) -> Result<()> {
    struct Mentions {
        queries: usize,
    }
    impl Visitor for Mentions {
        type Break = Error;
        fn pre_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<Error> {
            self.queries += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<Error> {
            self.queries -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<Error> {
            let name = match expr {
                ast::Expr::Identifier(name) => Some(name),
                ast::Expr::CompoundIdentifier(parts) => parts.last(),
                _ => None,
            };
            match name {
                Some(name) if self.queries == 0 && [SEQ, UPDATED].contains(&folded(name).as_str()) => {
                    let message = format!(
                        "RETURNING {} is not supported: it is set at the commit; read it with SELECT",
                        folded(name)
                    );
                    ControlFlow::Break(placed(
                        Error::new(ErrorCode::Unsupported, message),
                        crate::names::position(name),
                    ))
                }
                Some(_) | None => ControlFlow::Continue(()),
            }
        }
    }
    let mut mentions = Mentions { queries: 0 };
    items.iter().try_for_each(|item| walk(item, &mut mentions))
}

/// RETURNING gives one row for each row that is written.
fn check_shape(plan: &LogicalPlan, items: &[ast::SelectItem]) -> Result<()> {
    let mut plan = plan;
    loop {
        let what = match plan {
            LogicalPlan::Aggregate(_) => "an aggregate",
            LogicalPlan::Window(_) => "a window function",
            LogicalPlan::Unnest(_) => "UNNEST",
            _ => match plan.inputs().as_slice() {
                [input] => {
                    plan = input;
                    continue;
                }
                _ => return Ok(()),
            },
        };
        let message = format!("RETURNING gives a row for each row that is written; {what} in it is not supported");
        let start = items.first().map(|item| item.span().start);
        let at = start.filter(|start| start.line > 0).map(|start| Position {
            line: start.line,
            column: start.column,
        });
        return Err(placed(Error::new(ErrorCode::Unsupported, message), at));
    }
}
