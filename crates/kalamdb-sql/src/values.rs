//! Rows of VALUES and DEFAULTs into columns of exactly the table's types, without a plan: literals by their text, parameters
//! as whole columns, other expressions evaluated once per row.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray, UInt32Array, new_null_array};
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{self, Spanned, Visitor, VisitorMut};
use kalamdb_core::{Column, Error, ErrorCode, Position, Result, Table};

use crate::assignment::{Target, assign};
use crate::definition::type_name;
use crate::diagnostics;
use crate::insert::batch;
use crate::names::{placed, position_of};
use crate::parameters;
use crate::planning::Planner;
use crate::statement::parse_expression;
use crate::tree::{walk, walk_mut};

/// A literal as it is written; what it means depends on the column.
pub(crate) struct Literal {
    kind: LiteralKind,
    text: Option<String>,
    position: Option<Position>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LiteralKind {
    Null,
    Number,
    Boolean,
    Text,
}

/// The literal that an expression is, if it is one.
pub(crate) fn literal(expr: &ast::Expr) -> Option<Literal> {
    let position = position_of(expr.span());
    let of = |kind, text| Some(Literal { kind, text, position });
    if let Some(text) = number_text(expr) {
        return of(LiteralKind::Number, Some(text));
    }
    match expr {
        ast::Expr::Nested(inner) => literal(inner),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Null => of(LiteralKind::Null, None),
            ast::Value::Boolean(value) => of(LiteralKind::Boolean, Some(value.to_string())),
            ast::Value::SingleQuotedString(text)
            | ast::Value::EscapedStringLiteral(text)
            | ast::Value::UnicodeStringLiteral(text)
            | ast::Value::NationalStringLiteral(text) => of(LiteralKind::Text, Some(text.clone())),
            ast::Value::DollarQuotedString(text) => of(LiteralKind::Text, Some(text.value.clone())),
            _ => None,
        },
        _ => None,
    }
}

/// The text of a number, with its sign.
pub(crate) fn number_text(expr: &ast::Expr) -> Option<String> {
    match expr {
        ast::Expr::Nested(inner) => number_text(inner),
        ast::Expr::Value(value) => match &value.value {
            ast::Value::Number(text, _) => Some(text.replace('_', "")),
            _ => None,
        },
        ast::Expr::UnaryOp {
            op: ast::UnaryOperator::Minus,
            expr,
        } => number_text(expr)
            .filter(|text| !text.starts_with('-'))
            .map(|text| format!("-{text}")),
        ast::Expr::UnaryOp {
            op: ast::UnaryOperator::Plus,
            expr,
        } => number_text(expr),
        _ => None,
    }
}

fn is_default(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Identifier(name) if name.quote_style.is_none() && name.value.eq_ignore_ascii_case("default"))
}

/// Whether an expression has the keyword DEFAULT as its whole.
pub(crate) fn default_keyword(expr: &ast::Expr) -> bool {
    is_default(expr)
}

/// Whether an expression, or what else it is, contains a query.
pub(crate) fn has_subquery(part: &impl ast::Visit) -> bool {
    struct Queries(bool);
    impl Visitor for Queries {
        type Break = Error;
        fn pre_visit_query(&mut self, _query: &ast::Query) -> ControlFlow<Error> {
            self.0 = true;
            ControlFlow::Continue(())
        }
    }
    let mut queries = Queries(false);
    walk(part, &mut queries).expect("this visitor does not break");
    queries.0
}

/// The value of an expression without columns and parameters.
///
/// # Errors
/// Whatever planning and evaluating say.
pub(crate) fn constant(planner: &Planner, expr: &ast::Expr) -> Result<ArrayRef> {
    let expr = planner.expression(expr.clone(), &Fields::empty())?;
    let value = expr
        .evaluate(&rows_without_columns(1)?)
        .and_then(|value| value.into_array(1));
    value.map_err(diagnostics::from_datafusion)
}

fn rows_without_columns(rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
        .map_err(|error| diagnostics::from_arrow(&error))
}

/// Turns VALUES with queries in them into SELECTs, since DataFusion evaluates VALUES before it runs any query.
pub(crate) fn queries_in_values(statement: &mut ast::Statement) {
    struct ValuesWithQueries;
    impl VisitorMut for ValuesWithQueries {
        type Break = Error;
        fn pre_visit_query(&mut self, query: &mut ast::Query) -> ControlFlow<Error> {
            replace_values(&mut query.body);
            ControlFlow::Continue(())
        }
    }
    walk_mut(statement, &mut ValuesWithQueries).expect("this visitor does not break");
}

