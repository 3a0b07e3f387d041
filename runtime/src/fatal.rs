//! The end of the process. A disk that failed to keep a promise, or an agent that met a state it believes
//! impossible, must not go on and pretend: what was acknowledged is safe on disk, and the other servers
//! take over.

/// Says why and ends the process with status 1.
pub(crate) fn stop(why: &str) -> ! {
    say(why);
    std::process::exit(1)
}

/// Held by a thread that the agent cannot do without: if the thread panics, the process ends with Rust's
/// status for a panic instead of staying behind without a mind.
pub(crate) struct EndWithMe(pub(crate) &'static str);

impl Drop for EndWithMe {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The panic's own message is already out: the panic hook ran before the unwinding began.
            say(&format!("{} panicked, which is a bug: the agent stops", self.0));
            std::process::exit(101);
        }
    }
}

fn say(why: &str) {
    if tracing::dispatcher::has_been_set() {
        tracing::error!("{why}");
    } else {
        eprintln!("{why}");
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Output};

    /// Runs one test of this very program again, in a process of its own that knows it is to die.
    fn in_a_process(test: &str) -> Option<Output> {
        const MARK: &str = "LICTOR_TEST_DIES";
        if std::env::var_os(MARK).is_some() {
            return None;
        }
        let program = std::env::current_exe().unwrap();
        Some(Command::new(program).args(["--exact", test, "--nocapture"]).env(MARK, "1").output().unwrap())
    }

    #[test]
    fn a_thread_that_panics_takes_the_process_with_it() {
        let Some(output) = in_a_process("fatal::tests::a_thread_that_panics_takes_the_process_with_it") else {
            let thread = std::thread::spawn(|| {
                let _guard = super::EndWithMe("the thread of this test");
                panic!("on purpose");
            });
            let _ = thread.join();
            return;
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(101), "{said}");
        assert!(said.contains("on purpose") && said.contains("the thread of this test panicked"), "{said}");
    }

    #[test]
    fn a_failed_disk_ends_the_process_and_says_why() {
        let Some(output) = in_a_process("fatal::tests::a_failed_disk_ends_the_process_and_says_why") else {
            super::stop("cannot sync raft/wal-1: Input/output error")
        };
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("cannot sync raft/wal-1"), "{said}");
    }
}
