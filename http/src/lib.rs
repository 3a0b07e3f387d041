//! The HTTP front end: paths and bodies become [`Call`](lictor_core::api::Call)s, and
//! [`Reply`](lictor_core::api::Reply)s become status codes, headers and JSON, as Consul's clients know
//! them.
//!
//! It knows nothing of sockets between agents, disks or raft: give it one async function from a call to
//! its reply, and listeners. Dropping that function's future hangs up the call; that happens when a
//! client goes away before it got its answer.
//!
//! | file | subject |
//! |---|---|
//! | `routes` | all paths on one page |
//! | `answer` | from a request to its answer |
//! | `ask` | what a request asks for, in a form that all subjects share |
//! | [`path`] | decoding and cleaning of paths |
//! | `params` | query strings, consistency, `index` and `wait` |
//! | `body` | reading of request bodies within a limit |
//! | [`parse`], `decode` | what is in them: JSON, and the fields of its objects |
//! | [`definition`] | services and checks as people define them |
//! | `kv`, `txn`, `session`, `status`, `agent`, `catalog`, `health`, `event`, `coordinate`, `query`, `acl`, `operator` | one subject each: request in, JSON out |
//! | `shown` | nodes, services and checks as JSON |
//! | [`exec`] | jobs on many nodes, and what the command line shares with them |
//! | `snapshot` | the state as a whole, out and in |
//! | [`archive`] | the form of a snapshot |
//! | `json` | JSON as Go lays it out |
//! | `respond`, `reply` | replies to status codes, headers and bodies |
//! | `hooks` | what the process does, and not the agent in it |
//! | `time` | the wall clock's time as text |
//! | [`server`] | connections |

mod acl;
mod agent;
mod answer;
pub mod archive;
mod ask;
mod body;
mod catalog;
mod coordinate;
mod decode;
pub mod definition;
mod event;
pub mod exec;
mod health;
mod hooks;
mod json;
mod kv;
mod operator;
mod options;
mod params;
pub mod parse;
pub mod path;
mod query;
mod reply;
mod respond;
mod routes;
pub mod server;
mod session;
mod shown;
mod snapshot;
mod status;
mod txn;

pub use hooks::Hooks;
pub use options::Options;
pub use server::{Server, listen};
