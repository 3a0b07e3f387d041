//! Whom an event is meant for: nodes whose name matches an expression, or that have a service, or one with a tag.
//!
//! Expressions are searched for, not anchored, and follow Go's grammar (see [`pattern`]). That of services
//! looks at their IDs, as Consul does; that of tags at the tags of one and the same service.

use regex::bytes::Regex;

use super::pattern;
use crate::api::event::Event;
use crate::api::{Error, EventFilter};

/// An agent, as filters see it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The name of its node.
    pub node: &'a str,
    /// The ID and the tags of each service that is registered with it.
    pub services: &'a [(&'a str, &'a [String])],
}

/// The filters of an event, ready to be asked.
#[derive(Clone, Debug)]
pub struct Audience {
    node: Option<Regex>,
    service: Option<Regex>,
    tag: Option<Regex>,
}

impl Audience {
    /// Whom an event is meant for.
    ///
    /// # Errors
    /// If a filter is no expression, or there is one for tags but none for services.
    pub fn of(event: &Event) -> Result<Self, Error> {
        let filter = |which: EventFilter, expression: &str| {
            if expression.is_empty() {
                return Ok(None);
            }
            let invalid = |why: pattern::Invalid| Error::InvalidEventFilter { which, why: why.to_string() };
            pattern::compile(expression).map(Some).map_err(invalid)
        };
        let node = filter(EventFilter::Node, &event.node_filter)?;
        let service = filter(EventFilter::Service, &event.service_filter)?;
        let tag = filter(EventFilter::Tag, &event.tag_filter)?;
        if tag.is_some() && service.is_none() {
            return Err(Error::TagFilterAlone);
        }
        Ok(Self { node, service, tag })
    }

    /// Whether a node of this name belongs to it, if the right services are on it.
    #[must_use]
    pub fn may_have_node(&self, node: &str) -> bool {
        self.node.as_ref().is_none_or(|filter| filter.is_match(node.as_bytes()))
    }

    /// Whether an agent belongs to it.
    #[must_use]
    pub fn has(&self, target: &Target<'_>) -> bool {
        let matches =
            |filter: &Option<Regex>, text: &str| filter.as_ref().is_none_or(|filter| filter.is_match(text.as_bytes()));
        let has_tag = |tags: &[String]| self.tag.is_none() || tags.iter().any(|tag| matches(&self.tag, tag));
        matches(&self.node, target.node)
            && (self.service.is_none()
                || target.services.iter().any(|(id, tags)| matches(&self.service, id) && has_tag(tags)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(node: &str, service: &str, tag: &str) -> Event {
        Event {
            node_filter: node.to_owned(),
            service_filter: service.to_owned(),
            tag_filter: tag.to_owned(),
            ..Event::default()
        }
    }

    #[test]
    fn an_event_reaches_whom_its_filters_name() {
        let tags = ["master".to_owned(), "v1".to_owned()];
        let services: [(&str, &[String]); 3] = [("consul", &[]), ("ev-web", &tags), ("evid", &tags)];
        let target = Target { node: "foobar", services: &services };
        for (node, service, tag, expected) in [
            ("", "", "", true),
            ("foobar", "", "", true),
            ("^fo+b", "", "", true),
            ("oob", "", "", true),
            ("nosuch", "", "", false),
            ("", "ev-.-?w", "", false),
            ("", "ev-w", "", true),
            ("", "nosuch", "", false),
            ("", "ev-web", "master", true),
            ("", "ev-web", "slave", false),
            ("", "ev-web", "v[0-9]", true),
            ("", "consul", "master", false),
            ("", "", "", true),
            ("nosuch", "ev-web", "", false),
            ("o", "c", "", true),
        ] {
            let audience = Audience::of(&event(node, service, tag)).unwrap();
            assert_eq!(audience.has(&target), expected, "{node:?} {service:?} {tag:?}");
        }
    }

    #[test]
    fn wrong_filters_are_refused_in_consuls_words() {
        for (node, service, tag, expected) in [
            ("(", "", "", "Invalid node filter: error parsing regexp: missing closing ): `(`"),
            ("", "(", "", "Invalid service filter: error parsing regexp: missing closing ): `(`"),
            ("", "x", "(", "Invalid tag filter: error parsing regexp: missing closing ): `(`"),
            ("", "", "x", "Cannot provide tag filter without service filter"),
        ] {
            assert_eq!(Audience::of(&event(node, service, tag)).unwrap_err().to_string(), expected);
        }
    }
}