fn replace_values(body: &mut ast::SetExpr) {
    match body {
        ast::SetExpr::SetOperation { left, right, .. } => {
            replace_values(left);
            replace_values(right);
        }
        ast::SetExpr::Values(values) if values.rows.iter().flat_map(|row| &row.content).any(has_subquery) => {
            let selects = std::mem::take(&mut values.rows).into_iter().map(|row| {
                let named = row
                    .content
                    .into_iter()
                    .enumerate()
                    .map(|(index, expr)| ast::SelectItem::ExprWithAlias {
                        expr,
                        alias: ast::Ident::with_quote('"', format!("column{}", index + 1)),
                    });
                ast::SetExpr::Select(Box::new(select(named.collect(), Vec::new(), None)))
            });
            let union = selects.reduce(|left, right| ast::SetExpr::SetOperation {
                left: Box::new(left),
                op: ast::SetOperator::Union,
                set_quantifier: ast::SetQuantifier::All,
                right: Box::new(right),
            });
            if let Some(union) = union {
                *body = union;
            }
        }
        _ => {}
    }
}

/// A SELECT of these items.
pub(crate) fn select(
    projection: Vec<ast::SelectItem>,
    from: Vec<ast::TableWithJoins>,
    selection: Option<ast::Expr>,
) -> ast::Select {
    ast::Select {
        select_token: ast::helpers::attached_token::AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
        connect_by: Vec::new(),
        group_by: ast::GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: ast::SelectFlavor::Standard,
    }
}

/// A query that is nothing but its body.
pub(crate) fn query(body: ast::SetExpr) -> Box<ast::Query> {
    Box::new(ast::Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    })
}

/// Notes that a parameter goes straight into a column.
pub(crate) fn know(known: &mut Vec<Option<FieldRef>>, number: usize, column: &Column) {
    if known.len() < number {
        known.resize(number, None);
    }
    let slot = &mut known[number - 1];
    if slot.is_none() {
        let field = Field::new("", column.data_type.clone(), true).with_metadata(column.metadata.clone());
        *slot = Some(Arc::new(field));
    }
}

/// The parameters of VALUES: of the column's type where they are a whole value, else as in a query of the expressions.
///
/// # Errors
/// As [`Planner::expression`].
pub(crate) fn parameters(
    planner: &Planner,
    table: &Table,
    targets: &[usize],
    rows: &[Vec<ast::Expr>],
) -> Result<Fields> {
    let mut known: Vec<Option<FieldRef>> = Vec::new();
    let mut within = Vec::new();
    for row in rows {
        for (expr, target) in row.iter().zip(targets) {
            match parameters::placeholder(expr)? {
                Some(number) => know(&mut known, number, &table.schema.columns[*target]),
                None if literal(expr).is_some() || is_default(expr) => {}
                None => within.push(expr),
            }
        }
    }
    let mut with_parameters = Vec::new();
    for expr in within {
        let types = planner.parameter_types(expr)?;
        if !types.is_empty() {
            with_parameters.push(expr);
        }
        for (name, field) in types {
            let number = parameters::number(&name)?;
            if known.len() < number {
                known.resize(number, None);
            }
            if known[number - 1].is_none() {
                known[number - 1] = field;
            }
        }
    }
    if known.iter().all(Option::is_some) {
        return Ok(parameters::fields(known));
    }
    let items = with_parameters.into_iter().enumerate();
    let items = items.map(|(index, expr)| ast::SelectItem::ExprWithAlias {
        expr: expr.clone(),
        alias: ast::Ident::with_quote('"', format!("{index}")),
    });
    let select = select(items.collect(), Vec::new(), None);
    let query = query(ast::SetExpr::Select(Box::new(select)));
    Ok(planner.plan(ast::Statement::Query(query), &known)?.parameters)
}

/// VALUES as a query, DEFAULT written out.
///
/// # Errors
/// DATA_CORRUPTED if a stored default does not parse.
pub(crate) fn as_query(table: &Table, targets: &[usize], rows: &[Vec<ast::Expr>]) -> Result<Box<ast::Query>> {
    let mut written = Vec::with_capacity(rows.len());
    for row in rows {
        let mut values = Vec::with_capacity(row.len());
        for (expr, target) in row.iter().zip(targets) {
            values.push(match (is_default(expr), &table.schema.columns[*target].default) {
                (false, _) => expr.clone(),
                (true, Some(default)) => parse_expression(default)?,
                (true, None) => ast::Expr::value(ast::Value::Null),
            });
        }
        written.push(ast::Parens::with_empty_span(values));
    }
    let values = ast::Values {
        explicit_row: false,
        value_keyword: false,
        rows: written,
    };
    Ok(query(ast::SetExpr::Values(values)))
}

