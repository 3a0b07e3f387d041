//! Rules in all their forms.

use std::fmt::Write;

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;

fn keys(rules: &str) -> Vec<(&'static str, Option<Access>)> {
    let policy = Policy::parse(rules).unwrap_or_else(|bad| panic!("{rules}: {bad}"));
    ["a", "b", "c"].map(|name| (name, policy.keys.of(name.as_bytes()))).to_vec()
}

fn wrong(rules: &str) -> String {
    Policy::parse(rules).expect_err(rules).0
}

#[test]
fn one_rule_has_many_forms() {
    let all = [
        "key \"a\" {\n  policy = \"read\"\n}\nkey \"b\" {\n  policy = \"write\"\n}\n",
        "key \"a\" { policy = \"read\" }\r\nkey \"b\" { policy = \"write\" }",
        "key \"a\" { policy = \"read\" } key \"b\" { policy = \"write\" }",
        "\"key\" \"a\" { \"policy\" = \"read\" }, key b { policy = \"write\" }",
        "key \"a\" { comment = \"x\" policy = \"read\" } key \"b\" { policy = \"write\", since = 3 }",
        "# one\nkey /* two { */ \"a\" { // three }\n policy = \"read\" # four }\n } Key \"b\" { Policy = \"write\" }",
        "key \"b\" { policy = \"deny\" } key \"a\" { policy = \"read\" } key \"b\" { policy = \"write\" }",
        "key = { \"a\" = { policy = \"read\" } \"b\" = { policy = \"write\" } }",
        "key = { \"a\" = { policy = \"read\" }, b: { policy = \"write\" }, }",
        "key = { \"a\" { policy = \"read\" } \"b\" { policy = \"write\" } }",
        "key = [{ a = { policy = \"read\" } }, { b = [{ policy = \"write\" }] }]",
        r#"{"key": {"a": {"policy": "read"}, "b": {"policy": "write"}}}"#,
        r#" {"key": [{"a": {"policy": "read"}}, {"b": [{"policy": "write"}]}], "unknown": [1, null, true]}"#,
    ];
    for rules in all {
        assert_eq!(keys(rules), [("a", Some(Access::Read)), ("b", Some(Access::Write)), ("c", None)], "{rules}");
    }
}

#[test]
fn there_are_rules_by_prefix_and_rules_for_the_whole() {
    let policy = Policy::parse(
        "key \"\" { policy = \"read\" } service \"s\" { policy = \"write\" } event \"e\" { policy = \"deny\" }
         query \"q\" { policy = \"read\" } keyring = \"write\" operator = \"read\" exec = \"deny\"",
    )
    .unwrap();
    let mut expected = Policy {
        keyring: Some(Access::Write),
        operator: Some(Access::Read),
        exec: Some(Access::Deny),
        ..Policy::default()
    };
    expected.keys.insert("", Access::Read);
    expected.services.insert("s", Access::Write);
    expected.events.insert("e", Access::Deny);
    expected.queries.insert("q", Access::Read);
    assert_eq!(policy, expected);
}

#[test]
fn what_says_nothing_is_no_rule() {
    let nothing = [
        "",
        " \n",
        "# only a comment",
        "/* only a comment */",
        "unknown \"x\" { policy = \"bogus\" }",
        "unknown \"x\" \"y\" { z { policy = \"bogus\" } }",
        "unknown = [1, 2, { a = -3.5e7 }]",
        "keyring = \"\" operator = \"\" exec = \"\"",
        "{}",
        r#"{"unknown": {"a": 1}}"#,
    ];
    for rules in nothing {
        assert_eq!(Policy::parse(rules), Ok(Policy::default()), "{rules}");
    }
}

#[test]
fn strings_are_taken_as_they_are() {
    for (text, prefix) in
        [(r"a\tb\\\u00e9", "a\tb\\é"), ("${a}%{b}$${c}", "${a}%{b}$${c}"), ("# /* { //", "# /* { //"), ("ü", "ü")]
    {
        let policy = Policy::parse(&format!("key \"{text}\" {{ policy = \"read\" }}")).unwrap();
        let mut expected = Policy::default();
        expected.keys.insert(prefix, Access::Read);
        assert_eq!(policy, expected, "{text}");
    }
}

