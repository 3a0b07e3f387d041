//! Blocked calls.
