//! What is asked, and of whom.

use bytes::Bytes;

use super::nodes::Wanted;
use super::{AskId, Initiator, LISTING_WAIT, Output, Purpose};
use crate::api::{self, Call, ReadOptions, Request};

impl Initiator {
    /// Asks what a purpose means, once more perhaps.
    pub(super) fn ask_again(&mut self, purpose: Purpose) {
        let Some(place) = &self.place else { return };
        let id = place.session().to_string();
        let request: Request = match &purpose {
            Purpose::List => {
                let wait = Some(LISTING_WAIT);
                let read = ReadOptions { index: self.index, wait, ..self.read() };
                api::kv::Request::Keys { prefix: place.root().into(), separator: Bytes::new(), read }.into()
            }
            Purpose::Read(wanted, consistency) => {
                let key = match wanted {
                    Wanted::Output { node, number } => place.output(node, *number),
                    Wanted::Exit { node } => place.exit(node),
                };
                let read = ReadOptions { consistency: *consistency, ..ReadOptions::default() };
                api::kv::Request::Get { key, read }.into()
            }
            Purpose::Open => {
                let (prefix, session) = (self.options.prefix.clone(), place.session());
                return self.ask_here(purpose, api::exec::Request::Open { prefix, session });
            }
            Purpose::Uncollect => {
                let (prefix, session) = (self.options.prefix.clone(), place.session());
                return self.ask_here(purpose, api::exec::Request::Close { prefix, session });
            }
            Purpose::Collect => {
                let Some(question) = self.question() else { return };
                return self.ask_here(purpose, question);
            }
            Purpose::Renew => api::session::Request::Renew { id }.into(),
            Purpose::Destroy => api::session::Request::Destroy { id }.into(),
            Purpose::Sweep => api::kv::Request::DeleteTree { prefix: place.root().into() }.into(),
            // All others are asked once.
            _ => return,
        };
        self.ask(purpose, request);
    }

    /// Asks the datacenter that is meant.
    pub(super) fn ask(&mut self, purpose: Purpose, request: impl Into<Request>) {
        let datacenter = self.options.datacenter.clone();
        self.put(purpose, datacenter, request.into());
    }

    /// Asks the agent itself.
    pub(super) fn ask_here(&mut self, purpose: Purpose, request: impl Into<Request>) {
        self.put(purpose, None, request.into());
    }

    pub(super) fn put(&mut self, purpose: Purpose, datacenter: Option<String>, request: Request) {
        self.last_id += 1;
        let id = AskId(self.last_id);
        let call = Call { datacenter, token: self.options.token.clone(), request };
        self.open.insert(id, purpose);
        self.out.push_back(Output::Ask { id, call: Box::new(call) });
    }
}
