//! What gives way: threads that the system lets run when those of short statements and connections do not need the cores.

use std::sync::Once;

use thread_priority::{ThreadPriority, set_current_thread_priority};

/// A nice value of 10 on Linux: about a tenth of what a thread of usual priority gets beside it, and all that is left over.
const GIVING_WAY: u8 = 22;

/// Lowers the priority of this thread and of those that it starts, for good. Where that cannot be had, all threads compete alike.
pub fn give_way() {
    static SAID: Once = Once::new();
    let priority = ThreadPriority::Crossplatform(GIVING_WAY.try_into().expect("below 100"));
    if let Err(error) = set_current_thread_priority(priority) {
        SAID.call_once(|| {
            tracing::warn!(%error, "the priority of threads cannot be lowered; long statements hold up short ones more");
        });
    }
}

#[cfg(test)]
mod tests {
    use super::give_way;

    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_thread_that_says_so_gives_way() {
        let nice = || {
            let text = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux tells");
            // Behind the name, which may hold spaces: the 19th value of the line.
            let behind = text.rsplit_once(')').expect("the name is in parentheses").1;
            behind.split_whitespace().nth(16).map(|value| value.parse::<i32>())
        };
        let before = nice();
        let lowered = std::thread::spawn(move || {
            give_way();
            nice()
        });
        assert_eq!(lowered.join().expect("the thread ends"), Some(Ok(10)));
        assert_eq!(nice(), before);
    }
}
