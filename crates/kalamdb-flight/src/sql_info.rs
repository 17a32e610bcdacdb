//! What GetSqlInfo says of this server: every standard code, each in the union child that the protocol and its clients expect
//! (names are strings, abilities booleans, limits and the default isolation bigints, ordinals and bit masks int32).

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{
    SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedResultSetConcurrency, SqlSupportedResultSetType, SqlSupportedSubqueries, SqlSupportedTransaction,
    SqlSupportedUnions, SqlSupportsConvert, SqlTransactionIsolationLevel, SupportedSqlGrammar,
};
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::DatabaseOptions;

use crate::prepared::IDLE_LIMIT_MS;

/// No limit, or none that could be stated.
const UNLIMITED: i64 = 0;

/// The words that KalamDB adds to those of standard SQL.
const KEYWORDS: [&str; 20] = [
    "ACCESS_LEVEL",
    "COMPACT",
    "CONFLICT",
    "DESCRIBE",
    "EXPLAIN",
    "FLUSH",
    "ILIKE",
    "JOBS",
    "KILL",
    "LIMIT",
    "NAMESPACE",
    "NAMESPACES",
    "OFFSET",
    "POLICY",
    "QUALIFY",
    "SHARED",
    "STORAGE",
    "STREAM",
    "TTL_SECONDS",
    "USE",
];

const NUMERIC_FUNCTIONS: [&str; 37] = [
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "isnan",
    "iszero",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "nanvl",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "trunc",
];

const STRING_FUNCTIONS: [&str; 35] = [
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "chr",
    "concat",
    "concat_ws",
    "contains",
    "ends_with",
    "find_in_set",
    "initcap",
    "left",
    "length",
    "levenshtein",
    "lower",
    "lpad",
    "ltrim",
    "md5",
    "octet_length",
    "position",
    "regexp_like",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "sha256",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "translate",
    "upper",
];

const SYSTEM_FUNCTIONS: [&str; 10] = [
    "arrow_typeof",
    "coalesce",
    "current_role",
    "current_user",
    "greatest",
    "least",
    "nullif",
    "snowflake_id",
    "ulid",
    "uuid_v7",
];

const DATETIME_FUNCTIONS: [&str; 14] = [
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "extract",
    "from_unixtime",
    "make_date",
    "now",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_timestamp_millis",
    "to_unixtime",
];

/// The answers, built once.
pub(crate) struct SqlInfoTable {
    data: SqlInfoData,
}

impl SqlInfoTable {
    /// The answers of a server with these limits.
    ///
    /// # Errors
    /// INTERNAL, if Arrow cannot build the table.
    pub(crate) fn new(options: &DatabaseOptions) -> Result<Self> {
        let mut builder = SqlInfoDataBuilder::new();
        append_server(&mut builder);
        append_language(&mut builder);
        append_names(&mut builder);
        append_limits(&mut builder, options);
        append_transactions(&mut builder);
        append_result_sets(&mut builder);
        Ok(SqlInfoTable {
            data: builder.build().map_err(internal)?,
        })
    }

    /// The answers of these codes, all of them for an empty list. A code that the protocol does not know has no row.
    ///
    /// # Errors
    /// INTERNAL.
    pub(crate) fn rows(&self, codes: &[u32]) -> Result<RecordBatch> {
        self.data.record_batch(codes.iter().copied()).map_err(internal)
    }
}

fn append_server(builder: &mut SqlInfoDataBuilder) {
    builder.append(SqlInfo::FlightSqlServerName, "KalamDB");
    builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    builder.append(SqlInfo::FlightSqlServerArrowVersion, arrow::ARROW_VERSION);
    builder.append(SqlInfo::FlightSqlServerReadOnly, false);
    builder.append(SqlInfo::FlightSqlServerSql, true);
    builder.append(SqlInfo::FlightSqlServerSubstrait, false);
    builder.append(SqlInfo::FlightSqlServerSubstraitMinVersion, "");
    builder.append(SqlInfo::FlightSqlServerSubstraitMaxVersion, "");
    builder.append(
        SqlInfo::FlightSqlServerTransaction,
        SqlSupportedTransaction::None as i32,
    );
    builder.append(SqlInfo::FlightSqlServerCancel, true);
    builder.append(SqlInfo::FlightSqlServerBulkIngestion, true);
    builder.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    builder.append(SqlInfo::FlightSqlServerStatementTimeout, IDLE_LIMIT_MS);
    builder.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
}

