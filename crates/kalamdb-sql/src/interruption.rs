//! When a statement must stop: because it was cancelled, because its time is over, or because its user's memory is used up. Whoever
//! computes for long without awaiting anything asks here, through the statement's configuration, does it where it holds up nobody
//! else, and is known here until it is done.

use std::any::Any;
use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datafusion::common::config::{ConfigEntry, ConfigExtension, ConfigOptions, ExtensionOptions};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use kalamdb_core::{Error, ErrorCode, Quota, Result};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::constant_memory::ConstantMemory;
use crate::memory_share::MemoryShare;

/// One statement's cancellation, deadline and share of memory. Rules and functions find it among the options of DataFusion.
#[derive(Clone, Debug)]
pub(crate) struct Interruption {
    cancel: CancellationToken,
    /// When its time is over, and how much it had.
    deadline: Option<(Instant, Duration)>,
    /// Whether that is the user's quota and not a setting.
    is_quota: bool,
    /// The account of a user who has a quota.
    memory: Option<MemoryShare>,
    /// Polls that compute for it just now, in whatever task.
    work: TaskTracker,
    constants: Arc<ConstantMemory>,
    takes_long: Arc<AtomicBool>,
}

impl Interruption {
    /// For a statement that begins now.
    pub(crate) fn new(cancel: CancellationToken, timeout: Option<Duration>) -> Self {
        let deadline = timeout.and_then(|timeout| Some((Instant::now().checked_add(timeout)?, timeout)));
        Interruption {
            cancel,
            deadline,
            is_quota: false,
            memory: None,
            work: TaskTracker::new(),
            constants: Arc::default(),
            takes_long: Arc::default(),
        }
    }

    /// The same within its user's quotas.
    pub(crate) fn within(mut self, time: Option<Duration>, memory: Option<MemoryShare>) -> Self {
        if let Some(time) = time
            && self.deadline.is_none_or(|(_, timeout)| time < timeout)
        {
            self.deadline = Instant::now().checked_add(time).map(|deadline| (deadline, time));
            self.is_quota = true;
        }
        self.constants = Arc::new(ConstantMemory::new(memory.clone()));
        self.memory = memory;
        self
    }

    /// The account that what it holds counts against.
    pub(crate) fn memory(&self) -> Option<&MemoryShare> {
        self.memory.as_ref()
    }

    pub(crate) fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Whether the statement may go on.
    ///
    /// # Errors
    /// CANCELLED, TIMEOUT, TIME_QUOTA_EXCEEDED; what its constants were refused with.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(refusal) = self.constants.refusal() {
            return Err(refusal.clone());
        }
        if self.cancel.is_cancelled() {
            return Err(cancelled());
        }
        match self.deadline {
            Some((deadline, timeout)) if Instant::now() >= deadline => Err(self.timed_out(timeout)),
            Some(_) | None => Ok(()),
        }
    }

    /// What ended work that was told to give up when [`Interruption::check`] said so.
    pub(crate) fn reason(&self, error: Error) -> Error {
        match error.code {
            ErrorCode::Cancelled => self.check().err().unwrap_or(error),
            _ => error,
        }
    }

    /// As [`Interruption::check`], in what DataFusion runs.
    ///
    /// # Errors
    /// As [`Interruption::check`].
    pub(crate) fn check_execution(&self) -> DataFusionResult<()> {
        self.check().map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// Says that the statement computes, until what it gives is dropped.
    pub(crate) fn working(&self) -> TaskTrackerToken {
        self.work.token()
    }

    /// Says that what follows is likely to take long, and lets the statement's task move to where that runs.
    pub(crate) async fn expect_long(&self) {
        if !self.takes_long.swap(true, Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    /// Where it says that.
    pub(crate) fn takes_long(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.takes_long)
    }

    /// Whether nothing computes for the statement any more. Once its own task is over, its other tasks begin nothing new.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.work.is_empty()
    }

    /// Ends what still computes for a statement whose own task is over, and waits for it.
    pub(crate) async fn rest(&self) {
        self.cancel.cancel();
        self.work.close();
        self.work.wait().await;
    }

    /// As [`Interruption::check`], of the statement that plans or runs with these options.
    ///
    /// # Errors
    /// CANCELLED, TIMEOUT.
    pub(crate) fn check_options(options: &ConfigOptions) -> DataFusionResult<()> {
        match options.extensions.get::<Interruption>() {
            Some(interruption) => interruption.check_execution(),
            None => Ok(()),
        }
    }

    /// A function is about to make a constant of so many bytes for a plan with these options.
    ///
    /// # Errors
    /// CANCELLED, TIMEOUT and the like; STATEMENT_TOO_LARGE or MEMORY_QUOTA_EXCEEDED when the statement's constants come to too much.
    pub(crate) fn add_constant(options: &ConfigOptions, bytes: u64) -> DataFusionResult<()> {
        let Some(interruption) = options.extensions.get::<Interruption>() else {
            return Ok(());
        };
        interruption.check_execution()?;
        interruption
            .constants
            .add(bytes)
            .map_err(|error| DataFusionError::External(Box::new(error)))
    }

    /// Resolves when the statement must stop; says why.
    pub(crate) async fn wait(&self) -> Error {
        match self.deadline {
            Some((deadline, timeout)) => tokio::select! {
                () = self.cancel.cancelled() => cancelled(),
                () = tokio::time::sleep_until(deadline) => self.timed_out(timeout),
            },
            None => {
                self.cancel.cancelled().await;
                cancelled()
            }
        }
    }
}

