//! Prepared queries: what is wrong with one, and what asking it finds.
//!
//! The store keeps queries as they were given and knows by what names they are found. Here is what they mean: [`check`] says
//! before the log what a query must not be; [`template`] fills in the parts of one that stands for many; [`mod@execute`] asks
//! the catalog. Asking takes dice, as instances come in any order unless the nearest are wanted first; so it is done by an agent and
//! never by a view.

pub mod execute;
pub mod template;

pub use execute::{Asking, execute, explain};

use std::sync::Arc;

use crate::api::Error;
use crate::api::prepared::Query;
use crate::duration;
use crate::store::Store;
use crate::store::prepared::parse;

/// In place of a token that must not be shown: nobody has this for a token.
pub(crate) const REDACTED: &str = "<hidden>";

/// Refuses a query that is wrong whatever the store holds.
///
/// # Errors
/// What is wrong, in Consul's words.
pub fn check(query: &Query) -> Result<(), Error> {
    let invalid = |why: String| Err(Error::BadQuery(format!("Invalid prepared query: {why}")));
    if query.token == REDACTED {
        return invalid(format!(
            "Bad Token '{REDACTED}', it looks like a query definition with a redacted token was submitted"
        ));
    }
    if query.service.service.is_empty() {
        return invalid("Must provide a Service name to query".to_owned());
    }
    let nearest = query.service.failover.nearest_n;
    if nearest < 0 {
        return invalid(format!("Bad NearestN '{nearest}', must be >= 0"));
    }
    if !query.dns_ttl.is_empty() {
        match duration::parse_nanos(&query.dns_ttl) {
            None => return invalid(format!("Bad DNS TTL '{}': {}", query.dns_ttl, duration::why_not(&query.dns_ttl))),
            Some(nanos) if nanos < 0 => return invalid(format!("DNS TTL '{nanos}', must be >=0")),
            Some(_) => {}
        }
    }
    if query.is_template() {
        let failed = |why: String| Error::BadQuery(format!("failed compiling template: {why}"));
        template::check(query).map_err(failed)?;
    }
    Ok(())
}

/// The query that is meant by an ID, a name, or a name that a template stands for, with all its parts filled in.
///
/// # Errors
/// If there is none, or it is a template that is asked for by its ID.
pub fn resolve(store: &Store, name: &str) -> Result<Arc<Query>, Error> {
    if name.is_empty() {
        return Err(Error::NoSuchQuery);
    }
    if let Some(query) = parse(name).and_then(|id| store.prepared_query(id)) {
        if query.is_template() {
            let what = "prepared query templates can only be resolved up by name, not by ID";
            return Err(Error::BadQuery(what.to_owned()));
        }
        return Ok(Arc::clone(query));
    }
    let query = store.prepared_query_for(name).ok_or(Error::NoSuchQuery)?;
    if !query.is_template() {
        return Ok(Arc::clone(query));
    }
    template::render(query, name).map(Arc::new).map_err(Error::BadQuery)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::prepared::Template;

    fn query(service: &str) -> Query {
        let mut query = Query { name: "q".to_owned(), ..Query::default() };
        query.service.service = service.to_owned();
        query
    }

    fn refused(query: &Query) -> String {
        check(query).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_a_query_is_told_in_the_words_of_consul() {
        assert_eq!(check(&query("s")), Ok(()));
        assert_eq!(check(&Query { dns_ttl: "10s".to_owned(), ..query("s") }), Ok(()));
        assert_eq!(refused(&query("")), "Invalid prepared query: Must provide a Service name to query");
        let token = Query { token: "<hidden>".to_owned(), ..query("s") };
        assert!(refused(&token).starts_with("Invalid prepared query: Bad Token '<hidden>', it looks like"));
        let mut far = query("s");
        far.service.failover.nearest_n = -1;
        assert_eq!(refused(&far), "Invalid prepared query: Bad NearestN '-1', must be >= 0");
        let ttl = |text: &str| refused(&Query { dns_ttl: text.to_owned(), ..query("s") });
        assert_eq!(ttl("nope"), "Invalid prepared query: Bad DNS TTL 'nope': time: invalid duration \"nope\"");
        assert_eq!(ttl("-1s"), "Invalid prepared query: DNS TTL '-1000000000', must be >=0");
    }

    #[test]
    fn what_is_wrong_with_a_template_is_found_before_it_is_stored() {
        let template = |kind: &str, regexp: &str, service: &str| Query {
            template: Template { kind: kind.to_owned(), regexp: regexp.to_owned() },
            ..query(service)
        };
        assert_eq!(check(&template("name_prefix_match", "^(.*)$", "${match(1)}")), Ok(()));
        let cases = [
            (template("nope", "", "s"), "Bad Template.Type 'nope'"),
            (template("name_prefix_match", "(", "s"), "Bad Regexp: error parsing regexp: missing closing ): `(`"),
            (
                template("name_prefix_match", "", "a${name.middle}"),
                "Bad format 'a${name.middle}' in Service.Service: unknown variable accessed: name.middle",
            ),
        ];
        for (query, why) in cases {
            assert_eq!(refused(&query), format!("failed compiling template: {why}"));
        }
        assert_eq!(check(&query("${nope")), Ok(()), "what is no template is let alone");
    }
}
