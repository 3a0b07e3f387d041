//! lictor-http
