//! Columns of UNION whose types DataFusion does not bring together: TIMEs of several units, dates beyond those of nanoseconds beside
//! timestamps, and UUIDs beside texts; and TIMEs that INTERSECT, EXCEPT, USING and IN with a subquery compare.
//!
//! Problem: DataFusion 55 knows no type of two TIMEs, brings dates and timestamps to nanoseconds, and unites a UUID, which it has as 16
//! bytes, with a text as bytes that are neither. Chosen: before type coercion, TIMEs are cast to the finest unit, dates to the unit of
//! the timestamps, and texts among UUIDs are read as such; any other mixture of an extension type is refused. Evidence:
//! `coerce_union_schema` in datafusion-optimizer 55 `analyzer/type_coercion.rs`.

use std::sync::Arc;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::DFSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::InSubquery;
use datafusion::logical_expr::{Cast, Expr, ExprSchemable, LogicalPlan, Projection, Union};
use kalamdb_core::{Error, ErrorCode};

use crate::definition::data_type_name;
use crate::extension_types::{ExtensionType, OnMisfit, conversion};
use crate::time_units;

/// What becomes of a column of the inputs.
enum Common {
    Time(DataType),
    Uuid,
}

/// Brings such columns of a union, or of the sides of a join, to one type.
///
/// # Errors
/// TYPE_MISMATCH.
pub(crate) fn in_plan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let union = match plan {
        LogicalPlan::Union(union) => union,
        LogicalPlan::Join(mut join) => {
            for (left, right) in &mut join.on {
                // What has no type here is for other rules to refuse.
                let (Ok(of_left), Ok(of_right)) =
                    (left.get_type(join.left.schema()), right.get_type(join.right.schema()))
                else {
                    continue;
                };
                if let Some(common) = time_units::common_time_of_day(&[of_left, of_right]) {
                    for side in [left, right] {
                        *side = Expr::Cast(Cast::new(Box::new(std::mem::take(side)), common.clone()));
                    }
                }
            }
            return Ok(LogicalPlan::Join(join));
        }
        other => return Ok(other),
    };
    let count = union
        .inputs
        .iter()
        .map(|input| input.schema().fields().len())
        .min()
        .unwrap_or(0);
    let common = (0..count).map(|column| common(&union, column));
    let common = common.collect::<Result<Vec<Option<Common>>>>()?;
    if common.iter().all(Option::is_none) {
        return Ok(LogicalPlan::Union(union));
    }
    let inputs = union.inputs.into_iter().map(|input| cast_columns(input, &common));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    Ok(LogicalPlan::Union(Union::try_new_with_loose_types(inputs)?))
}

fn common(union: &Union, column: usize) -> Result<Option<Common>> {
    let fields: Vec<_> = union.inputs.iter().map(|input| input.schema().field(column)).collect();
    let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
    let time = time_units::common_time_of_day(&types)
        .or_else(|| with_dates(&types))
        .or_else(|| of_microseconds(union, column, &types));
    if let Some(time) = time {
        return Ok(Some(Common::Time(time)));
    }
    let of = |field: &arrow::datatypes::Field| ExtensionType::of(field.metadata());
    let present = || fields.iter().filter(|field| !field.data_type().is_null());
    let Some(extension) = present().find_map(|field| of(field)) else {
        return Ok(None);
    };
    let Some(other) = present().find(|field| of(field) != Some(extension)) else {
        return Ok(None);
    };
    if extension == ExtensionType::Uuid && present().all(|field| of(field).is_some() || field.data_type().is_string()) {
        return Ok(Some(Common::Uuid));
    }
    let name = match extension {
        ExtensionType::Uuid => "UUID",
        ExtensionType::Json => "JSON",
    };
    let message = format!(
        "column {} of UNION is {name} in one query and {} in another; cast one of them",
        column + 1,
        match of(other) {
            Some(_) => "of another such type".to_owned(),
            None => data_type_name(other.data_type()),
        }
    );
    let error = Error::new(ErrorCode::TypeMismatch, message);
    Err(DataFusionError::External(Box::new(error)))
}