fn append_language(builder: &mut SqlInfoDataBuilder) {
    builder.append(SqlInfo::SqlDdlCatalog, false);
    builder.append(SqlInfo::SqlDdlSchema, true);
    builder.append(SqlInfo::SqlDdlTable, true);
    builder.append(SqlInfo::SqlAllTablesAreSelectable, true);
    // NULLs come last ascending and first descending.
    builder.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    builder.append(SqlInfo::SqlKeywords, &KEYWORDS[..]);
    builder.append(SqlInfo::SqlNumericFunctions, &NUMERIC_FUNCTIONS[..]);
    builder.append(SqlInfo::SqlStringFunctions, &STRING_FUNCTIONS[..]);
    builder.append(SqlInfo::SqlSystemFunctions, &SYSTEM_FUNCTIONS[..]);
    builder.append(SqlInfo::SqlDatetimeFunctions, &DATETIME_FUNCTIONS[..]);
    builder.append(SqlInfo::SqlSupportsColumnAliasing, true);
    builder.append(SqlInfo::SqlNullPlusNullIsNull, true);
    builder.append(SqlInfo::SqlSupportsConvert, conversions());
    builder.append(SqlInfo::SqlSupportsTableCorrelationNames, true);
    builder.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    builder.append(SqlInfo::SqlSupportsExpressionsInOrderBy, true);
    builder.append(SqlInfo::SqlSupportsOrderByUnrelated, true);
    builder.append(
        SqlInfo::SqlSupportedGroupBy,
        bits(&[
            SqlSupportedGroupBy::SqlGroupByUnrelated as i32,
            SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32,
        ]),
    );
    // LIKE knows `\` and no other escape.
    builder.append(SqlInfo::SqlSupportsLikeEscapeClause, false);
    builder.append(SqlInfo::SqlSupportsNonNullableColumns, true);
    builder.append(
        SqlInfo::SqlSupportedGrammar,
        bits(&[
            SupportedSqlGrammar::SqlMinimumGrammar as i32,
            SupportedSqlGrammar::SqlCoreGrammar as i32,
        ]),
    );
    // Entry level, whose enum arrow-flight does not export: its ordinal is 0.
    builder.append(SqlInfo::SqlAnsi92SupportedLevel, bits(&[0]));
    builder.append(SqlInfo::SqlSupportsIntegrityEnhancementFacility, false);
    // Documented as an ordinal, read as bits by the JDBC driver.
    builder.append(
        SqlInfo::SqlOuterJoinsSupportLevel,
        bits(&[
            SqlOuterJoinsSupportLevel::SqlLimitedOuterJoins as i32,
            SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32,
        ]),
    );
    builder.append(SqlInfo::SqlSupportedPositionedCommands, bits(&[]));
    builder.append(SqlInfo::SqlSelectForUpdateSupported, false);
    builder.append(SqlInfo::SqlStoredProceduresSupported, false);
    builder.append(
        SqlInfo::SqlSupportedSubqueries,
        bits(&[
            SqlSupportedSubqueries::SqlSubqueriesInComparisons as i32,
            SqlSupportedSubqueries::SqlSubqueriesInExists as i32,
            SqlSupportedSubqueries::SqlSubqueriesInIns as i32,
        ]),
    );
    builder.append(SqlInfo::SqlCorrelatedSubqueriesSupported, true);
    builder.append(
        SqlInfo::SqlSupportedUnions,
        bits(&[
            SqlSupportedUnions::SqlUnion as i32,
            SqlSupportedUnions::SqlUnionAll as i32,
        ]),
    );
}

