//! SQL type names for the protocol: of result columns, and the table of GetXdbcTypeInfo.

use arrow::array::RecordBatch;
use arrow_flight::sql::metadata::{XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{Nullable, Searchable, XdbcDataType, XdbcDatetimeSubcode};
use kalamdb_core::{Error, ErrorCode, Result};

/// The protocol gives DATE and YEAR the same number, and arrow-flight keeps the one name.
const SUBCODE_DATE: XdbcDatetimeSubcode = XdbcDatetimeSubcode::XdbcSubcodeYear;

/// The types of GetXdbcTypeInfo, built once.
pub(crate) struct TypeInfo {
    data: XdbcTypeInfoData,
}

impl TypeInfo {
    /// Every type that a column can have by name.
    ///
    /// # Errors
    /// INTERNAL, if Arrow cannot build the table.
    pub(crate) fn new() -> Result<Self> {
        let mut builder = XdbcTypeInfoDataBuilder::new();
        for info in types() {
            builder.append(info);
        }
        Ok(TypeInfo {
            data: builder.build().map_err(internal)?,
        })
    }

    /// All types, or those of one XDBC code.
    ///
    /// # Errors
    /// INTERNAL.
    pub(crate) fn rows(&self, data_type: Option<i32>) -> Result<RecordBatch> {
        self.data.record_batch(data_type).map_err(internal)
    }
}

/// The types that a column can have by name.
fn types() -> Vec<XdbcTypeInfo> {
    let base = |name: &str, data_type: XdbcDataType| XdbcTypeInfo {
        type_name: name.to_owned(),
        local_type_name: Some(name.to_owned()),
        data_type,
        sql_data_type: data_type,
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        ..XdbcTypeInfo::default()
    };
    let number = |name: &str, data_type, digits: i32, unsigned: bool| XdbcTypeInfo {
        column_size: Some(digits),
        unsigned_attribute: Some(unsigned),
        auto_increment: Some(false),
        minimum_scale: Some(0),
        maximum_scale: Some(0),
        num_prec_radix: Some(10),
        ..base(name, data_type)
    };
    // Approximate numbers count bits.
    let float = |name: &str, data_type, bits: i32| XdbcTypeInfo {
        column_size: Some(bits),
        unsigned_attribute: Some(false),
        auto_increment: Some(false),
        num_prec_radix: Some(2),
        ..base(name, data_type)
    };
    let quoted = |name: &str, data_type| XdbcTypeInfo {
        literal_prefix: Some("'".to_owned()),
        literal_suffix: Some("'".to_owned()),
        ..base(name, data_type)
    };
    let text = |name: &str, searchable| XdbcTypeInfo {
        column_size: Some(i32::MAX),
        case_sensitive: true,
        searchable,
        ..quoted(name, XdbcDataType::XdbcVarchar)
    };
    let moment = |name: &str, data_type, subcode, size: i32, scale: Option<i32>| XdbcTypeInfo {
        column_size: Some(size),
        literal_prefix: Some(format!("{name} '")),
        literal_suffix: Some("'".to_owned()),
        minimum_scale: scale.map(|_| 0),
        maximum_scale: scale,
        // Dates and times share one code and differ in the subcode.
        sql_data_type: XdbcDataType::XdbcDatetime,
        datetime_subcode: Some(subcode),
        ..base(name, data_type)
    };
    vec![
        base("BOOLEAN", XdbcDataType::XdbcBit),
        number("TINYINT", XdbcDataType::XdbcTinyint, 3, false),
        number("TINYINT UNSIGNED", XdbcDataType::XdbcTinyint, 3, true),
        number("SMALLINT", XdbcDataType::XdbcSmallint, 5, false),
        number("SMALLINT UNSIGNED", XdbcDataType::XdbcSmallint, 5, true),
        number("INTEGER", XdbcDataType::XdbcInteger, 10, false),
        number("INTEGER UNSIGNED", XdbcDataType::XdbcInteger, 10, true),
        number("BIGINT", XdbcDataType::XdbcBigint, 19, false),
        number("BIGINT UNSIGNED", XdbcDataType::XdbcBigint, 20, true),
        float("REAL", XdbcDataType::XdbcReal, 24),
        float("DOUBLE", XdbcDataType::XdbcDouble, 53),
        XdbcTypeInfo {
            create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
            maximum_scale: Some(38),
            ..number("DECIMAL", XdbcDataType::XdbcDecimal, 38, false)
        },
        text("TEXT", Searchable::Full),
        text("JSON", Searchable::Full),
        XdbcTypeInfo {
            column_size: Some(36),
            ..quoted("UUID", XdbcDataType::XdbcBinary)
        },
        XdbcTypeInfo {
            column_size: Some(i32::MAX),
            literal_prefix: Some("'\\x".to_owned()),
            ..quoted("BYTEA", XdbcDataType::XdbcVarbinary)
        },
        moment("DATE", XdbcDataType::XdbcDate, SUBCODE_DATE, 10, None),
        moment(
            "TIME",
            XdbcDataType::XdbcTime,
            XdbcDatetimeSubcode::XdbcSubcodeTime,
            18,
            Some(9),
        ),
        moment(
            "TIMESTAMP",
            XdbcDataType::XdbcTimestamp,
            XdbcDatetimeSubcode::XdbcSubcodeTimestamp,
            29,
            Some(9),
        ),
        XdbcTypeInfo {
            literal_prefix: Some("TIMESTAMP WITH TIME ZONE '".to_owned()),
            ..moment(
                "TIMESTAMP WITH TIME ZONE",
                XdbcDataType::XdbcTimestamp,
                XdbcDatetimeSubcode::XdbcSubcodeTimestampWithTimezone,
                35,
                Some(9),
            )
        },
        XdbcTypeInfo {
            literal_prefix: Some("INTERVAL '".to_owned()),
            ..quoted("INTERVAL", XdbcDataType::XdbcInterval)
        },
    ]
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("the type table could not be built: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::datatypes::Int32Type;

    #[test]
    fn type_info_is_ordered_and_filtered() {
        let info = TypeInfo::new().expect("builds");
        let all = info.rows(None).expect("all");
        assert_eq!(all.num_rows(), types().len());
        let codes = all.column(1).as_primitive::<Int32Type>().values();
        assert!(codes.is_sorted());
        let check = |code: XdbcDataType, expected: &[&str]| {
            let rows = info.rows(Some(code as i32)).expect("some");
            let names: Vec<&str> = rows.column(0).as_string::<i32>().iter().flatten().collect();
            assert_eq!(names, expected);
        };
        check(XdbcDataType::XdbcBigint, &["BIGINT", "BIGINT UNSIGNED"]);
        check(XdbcDataType::XdbcDate, &["DATE"]);
        check(XdbcDataType::XdbcUnknownType, &[]);
    }
}
