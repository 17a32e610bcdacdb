//! Rows of statements that ran at GetFlightInfo. A few go into the ticket; more than a message may hold are kept in memory,
//! within stated bounds, until they were there for long enough to be fetched.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use kalamdb_core::{Clock, Error, ErrorCode, Principal, Result};
use parking_lot::Mutex;

use crate::ticket::{self, TicketId};

/// What a ticket carries by itself, bytes in memory. FlightInfo has the ticket, and clients take messages of 4 MB.
const TICKET_BYTES: usize = 1 << 20;

/// Rows that nobody fetched for so long are dropped.
const LIFE_MICROS: i64 = 5 * 60 * 1_000_000;

/// All kept rows, bytes; beyond it the oldest go. Several times what one statement may return.
const ALL_BYTES: usize = 512 << 20;

/// Those of one user, of whom the oldest go before anybody else's.
const USER_BYTES: usize = ALL_BYTES / 4;

/// The kept rows of everyone. Whom a ticket names is not signed, so that whose rows are is noted here.
pub(crate) struct KeptRows {
    clock: Arc<dyn Clock>,
    by_ticket: Mutex<HashMap<TicketId, Kept>>,
}

struct Kept {
    owner: Principal,
    rows: RecordBatch,
    bytes: usize,
    since_micros: i64,
}

impl KeptRows {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        KeptRows {
            clock,
            by_ticket: Mutex::default(),
        }
    }

    /// A ticket for the rows.
    ///
    /// # Errors
    /// INTERNAL when they cannot be encoded.
    pub(crate) fn ticket(&self, clock: &dyn Clock, principal: &Principal, rows: RecordBatch) -> Result<Bytes> {
        let bytes = rows.get_array_memory_size();
        if bytes <= TICKET_BYTES {
            return ticket::for_report(clock, principal, &rows);
        }
        let (ticket, id) = ticket::for_kept(clock, principal);
        let now_micros = self.clock.now_micros();
        let mut by_ticket = self.by_ticket.lock();
        by_ticket.retain(|_, kept| now_micros.saturating_sub(kept.since_micros) <= LIFE_MICROS);
        make_room(&mut by_ticket, USER_BYTES.saturating_sub(bytes), |kept| {
            kept.owner.user_id == principal.user_id
        });
        make_room(&mut by_ticket, ALL_BYTES.saturating_sub(bytes), |_| true);
        by_ticket.insert(
            id,
            Kept {
                owner: principal.clone(),
                rows,
                bytes,
                since_micros: now_micros,
            },
        );
        Ok(ticket)
    }

    /// The rows of a ticket. They stay, as a client may fetch them again when a connection broke.
    ///
    /// # Errors
    /// NOT_FOUND when they are gone, or another's.
    pub(crate) fn find(&self, principal: &Principal, ticket: &TicketId) -> Result<RecordBatch> {
        let now_micros = self.clock.now_micros();
        let mut by_ticket = self.by_ticket.lock();
        by_ticket.retain(|_, kept| now_micros.saturating_sub(kept.since_micros) <= LIFE_MICROS);
        let own = by_ticket.get(ticket).filter(|kept| kept.owner.scope == principal.scope);
        own.map(|kept| kept.rows.clone()).ok_or_else(|| {
            Error::new(
                ErrorCode::NotFound,
                "the statement is done, but its rows are not kept any more; read them with SELECT",
            )
        })
    }
}