/// The rows of VALUES, one column per target, in batches; for each row of parameters all rows of VALUES.
///
/// # Errors
/// TYPE_MISMATCH, and whatever evaluating says.
pub(crate) fn evaluate(
    defaults: &mut Defaults<'_>,
    targets: &[usize],
    rows: &[Vec<ast::Expr>],
    given: &RecordBatch,
) -> Result<Vec<RecordBatch>> {
    if let [row] = rows {
        return Ok(vec![one_row(defaults, targets, row, given)?]);
    }
    (0..given.num_rows())
        .map(|at| many_rows(defaults, targets, rows, &given.slice(at, 1)))
        .collect()
}

/// One row of VALUES for all rows of parameters at once.
fn one_row(
    defaults: &mut Defaults<'_>,
    targets: &[usize],
    row: &[ast::Expr],
    given: &RecordBatch,
) -> Result<RecordBatch> {
    let columns = row
        .iter()
        .zip(targets)
        .map(|(expr, target)| defaults.value(*target, expr, given));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    batch(defaults.schema_of(targets), columns, given.num_rows())
}

/// Many rows of VALUES for one row of parameters: a column of literals is converted as a whole.
fn many_rows(
    defaults: &mut Defaults<'_>,
    targets: &[usize],
    rows: &[Vec<ast::Expr>],
    given: &RecordBatch,
) -> Result<RecordBatch> {
    let mut columns = Vec::with_capacity(targets.len());
    for (position, target) in targets.iter().enumerate() {
        let table = Arc::clone(&defaults.table);
        let literals: Option<Vec<Literal>> = rows.iter().map(|row| literal(&row[position])).collect();
        columns.push(match literals {
            Some(literals) => of_literals(&literals, &table, *target, defaults.planner.time_zone())?,
            None => {
                let values = rows.iter().map(|row| defaults.value(*target, &row[position], given));
                let values = values.collect::<Result<Vec<_>>>()?;
                let by_reference: Vec<&dyn Array> = values.iter().map(AsRef::as_ref).collect();
                concat(&by_reference).map_err(|error| diagnostics::from_arrow(&error))?
            }
        });
    }
    batch(defaults.schema_of(targets), columns, rows.len())
}

/// Literals of one column, row by row.
fn of_literals(literals: &[Literal], table: &Table, index: usize, zone: &Arc<str>) -> Result<ArrayRef> {
    let column = &table.schema.columns[index];
    for (row, literal) in literals.iter().enumerate() {
        let fits = match literal.kind {
            LiteralKind::Null | LiteralKind::Text => true,
            LiteralKind::Number => column.data_type.is_numeric() || column.data_type.is_string(),
            LiteralKind::Boolean => column.data_type == DataType::Boolean || column.data_type.is_string(),
        };
        if !fits {
            let text = literal.text.as_deref().unwrap_or("NULL");
            let message = format!(
                "{text} (row {}) does not fit column {} ({})",
                row + 1,
                column.name,
                type_name(column)
            );
            return Err(placed(Error::new(ErrorCode::TypeMismatch, message), literal.position));
        }
        if literal.kind == LiteralKind::Null && !column.nullable {
            return Err(placed(null_in(table, column, row), literal.position));
        }
    }
    let texts: StringArray = literals.iter().map(|literal| literal.text.as_deref()).collect();
    let target = Target::column(column, zone);
    assign(&(Arc::new(texts.clone()) as ArrayRef), &target).map_err(|error| {
        let fail =
            |rows: usize, target: &Target<'_>| assign(&(Arc::new(texts.slice(0, rows)) as ArrayRef), target).err();
        // The first row that is refused: all before it are taken.
        let (mut taken, mut refused) = (0, literals.len());
        while taken + 1 < refused {
            let middle = taken.midpoint(refused);
            match fail(middle, &target) {
                Some(_) => refused = middle,
                None => taken = middle,
            }
        }
        let literal = &literals[taken];
        let shown = match literal.kind {
            LiteralKind::Text => fail(refused, &target),
            LiteralKind::Null | LiteralKind::Number | LiteralKind::Boolean => fail(refused, &target.of_words()),
        };
        placed(shown.unwrap_or(error), literal.position)
    })
}

/// What the write handler says of NULL where it may not be, which it does without a place.
fn null_in(table: &Table, column: &Column, row: usize) -> Error {
    Error::new(
        ErrorCode::NotNullViolation,
        format!(
            "row {}: column {} of table {} is NOT NULL and the value is NULL",
            row + 1,
            column.name,
            table.name
        ),
    )
}

/// Values that a statement does not give, and the expressions that it does.
pub(crate) struct Defaults<'a> {
    planner: &'a Planner,
    table: Arc<Table>,
    known: HashMap<usize, Value>,
}

/// A value prepared for many rows.
#[derive(Clone)]
enum Value {
    /// The same for every row, one row long.
    Constant(ArrayRef),
    Computed(Arc<dyn PhysicalExpr>),
}

