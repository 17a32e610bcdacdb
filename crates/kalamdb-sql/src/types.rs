//! What a column of a SQL type is stored as. What an Arrow type is called in SQL is core's (`Column::type_name`).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Field, Fields, IntervalUnit, TimeUnit,
};
use datafusion::sql::sqlparser::ast::{self, ArrayElemTypeDef, ExactNumberInfo, IntervalFields, TimezoneInfo};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::extension_types::ExtensionType;
use crate::names::folded;
use crate::time_zones::UTC;

/// How many numbers a value of a type may hold by the type alone. Arrow gives a NULL of a fixed-size type as much room as a value,
/// so that a type can be worth gigabytes. It is what the store takes of nested types.
const MOST_FIXED_PARTS: u64 = 1 << 16;

/// A SQL type as a column is stored.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SqlType {
    /// Plain Arrow type.
    pub(crate) data_type: DataType,
    /// Names the extension type, if it is one.
    pub(crate) metadata: HashMap<String, String>,
}

/// The Arrow type of a SQL type as written.
///
/// # Errors
/// UNSUPPORTED for a type that is not there or a length that would not be obeyed, INVALID_ARGUMENT for bounds.
pub(crate) fn from_sql(sql_type: &ast::DataType) -> Result<SqlType> {
    let of_sql = typed(sql_type)?;
    check_width(&of_sql.data_type)?;
    Ok(of_sql)
}

fn typed(sql_type: &ast::DataType) -> Result<SqlType> {
    let extension = match sql_type {
        ast::DataType::Uuid => ExtensionType::Uuid,
        ast::DataType::JSON => ExtensionType::Json,
        other => {
            return Ok(SqlType {
                data_type: arrow_type(other)?,
                metadata: HashMap::new(),
            });
        }
    };
    Ok(SqlType {
        data_type: extension.storage(),
        metadata: extension.metadata(),
    })
}

/// A part of a list, struct or map.
fn part(name: impl Into<String>, sql_type: &ast::DataType, nullable: bool) -> Result<Field> {
    let SqlType { data_type, metadata } = typed(sql_type)?;
    Ok(Field::new(name, data_type, nullable).with_metadata(metadata))
}

fn item(sql_type: &ast::DataType) -> Result<Arc<Field>> {
    part(Field::LIST_FIELD_DEFAULT_NAME, sql_type, true).map(Arc::new)
}

/// The type that values of this type are stored and fetched as: no views, dictionaries or run ends, at any depth.
pub(crate) fn plain(data_type: &DataType) -> DataType {
    let field = |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_data_type(plain(field.data_type())));
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain(values),
        DataType::RunEndEncoded(_, values) => plain(values.data_type()),
        DataType::List(item) | DataType::ListView(item) => DataType::List(field(item)),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(field(item)),
        DataType::FixedSizeList(item, length) => DataType::FixedSizeList(field(item), *length),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::Map(entries, sorted) => DataType::Map(field(entries), *sorted),
        other => other.clone(),
    }
}

/// Refuses types of which one NULL takes too much memory.
///
/// # Errors
/// UNSUPPORTED.
pub(crate) fn check_width(data_type: &DataType) -> Result<()> {
    fn parts(data_type: &DataType) -> u64 {
        match data_type {
            DataType::FixedSizeBinary(bytes) => u64::try_from(*bytes).unwrap_or(0).div_ceil(8),
            DataType::FixedSizeList(item, length) => {
                parts(item.data_type()).saturating_mul(u64::try_from(*length).unwrap_or(0))
            }
            DataType::Struct(fields) => fields
                .iter()
                .fold(0, |sum, field| parts(field.data_type()).saturating_add(sum)),
            // A NULL of what is in them takes no room, but an element of theirs may be NULL.
            DataType::List(item)
            | DataType::LargeList(item)
            | DataType::ListView(item)
            | DataType::LargeListView(item)
            | DataType::Map(item, _) => parts(item.data_type()),
            DataType::Dictionary(_, values) => parts(values),
            DataType::RunEndEncoded(_, values) => parts(values.data_type()),
            _ => 1,
        }
    }
    if parts(data_type) <= MOST_FIXED_PARTS {
        return Ok(());
    }
    Err(too_wide(data_type))
}