fn append_names(builder: &mut SqlInfoDataBuilder) {
    builder.append(
        SqlInfo::SqlIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32,
    );
    builder.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    // Quoted names keep their case, for which the protocol has no word.
    builder.append(
        SqlInfo::SqlQuotedIdentifierCase,
        SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32,
    );
    builder.append(SqlInfo::SqlSearchStringEscape, "\\");
    builder.append(SqlInfo::SqlExtraNameCharacters, "");
    builder.append(SqlInfo::SqlSchemaTerm, "namespace");
    builder.append(SqlInfo::SqlProcedureTerm, "");
    builder.append(SqlInfo::SqlCatalogTerm, "catalog");
    builder.append(SqlInfo::SqlCatalogAtStart, true);
    builder.append(SqlInfo::SqlSchemasSupportedActions, bits(&[]));
    builder.append(SqlInfo::SqlCatalogsSupportedActions, bits(&[]));
}

fn append_limits(builder: &mut SqlInfoDataBuilder, options: &DatabaseOptions) {
    let limit = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
    for code in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        builder.append(code, UNLIMITED);
    }
    builder.append(SqlInfo::SqlMaxConnections, limit(options.max_sessions));
    builder.append(SqlInfo::SqlMaxRowSizeIncludesBlobs, true);
    builder.append(
        SqlInfo::SqlMaxStatementLength,
        limit(options.statement_text_limit_bytes),
    );
    builder.append(SqlInfo::SqlMaxStatements, limit(options.max_queries_per_user));
}

fn append_transactions(builder: &mut SqlInfoDataBuilder) {
    let none = SqlTransactionIsolationLevel::SqlTransactionNone;
    builder.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(none as i32));
    builder.append(SqlInfo::SqlTransactionsSupported, false);
    builder.append(SqlInfo::SqlSupportedTransactionsIsolationLevels, bits(&[none as i32]));
    builder.append(SqlInfo::SqlDataDefinitionCausesTransactionCommit, false);
    builder.append(SqlInfo::SqlDataDefinitionsInTransactionsIgnored, false);
    builder.append(SqlInfo::SqlBatchUpdatesSupported, true);
    builder.append(SqlInfo::SqlSavepointsSupported, false);
    builder.append(SqlInfo::SqlNamedParametersSupported, false);
    builder.append(SqlInfo::SqlLocatorsUpdateCopy, false);
    builder.append(SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported, false);
}

fn append_result_sets(builder: &mut SqlInfoDataBuilder) {
    let read_only = bits(&[SqlSupportedResultSetConcurrency::SqlResultSetConcurrencyReadOnly as i32]);
    builder.append(
        SqlInfo::SqlSupportedResultSetTypes,
        bits(&[SqlSupportedResultSetType::SqlResultSetTypeForwardOnly as i32]),
    );
    builder.append(SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified, bits(&[]));
    builder.append(SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly, read_only);
    builder.append(SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive, bits(&[]));
    builder.append(
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
        bits(&[]),
    );
}

/// CAST: numbers among themselves, all of those and moments to text, and text to all.
fn conversions() -> BTreeMap<i32, Vec<i32>> {
    use SqlSupportsConvert as To;
    let numbers = [
        To::SqlConvertTinyint,
        To::SqlConvertSmallint,
        To::SqlConvertInteger,
        To::SqlConvertBigint,
        To::SqlConvertReal,
        To::SqlConvertFloat,
        To::SqlConvertDecimal,
        To::SqlConvertNumeric,
    ];
    let moments = [To::SqlConvertDate, To::SqlConvertTime, To::SqlConvertTimestamp];
    let sorted = |targets: &[&[To]]| {
        let mut codes: Vec<i32> = targets
            .iter()
            .flat_map(|targets| targets.iter())
            .map(|&target| target as i32)
            .collect();
        codes.sort_unstable();
        codes
    };
    let mut conversions = BTreeMap::new();
    for number in numbers {
        conversions.insert(
            number as i32,
            sorted(&[&numbers, &[To::SqlConvertVarchar, To::SqlConvertBit]]),
        );
    }
    conversions.insert(To::SqlConvertBit as i32, sorted(&[&numbers, &[To::SqlConvertVarchar]]));
    conversions.insert(
        To::SqlConvertDate as i32,
        sorted(&[&[To::SqlConvertTimestamp, To::SqlConvertVarchar]]),
    );
    conversions.insert(To::SqlConvertTime as i32, sorted(&[&[To::SqlConvertVarchar]]));
    conversions.insert(
        To::SqlConvertTimestamp as i32,
        sorted(&[&moments, &[To::SqlConvertVarchar]]),
    );
    conversions.insert(
        To::SqlConvertVarchar as i32,
        sorted(&[&numbers, &moments, &[To::SqlConvertBit, To::SqlConvertVarbinary]]),
    );
    conversions
}