impl<'a> Defaults<'a> {
    pub(crate) fn new(planner: &'a Planner, table: &Arc<Table>) -> Self {
        Defaults {
            planner,
            table: Arc::clone(table),
            known: HashMap::new(),
        }
    }

    /// All columns that SQL sees, in table order: the given ones, defaults for the rest.
    ///
    /// # Errors
    /// TYPE_MISMATCH, and whatever evaluating a default says.
    pub(crate) fn complete(&mut self, targets: &[usize], given: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let visible = crate::insert::visible(&self.table);
        let mut given_to: Vec<Option<&ArrayRef>> = vec![None; self.table.schema.columns.len()];
        for (target, values) in targets.iter().zip(given) {
            given_to[*target] = Some(values);
        }
        let mut columns = Vec::with_capacity(visible.len());
        for index in visible {
            columns.push(match given_to[index] {
                Some(values) => Arc::clone(values),
                None => self.default(index, rows)?,
            });
        }
        // NULL in a NOT NULL column is for the write handler to refuse, with the row's number.
        let fields = self
            .table
            .schema
            .arrow
            .fields()
            .iter()
            .map(|field| field.as_ref().clone().with_nullable(true));
        let schema = Schema::new_with_metadata(fields.collect::<Fields>(), self.table.schema.arrow.metadata().clone());
        batch(Arc::new(schema), columns, rows)
    }

    /// The column's default for so many rows: one value each where it is volatile.
    ///
    /// # Errors
    /// TYPE_MISMATCH, and whatever evaluating says.
    pub(crate) fn default(&mut self, index: usize, rows: usize) -> Result<ArrayRef> {
        let table = Arc::clone(&self.table);
        let column = &table.schema.columns[index];
        let value = match self.known.get(&index) {
            Some(value) => value.clone(),
            None => {
                let value = match &column.default {
                    // A place in the text of a default is none in the statement's.
                    Some(default) => self
                        .prepare(index, &parse_expression(default)?, &Fields::empty())
                        .map_err(|error| Error {
                            position: None,
                            ..error
                        })?,
                    None => Value::Constant(new_null_array(&column.data_type, 1)),
                };
                self.known.insert(index, value.clone());
                value
            }
        };
        self.column_of(index, &value, &rows_without_columns(rows)?)
    }

    /// An expression as a column's value, for each row of parameters.
    ///
    /// # Errors
    /// TYPE_MISMATCH, and whatever planning and evaluating say.
    pub(crate) fn value(&mut self, index: usize, expr: &ast::Expr, given: &RecordBatch) -> Result<ArrayRef> {
        if is_default(expr) {
            return self.default(index, given.num_rows());
        }
        if let Some(number) = parameters::placeholder(expr)? {
            return assign(
                given.column(number - 1),
                &Target::column(&self.table.schema.columns[index], self.planner.time_zone()),
            );
        }
        let value = self.prepare(index, expr, given.schema_ref().fields());
        let values = value.and_then(|value| self.column_of(index, &value, given));
        values.map_err(|error| placed(error, position_of(expr.span())))
    }

    fn prepare(&self, index: usize, expr: &ast::Expr, parameters: &Fields) -> Result<Value> {
        if let Some(literal) = literal(expr) {
            return Ok(Value::Constant(of_literals(
                &[literal],
                &self.table,
                index,
                self.planner.time_zone(),
            )?));
        }
        Ok(Value::Computed(self.planner.expression(expr.clone(), parameters)?))
    }

    fn column_of(&self, index: usize, value: &Value, given: &RecordBatch) -> Result<ArrayRef> {
        let rows = given.num_rows();
        match value {
            Value::Constant(value) => repeat(value, rows),
            Value::Computed(expr) => {
                let values = expr.evaluate(given).and_then(|values| values.into_array(rows));
                let values = values.map_err(diagnostics::from_datafusion)?;
                let column = &self.table.schema.columns[index];
                assign(&values, &Target::column(column, self.planner.time_zone()))
            }
        }
    }

    fn schema_of(&self, targets: &[usize]) -> arrow::datatypes::SchemaRef {
        let fields = targets.iter().map(|index| {
            let column = &self.table.schema.columns[*index];
            Field::new(&column.name, column.data_type.clone(), true)
        });
        Arc::new(Schema::new(fields.collect::<Fields>()))
    }
}

/// One row, so many times.
pub(crate) fn repeat(value: &ArrayRef, rows: usize) -> Result<ArrayRef> {
    if rows == value.len() {
        return Ok(Arc::clone(value));
    }
    take(value, &UInt32Array::from(vec![0; rows]), None).map_err(|error| diagnostics::from_arrow(&error))
}