/// The same for the lengths in an array type as written.
///
/// # Errors
/// UNSUPPORTED.
pub(crate) fn check_lengths(sql_type: &ast::DataType) -> Result<()> {
    let (mut parts, mut inner) = (1u64, sql_type);
    while let ast::DataType::Array(
        ArrayElemTypeDef::SquareBracket(item, _)
        | ArrayElemTypeDef::AngleBracket(item)
        | ArrayElemTypeDef::Parenthesis(item),
    ) = inner
    {
        if let ast::DataType::Array(ArrayElemTypeDef::SquareBracket(_, Some(length))) = inner {
            parts = parts.saturating_mul(*length);
        }
        inner = item;
    }
    if parts <= MOST_FIXED_PARTS {
        return Ok(());
    }
    Err(too_wide(sql_type))
}

/// Refuses a cast to a text with a length, which DataFusion would not obey.
///
/// # Errors
/// UNSUPPORTED.
pub(crate) fn check_text(sql_type: &ast::DataType) -> Result<()> {
    use ast::DataType as Sql;
    let is_bounded = match sql_type {
        Sql::Varchar(length)
        | Sql::CharacterVarying(length)
        | Sql::CharVarying(length)
        | Sql::Nvarchar(length)
        | Sql::Char(length)
        | Sql::Character(length) => length.is_some(),
        Sql::String(length) | Sql::Clob(length) | Sql::CharacterLargeObject(length) | Sql::CharLargeObject(length) => {
            length.is_some()
        }
        _ => false,
    };
    if is_bounded {
        let advice = "a cast does not shorten text; write TEXT, and left(…, n) to shorten it";
        return Err(refuse(sql_type, advice));
    }
    Ok(())
}

fn too_wide(data_type: &dyn std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::Unsupported,
        format!("a value of type {data_type} has more than {MOST_FIXED_PARTS} fixed parts of 8 bytes"),
    )
}