/// Drops the oldest of these until they have at most so many bytes.
fn make_room(by_ticket: &mut HashMap<TicketId, Kept>, most_bytes: usize, among: impl Fn(&Kept) -> bool) {
    loop {
        let these = || by_ticket.iter().filter(|(_, kept)| among(kept));
        if these().map(|(_, kept)| kept.bytes).sum::<usize>() <= most_bytes {
            return;
        }
        let oldest = these().min_by_key(|(_, kept)| kept.since_micros);
        let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
            return;
        };
        by_ticket.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow_flight::sql::{Any, TicketStatementQuery};
    use kalamdb_core::{DrivenClock, Role};
    use kalamdb_store::ScopeId;
    use prost::Message;

    use crate::ticket::Work;

    fn rows(count: i64) -> RecordBatch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        RecordBatch::try_from_iter([("n", column)]).expect("a batch")
    }

    fn principal_of(scope: u64) -> Principal {
        Principal {
            user_id: format!("user {scope}"),
            role: Role::User,
            scope: ScopeId(scope),
            grants: Default::default(),
        }
    }

    fn principal() -> Principal {
        principal_of(1)
    }

    fn opened_by(ticket: &[u8], principal: &Principal) -> (Work, TicketId) {
        let any = Any::decode(ticket).expect("an Any");
        let query: Option<TicketStatementQuery> = any.unpack().expect("decodes");
        let ticket = ticket::open(&query.expect("a ticket").statement_handle, principal).expect("opens");
        (ticket.work, ticket.id)
    }

    fn opened(ticket: &[u8]) -> (Work, TicketId) {
        opened_by(ticket, &principal())
    }

    #[test]
    fn few_rows_are_in_the_ticket_and_many_are_kept_for_a_while() {
        let clock = Arc::new(DrivenClock::new(0));
        let kept = KeptRows::new(clock.clone());
        let few = kept.ticket(clock.as_ref(), &principal(), rows(10)).expect("a ticket");
        assert_eq!(opened(&few).0, Work::Report(rows(10)));
        let many = rows(1 << 20);
        let ticket = kept
            .ticket(clock.as_ref(), &principal(), many.clone())
            .expect("a ticket");
        let (work, id) = opened(&ticket);
        assert_eq!(work, Work::Kept);
        assert!(ticket.len() < 1_000);
        clock.advance_micros(LIFE_MICROS);
        let find = |by: &Principal| kept.find(by, &id).map_err(|error| error.code);
        assert_eq!(find(&principal()).expect("there"), many);
        assert_eq!(find(&principal()).expect("there again"), many);
        // Whatever a forged ticket says.
        for other in [
            principal_of(2),
            Principal {
                scope: ScopeId(2),
                ..principal()
            },
        ] {
            assert_eq!(find(&other), Err(ErrorCode::NotFound));
        }
        clock.advance_micros(1);
        assert_eq!(find(&principal()), Err(ErrorCode::NotFound));
        assert!(kept.by_ticket.lock().is_empty());
    }

    #[test]
    fn the_oldest_make_room() {
        let clock = Arc::new(DrivenClock::new(0));
        let kept = KeptRows::new(clock.clone());
        let many = rows(8 << 20);
        let size = many.get_array_memory_size();
        let keep = |scope: u64| {
            clock.advance_micros(1);
            let principal = principal_of(scope);
            let ticket = kept.ticket(clock.as_ref(), &principal, many.clone());
            (scope, opened_by(&ticket.expect("a ticket"), &principal).1)
        };
        let is_there = |(scope, id): &(u64, TicketId)| match kept.find(&principal_of(*scope), id) {
            Ok(_) => true,
            Err(error) => {
                assert_eq!(error.code, ErrorCode::NotFound);
                false
            }
        };
        let first = keep(1);
        // One user's rows push out none but their own.
        let greedy: Vec<(u64, TicketId)> = (0..=ALL_BYTES / size).map(|_| keep(2)).collect();
        assert!(is_there(&first));
        assert_eq!(greedy.iter().filter(|id| is_there(id)).count(), USER_BYTES / size);
        assert!(is_there(&greedy[greedy.len() - 1]));
        for scope in 3..10 {
            for _ in 0..USER_BYTES / size {
                keep(scope);
            }
        }
        assert!(!is_there(&first));
        assert_eq!(kept.by_ticket.lock().len(), ALL_BYTES / size);
    }
}
