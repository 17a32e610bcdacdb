//! `/metrics`: what the server counts, read from the database at each scrape.

use std::fmt;
use std::sync::{Arc, Weak};

use axum::http::StatusCode;
use kalamdb_core::{Error, ErrorCode, Result};
use kalamdb_sql::Database;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::machine;

/// The server's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    status: u16,
}

/// Reads the database when it is scraped. Weak: metrics keep nothing open.
struct Observed(Weak<Database>);

impl Metrics {
    /// The metrics of this database.
    pub(crate) fn new(database: &Arc<Database>) -> Self {
        let mut registry = Registry::with_prefix("kalamdb");
        let requests = Family::<RequestLabels, Counter>::default();
        registry.register("http_requests", "HTTP requests answered, by status", requests.clone());
        registry.register_collector(Box::new(Observed(Arc::downgrade(database))));
        Metrics { registry, requests }
    }

    /// Counts an answer.
    pub(crate) fn count_request(&self, status: StatusCode) {
        self.requests
            .get_or_create(&RequestLabels {
                status: status.as_u16(),
            })
            .inc();
    }

    /// In OpenMetrics' text format. Asks the store, so it does not belong on the runtime that serves.
    ///
    /// # Errors
    /// INTERNAL.
    pub(crate) fn text(&self) -> Result<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|_| Error::new(ErrorCode::Internal, "the metrics cannot be written as text"))?;
        Ok(text)
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observed")
    }
}

impl Collector for Observed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(database) = self.0.upgrade() else {
            return Ok(());
        };
        let statistics = database.engine().statistics();
        let counters = [
            ("commits", "Requests committed", statistics.commits),
            (
                "log_syncs",
                "Synced writes of the log; one covers a group of commits",
                statistics.log_syncs,
            ),
            (
                "commit_conflicts",
                "Commits refused with CONFLICT",
                statistics.conflicts,
            ),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            let metric =
                encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Counter)?;
            counter.encode(metric)?;
        }
        let mut queries = encoder.encode_descriptor(
            "queries",
            "Statements and loads that ended, by status",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        for (status, count) in database.ended_queries() {
            let labels = [("status", status)];
            let counter = ConstCounter::new(count);
            counter.encode(queries.encode_family(&labels)?)?;
        }
        let gauges = [
            (
                "live_bytes",
                "Estimated bytes of live rows in files",
                bytes(statistics.live_bytes),
            ),
            (
                "memtable_bytes",
                "Bytes of committed rows in memory, not in files yet",
                bytes(statistics.memtable_bytes),
            ),
            (
                "open_segment_bytes",
                "Bytes of indexes, filters and footers of segments in use",
                bytes(statistics.open_segment_bytes),
            ),
            (
                "queries_running",
                "Statements that run now",
                to_i64(database.running_queries()),
            ),
            ("sessions", "Sessions open now", to_i64(database.session_count())),
            (
                "memory_limit_bytes",
                "What all running queries together may hold",
                to_i64(database.options().memory_limit_bytes),
            ),
            (
                "resident_memory_bytes",
                "Memory that the process holds",
                machine::resident_bytes()
                    .and_then(|bytes| i64::try_from(bytes).ok())
                    .unwrap_or(0),
            ),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, prometheus_client::metrics::MetricType::Gauge)?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn to_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
