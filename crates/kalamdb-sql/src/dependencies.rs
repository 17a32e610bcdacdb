//! What an aggregate says of which of its columns the others follow from, forgotten.
//!
//! Problem: DataFusion 55 says of `GROUP BY f.cid, o.y` over a join that `f.cid` alone determines every column of the result, where
//! it is the key of one side of the join and `o.y` is of the other; so ORDER BY and GROUP BY above lose `o.y`, and DISTINCT goes as a
//! whole. Proper way: to ask whether the key's dependents cover what is grouped by. Chosen: the rules that rely on such sayings find
//! none, in any plan. What that costs is a shorter key of some sorts and groups, and a DISTINCT that changes nothing. Evidence:
//! `aggregate_functional_dependencies` in datafusion-common 55 `functional_dependencies.rs`, whose test for
//! `existing_target_indices == new_target_indices` leaves out columns that no dependency names.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, FunctionalDependencies};
use datafusion::error::Result;
use datafusion::logical_expr::{Distinct, LogicalPlan};
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};

/// The rules of DataFusion's optimizer that rely on them.
const RELYING: &[&str] = &[
    "eliminate_duplicated_expr",
    "eliminate_join",
    "optimize_projections",
    "replace_distinct_aggregate",
];

/// The rule; it comes before each of those.
#[derive(Debug)]
struct ForgetDependencies;

/// DataFusion's rules with this one among them.
pub(crate) fn before_relying(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let mut all: Vec<Arc<dyn OptimizerRule + Send + Sync>> = Vec::with_capacity(rules.len() + RELYING.len());
    for rule in rules {
        if RELYING.contains(&rule.name()) {
            all.push(Arc::new(ForgetDependencies));
        }
        all.push(rule);
    }
    all
}

impl OptimizerRule for ForgetDependencies {
    fn name(&self) -> &str {
        "forget_dependencies"
    }

    fn rewrite(&self, plan: LogicalPlan, _config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        plan.transform_up_with_subqueries(|mut plan| {
            let forgotten = match own_schema(&mut plan) {
                Some(schema) if !schema.functional_dependencies().is_empty() => {
                    *schema = Arc::new(without_dependencies(schema)?);
                    true
                }
                Some(_) | None => false,
            };
            Ok(Transformed::new_transformed(plan, forgotten))
        })
    }
}

/// A relation of FROM without what follows from what in it, unless it is a table: what DataFusion says of others is wrong in the same
/// cases, and its planner groups by more than GROUP BY names where it believes it.
///
/// # Errors
/// None for a plan that is valid.
pub(crate) fn of_tables_alone(mut plan: LogicalPlan) -> Result<LogicalPlan> {
    if is_of_a_table(&plan) {
        return Ok(plan);
    }
    let has_inner = match own_schema(&mut plan) {
        Some(schema) => {
            *schema = Arc::new(without_dependencies(schema)?);
            matches!(plan, LogicalPlan::SubqueryAlias(_))
        }
        None => true,
    };
    match has_inner {
        true => plan
            .map_children(|input| of_tables_alone(input).map(Transformed::yes))
            .map(|plan| plan.data),
        false => Ok(plan),
    }
}

/// Whether the rows are those of a table, or some of them.
fn is_of_a_table(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::TableScan(_) => true,
        LogicalPlan::SubqueryAlias(alias) => is_of_a_table(&alias.input),
        LogicalPlan::Projection(projection) => is_of_a_table(&projection.input),
        LogicalPlan::Filter(filter) => is_of_a_table(&filter.input),
        LogicalPlan::Sort(sort) => is_of_a_table(&sort.input),
        LogicalPlan::Limit(limit) => is_of_a_table(&limit.input),
        _ => false,
    }
}

fn without_dependencies(schema: &DFSchema) -> Result<DFSchema> {
    schema
        .clone()
        .with_functional_dependencies(FunctionalDependencies::empty())
}

