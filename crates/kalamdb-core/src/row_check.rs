//! What the write handlers refuse before a row is encoded: rows of another shape, NULL where none may be, too many bytes.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type};

use crate::catalog::Table;
use crate::error::{Error, ErrorCode, Result};

/// STATEMENT_TOO_LARGE, with the setting to change.
pub(crate) fn too_large(table: &Table, limit_bytes: usize) -> Error {
    Error::new(
        ErrorCode::StatementTooLarge,
        format!(
            "the statement writes more than {limit_bytes} bytes into table {} (setting statement_write_limit); split it \
             into several",
            table.name
        ),
    )
}

/// Refuses rows that are not those of the table's columns.
pub(crate) fn check_shape(table: &Table, rows: &RecordBatch) -> Result<()> {
    let columns = &table.schema.columns;
    if rows.num_columns() != columns.len() {
        return Err(Error::new(
            ErrorCode::TypeMismatch,
            format!(
                "table {} has {} columns, the rows have {}",
                table.name,
                columns.len(),
                rows.num_columns()
            ),
        ));
    }
    for (column, array) in columns.iter().zip(rows.columns()) {
        if !column.data_type.equals_datatype(array.data_type()) {
            return Err(Error::new(
                ErrorCode::TypeMismatch,
                format!(
                    "column {} of table {} has type {}, the rows have {}",
                    column.name,
                    table.name,
                    column.data_type,
                    array.data_type()
                ),
            ));
        }
    }
    Ok(())
}

/// Refuses decimals with more digits than their type has, which Arrow itself lets through.
pub(crate) fn check_decimals(table: &Table, rows: &RecordBatch) -> Result<()> {
    for (column, array) in table.schema.columns.iter().zip(rows.columns()) {
        let checked = match array.data_type() {
            DataType::Decimal32(precision, _) => array
                .as_primitive::<Decimal32Type>()
                .validate_decimal_precision(*precision),
            DataType::Decimal64(precision, _) => array
                .as_primitive::<Decimal64Type>()
                .validate_decimal_precision(*precision),
            DataType::Decimal128(precision, _) => array
                .as_primitive::<Decimal128Type>()
                .validate_decimal_precision(*precision),
            DataType::Decimal256(precision, _) => array
                .as_primitive::<Decimal256Type>()
                .validate_decimal_precision(*precision),
            _ => Ok(()),
        };
        checked.map_err(|error| {
            Error::new(
                ErrorCode::TypeMismatch,
                format!("column {} of table {}: {error}", column.name, table.name),
            )
        })?;
    }
    Ok(())
}

/// Refuses NULL in NOT NULL columns. `before` is how many rows of the statement came earlier.
pub(crate) fn check_not_null(table: &Table, rows: &RecordBatch, before: u64) -> Result<()> {
    for (column, array) in table.schema.columns.iter().zip(rows.columns()) {
        if column.nullable || array.logical_null_count() == 0 {
            continue;
        }
        let nulls = array.logical_nulls();
        let row = nulls
            .and_then(|nulls| (0..nulls.len()).find(|&row| nulls.is_null(row)))
            .unwrap_or(0);
        return Err(Error::new(
            ErrorCode::NotNullViolation,
            format!(
                "row {}: column {} of table {} is NOT NULL and the value is NULL",
                before + row as u64 + 1,
                column.name,
                table.name
            ),
        ));
    }
    Ok(())
}
