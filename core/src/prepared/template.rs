//! Queries that stand for many: their parts are filled in by the name that they are asked for.
//!
//! In the service's name, in the names of nodes and datacenters and in tags, `${name.full}` is the name that was asked for,
//! `${name.prefix}` the template's own, `${name.suffix}` what follows that in the full one, and `${match(N)}` the N-th group of
//! the template's expression, the whole match being the 0th. `$${` stands for `${` itself.

use crate::api::prepared::Query;
use crate::event::pattern;

/// The one kind of templates that there is.
const NAME_PREFIX_MATCH: &str = "name_prefix_match";

/// Says what is wrong with a template.
///
/// # Errors
/// The reason, in Consul's words where it is one of Consul's.
pub fn check(query: &Query) -> Result<(), String> {
    let kind = &query.template.kind;
    if kind != NAME_PREFIX_MATCH {
        return Err(format!("Bad Template.Type '{kind}'"));
    }
    render(query, &query.name).map(drop)
}

/// The query that a template becomes for this name. It keeps the template's own name and its ID.
///
/// # Errors
/// As [`check`], which was asked before the template was kept.
pub fn render(query: &Query, name: &str) -> Result<Query, String> {
    let names = Names::of(query, name)?;
    let mut query = query.clone();
    let service = &mut query.service;
    names.fill(&mut service.service, || ".Service".to_owned())?;
    for (at, datacenter) in service.failover.datacenters.iter_mut().flatten().enumerate() {
        names.fill(datacenter, || format!(".Failover.Datacenters[{at}]"))?;
    }
    names.fill(&mut service.near, || ".Near".to_owned())?;
    for (at, tag) in service.tags.iter_mut().flatten().enumerate() {
        names.fill(tag, || format!(".Tags[{at}]"))?;
    }
    Ok(query)
}

/// What the parts of a template stand for.
struct Names<'a> {
    full: &'a str,
    prefix: &'a str,
    suffix: &'a str,
    groups: Vec<String>,
}

impl<'a> Names<'a> {
    fn of(query: &'a Query, full: &'a str) -> Result<Self, String> {
        let prefix = query.name.as_str();
        let begins = full.get(..prefix.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(prefix));
        let suffix = if begins { &full[prefix.len()..] } else { full };
        let mut groups = Vec::new();
        if !query.template.regexp.is_empty() {
            let regexp = pattern::compile_with_groups(&query.template.regexp);
            let regexp = regexp.map_err(|why| format!("Bad Regexp: {why}"))?;
            let text = |found: regex::bytes::Match<'_>| String::from_utf8_lossy(found.as_bytes()).into_owned();
            let captures = regexp.captures(full.as_bytes());
            // A group that took no part is empty.
            groups.extend(
                captures.iter().flat_map(|found| found.iter().map(|group| group.map(text).unwrap_or_default())),
            );
        }
        Ok(Self { full, prefix, suffix, groups })
    }

    /// Puts what they stand for in the place of all parts of a text. `path` is where it stands in the query's service.
    fn fill(&self, text: &mut String, path: impl Fn() -> String) -> Result<(), String> {
        if text.contains("${") {
            *text = self.filled(text).map_err(|why| format!("Bad format '{text}' in Service{}: {why}", path()))?;
        }
        Ok(())
    }