/// The schema of a plan that has one besides those of its inputs.
fn own_schema(plan: &mut LogicalPlan) -> Option<&mut DFSchemaRef> {
    match plan {
        LogicalPlan::Projection(plan) => Some(&mut plan.schema),
        LogicalPlan::Window(plan) => Some(&mut plan.schema),
        LogicalPlan::Aggregate(plan) => Some(&mut plan.schema),
        LogicalPlan::Join(plan) => Some(&mut plan.schema),
        LogicalPlan::Union(plan) => Some(&mut plan.schema),
        LogicalPlan::TableScan(plan) => Some(&mut plan.projected_schema),
        LogicalPlan::EmptyRelation(plan) => Some(&mut plan.schema),
        LogicalPlan::SubqueryAlias(plan) => Some(&mut plan.schema),
        LogicalPlan::RecursiveQuery(plan) => Some(&mut plan.schema),
        LogicalPlan::Values(plan) => Some(&mut plan.schema),
        LogicalPlan::Unnest(plan) => Some(&mut plan.schema),
        LogicalPlan::Distinct(Distinct::On(plan)) => Some(&mut plan.schema),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kalamdb_core::ErrorCode;

    use crate::testing::Fixture;

    fn fixture() -> Fixture {
        let fixture = Fixture::new();
        fixture.run(&[
            "CREATE TABLE oc (id INT PRIMARY KEY, name TEXT)",
            "CREATE TABLE oo (id INT PRIMARY KEY, cid INT, y INT, amt INT)",
            "INSERT INTO oc VALUES (1, 'a'), (2, 'b')",
            "INSERT INTO oo SELECT g::INT, (g % 2 + 1)::INT, (2030 - g % 7)::INT, g::INT FROM generate_series(1, 40) AS t(g)",
        ]);
        fixture
    }

    #[test]
    fn a_grouped_side_of_a_join_does_not_determine_the_other() {
        let fixture = fixture();
        let grouped = "(SELECT cid, min(y) AS m FROM oo GROUP BY cid) f ON f.cid = o.cid";
        fixture.check(
            &format!(
                "SELECT f.cid, o.y, count(*) FROM oo o JOIN {grouped} GROUP BY f.cid, o.y ORDER BY f.cid, o.y LIMIT 4"
            ),
            &["1|2024|3", "1|2025|3", "1|2026|3", "1|2027|3"],
        );
        fixture.check(
            &format!("SELECT DISTINCT f.cid, o.y FROM oo o JOIN {grouped} ORDER BY 1, 2 DESC LIMIT 3"),
            &["1|2030", "1|2029", "1|2028"],
        );
        fixture.check(
            &format!(
                "SELECT count(*) FROM (SELECT DISTINCT cid FROM (SELECT f.cid, o.y FROM oo o JOIN {grouped} GROUP BY f.cid, o.y) q)"
            ),
            &["2"],
        );
    }

    #[test]
    fn nor_does_a_primary_key() {
        let fixture = fixture();
        fixture.check(
            "SELECT c.id, c.name, o.y, sum(o.amt) FROM oc c JOIN oo o ON o.cid = c.id GROUP BY c.id, o.y \
             ORDER BY c.id, sum(o.amt) DESC LIMIT 3",
            &["1|a|2025|78", "1|a|2027|72", "1|a|2029|66"],
        );
        fixture.check(
            "SELECT count(*), sum(n) FROM (SELECT q.id, q.y, count(*) AS n FROM (SELECT c.id, c.name, o.y, count(*) AS n FROM oc c \
             JOIN oo o ON o.cid = c.id GROUP BY c.id, o.y) q GROUP BY q.id, q.y)",
            &["14|14"],
        );
        fixture.check(
            "SELECT q.id, count(*) FROM oc JOIN (SELECT c.id, o.y FROM oc c JOIN oo o ON o.cid = c.id GROUP BY c.id, o.y) q \
             ON oc.id = q.id GROUP BY q.id ORDER BY q.id",
            &["1|7", "2|7"],
        );
    }

    #[test]
    fn a_derived_table_has_no_key() {
        let fixture = fixture();
        let grouped = "SELECT c.id, o.y FROM oc c JOIN oo o ON o.cid = c.id GROUP BY c.id, o.y";
        let joined = "SELECT f.cid AS id, o.y FROM oo o JOIN (SELECT cid, min(y) AS m FROM oo GROUP BY cid) f ON f.cid = o.cid \
                      GROUP BY f.cid, o.y";
        fixture.run(&[&format!("CREATE VIEW grouped AS {joined}")]);
        for (with, from) in [
            (String::new(), format!("({grouped}) AS q")),
            (String::new(), format!("({joined}) AS q")),
            (
                String::new(),
                format!("(SELECT * FROM ({joined}) AS r ORDER BY y LIMIT 100) AS q"),
            ),
            (String::new(), "grouped AS q".to_owned()),
            (format!("WITH q AS ({joined}) "), "q".to_owned()),
            (
                String::new(),
                format!("oc JOIN LATERAL (SELECT r.* FROM ({joined}) AS r WHERE r.id = oc.id) AS q ON true"),
            ),
        ] {
            fixture.check(
                &format!("{with}SELECT q.id, count(*) FROM {from} GROUP BY q.id ORDER BY q.id"),
                &["1|7", "2|7"],
            );
            let sql = format!("{with}SELECT q.id, q.y, count(*) FROM {from} GROUP BY q.id");
            fixture.check_error_part(&sql, ErrorCode::InvalidStatement, "GROUP BY");
        }
        // A table's key is one still, beside them and in them.
        fixture.check(
            &format!("SELECT oc.id, oc.name, count(*) FROM oc JOIN ({grouped}) AS q ON q.id = oc.id GROUP BY oc.id ORDER BY oc.id"),
            &["1|a|7", "2|b|7"],
        );
        fixture.check(
            "SELECT q.id, q.n FROM (SELECT oc.id, oc.name AS n FROM oc JOIN oo ON oo.cid = oc.id GROUP BY oc.id) AS q ORDER BY 1",
            &["1|a", "2|b"],
        );
    }
}
