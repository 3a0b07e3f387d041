//! Access control: what a token may do (`http-api.txt`, "ACL").
//!
//! A token has rules, in HCL or JSON, that say for keys, services, events and prepared queries by prefix, and for the whole of other
//! things, whether they may be read or written. What no rule speaks of is decided by the default policy. A management
//! token may do everything.
//!
//! | file | subject |
//! |---|---|
//! | `policy.rs` | rules, as they are looked up: the longest prefix decides |
//! | `parse.rs` | rules, as they are written |
//! | `hcl.rs` | HCL as Consul reads it |
//! | `tree.rs` | what both languages are read into |
//! | `authority.rs` | a policy together with the default: what may be done |
//!
//! Tokens are replicated (`store/acl.rs`). What each request needs of a token is decided in one place, `authorize/`.

mod authority;
mod hcl;
mod parse;
mod policy;
mod tree;

pub use authority::Authority;
pub use parse::MAX_RULES_BYTES;
pub use policy::{Access, Policy, Prefixes};
pub use tree::BadRules;
