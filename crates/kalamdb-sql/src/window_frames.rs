//! Windows ordered by a TIME, a BYTEA, a UUID or a value of another type to which nothing can be added.
//!
//! Problem: DataFusion 55 looks for the type of a RANGE frame's offsets, which such a type has none of, also where the frame has no
//! offset, as the one that ORDER BY alone means; it calls that a bug of its own. Chosen: a frame without offsets is one of GROUPS, which
//! is the same: rows that are equal in the order are in it together. Evidence: `extract_window_frame_target_type` of
//! datafusion-optimizer 55 `analyzer/type_coercion.rs`.

use arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, ExprSchemable, WindowFrame, WindowFrameBound, WindowFrameUnits};
use kalamdb_core::{Error, ErrorCode};

use crate::definition::data_type_name;

/// Gives a window function such a frame. Whether anything changed.
///
/// # Errors
/// UNSUPPORTED for one with offsets.
pub(crate) fn of_groups(expr: &mut Expr, schema: &DFSchema) -> Result<bool> {
    let Expr::WindowFunction(window) = expr else {
        return Ok(false);
    };
    let params = &mut window.params;
    if params.window_frame.units != WindowFrameUnits::Range {
        return Ok(false);
    }
    let Some(key) = params.order_by.first().map(|key| &key.expr) else {
        return Ok(false);
    };
    let data_type = match key.get_type(schema) {
        // That of a CASE is known when its results are of one type.
        Ok(data_type) if !takes_offsets(&data_type) || matches!(key, Expr::Case(_)) => data_type,
        // What has no type here is for other rules to refuse.
        Ok(_) | Err(_) => return Ok(false),
    };
    let (start, end) = (&params.window_frame.start_bound, &params.window_frame.end_bound);
    let has_offset = |bound: &WindowFrameBound| !bound.is_unbounded() && !matches!(bound, WindowFrameBound::CurrentRow);
    if has_offset(start) || has_offset(end) {
        if takes_offsets(&data_type) {
            return Ok(false);
        }
        let message = format!(
            "RANGE with an offset is not supported for {}; write ROWS or GROUPS",
            data_type_name(&data_type)
        );
        let error = Error::new(ErrorCode::Unsupported, message);
        return Err(DataFusionError::External(Box::new(error)));
    }
    params.window_frame = WindowFrame::new_bounds(WindowFrameUnits::Groups, start.clone(), end.clone());
    Ok(true)
}

fn takes_offsets(data_type: &DataType) -> bool {
    data_type.is_numeric()
        || data_type.is_string()
        || data_type.is_null()
        || data_type.is_list()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Timestamp(..)
                | DataType::Dictionary(..)
        )
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    #[test]
    fn windows_are_ordered_by_values_of_any_type() {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, tm TIME, by BYTEA, u UUID, at TIMESTAMP, iv INTERVAL, s STRUCT(a INT))",
            "INSERT INTO t SELECT i, '10:00:00'::TIME, '\\x01', '00000000-0000-0000-0000-000000000001', '2024-01-01', INTERVAL '1 day', \
             STRUCT(1) FROM (SELECT value::INT AS i FROM generate_series(1, 2)) AS v",
            "INSERT INTO t VALUES (3, '09:00:00', '\\x00', '00000000-0000-0000-0000-000000000000', '2023-01-01', INTERVAL '1 hour', \
             STRUCT(0)), (4, NULL, NULL, NULL, NULL, NULL, NULL)",
        ]);
        for key in [
            "tm",
            "CASE id WHEN 99 THEN '08:00:00' ELSE tm END",
            "by",
            "u",
            "iv",
            "at",
            "TIMESTAMP '2025-01-01' - at",
            "TIME '23:00:00' - tm",
        ] {
            let falls = key.contains(" - ");
            let sums = match falls {
                false => ["1|6", "2|6", "3|3", "4|10"],
                true => ["1|3", "2|3", "3|6", "4|10"],
            };
            fixture.check(
                &format!("SELECT id, sum(id) OVER (ORDER BY {key}) FROM t ORDER BY id"),
                &sums,
            );
            let ranks = match falls {
                false => ["1|2|2", "2|2|2", "3|1|1", "4|3|4"],
                true => ["1|1|1", "2|1|1", "3|2|3", "4|3|4"],
            };
            fixture.check(
                &format!(
                    "SELECT id, dense_rank() OVER w, rank() OVER w FROM t WINDOW w AS (ORDER BY {key}) ORDER BY id"
                ),
                &ranks,
            );
            fixture.check(
                &format!(
                    "SELECT id, count(*) OVER (ORDER BY {key} RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) FROM t WHERE id < 3 ORDER BY id"
                ),
                &["1|2", "2|2"],
            );
        }
        fixture.check_error_part(
            "SELECT sum(id) OVER (ORDER BY tm RANGE BETWEEN '1 hour' PRECEDING AND CURRENT ROW) FROM t",
            ErrorCode::Unsupported,
            "RANGE with an offset is not supported for TIME",
        );
    }

    #[test]
    fn offsets_of_rows_may_stand_in_quotes() {
        let fixture = Fixture::new();
        fixture.check(
            "SELECT sum(a) OVER (ORDER BY a ROWS BETWEEN '1' PRECEDING AND CURRENT ROW), sum(a) OVER w \
             FROM (VALUES (1), (2), (3)) AS v (a) WINDOW w AS (ORDER BY a GROUPS '1' PRECEDING) ORDER BY a",
            &["1|1", "3|3", "5|5"],
        );
    }
}
