//! lictor-runtime
