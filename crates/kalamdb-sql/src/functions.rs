//! Functions beside DataFusion's: SNOWFLAKE_ID, UUID_V7, ULID, CURRENT_USER, CURRENT_ROLE; and those taken away.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::DataType;
use datafusion::common::{Result as DataFusionResult, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionContext;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use kalamdb_core::{Engine, Principal};

use crate::identifiers;
use crate::patterns::PatternFunction;
use crate::quantified::Quantified;
use crate::time_zones::AtTimeZone;
use crate::told_casts::ToldCast;

/// DataFusion's functions that say something of the server's host.
const HOST_FUNCTIONS: &[&str] = &["version"];

/// Registers them for one statement of `principal` at a time taken from the statement's view.
pub(crate) fn register(context: &SessionContext, engine: &Arc<Engine>, principal: &Principal) {
    for name in HOST_FUNCTIONS {
        context.deregister_udf(name);
    }
    for kind in [IdentifierKind::Snowflake, IdentifierKind::UuidV7, IdentifierKind::Ulid] {
        context.register_udf(ScalarUDF::from(IdentifierFunction::new(kind, engine)));
    }
    context.register_udf(AtTimeZone::strict());
    for function in PatternFunction::all() {
        context.register_udf(ScalarUDF::from(function));
    }
    context.register_udf(ScalarUDF::from(ToldCast::new()));
    for function in Quantified::all() {
        context.register_udf(ScalarUDF::from(function));
    }
    let user = PrincipalFunction::new("current_user", &["session_user"], &principal.user_id);
    let role = PrincipalFunction::new("current_role", &[], principal.role.as_str());
    context.register_udf(ScalarUDF::from(user));
    context.register_udf(ScalarUDF::from(role));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum IdentifierKind {
    Snowflake,
    UuidV7,
    Ulid,
}

/// A function that gives each row a new identifier, larger than all before.
struct IdentifierFunction {
    kind: IdentifierKind,
    engine: Arc<Engine>,
    signature: Signature,
}

impl fmt::Debug for IdentifierFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IdentifierFunction").field(&self.kind).finish()
    }
}

impl IdentifierFunction {
    fn new(kind: IdentifierKind, engine: &Arc<Engine>) -> Self {
        IdentifierFunction {
            kind,
            engine: Arc::clone(engine),
            signature: Signature::nullary(Volatility::Volatile),
        }
    }
}

// All functions of one kind draw from one sequence, whichever clock they read.
impl PartialEq for IdentifierFunction {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for IdentifierFunction {}

impl Hash for IdentifierFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

impl ScalarUDFImpl for IdentifierFunction {
    fn name(&self) -> &str {
        match self.kind {
            IdentifierKind::Snowflake => "snowflake_id",
            IdentifierKind::UuidV7 => "uuid_v7",
            IdentifierKind::Ulid => "ulid",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(match self.kind {
            IdentifierKind::Snowflake => DataType::Int64,
            IdentifierKind::UuidV7 | IdentifierKind::Ulid => DataType::Utf8,
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let (clock, rows) = (self.engine.clock().as_ref(), args.number_rows);
        let array: ArrayRef = match self.kind {
            IdentifierKind::Snowflake => {
                let floor_micros = self.engine.identifier_floor_micros();
                let snowflakes = identifiers::snowflakes(clock, floor_micros, rows);
                let latest = identifiers::latest_snowflake_micros();
                let covered = latest.map_or(Ok(()), |latest| self.engine.cover_identifiers(latest));
                covered.map_err(|error| DataFusionError::External(Box::new(error)))?;
                Arc::new(Int64Array::from(snowflakes))
            }
            IdentifierKind::UuidV7 => Arc::new(StringArray::from_iter_values(identifiers::uuids_v7(clock, rows))),
            IdentifierKind::Ulid => Arc::new(StringArray::from_iter_values(identifiers::ulids(clock, rows))),
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// A function of the statement's principal.
#[derive(Debug, PartialEq, Eq, Hash)]
struct PrincipalFunction {
    name: &'static str,
    aliases: Vec<String>,
    value: String,
    signature: Signature,
}

impl PrincipalFunction {
    fn new(name: &'static str, aliases: &[&str], value: &str) -> Self {
        let aliases = aliases.iter().map(|alias| (*alias).to_string()).collect();
        PrincipalFunction {
            name,
            aliases,
            value: value.to_string(),
            signature: Signature::nullary(Volatility::Stable),
        }
    }
}

impl ScalarUDFImpl for PrincipalFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, _args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(Some(self.value.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::parameters::Parameters;
    use crate::testing::Fixture;

    #[test]
    fn identifiers_increase_within_a_statement_and_after_it() {
        let fixture = Fixture::new();
        for function in ["snowflake_id()", "uuid_v7()", "ULID()"] {
            let few = fixture.rows(&format!("SELECT {function} FROM generate_series(1, 5000)"));
            assert!(few.is_sorted(), "{function}: one batch's rows are in order");
            // Many rows are made in parallel, and come in no order.
            let sorted = |sql: &str| {
                let mut rows = fixture.rows(sql);
                rows.sort();
                rows.dedup();
                assert_eq!(rows.len(), 20_000, "{function}: none twice");
                rows
            };
            let many = format!("SELECT {function} FROM generate_series(1, 20000)");
            let (first, second) = (sorted(&many), sorted(&many));
            assert!(
                few.last() < first.first() && first.last() < second.first(),
                "{function}: later is larger"
            );
        }
    }

    #[test]
    fn everyone_learns_who_they_are_and_nothing_of_the_host() {
        let fixture = Fixture::new();
        fixture.run(&["CREATE USER 'ann' ROLE service"]);
        let ann = fixture.session("ann");
        let sql = "SELECT current_user, CURRENT_USER() AS b, \"current_role\"() AS c, CURRENT_ROLE, session_user AS d";
        assert_eq!(
            fixture.rows_as(&ann, sql, Parameters::none()),
            ["ann|ann|service|service|ann"]
        );
        fixture.check(sql, &["root|root|system|system|root"]);
        fixture.check(
            "SELECT user_id FROM system.users WHERE user_id = CURRENT_USER",
            &["root"],
        );
        let error = fixture
            .execute_as(&ann, "SELECT version()", Parameters::none())
            .expect_err("it is taken away");
        assert_eq!(error.code, ErrorCode::InvalidStatement, "{error}");
    }
}
