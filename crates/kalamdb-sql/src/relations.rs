//! Looks at each table, WITH query and derived table that a statement mentions while its text becomes a plan: it can double at each of
//! them, and has keys of tables alone.

use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::sql::sqlparser::ast::TableFactor;
use parking_lot::Mutex;

use crate::dependencies;
use crate::interruption::Interruption;
use crate::plan_size::PlanSize;

/// Plans relations as whoever comes after it, and counts what they add up to. One for each statement.
#[derive(Debug)]
pub(crate) struct CountedRelations {
    interruption: Interruption,
    so_far: Mutex<PlanSize>,
    /// Set while the relation that this hands on comes back, as it does to the first of all planners.
    handed_on: AtomicBool,
}

impl CountedRelations {
    pub(crate) fn new(interruption: &Interruption) -> Self {
        CountedRelations {
            interruption: interruption.clone(),
            so_far: Mutex::default(),
            handed_on: AtomicBool::new(false),
        }
    }

    /// For a text that is planned again.
    pub(crate) fn begin(&self) {
        *self.so_far.lock() = PlanSize::default();
        self.handed_on.store(false, Ordering::Relaxed);
    }
}

impl RelationPlanner for CountedRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        self.interruption
            .check()
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        let is_name = matches!(relation, TableFactor::Table { .. });
        let is_relation = is_name || matches!(relation, TableFactor::Derived { .. });
        if !is_relation || self.handed_on.swap(false, Ordering::Relaxed) {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        }
        self.handed_on.store(true, Ordering::Relaxed);
        let plan = dependencies::of_tables_alone(context.plan(relation)?)?;
        // What is not a name consists of names.
        if is_name {
            let so_far = {
                let mut so_far = self.so_far.lock();
                *so_far += PlanSize::of(&plan)?;
                *so_far
            };
            so_far.check()?;
        }
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}
