//! The crate as its callers use it: an open database, several principals, tables of every kind.

mod concurrency;
mod definition;
mod filters;
mod fixture;
mod flushes;
mod grants;
mod histories;
mod large_changes;
mod maintenance;
mod opening;
mod people;
mod quotas;
mod rows;
mod storages;
mod streams;
mod views;

use std::sync::Arc;

use super::*;

fn owned(rows: &[(&str, i64)]) -> Vec<(String, i64)> {
    rows.iter().map(|&(text, id)| (text.to_owned(), id)).collect()
}

#[track_caller]
fn refused<T>(result: Result<T>, code: ErrorCode) -> Error {
    match result {
        Ok(_) => panic!("should be refused with {}", code.as_str()),
        Err(error) => {
            assert_eq!(error.code, code, "{error}");
            error
        }
    }
}