/// The type of timestamps coarser than nanoseconds, which do not reach every date, among which there are dates.
fn with_dates(types: &[DataType]) -> Option<DataType> {
    if !types.contains(&DataType::Date32) {
        return None;
    }
    let mut found: Option<DataType> = None;
    for data_type in types {
        match (data_type, &found) {
            (DataType::Date32 | DataType::Null, _) => {}
            (DataType::Timestamp(TimeUnit::Nanosecond, _), _) => return None,
            (DataType::Timestamp(..), None) => found = Some(data_type.clone()),
            (DataType::Timestamp(unit, zone), Some(DataType::Timestamp(other, of_other))) if zone == of_other => {
                found = Some(DataType::Timestamp((*unit).max(*other), zone.clone()));
            }
            _ => return None,
        }
    }
    found
}

/// The type of timestamps of which those in nanoseconds are written in the queries, and of whole microseconds, beside coarser ones or
/// dates, which nanoseconds may not reach.
fn of_microseconds(union: &Union, column: usize, types: &[DataType]) -> Option<DataType> {
    let mut zones: Vec<&Option<Arc<str>>> = Vec::new();
    let (mut any_coarse, mut any_fine) = (false, false);
    for (data_type, input) in types.iter().zip(&union.inputs) {
        match data_type {
            DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
                let LogicalPlan::Projection(projection) = input.as_ref() else {
                    return None;
                };
                let mut expr = projection.expr.get(column)?;
                while let Expr::Alias(alias) = expr {
                    expr = &alias.expr;
                }
                if !time_units::is_of_microseconds(expr, projection.input.schema()) {
                    return None;
                }
                any_fine = true;
                zones.push(zone);
            }
            DataType::Timestamp(_, zone) => {
                any_coarse = true;
                zones.push(zone);
            }
            DataType::Date32 => any_coarse = true,
            DataType::Null => {}
            _ => return None,
        }
    }
    let zone = zones.first().copied()?.clone();
    let are_alike = zones.iter().all(|other| **other == zone);
    (any_coarse && any_fine && are_alike).then_some(DataType::Timestamp(TimeUnit::Microsecond, zone))
}

/// The same for the TIMEs of `x IN (SELECT …)`. Whether anything changed.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn in_subquery(membership: &mut InSubquery, schema: &DFSchema) -> Result<bool> {
    let rows = &membership.subquery.subquery;
    // What has no type here is for other rules to refuse.
    let (Ok(given), [found]) = (
        membership.expr.get_type(schema),
        rows.schema().fields().iter().as_slice(),
    ) else {
        return Ok(false);
    };
    let Some(common) = time_units::common_time_of_day(&[given.clone(), found.data_type().clone()]) else {
        return Ok(false);
    };
    if given != common {
        let expr = std::mem::take(membership.expr.as_mut());
        *membership.expr = Expr::Cast(Cast::new(Box::new(expr), common.clone()));
    }
    let cast = cast_columns(Arc::clone(&membership.subquery.subquery), &[Some(Common::Time(common))])?;
    membership.subquery.subquery = cast;
    Ok(true)
}

