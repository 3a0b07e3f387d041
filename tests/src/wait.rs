//! Waiting for something to hold, and for no longer.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Far more than it should, for busy machines.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `look` finds something.
///
/// # Panics
/// If nothing is found within [`PATIENCE`].
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same, for what takes its time by design.
///
/// # Panics
/// If nothing is found within `patience`.
pub fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain: {what}");
        // Those who ask share the processors with those who are to get on.
        let pause = if start.elapsed() < Duration::from_secs(1) { 2 } else { 20 };
        std::thread::sleep(Duration::from_millis(pause));
    }
}