/// A bit per ordinal.
fn bits(ordinals: &[i32]) -> i32 {
    ordinals.iter().fold(0, |mask, ordinal| mask | 1 << ordinal)
}

fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorCode::Internal,
        format!("the SqlInfo table could not be built: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, UnionArray};
    use arrow::datatypes::UInt32Type;

    const STRING: i8 = 0;
    const BOOL: i8 = 1;
    const BIGINT: i8 = 2;
    const INT32: i8 = 3;
    const LIST: i8 = 4;
    const MAP: i8 = 5;

    fn table() -> SqlInfoTable {
        SqlInfoTable::new(&DatabaseOptions {
            memory_limit_bytes: 0,
            spill_dir: "spill".into(),
            statement_timeout_ms: 0,
            max_queries_per_user: 16,
            passwords_at_once: 1,
            max_sessions: 1_000,
            session_idle_seconds: 1_800,
            statement_text_limit_bytes: 16 << 20,
            batch_rows: 8_192,
            query_history: 0,
            settings: Vec::new(),
        })
        .expect("builds")
    }

    fn children(rows: &RecordBatch) -> Vec<(u32, i8)> {
        let codes = rows.column(0).as_primitive::<UInt32Type>();
        let values: &UnionArray = rows.column(1).as_union();
        (0..rows.num_rows())
            .map(|row| (codes.value(row), values.type_id(row)))
            .collect()
    }

    #[test]
    fn every_standard_code_is_there_in_its_child() {
        let mut expected: Vec<(u32, i8)> = Vec::new();
        let mut expect = |codes: &[std::ops::RangeInclusive<u32>], child| {
            expected.extend(codes.iter().cloned().flatten().map(|code| (code, child)));
        };
        expect(&[0..=2, 6..=7, 504..=504, 513..=514, 529..=531], STRING);
        expect(
            &[
                3..=5,
                9..=11,
                500..=502,
                506..=506,
                515..=516,
                518..=521,
                523..=524,
                527..=527,
                532..=532,
            ],
            BOOL,
        );
        expect(
            &[536..=537, 539..=539, 556..=556, 563..=563, 565..=566, 572..=576],
            BOOL,
        );
        expect(&[541..=555, 557..=562], BIGINT);
        expect(
            &[
                8..=8,
                100..=101,
                503..=503,
                505..=505,
                507..=507,
                522..=522,
                525..=526,
                528..=528,
            ],
            INT32,
        );
        expect(&[533..=535, 538..=538, 540..=540, 564..=564, 567..=571], INT32);
        expect(&[508..=512], LIST);
        expect(&[517..=517], MAP);
        expected.sort_unstable();
        let all: Vec<u32> = (0..=11).chain(100..=101).chain(500..=576).collect();
        assert_eq!(
            expected.iter().map(|(code, _)| *code).collect::<Vec<_>>(),
            all,
            "the test names every code once"
        );
        assert_eq!(children(&table().rows(&[]).expect("all")), expected);
    }

    #[test]
    fn codes_are_filtered_and_unknown_ones_have_no_row() {
        let check = |codes: &[u32], expected: &[(u32, i8)]| {
            assert_eq!(children(&table().rows(codes).expect("rows")), expected);
        };
        check(&[8], &[(8, INT32)]);
        check(&[504, 0, 3], &[(0, STRING), (3, BOOL), (504, STRING)]);
        check(&[9_999], &[]);
    }

    #[test]
    fn the_schema_is_the_one_promised() {
        assert_eq!(
            table().rows(&[0]).expect("rows").schema().as_ref(),
            SqlInfoDataBuilder::schema()
        );
    }
}
