//! Which threads a statement runs on: those of short statements first, and those that give way once it takes long.
//!
//! Problem: a point read beside an aggregate over everything waits for a core as one of many threads. Proper way: the system's
//! scheduler, which lets a thread of higher priority run at once. A thread's priority may only be lowered, so there are threads of
//! both kinds, and a statement's task moves: before it runs a plan that reads much ([`crate::plan_length`]), because what the plan
//! starts stays where it was started; and anything else when it has computed for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// How long a statement computes among the short ones, at most and but for what it has begun.
const SHORT: Duration = Duration::from_millis(20);

/// The threads that statements run on.
#[derive(Clone, Debug)]
pub struct Runtimes {
    /// Of usual priority.
    pub short: Handle,
    /// Of lower priority; may be the same.
    pub long: Handle,
}

impl Runtimes {
    /// Runs a statement's work, which moves once it is long, or says so.
    pub(crate) fn spawn(&self, takes_long: Arc<AtomicBool>, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn_after(SHORT, takes_long, work);
    }

    /// The same, where work that has computed for so long is long.
    fn spawn_after(
        &self,
        short: Duration,
        takes_long: Arc<AtomicBool>,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        self.short.spawn(Moving {
            work: Some(Box::pin(work)),
            takes_long,
            left: short,
            long: self.long.clone(),
        });
    }
}

/// Work among the short statements. Whatever it waits for wakes it on the other runtime as well: it is polled there at once.
struct Moving {
    /// `None` once it has moved.
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    takes_long: Arc<AtomicBool>,
    /// How long it may compute here still.
    left: Duration,
    long: Handle,
}

impl Future for Moving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let began = Instant::now();
        let Some(work) = &mut self.work else {
            return Poll::Ready(());
        };
        if work.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.left = self.left.saturating_sub(began.elapsed());
        if !self.left.is_zero() && !self.takes_long.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        if let Some(work) = self.work.take() {
            self.long.spawn(work);
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::{Builder, Runtime};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::interruption::Interruption;

    type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

    fn named(name: &str) -> Runtime {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name)
            .enable_all()
            .build();
        runtime.expect("a runtime")
    }

    fn thread() -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }

    #[test]
    fn work_moves_once_it_is_long() {
        let (short, long) = (named("short"), named("long"));
        let runtimes = Runtimes {
            short: short.handle().clone(),
            long: long.handle().clone(),
        };
        let run = |short: Duration, work: fn(Interruption, mpsc::Sender<String>) -> Work| {
            let interruption = Interruption::new(CancellationToken::new(), None);
            let (threads, seen) = mpsc::channel();
            runtimes.spawn_after(short, interruption.takes_long(), work(interruption, threads));
            seen.iter().collect::<Vec<String>>()
        };
        let waits: fn(Interruption, mpsc::Sender<String>) -> Work = |_, threads| {
            Box::pin(async move {
                threads.send(thread()).expect("read");
                // What is begun here wakes it, wherever it is then.
                tokio::time::sleep(Duration::from_millis(1)).await;
                threads.send(thread()).expect("read");
            })
        };
        assert_eq!(run(Duration::MAX, waits), ["short", "short"]);
        assert_eq!(run(Duration::ZERO, waits), ["short", "long"]);
        let knows = run(Duration::MAX, |interruption, threads| {
            Box::pin(async move {
                threads.send(thread()).expect("read");
                interruption.expect_long().await;
                threads.send(thread()).expect("read");
                let started = tokio::spawn(async { thread() });
                threads.send(started.await.expect("it ends")).expect("read");
            })
        });
        assert_eq!(knows, ["short", "long", "long"]);
    }
}
