//! Speed of the store alone, in rows a second: scans, point reads, puts, bulk loads, flush and compaction. Nothing is asserted.
//!
//! `make bench W=criterion` runs all of it, `make bench W=criterion ARGS=scan` what has "scan" in its name. The tables have
//! `KALAMDB_BENCH_ROWS` rows, 500,000 if it is not set.

mod place;
mod rows;

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use arrow::array::ArrayRef;
use criterion::{BatchSize, Criterion, SamplingMode, Throughput};
use kalamdb_store::{Durability, StoreId};

use crate::place::{Place, Retired};
use crate::rows::{BATCH_ROWS, Shape};

/// Point reads of one iteration.
const LOOKUPS: u64 = 1000;
/// Rows of the larger puts.
const PUT_ROWS: u64 = 1000;
/// Runs that a compaction merges.
const RUNS: u64 = 4;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let rows = match std::env::var("KALAMDB_BENCH_ROWS") {
        Ok(rows) => rows.parse().expect("KALAMDB_BENCH_ROWS is a number"),
        Err(_) => 500_000,
    };
    for shape in [Shape::lineitem(), Shape::narrow()] {
        reads(&mut criterion, &shape, rows);
        puts(&mut criterion, &shape);
        loads(&mut criterion, &shape, rows);
        movers(&mut criterion, &shape, rows);
    }
    criterion.final_summary();
}

/// Scans and point reads of rows that are hot, and of the same rows in segments.
fn reads(criterion: &mut Criterion, shape: &Shape, rows: u64) {
    const HOT: StoreId = StoreId(1);
    const COLD: StoreId = StoreId(2);
    let place = Place::new(Durability::Relaxed);
    place.create(shape, HOT);
    place.put_all(shape, HOT, 0..rows);
    place.create(shape, COLD);
    place.load(shape, COLD, &shape.batches(0..rows));
    let all: Vec<usize> = (0..shape.schema.columns.len()).collect();
    let one = vec![shape.one];
    let (name, temperatures) = (shape.name, [("hot", HOT), ("cold", COLD)]);

    let mut group = criterion.benchmark_group(format!("{name} scan"));
    group
        .throughput(Throughput::Elements(rows))
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat);
    for (temperature, table) in temperatures {
        for (what, columns) in [("all columns", &all), ("one column", &one), ("count", &vec![])] {
            group.bench_function(format!("{temperature}, {what}"), |bencher| {
                bencher.iter(|| assert_eq!(place.scan(shape, table, columns), rows));
            });
        }
    }
    group.finish();

    let mut group = criterion.benchmark_group(format!("{name} get"));
    group.throughput(Throughput::Elements(LOOKUPS));
    let keys: Vec<Vec<u8>> = (0..LOOKUPS)
        .map(|number| shape.key(rows::random(number) % rows))
        .collect();
    for (temperature, table) in temperatures {
        group.bench_function(temperature, |bencher| {
            bencher.iter(|| {
                for key in &keys {
                    black_box(place.get(shape, table, &all, key));
                }
            });
        });
    }
    group.finish();
}

/// Rows from columns to what is acknowledged: encoded, committed, logged, and with `Synced` on disk.
fn puts(criterion: &mut Criterion, shape: &Shape) {
    const TABLE: StoreId = StoreId(1);
    let mut group = criterion.benchmark_group(format!("{} put", shape.name));
    group.measurement_time(Duration::from_secs(3));
    for (durability, word) in [(Durability::Relaxed, "relaxed"), (Durability::Synced, "synced")] {
        let place = Place::new(durability);
        place.create(shape, TABLE);
        let next = Cell::new(0);
        let new_rows = |rows: u64| {
            let start = next.replace(next.get() + rows);
            shape.columns(&(start..start + rows).collect::<Vec<_>>())
        };
        let requests = [
            ("1 request of 1 row", 1, 1),
            ("1000 requests of 1 row", PUT_ROWS, 1),
            ("1 request of 1000 rows", 1, PUT_ROWS),
        ];
        for (what, requests, rows) in requests {
            group.throughput(Throughput::Elements(requests * rows));
            group.bench_function(format!("{word}, {what}"), |bencher| {
                bencher.iter_batched(
                    || (0..requests).map(|_| new_rows(rows)).collect::<Vec<_>>(),
                    |requests: Vec<Vec<ArrayRef>>| place.put(shape, TABLE, &requests),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// A load into a new table, up to its publication.
fn loads(criterion: &mut Criterion, shape: &Shape, rows: u64) {
    let place = Place::new(Durability::Synced);
    let mut group = criterion.benchmark_group(format!("{} bulk load", shape.name));
    group
        .throughput(Throughput::Elements(rows))
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat);
    for (order, batches) in [("sorted", shape.batches(0..rows)), ("shuffled", shape.shuffled(rows))] {
        group.bench_function(order, |bencher| {
            bencher.iter_batched(
                || place.new_table(shape),
                |table: Retired<'_>| {
                    place.load(shape, table.store, &batches);
                    table
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Flush of hot rows, compaction of runs with the same range of keys.
fn movers(criterion: &mut Criterion, shape: &Shape, rows: u64) {
    let place = Place::new(Durability::Relaxed);
    let mut group = criterion.benchmark_group(format!("{} mover", shape.name));
    group
        .throughput(Throughput::Elements(rows))
        .sample_size(10)
        .sampling_mode(SamplingMode::Flat);
    group.bench_function("flush", |bencher| {
        bencher.iter_batched(
            || {
                let table = place.new_table(shape);
                place.put_all(shape, table.store, 0..rows);
                table
            },
            |table| {
                assert_eq!(place.flush(shape, table.store), rows);
                table
            },
            BatchSize::PerIteration,
        );
    });
    // Each run has every fourth row.
    let runs: Vec<Vec<Vec<ArrayRef>>> = (0..RUNS)
        .map(|run| {
            let numbers: Vec<u64> = (run..rows).step_by(RUNS as usize).collect();
            numbers.chunks(BATCH_ROWS).map(|part| shape.columns(part)).collect()
        })
        .collect();
    group.bench_function(format!("compaction of {RUNS} runs"), |bencher| {
        bencher.iter_batched(
            || {
                let table = place.new_table(shape);
                runs.iter().for_each(|run| place.load(shape, table.store, run));
                table
            },
            |table| {
                assert_eq!(place.compact(shape, table.store), rows);
                table
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}