impl Interruption {
    fn timed_out(&self, timeout: Duration) -> Error {
        let (code, what) = match self.is_quota {
            true => (Quota::StatementTime.breach(), "quota statement_time"),
            false => (ErrorCode::Timeout, "setting statement_timeout"),
        };
        let message = format!("the statement took longer than {} ms ({what})", timeout.as_millis());
        Error::new(code, message)
    }
}

impl ConfigExtension for Interruption {
    const PREFIX: &'static str = "kalamdb_interruption";
}

/// It has no options that a statement could read or set.
impl ExtensionOptions for Interruption {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn cloned(&self) -> Box<dyn ExtensionOptions> {
        Box::new(self.clone())
    }

    fn set(&mut self, key: &str, _value: &str) -> DataFusionResult<()> {
        Err(DataFusionError::Configuration(format!("there is no option {key}")))
    }

    fn entries(&self) -> Vec<ConfigEntry> {
        Vec::new()
    }
}

fn cancelled() -> Error {
    Error::new(ErrorCode::Cancelled, "the statement was cancelled")
}

/// Computes at length on this thread, whose other tasks go to another one first: statements, KILL QUERY and timers among them.
pub(crate) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match workers() {
        Some(_) => tokio::task::block_in_place(work),
        None => work(),
    }
}

/// As [`aside`], for work that may wait now and then.
pub(crate) async fn aside_waiting<T>(work: impl Future<Output = T>) -> T {
    match workers() {
        Some(handle) => tokio::task::block_in_place(|| handle.block_on(work)),
        None => work.await,
    }
}

/// A poll that lasts longer is long: what else is to run on its thread waits.
const LONG: Duration = Duration::from_millis(5);

thread_local! {
    /// When the outermost poll on this thread that says so began.
    static POLL_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Polls something that may loop over [`aside_when_long`].
pub(crate) fn in_poll<T>(now: Instant, poll: impl FnOnce() -> T) -> T {
    /// Sets the time back, after a panic too.
    struct Ended(Option<Instant>);

    impl Drop for Ended {
        fn drop(&mut self) {
            POLL_BEGAN.set(self.0);
        }
    }

    let outer = Ended(POLL_BEGAN.get());
    POLL_BEGAN.set(outer.0.or(Some(now)));
    poll()
}

/// A piece of work in a poll: as [`aside`] when the poll lasts long already, since that costs more than many a piece.
pub(crate) fn aside_when_long<T>(work: impl FnOnce() -> T) -> T {
    match POLL_BEGAN.get() {
        Some(began) if began.elapsed() >= LONG => aside(work),
        Some(_) | None => work(),
    }
}

/// The runtime, if it has other threads that tasks can go to.
fn workers() -> Option<Handle> {
    Handle::try_current()
        .ok() // Outside of a runtime there are no tasks to hold up.
        .filter(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_goes_on_until_it_is_cancelled_or_its_time_is_over() {
        let code = |interruption: &Interruption| interruption.check().map_err(|error| error.code);
        let long = Interruption::new(CancellationToken::new(), Some(Duration::from_secs(3_600)));
        assert_eq!(code(&long), Ok(()));
        assert_eq!(
            code(&Interruption::new(CancellationToken::new(), Some(Duration::MAX))),
            Ok(())
        );
        assert_eq!(
            code(&Interruption::new(CancellationToken::new(), Some(Duration::ZERO))),
            Err(ErrorCode::Timeout)
        );
        let quota = |timeout, time: u64| {
            let interruption = Interruption::new(CancellationToken::new(), timeout);
            code(&interruption.within(Some(Duration::from_millis(time)), None))
        };
        assert_eq!(quota(None, 0), Err(ErrorCode::TimeQuotaExceeded));
        assert_eq!(quota(Some(Duration::MAX), 0), Err(ErrorCode::TimeQuotaExceeded));
        assert_eq!(quota(Some(Duration::ZERO), 1), Err(ErrorCode::Timeout));
        let mut options = ConfigOptions::new();
        assert!(Interruption::check_options(&options).is_ok());
        options.extensions.insert(long.clone());
        let copied = options.clone();
        assert!(Interruption::check_options(&copied).is_ok());
        long.cancel_token().cancel();
        assert_eq!(code(&long), Err(ErrorCode::Cancelled));
        assert!(Interruption::check_options(&copied).is_err());
    }
}