#[test]
fn an_access_that_there_is_not_is_named_as_consul_does() {
    let key = "Invalid key policy: acl.KeyPolicy{Prefix:\"\", Policy:\"bogus\"}";
    assert_eq!(wrong("key \"\" { policy = \"bogus\" }"), key);
    assert_eq!(wrong(r#"{"key": {"": {"policy": "bogus"}}}"#), key);
    assert_eq!(
        wrong("service \"a\" { policy = \"Read\" }"),
        "Invalid service policy: acl.ServicePolicy{Name:\"a\", Policy:\"Read\"}"
    );
    assert_eq!(wrong("event \"a\" {}"), "Invalid event policy: acl.EventPolicy{Event:\"a\", Policy:\"\"}");
    assert_eq!(wrong("query \"a\" { }"), "Invalid query policy: acl.PreparedQueryPolicy{Prefix:\"a\", Policy:\"\"}");
    assert_eq!(wrong("keyring = \"x\""), "Invalid keyring policy: \"x\"");
    assert_eq!(wrong("exec = \"x\""), "Invalid exec policy: \"x\"");
}

#[test]
fn what_is_no_rule_is_refused_with_its_place() {
    for (rules, place) in [
        ("nonsense {{", "At 1:11: "),
        ("key \"a\" {\n  policy = \"read\"\n", "At 2:12: "),
        ("key \"a\" { policy = }", "At 1:"),
        ("key \"a\" { policy = \"read\" }\n key \"b\" { policy \"read\" }", "At 2:"),
        ("}", "At 1:"),
        ("key \"a\" { policy = \"read }", "At 1:20: the string does not end"),
        ("\n  /* key", "At 2:3: the comment does not end"),
        ("a = 1 + f(2)", "At 1:10: illegal character '('"),
        ("a = <<EOF\nx\nEOF\n", "At 1:5: illegal character '<'"),
        ("key \"a\" { policy = \"\\q\" }", "At 1:"),
    ] {
        let text = wrong(rules);
        assert!(text.starts_with(&format!("Failed to parse ACL rules: {place}")), "{rules}: {text}");
        assert!(!text.contains('\n'), "{text}");
    }
    for rules in ["{{", "{\"key\": }", "{} x"] {
        assert!(wrong(rules).starts_with("Failed to parse ACL rules: "), "{rules}");
    }
}

#[test]
fn a_rule_has_one_prefix_and_a_text() {
    let misshapen = [
        "key = \"read\"",
        "key { policy = \"read\" }",
        "key \"a\" \"b\" { policy = \"read\" }",
        "key \"a\" { policy = 3 }",
        "keyring { policy = \"read\" }",
        "operator = true",
        r#"{"key": "read"}"#,
        r#"{"exec": {"": "read"}}"#,
    ];
    for rules in misshapen {
        assert!(wrong(rules).starts_with("Failed to parse ACL rules: "), "{rules}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    for (open, close) in [("a {", "}"), ("a = {", "}"), ("a = [", "]"), ("[", "]"), ("{\"a\":", "}"), ("\"${", "}\"")] {
        for count in [17, 500, 5_000] {
            let deep = open.repeat(count);
            assert!(Policy::parse(&deep).is_err());
            assert!(Policy::parse(&format!("{deep}{}", close.repeat(count))).is_err(), "{open} {count}");
        }
    }
    assert!(wrong(&" ".repeat(MAX_RULES_BYTES + 1)).contains("65536 byte limit"));
    let rule = |number: usize| format!("key \"{number:06}\" {{ policy = \"read\" }}\n");
    let many: String = (0..1_800).map(rule).collect();
    assert!(many.len() > MAX_RULES_BYTES * 9 / 10);
    assert_eq!(Policy::parse(&many).unwrap().keys.len(), 1_800);
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Deny), Just(Access::Read), Just(Access::Write)]
}

type Rules = (&'static str, std::collections::BTreeMap<String, Access>);

fn policy() -> impl Strategy<Value = (Vec<Rules>, Vec<(&'static str, Option<Access>)>)> {
    let rules = || btree_map(r#"[a-c/${}"\\#é \n]{0,4}"#, access(), 0..5);
    let whole = || prop::option::of(access());
    ((rules(), rules(), rules(), rules()), (whole(), whole(), whole())).prop_map(
        |((k, s, e, q), (keyring, operator, exec))| {
            (
                vec![("key", k), ("service", s), ("event", e), ("query", q)],
                vec![("keyring", keyring), ("operator", operator), ("exec", exec)],
            )
        },
    )
}

fn word(access: Access) -> &'static str {
    match access {
        Access::Deny => "deny",
        Access::Read => "read",
        Access::Write => "write",
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

proptest! {
    #[test]
    fn what_was_printed_is_read_again((prefixes, wholes) in policy(), gap in prop_oneof![Just(" "), Just("\n"), Just(" # {\n"), Just(" /* \" */ ")]) {
        let mut expected = Policy::default();
        let (mut hcl, mut json) = (String::new(), serde_json::Map::new());
        for (kind, rules) in &prefixes {
            let into = match *kind {
                "key" => &mut expected.keys,
                "service" => &mut expected.services,
                "event" => &mut expected.events,
                _ => &mut expected.queries,
            };
            let mut fields = serde_json::Map::new();
            for (prefix, access) in rules {
                into.insert(prefix.as_str(), *access);
                let body = format!("{{{gap}policy{gap}={gap}\"{}\"{gap}}}", word(*access));
                write!(hcl, "{kind}{gap}{}{gap}{body}{gap}", quoted(prefix)).unwrap();
                fields.insert(prefix.clone(), serde_json::json!({ "policy": word(*access) }));
            }
            json.insert((*kind).to_owned(), fields.into());
        }
        for (kind, access) in &wholes {
            let into = match *kind {
                "keyring" => &mut expected.keyring,
                "operator" => &mut expected.operator,
                _ => &mut expected.exec,
            };
            *into = *access;
            let text = access.map_or("", word);
            write!(hcl, "{kind}{gap}={gap}\"{text}\"{gap}").unwrap();
            json.insert((*kind).to_owned(), text.into());
        }
        prop_assert_eq!(Policy::parse(&hcl), Ok(expected.clone()), "{}", hcl);
        prop_assert_eq!(Policy::parse(&serde_json::Value::from(json).to_string()), Ok(expected));
    }

    #[test]
    fn no_text_makes_it_panic(text in r#"([a-c]|key|policy|"|"a"|"read"|[{}\[\]=:,#\n/\\$ ]|//|/\*|\*/|é|0){0,40}"#) {
        let _ = Policy::parse(&text);
    }
}