fn cast_columns(input: Arc<LogicalPlan>, common: &[Option<Common>]) -> Result<Arc<LogicalPlan>> {
    let schema = Arc::clone(input.schema());
    let columns = schema.columns().into_iter().enumerate().map(|(index, column)| {
        let expr = Expr::Column(column.clone());
        let field = schema.field(index);
        let changed = match common.get(index).and_then(Option::as_ref) {
            Some(Common::Time(to)) if field.data_type() != to => Expr::Cast(Cast::new(Box::new(expr), to.clone())),
            Some(Common::Uuid) if field.data_type().is_string() => {
                let read = conversion(&expr, &ExtensionType::Uuid.field(""), &schema, OnMisfit::Fail)?;
                read.unwrap_or(expr)
            }
            Some(_) | None => return Ok(expr),
        };
        Ok(changed.alias_qualified(column.relation, column.name))
    });
    let projection = Projection::try_new(columns.collect::<Result<_>>()?, input)?;
    Ok(Arc::new(LogicalPlan::Projection(projection)))
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE t (id INT PRIMARY KEY, tm TIME, t0 TIME(0), t9 TIME(9), u UUID, j JSON, v TEXT, d DATE, ts TIMESTAMP, tz TIMESTAMPTZ)",
            "INSERT INTO t VALUES (1, '10:00:00.5', '10:00:00', '10:00:00.123456789', '00000000-0000-0000-0000-000000000001', '{}', 'x', \
             '2024-01-01', '2024-01-01 10:00:00', '2024-01-01 10:00:00Z')",
        ]);
        fixture
    }

    #[test]
    fn times_of_day_of_any_unit_stand_together() {
        let fixture = fixture();
        for time in ["tm", "t0", "t9"] {
            for (expression, expected) in [
                (format!("coalesce({time}, TIME '11:00:00') = {time}"), "true"),
                (format!("coalesce(NULL, TIME '11:00:00', {time})"), "11:00:00"),
                (format!("nullif({time}, TIME '11:00:00') = {time}"), "true"),
                (
                    format!("greatest({time}, TIME '11:00:00'), least(TIME '09:00:00', {time})"),
                    "11:00:00|09:00:00",
                ),
                (
                    format!("CASE WHEN id = 1 THEN TIME '11:00:00' ELSE {time} END"),
                    "11:00:00",
                ),
                (
                    format!(
                        "CASE {time} WHEN TIME '11:00:00' THEN 1 WHEN tm THEN 2 WHEN t9 THEN 3 WHEN t0 THEN 4 END IS NULL"
                    ),
                    "false",
                ),
                (
                    format!("TIME '11:00:00' IN (tm, {time}, t9), {time} IN (TIME '11:00:00', t0, tm, t9)"),
                    "false|true",
                ),
                (
                    format!("{time} BETWEEN t0 AND TIME '10:30:00', '10:30:00' BETWEEN {time} AND TIME '11:00:00'"),
                    "true|true",
                ),
                (format!("coalesce({time}, current_time) < TIME '10:30:00'"), "true"),
            ] {
                fixture.check(&format!("SELECT {expression} FROM t"), &[expected]);
            }
            fixture.check(
                &format!("SELECT count(*) FROM (SELECT {time} FROM t UNION SELECT TIME '11:00:00' UNION SELECT t9 FROM t) AS q"),
                &[if time == "t9" { "2" } else { "3" }],
            );
            fixture.check(&format!("SELECT {time} = {time} FROM t EXCEPT SELECT false"), &["true"]);
            fixture.check(
                &format!("SELECT count(*) FROM (SELECT {time} FROM t INTERSECT SELECT {time}::TIME(9) FROM t) AS q"),
                &["1"],
            );
        }
        fixture.check(
            "SELECT TIME '10:00:00.123456789', '10:00:00.5'::TIME, arrow_typeof(TIME '10:00:00')",
            &["10:00:00.123456789|10:00:00.500|Time64(µs)"],
        );
    }

    #[test]
    fn uuids_and_texts_are_united_where_texts_are_uuids() {
        let fixture = fixture();
        let uuid = "00000000-0000-0000-0000-000000000001";
        fixture.check(
            &format!("SELECT count(*) FROM (SELECT u FROM t UNION SELECT '{uuid}') AS q"),
            &["1"],
        );
        fixture.check(
            "SELECT u FROM t UNION SELECT NULL EXCEPT SELECT NULL",
            &[&uuid.replace('-', "")],
        );
        fixture.check_error_part("SELECT u FROM t UNION SELECT v FROM t", ErrorCode::TypeMismatch, "x");
        fixture.check_error_part(
            "SELECT u FROM t UNION SELECT id FROM t",
            ErrorCode::TypeMismatch,
            "column 1 of UNION is UUID",
        );
        fixture.check_error_part(
            "SELECT j FROM t UNION SELECT v FROM t",
            ErrorCode::TypeMismatch,
            "column 1 of UNION is JSON",
        );
    }

    #[test]
    fn far_dates_stand_beside_timestamps() {
        let fixture = fixture();
        for (expression, expected) in [
            ("coalesce(d, DATE '9999-12-31') > now()", "false"),
            ("coalesce(ts, DATE '9999-12-31') < now()", "true"),
            ("greatest(d, DATE '9999-12-31') > ts", "true"),
            ("CASE WHEN id > 3 THEN d ELSE DATE '0001-01-01' END < tz", "true"),
            ("d IN (ts, DATE '9999-12-31')", "false"),
            (
                "d BETWEEN DATE '0001-01-01' AND ts, ts BETWEEN d AND DATE '9999-12-31'",
                "true|true",
            ),
            (
                "greatest(ts, DATE '9999-12-31'), least(tz, DATE '0001-01-01')",
                "9999-12-31T00:00:00|0001-01-01T00:00:00Z",
            ),
            (
                "CASE WHEN id > 3 THEN ts ELSE DATE '9999-12-31' END",
                "9999-12-31T00:00:00",
            ),
        ] {
            fixture.check(&format!("SELECT {expression} FROM t"), &[expected]);
        }
    }

    #[test]
    fn text_literals_are_values_of_the_type_beside_them() {
        let fixture = fixture();
        for (expression, expected) in [
            (
                "coalesce(NULL, d, '2024-05-05'), nullif(d, '2024-01-01')",
                "2024-01-01|NULL",
            ),
            (
                "greatest(ts, '2025-01-01 00:00:00'), least('2023-01-01 00:00:00', ts)",
                "2025-01-01T00:00:00|2023-01-01T00:00:00",
            ),
            (
                "coalesce(tz, '2025-01-01 00:00:00'), coalesce(id = 1, 'false')",
                "2024-01-01T10:00:00Z|true",
            ),
            (
                "'00:00:00' BETWEEN t0 AND tm, '10:00:00' BETWEEN t0 AND tm",
                "false|true",
            ),
            (
                "coalesce(NULL, tm, '11:00:00') = tm, greatest('11:00:00', t0)",
                "true|11:00:00",
            ),
            (
                "tm IN (SELECT t9 FROM t), t9 IN (SELECT t9 FROM t), t0 IN (SELECT t0::TIME(9) FROM t)",
                "false|true|true",
            ),
            (
                "CASE WHEN id > 3 THEN TIMESTAMP '2024-01-01 00:00:00' ELSE DATE '9999-12-31' END > ts",
                "true",
            ),
            ("CASE DATE '9999-12-31' WHEN ts THEN 1 WHEN d THEN 2 ELSE 3 END", "3"),
            (
                "(SELECT max(x) FROM (SELECT ts AS x FROM t UNION SELECT DATE '9999-12-31') AS q)",
                "9999-12-31T00:00:00",
            ),
        ] {
            fixture.check(&format!("SELECT {expression} FROM t"), &[expected]);
        }
        fixture.check_error_part("SELECT coalesce(d, 'x') FROM t", ErrorCode::TypeMismatch, "x");
        fixture.check_error_part("SELECT coalesce(d, v) FROM t", ErrorCode::TypeMismatch, "DATE and TEXT");
    }

    #[test]
    fn values_of_several_types_are_refused_in_plain_words() {
        let fixture = fixture();
        for (expression, parts) in [
            ("coalesce(v, id = 1)", ["coalesce", "TEXT and BOOLEAN"]),
            ("greatest(v, id = 1)", ["greatest", "TEXT and BOOLEAN"]),
            ("nullif(tm, id)", ["nullif", "TIME(6) and INTEGER"]),
            ("v BETWEEN (id = 1) AND v", ["BETWEEN", "BOOLEAN"]),
            ("CASE WHEN id = 1 THEN v ELSE id = 1 END", ["CASE", "BOOLEAN"]),
        ] {
            let sql = format!("SELECT {expression} FROM t");
            for part in parts {
                fixture.check_error_part(&sql, ErrorCode::TypeMismatch, part);
            }
            fixture.check_error_part(
                &format!("SELECT id FROM t WHERE ({expression}) IS NULL"),
                ErrorCode::TypeMismatch,
                parts[1].split(' ').next_back().unwrap_or_default(),
            );
        }
    }
}
