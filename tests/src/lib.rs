//! lictor-tests
