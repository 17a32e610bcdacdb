//! Functions that are another's under a second name, written as that one.
//!
//! Problem: DataFusion 55 has `nvl` and `ifnull` beside `coalesce`, with another choice of types: DECIMALs become doubles, dates and lists
//! texts. Evidence: `Signature::uniform` over `SUPPORTED_NVL_TYPES` in datafusion-functions 55 `core/nvl.rs`.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{self, VisitMut, VisitorMut};
use kalamdb_core::Error;

use crate::names::folded;
use crate::tree::walk_mut;

/// They take two arguments, where `coalesce` takes any number.
const OF_COALESCE: [&str; 2] = ["nvl", "ifnull"];

/// Calls each by its first name.
pub(crate) fn settle(node: &mut impl VisitMut) {
    struct SecondNames;
    impl VisitorMut for SecondNames {
        type Break = Error;

        fn post_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<Error> {
            if let ast::Expr::Function(call) = expr
                && let [ast::ObjectNamePart::Identifier(name)] = call.name.0.as_mut_slice()
                && OF_COALESCE.contains(&folded(name).as_str())
                && let ast::FunctionArguments::List(list) = &call.args
                && list.args.len() == 2
            {
                name.value = "coalesce".to_owned();
            }
            ControlFlow::Continue(())
        }
    }
    walk_mut(node, &mut SecondNames).expect("this visitor does not break");
}

#[cfg(test)]
mod tests {
    use crate::testing::Fixture;

    #[test]
    fn values_keep_their_types() {
        let fixture = Fixture::new();
        fixture.check(
            "SELECT nvl(12345678901234567890.0123456789::DECIMAL(38,10), 0::DECIMAL(38,10)), \
             ifnull(X'ff00', X'00'), arrow_typeof(NVL(DATE '2024-01-01', DATE '2024-01-02')), nvl(NULL, ARRAY[1, 2])",
            &["12345678901234567890.0123456789|ff00|Date32|[1, 2]"],
        );
        fixture.check("SELECT nvl(NULL, 'a') AS x, nvl2(1, 'b', 'c')", &["a|b"]);
    }
}
