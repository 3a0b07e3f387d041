//! lictor-sim
