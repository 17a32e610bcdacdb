//! The prologue of every method: the session that the authentication layer found, and errors as statuses.

use std::sync::Arc;

use kalamdb_core::{Error, ErrorCode, Result};
use tonic::{Request, Status};

use crate::auth::SessionLease;
use crate::status::status;

/// The caller's session. The layer puts it into every request; without the layer nothing works rather than everything.
///
/// # Errors
/// UNAUTHENTICATED.
pub(crate) fn lease_of<T>(request: &Request<T>) -> std::result::Result<Arc<SessionLease>, Status> {
    let lease = request.extensions().get::<Arc<SessionLease>>();
    lease
        .cloned()
        .ok_or_else(|| status(Error::new(ErrorCode::Unauthenticated, "the call was not authenticated")))
}

/// A method's outcome for tonic.
pub(crate) trait IntoStatus<T> {
    /// The error as a status.
    ///
    /// # Errors
    /// The same, as a status.
    fn or_status(self) -> std::result::Result<T, Status>;
}

impl<T> IntoStatus<T> for Result<T> {
    fn or_status(self) -> std::result::Result<T, Status> {
        self.map_err(status)
    }
}
