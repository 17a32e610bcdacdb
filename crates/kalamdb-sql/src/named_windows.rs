//! Windows by name: `OVER w`, `OVER (w ORDER BY …)` and `WINDOW v AS (w …)` get what the WINDOW clause says of `w`.
//!
//! Problem: DataFusion 55 finds the names in the select list alone, and passes over one in parentheses, so that a PARTITION BY is lost.
//! Proper way: every mention is looked up. Chosen: that, on the statement's tree, by PostgreSQL's rules. Evidence:
//! `match_window_definitions` in datafusion-sql 55's `select.rs`, which never reads `WindowSpec::window_name`.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, SetExpr, Visit, VisitMut, Visitor, VisitorMut,
    WindowSpec, WindowType,
};
use kalamdb_core::{Error, ErrorCode, Result};

use crate::names::{folded, placed, position, suggestion};
use crate::tree::{walk, walk_mut};

/// Writes named windows out wherever they are mentioned.
///
/// # Errors
/// INVALID_STATEMENT for a name that is not defined, or is defined twice, and for clauses that a window has already.
pub(crate) fn resolve(node: &mut (impl Visit + VisitMut)) -> Result<()> {
    let mut mentions = Mentions(false);
    walk(node, &mut mentions)?;
    if mentions.0 {
        walk_mut(node, &mut Selects)
    } else {
        Ok(())
    }
}

/// Whether any window is mentioned by name.
struct Mentions(bool);

impl Visitor for Mentions {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Error> {
        if let Expr::Function(function) = expr {
            self.0 |= match &function.over {
                Some(WindowType::NamedWindow(_)) => true,
                Some(WindowType::WindowSpec(window)) => window.window_name.is_some(),
                None => false,
            };
        }
        ControlFlow::Continue(())
    }
}

/// Every SELECT, those inside first: what is still a name in it is one of its own.
struct Selects;

impl VisitorMut for Selects {
    type Break = Error;

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        flow(defined(&select.named_window).and_then(|windows| walk_mut(select, &mut Calls { windows })))
    }

    // ORDER BY belongs to the query around the SELECT.
    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        let windows = match query.body.as_ref() {
            SetExpr::Select(select) => defined(&select.named_window),
            _ => Ok(HashMap::new()),
        };
        flow(windows.and_then(|windows| match &mut query.order_by {
            Some(order_by) => walk_mut(order_by, &mut Calls { windows }),
            None => Ok(()),
        }))
    }
}

fn flow(result: Result<()>) -> ControlFlow<Error> {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    }
}

type Windows = HashMap<String, WindowSpec>;

struct Calls {
    windows: Windows,
}

impl VisitorMut for Calls {
    type Break = Error;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Error> {
        let Expr::Function(function) = expr else {
            return ControlFlow::Continue(());
        };
        let written = match &function.over {
            Some(WindowType::NamedWindow(name)) => find(&self.windows, name).cloned(),
            Some(WindowType::WindowSpec(window)) if window.window_name.is_some() => extended(&self.windows, window),
            Some(WindowType::WindowSpec(_)) | None => return ControlFlow::Continue(()),
        };
        flow(written.map(|window| function.over = Some(WindowType::WindowSpec(window))))
    }
}

/// What a WINDOW clause defines, each from those before it.
fn defined(definitions: &[NamedWindowDefinition]) -> Result<Windows> {
    let mut windows = Windows::new();
    for NamedWindowDefinition(name, definition) in definitions {
        let window = match definition {
            NamedWindowExpr::NamedWindow(base) => find(&windows, base)?.clone(),
            NamedWindowExpr::WindowSpec(window) => extended(&windows, window)?,
        };
        if windows.insert(folded(name), window).is_some() {
            return Err(refusal(name, format!("the window {name} is defined twice")));
        }
    }
    Ok(windows)
}

fn find<'a>(windows: &'a Windows, name: &Ident) -> Result<&'a WindowSpec> {
    windows.get(&folded(name)).ok_or_else(|| {
        let mut known: Vec<&str> = windows.keys().map(String::as_str).collect();
        known.sort_unstable();
        let hint = suggestion(&folded(name), known.into_iter());
        refusal(name, format!("the window {} is not defined{hint}", folded(name)))
    })
}

/// A window with the clauses of the one that it names, if any.
fn extended(windows: &Windows, window: &WindowSpec) -> Result<WindowSpec> {
    let Some(name) = &window.window_name else {
        return Ok(window.clone());
    };
    let base = find(windows, name)?;
    if !window.partition_by.is_empty() {
        let message =
            format!("PARTITION BY is not allowed beside the window {name}, which says how rows are partitioned");
        return Err(refusal(name, message));
    }
    if !window.order_by.is_empty() && !base.order_by.is_empty() {
        return Err(refusal(name, format!("the window {name} has an ORDER BY already")));
    }
    if base.window_frame.is_some() {
        let message =
            format!("the window {name} has a frame, and can only be used as it is: OVER {name}, without parentheses");
        return Err(refusal(name, message));
    }
    let order_by = if window.order_by.is_empty() {
        &base.order_by
    } else {
        &window.order_by
    };
    Ok(WindowSpec {
        window_name: None,
        partition_by: base.partition_by.clone(),
        order_by: order_by.clone(),
        window_frame: window.window_frame.clone(),
    })
}

fn refusal(name: &Ident, message: String) -> Error {
    placed(Error::new(ErrorCode::InvalidStatement, message), position(name))
}
