//! Literals of a query whose columns go into columns of known types: what a plan would take through a double, or not beside its
//! neighbours, goes as text, which reaches the column exactly.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast;

use crate::values::number_text;

/// Makes texts of such literals; `None` is a column whose type the query decides.
pub(crate) fn as_text(query: &mut ast::Query, types: &[Option<DataType>]) {
    match query.body.as_mut() {
        ast::SetExpr::Select(select) if select.distinct.is_none() => {
            for (item, data_type) in select.projection.iter_mut().zip(types) {
                let expr = match item {
                    ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => expr,
                    // It stands for any number of columns.
                    _ => return,
                };
                if let Some(data_type) = data_type {
                    all_as_text(&mut [expr], data_type);
                }
            }
        }
        ast::SetExpr::Values(values) => {
            for (position, data_type) in types.iter().enumerate() {
                let Some(data_type) = data_type else { continue };
                let of_column = values.rows.iter_mut().map(|row| row.content.get_mut(position));
                // A row of another length is refused when it is planned.
                if let Some(mut exprs) = of_column.collect::<Option<Vec<_>>>() {
                    all_as_text(&mut exprs, data_type);
                }
            }
        }
        _ => {}
    }
}

/// All or none: a text beside what is computed would change the type of that.
fn all_as_text(exprs: &mut [&mut ast::Expr], data_type: &DataType) {
    let texts: Option<Vec<Option<String>>> = exprs.iter().map(|expr| text_of(expr, data_type)).collect();
    for (expr, text) in exprs.iter_mut().zip(texts.into_iter().flatten()) {
        if let Some(text) = text {
            **expr = ast::Expr::value(ast::Value::SingleQuotedString(text));
        }
    }
}

/// The text of a literal for a column of that type, or that it stays as it is.
fn text_of(expr: &ast::Expr, data_type: &DataType) -> Option<Option<String>> {
    let value = match expr {
        ast::Expr::Value(value) => Some(&value.value),
        _ => None,
    };
    if matches!(value, Some(ast::Value::Null | ast::Value::SingleQuotedString(_))) {
        return Some(None);
    }
    let text = match data_type {
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            number_text(expr)
        }
        DataType::Binary | DataType::LargeBinary => match value {
            Some(ast::Value::HexStringLiteral(digits)) if digits.len().is_multiple_of(2) => {
                Some(format!("\\x{digits}"))
            }
            _ => None,
        },
        _ => None,
    };
    text.map(Some)
}
