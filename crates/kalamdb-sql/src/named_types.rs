//! Types that a text names, as `arrow_cast(x, 'List(Int8)')` has them: arrow's parser and whatever walks a type go as deep as it is nested,
//! and a stack that ends takes the server with it. So the texts are bounded before they are parsed.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};
use kalamdb_core::{Error, ErrorCode};

/// Brackets within brackets. Readers of Arrow's messages take types of about so many levels.
const DEEPEST: usize = 50;

/// The functions whose second argument is a type.
const FUNCTIONS: [&str; 2] = ["arrow_cast", "arrow_try_cast"];

/// Puts the bounded ones in their places.
///
/// # Errors
/// When DataFusion has no such function any more.
pub(crate) fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for name in FUNCTIONS {
        let inner = registry.udf(name)?;
        registry.register_udf(Arc::new(ScalarUDF::from(Bounded { inner })))?;
    }
    Ok(())
}

/// One of them.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    /// Asked of every call before anything else is.
    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let named = args.scalar_arguments.get(1).copied().flatten();
        if let Some(text) = named.and_then(|value| value.try_as_str().flatten()) {
            check_depth(text)?;
        }
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.inner.invoke_with_args(args)
    }

    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.inner.simplify(args, info)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

fn check_depth(text: &str) -> Result<()> {
    let mut depth = 0_usize;
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            let message = format!("the type is nested too deeply; the limit is {DEEPEST} levels");
            return Err(DataFusionError::External(Box::new(Error::new(
                ErrorCode::Unsupported,
                message,
            ))));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Fixture;

    #[test]
    fn a_type_in_a_text_is_as_deep_as_it_may_be_and_no_deeper() {
        let fixture = Fixture::new();
        let nested = |depth: usize| format!("{}Int8{}", "List(".repeat(depth), ")".repeat(depth));
        for function in FUNCTIONS {
            fixture.check(&format!("SELECT {function}(NULL, '{}')", nested(DEEPEST)), &["NULL"]);
            for depth in [DEEPEST + 1, 100_000] {
                let sql = format!("SELECT {function}(NULL, '{}')", nested(depth));
                fixture.check_error(&sql, ErrorCode::Unsupported, None, "nested too deeply");
            }
            // Wide is not deep.
            let fields: Vec<String> = (0..200).map(|field| format!("\"f{field}\": List(Int8)")).collect();
            let sql = format!("SELECT {function}(NULL, 'Struct({})')", fields.join(", "));
            fixture.check(&sql, &["NULL"]);
        }
    }
}
