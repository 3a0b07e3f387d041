//! Prepared queries by hand.