fn arrow_type(sql_type: &ast::DataType) -> Result<DataType> {
    use ast::DataType as Sql;
    Ok(match sql_type {
        Sql::Boolean | Sql::Bool => DataType::Boolean,

        Sql::TinyInt(None) => DataType::Int8,
        Sql::SmallInt(None) | Sql::Int2(None) | Sql::Int16 => DataType::Int16,
        Sql::Int(None) | Sql::Integer(None) | Sql::Int4(None) | Sql::Int32 => DataType::Int32,
        Sql::BigInt(None) | Sql::Int8(None) | Sql::Int64 => DataType::Int64,
        Sql::TinyIntUnsigned(None) | Sql::UTinyInt | Sql::UInt8 => DataType::UInt8,
        Sql::SmallIntUnsigned(None) | Sql::Int2Unsigned(None) | Sql::USmallInt | Sql::UInt16 => DataType::UInt16,
        Sql::IntUnsigned(None) | Sql::IntegerUnsigned(None) | Sql::Int4Unsigned(None) | Sql::UInt32 => DataType::UInt32,
        Sql::BigIntUnsigned(None) | Sql::Int8Unsigned(None) | Sql::UBigInt | Sql::UInt64 => DataType::UInt64,

        Sql::Real | Sql::Float4 | Sql::Float32 | Sql::Float(ExactNumberInfo::None) => DataType::Float32,
        Sql::Double(ExactNumberInfo::None) | Sql::DoublePrecision | Sql::Float8 | Sql::Float64 => DataType::Float64,
        // The standard's FLOAT(p) counts binary digits.
        Sql::Float(ExactNumberInfo::Precision(1..=24)) => DataType::Float32,
        Sql::Float(ExactNumberInfo::Precision(25..=53)) => DataType::Float64,
        Sql::Decimal(bounds) | Sql::Numeric(bounds) | Sql::Dec(bounds) => decimal(sql_type, bounds)?,

        Sql::Text
        | Sql::Varchar(None)
        | Sql::CharacterVarying(None)
        | Sql::CharVarying(None)
        | Sql::Nvarchar(None)
        | Sql::String(None)
        | Sql::Clob(None)
        | Sql::CharacterLargeObject(None)
        | Sql::CharLargeObject(None) => DataType::Utf8,
        Sql::Varchar(Some(_))
        | Sql::CharacterVarying(Some(_))
        | Sql::CharVarying(Some(_))
        | Sql::Nvarchar(Some(_))
        | Sql::String(Some(_))
        | Sql::Clob(Some(_))
        | Sql::CharacterLargeObject(Some(_))
        | Sql::CharLargeObject(Some(_))
        | Sql::Char(_)
        | Sql::Character(_)
        | Sql::FixedString(_)
        | Sql::TinyText
        | Sql::MediumText
        | Sql::LongText => return Err(refuse(sql_type, "the length of text is not bounded; write TEXT")),

        Sql::Bytea | Sql::Blob(None) | Sql::Binary(None) | Sql::Varbinary(None) | Sql::Bytes(None) => DataType::Binary,
        Sql::Binary(Some(length)) => match i32::try_from(*length) {
            Ok(length @ 1..) => DataType::FixedSizeBinary(length),
            _ => return Err(bounds(format!("{sql_type} has no such length"))),
        },
        Sql::Blob(Some(_))
        | Sql::Varbinary(Some(_))
        | Sql::Bytes(Some(_))
        | Sql::TinyBlob
        | Sql::MediumBlob
        | Sql::LongBlob => {
            return Err(refuse(
                sql_type,
                "the length of binary values is not bounded; write BYTEA, or BINARY(n) for exactly n bytes",
            ));
        }

        Sql::Date | Sql::Date32 => DataType::Date32,
        Sql::Time(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => match unit(sql_type, *precision)? {
            unit @ (TimeUnit::Second | TimeUnit::Millisecond) => DataType::Time32(unit),
            unit @ (TimeUnit::Microsecond | TimeUnit::Nanosecond) => DataType::Time64(unit),
        },
        Sql::Time(_, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            return Err(refuse(
                sql_type,
                "a time of day has no time zone; write TIME or TIMESTAMP WITH TIME ZONE",
            ));
        }
        Sql::Timestamp(precision, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone)
        | Sql::TimestampNtz(precision)
        | Sql::Datetime(precision) => DataType::Timestamp(unit(sql_type, *precision)?, None),
        Sql::Timestamp(precision, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => {
            DataType::Timestamp(unit(sql_type, *precision)?, Some(UTC.into()))
        }
        Sql::Interval {
            fields: None,
            precision: None,
        } => DataType::Interval(IntervalUnit::MonthDayNano),
        Sql::Interval {
            fields: Some(IntervalFields::YearToMonth),
            precision: None,
        } => DataType::Interval(IntervalUnit::YearMonth),
        Sql::Interval {
            fields: Some(IntervalFields::DayToSecond),
            precision: None,
        } => DataType::Interval(IntervalUnit::DayTime),
        Sql::Interval { .. } => return Err(refuse(sql_type, "write INTERVAL")),

        Sql::Array(
            ArrayElemTypeDef::AngleBracket(item)
            | ArrayElemTypeDef::Parenthesis(item)
            | ArrayElemTypeDef::SquareBracket(item, None),
        ) => DataType::List(self::item(item)?),
        Sql::Array(ArrayElemTypeDef::SquareBracket(item, Some(length))) => match i32::try_from(*length) {
            Ok(length @ 1..) => DataType::FixedSizeList(self::item(item)?, length),
            _ => return Err(bounds(format!("{sql_type} has no such length"))),
        },
        Sql::Array(ArrayElemTypeDef::None) => {
            return Err(refuse(sql_type, "write the type of the elements: INTEGER[]"));
        }
        Sql::Struct(fields, _) => structure(sql_type, fields)?,
        Sql::Map(key, value) => {
            let key = part("key", key, false)?;
            let value = part("value", value, true)?;
            let entries = Field::new("entries", DataType::Struct(Fields::from(vec![key, value])), false);
            DataType::Map(Arc::new(entries), false)
        }

        // These are more than an Arrow type: `typed` has them.
        Sql::Uuid => ExtensionType::Uuid.storage(),
        Sql::JSON => ExtensionType::Json.storage(),
        Sql::JSONB => return Err(refuse(sql_type, "write JSON")),

        Sql::TinyInt(Some(_))
        | Sql::SmallInt(Some(_))
        | Sql::Int2(Some(_))
        | Sql::Int(Some(_))
        | Sql::Integer(Some(_))
        | Sql::Int4(Some(_))
        | Sql::BigInt(Some(_))
        | Sql::Int8(Some(_))
        | Sql::TinyIntUnsigned(Some(_))
        | Sql::SmallIntUnsigned(Some(_))
        | Sql::Int2Unsigned(Some(_))
        | Sql::IntUnsigned(Some(_))
        | Sql::IntegerUnsigned(Some(_))
        | Sql::Int4Unsigned(Some(_))
        | Sql::BigIntUnsigned(Some(_))
        | Sql::Int8Unsigned(Some(_)) => return Err(refuse(sql_type, "a display width would be ignored; leave it out")),
        Sql::Int128 | Sql::Int256 | Sql::UInt128 | Sql::UInt256 | Sql::HugeInt | Sql::UHugeInt => {
            return Err(refuse(
                sql_type,
                "the widest integers have 64 bits; write DECIMAL(38, 0)",
            ));
        }
        Sql::Custom(name, modifiers) => custom(sql_type, name, modifiers)?,
        Sql::Table(_)
        | Sql::NamedTable { .. }
        | Sql::BigNumeric(_)
        | Sql::BigDecimal(_)
        | Sql::DecimalUnsigned(_)
        | Sql::DecUnsigned(_)
        | Sql::Float(_)
        | Sql::FloatUnsigned(_)
        | Sql::Double(_)
        | Sql::DoubleUnsigned(_)
        | Sql::DoublePrecisionUnsigned
        | Sql::RealUnsigned
        | Sql::MediumInt(_)
        | Sql::MediumIntUnsigned(_)
        | Sql::Signed
        | Sql::SignedInteger
        | Sql::Unsigned
        | Sql::UnsignedInteger
        | Sql::Datetime64(..)
        | Sql::Regclass
        | Sql::Bit(_)
        | Sql::BitVarying(_)
        | Sql::VarBit(_)
        | Sql::Tuple(_)
        | Sql::Nested(_)
        | Sql::Enum(..)
        | Sql::Set(_)
        | Sql::Union(_)
        | Sql::Nullable(_)
        | Sql::LowCardinality(_)
        | Sql::Unspecified
        | Sql::Trigger
        | Sql::AnyType
        | Sql::GeometricType(_)
        | Sql::TsVector
        | Sql::TsQuery => {
            return Err(Error::new(
                ErrorCode::Unsupported,
                format!("type {sql_type} is not supported"),
            ));
        }
    })
}

fn refuse(sql_type: &ast::DataType, advice: &str) -> Error {
    Error::new(
        ErrorCode::Unsupported,
        format!("type {sql_type} is not supported: {advice}"),
    )
}

fn bounds(message: String) -> Error {
    Error::new(ErrorCode::InvalidArgument, message)
}

/// Fractional digits of a second; microseconds if nothing is said.
fn unit(sql_type: &ast::DataType, precision: Option<u64>) -> Result<TimeUnit> {
    match precision {
        Some(0) => Ok(TimeUnit::Second),
        Some(3) => Ok(TimeUnit::Millisecond),
        None | Some(6) => Ok(TimeUnit::Microsecond),
        Some(9) => Ok(TimeUnit::Nanosecond),
        Some(other) => Err(bounds(format!(
            "{sql_type} is not supported: the precision may be 0, 3, 6 or 9 digits, not {other}"
        ))),
    }
}

/// Without bounds as DataFusion has it, so that a column and a CAST agree.
fn decimal(sql_type: &ast::DataType, given: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match *given {
        ExactNumberInfo::None => (u64::from(DECIMAL128_MAX_PRECISION), 10),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let precision = u8::try_from(precision)
        .ok()
        .filter(|precision| (1..=DECIMAL256_MAX_PRECISION).contains(precision));
    let Some(precision) = precision else {
        return Err(bounds(format!(
            "{sql_type} is not supported: the precision may be 1 to {DECIMAL256_MAX_PRECISION}"
        )));
    };
    let scale = i8::try_from(scale)
        .ok()
        .filter(|scale| (0..=precision.cast_signed()).contains(scale));
    let Some(scale) = scale else {
        return Err(bounds(format!(
            "{sql_type} is not supported: the scale may be 0 to the precision"
        )));
    };
    Ok(if precision <= DECIMAL128_MAX_PRECISION {
        DataType::Decimal128(precision, scale)
    } else {
        DataType::Decimal256(precision, scale)
    })
}

fn structure(sql_type: &ast::DataType, fields: &[ast::StructField]) -> Result<DataType> {
    let mut built: Vec<Field> = Vec::with_capacity(fields.len());
    for ast::StructField {
        field_name,
        field_type,
        options,
    } in fields
    {
        let (Some(name), None) = (field_name, options) else {
            return Err(refuse(sql_type, "each field is a name and a type"));
        };
        let name = folded(name);
        if built.iter().any(|field| *field.name() == name) {
            return Err(bounds(format!("{sql_type} has the field '{name}' twice")));
        }
        built.push(part(name, field_type, true)?);
    }
    if built.is_empty() {
        return Err(refuse(sql_type, "write the fields: STRUCT<a INTEGER, b TEXT>"));
    }
    Ok(DataType::Struct(built.into()))
}

/// Names that sqlparser has no type for.
fn custom(sql_type: &ast::DataType, name: &ast::ObjectName, modifiers: &[String]) -> Result<DataType> {
    const KNOWN: &[&str] = &[
        "BOOLEAN",
        "TINYINT",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "UTINYINT",
        "USMALLINT",
        "UINTEGER",
        "UBIGINT",
        "REAL",
        "DOUBLE",
        "FLOAT",
        "HALF",
        "DECIMAL",
        "NUMERIC",
        "TEXT",
        "VARCHAR",
        "STRING",
        "BYTEA",
        "BLOB",
        "BINARY",
        "UUID",
        "JSON",
        "DATE",
        "TIME",
        "TIMESTAMP",
        "TIMESTAMPTZ",
        "INTERVAL",
    ];
    let written = name.to_string().to_ascii_uppercase();
    if !modifiers.is_empty() {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!("type {sql_type} is not supported"),
        ));
    }
    Ok(match written.as_str() {
        "UINTEGER" | "UINT" => DataType::UInt32,
        "HALF" | "FLOAT2" | "FLOAT16" => DataType::Float16,
        "SERIAL" | "BIGSERIAL" | "SMALLSERIAL" => {
            return Err(refuse(sql_type, "write BIGINT DEFAULT SNOWFLAKE_ID()"));
        }
        _ => {
            let nearest = KNOWN
                .iter()
                .map(|known| (strsim::osa_distance(&written, known), *known))
                .min();
            let hint = match nearest {
                Some((distance, known)) if distance <= 2 => format!("; did you mean {known}?"),
                _ => String::new(),
            };
            return Err(Error::new(
                ErrorCode::InvalidStatement,
                format!("there is no type {name}{hint}"),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{column_of, type_name};
    use crate::statement::{Definition, Statement, parse};

    /// The column that CREATE TABLE makes of a type.
    fn column(sql_type: &str) -> Result<kalamdb_core::Column> {
        match parse(&format!("CREATE TABLE t (a {sql_type})"))? {
            Statement::Definition(Definition::CreateTable(table)) => {
                let column = table.columns.into_iter().next().expect("one column");
                let SqlType { data_type, metadata } = column.sql_type.expect("a type");
                Ok(column_of(
                    &Field::new(column.name, data_type, true).with_metadata(metadata),
                ))
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn types_are_stored_as_said_and_named_alike() {
        use DataType as T;
        let check = |sql_type: &str, expected: T| {
            let made = column(sql_type).expect(sql_type);
            assert_eq!(made.data_type, expected, "{sql_type}");
            let name = type_name(&made);
            let again = column(&name).expect(&name);
            assert_eq!(
                (again.data_type, again.metadata),
                (made.data_type, made.metadata),
                "{sql_type} is named {name}"
            );
        };
        check("BOOLEAN", T::Boolean);
        check("TINYINT", T::Int8);
        check("SMALLINT", T::Int16);
        check("INT", T::Int32);
        check("INTEGER", T::Int32);
        check("BIGINT", T::Int64);
        check("INT8", T::Int64);
        check("TINYINT UNSIGNED", T::UInt8);
        check("UTINYINT", T::UInt8);
        check("USMALLINT", T::UInt16);
        check("UINTEGER", T::UInt32);
        check("INT UNSIGNED", T::UInt32);
        check("UINT64", T::UInt64);
        check("REAL", T::Float32);
        check("FLOAT", T::Float32);
        check("FLOAT(53)", T::Float64);
        check("DOUBLE", T::Float64);
        check("DOUBLE PRECISION", T::Float64);
        check("DECIMAL(15, 2)", T::Decimal128(15, 2));
        check("NUMERIC(7)", T::Decimal128(7, 0));
        check("DECIMAL", T::Decimal128(38, 10));
        check("DECIMAL(50, 10)", T::Decimal256(50, 10));
        check("TEXT", T::Utf8);
        check("VARCHAR", T::Utf8);
        check("BYTEA", T::Binary);
        check("BLOB", T::Binary);
        check("DATE", T::Date32);
        check("TIME", T::Time64(TimeUnit::Microsecond));
        check("TIME(0)", T::Time32(TimeUnit::Second));
        check("TIMESTAMP", T::Timestamp(TimeUnit::Microsecond, None));
        check("TIMESTAMP(9)", T::Timestamp(TimeUnit::Nanosecond, None));
        check(
            "TIMESTAMP(3) WITH TIME ZONE",
            T::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
        );
        check("TIMESTAMPTZ", T::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
        check("INTERVAL", T::Interval(IntervalUnit::MonthDayNano));
        check("INTERVAL YEAR TO MONTH", T::Interval(IntervalUnit::YearMonth));
        check("INTERVAL DAY TO SECOND", T::Interval(IntervalUnit::DayTime));
        check("BINARY(4)", T::FixedSizeBinary(4));
        check("HALF", T::Float16);
        check("UUID", T::FixedSizeBinary(16));
        check("JSON", T::Utf8);
        let list = |item| T::List(Arc::new(Field::new_list_field(item, true)));
        check("INT[]", list(T::Int32));
        check("TEXT[][]", list(list(T::Utf8)));
        check("ARRAY<DOUBLE>", list(T::Float64));
        let fields = Fields::from(vec![
            Field::new("a", T::Int32, true),
            Field::new("b", list(T::Utf8), true),
        ]);
        check("STRUCT<A INT, b TEXT[]>", T::Struct(fields.clone()));
        check("STRUCT(a INT, B: TEXT[])", T::Struct(fields.clone()));
        check("STRUCT(a INT, b TEXT[])[]", list(T::Struct(fields.clone())));
        let three = |item| T::FixedSizeList(Arc::new(Field::new_list_field(item, true)), 3);
        check("INT[3]", three(T::Int32));
        check("STRUCT(a INT, b TEXT[])[][3]", three(list(T::Struct(fields.clone()))));
        let outer = |inner| {
            let quoted = Field::new("a \"b\"", inner, true);
            let upper = Field::new("C", T::Int8, true);
            T::Struct(Fields::from(vec![quoted, upper]))
        };
        check(
            "STRUCT(\"a \"\"b\"\"\" STRUCT<a INT, b TEXT[]>, \"C\" TINYINT)",
            outer(T::Struct(fields)),
        );
        let entries = Fields::from(vec![
            Field::new("key", T::Utf8, false),
            Field::new("value", T::Int64, true),
        ]);
        check(
            "MAP<TEXT, BIGINT>",
            T::Map(
                Arc::new(Field::new("entries", T::Struct(entries.clone()), false)),
                false,
            ),
        );
        check(
            "MAP(TEXT, BIGINT)[]",
            list(T::Map(
                Arc::new(Field::new("entries", T::Struct(entries), false)),
                false,
            )),
        );
    }

    #[test]
    fn what_would_not_be_obeyed_is_refused() {
        let check = |sql_type: &str, code: ErrorCode, part: &str| {
            let error = column(sql_type).expect_err(sql_type);
            assert_eq!(error.code, code, "{sql_type}: {error}");
            assert!(error.message.contains(part), "{sql_type}: {error}");
            assert_eq!(error.position.map(|at| at.column), Some(19), "{sql_type}: {error}");
        };
        check("VARCHAR(10)", ErrorCode::Unsupported, "write TEXT");
        check("CHAR(3)", ErrorCode::Unsupported, "write TEXT");
        check("INT(11)", ErrorCode::Unsupported, "display width");
        check("HUGEINT", ErrorCode::Unsupported, "DECIMAL(38, 0)");
        check("TIME WITH TIME ZONE", ErrorCode::Unsupported, "no time zone");
        check("TIMESTAMP(4)", ErrorCode::InvalidArgument, "0, 3, 6 or 9");
        check("DECIMAL(77, 1)", ErrorCode::InvalidArgument, "1 to 76");
        check("DECIMAL(5, 6)", ErrorCode::InvalidArgument, "scale");
        check("JSONB", ErrorCode::Unsupported, "write JSON");
        check("SERIAL", ErrorCode::Unsupported, "SNOWFLAKE_ID()");
        check("TEXTT", ErrorCode::InvalidStatement, "did you mean TEXT");
        check("BIT(3)", ErrorCode::Unsupported, "not supported");
        check("STRUCT<a STRUCT<b INT>>[]", ErrorCode::Unsupported, "in parentheses");
    }
}
