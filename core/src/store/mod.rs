//! The replicated state.
/// The replicated state. Cloning is O(1).
#[derive(Clone, Debug, Default)]
pub struct Store {}