    fn filled(&self, text: &str) -> Result<String, String> {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            let (before, after) = (&rest[..at], &rest[at + 2..]);
            if let Some(before) = before.strip_suffix('$') {
                filled.push_str(before);
                filled.push_str("${");
                rest = after;
                continue;
            }
            filled.push_str(before);
            let end = after.find('}').ok_or("expected closing brace, but found the end of the text")?;
            filled.push_str(self.part(after[..end].trim())?);
            rest = &after[end + 1..];
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn part(&self, part: &str) -> Result<&str, String> {
        if let Some((function, argument)) = part.strip_suffix(')').and_then(|call| call.split_once('(')) {
            if function.trim() != "match" {
                return Err(format!("unknown function called: {}", function.trim()));
            }
            let number: i64 = argument.trim().parse().map_err(|_| format!("match takes a number, not '{argument}'"))?;
            let group = usize::try_from(number).ok().and_then(|number| self.groups.get(number));
            // Which groups there are may depend on the name.
            return Ok(group.map_or("", String::as_str));
        }
        match part {
            "name.full" => Ok(self.full),
            "name.prefix" => Ok(self.prefix),
            "name.suffix" => Ok(self.suffix),
            other => Err(format!("unknown variable accessed: {other}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::prepared::{Failover, Service, Template};

    fn template(name: &str, regexp: &str, service: Service) -> Query {
        let template = Template { kind: NAME_PREFIX_MATCH.to_owned(), regexp: regexp.to_owned() };
        Query { name: name.to_owned(), template, service, ..Query::default() }
    }

    /// What a text becomes, of a template `geo-` with this expression.
    fn filled(text: &str, regexp: &str, name: &str) -> Result<String, String> {
        let service = Service { service: text.to_owned(), ..Service::default() };
        render(&template("geo-", regexp, service), name).map(|query| query.service.service)
    }

    #[test]
    fn names_are_filled_in_wherever_there_is_text() {
        let service = Service {
            service: "${name.full}".to_owned(),
            near: "${name.suffix}".to_owned(),
            tags: Some(vec!["a".to_owned(), "!${name.prefix}x".to_owned()]),
            failover: Failover { nearest_n: 2, datacenters: Some(vec!["${match(1)}".to_owned()]) },
            only_passing: true,
        };
        let rendered = render(&template("geo-", "^geo-(..)", service), "geo-db-master").unwrap();
        assert_eq!((&*rendered.name, &*rendered.template.regexp), ("geo-", "^geo-(..)"));
        let expected = Service {
            service: "geo-db-master".to_owned(),
            near: "db-master".to_owned(),
            tags: Some(vec!["a".to_owned(), "!geo-x".to_owned()]),
            failover: Failover { nearest_n: 2, datacenters: Some(vec!["db".to_owned()]) },
            only_passing: true,
        };
        assert_eq!(rendered.service, expected);
    }

    #[test]
    fn parts_are_told_from_plain_text() {
        let cases = [
            ("a-${ name.suffix }-$b{}-$${x}${match( 2 )}", "a-db-m-$b{}-${x}m"),
            ("${match(0)}|${match(1)}|${match(3)}|${match(4)}|${match(-1)}", "geo-db-m|db|||"),
            ("$", "$"),
        ];
        for (text, expected) in cases {
            assert_eq!(filled(text, "^geo-(.*?)-(?P<rest>[^-]*)(x)?$", "geo-db-m").as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(filled("${match(1)}!", "^nope-(.*)$", "geo-db").as_deref(), Ok("!"));
        assert_eq!(filled("${name.suffix}", "", "GEO-Db").as_deref(), Ok("Db"), "case does not matter");
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for (text, why) in [
            ("${", "expected closing brace, but found the end of the text"),
            ("${}", "unknown variable accessed: "),
            ("${nope}", "unknown variable accessed: nope"),
            ("${len(1)}", "unknown function called: len"),
            ("${match(x)}", "match takes a number, not 'x'"),
        ] {
            assert_eq!(filled(text, "", "geo-x"), Err(format!("Bad format '{text}' in Service.Service: {why}")));
        }
    }

    proptest! {
        #[test]
        fn whatever_passes_the_check_can_be_filled_in_for_any_name(text in "[a${}().n0-9 ]{0,12}|\\$\\{(match\\([0-9]\\)|name.full)\\}", name in ".{0,9}") {
            let service = Service { service: text, ..Service::default() };
            let query = template("", "(a)|(.)", service);
            if check(&query).is_ok() {
                prop_assert!(render(&query, &name).is_ok());
            }
        }
    }
}
