//! Histories that are known to be bad.
