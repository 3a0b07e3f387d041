use proptest::prelude::*;

use super::*;

fn refusal(expression: &str) -> String {
    compile(expression).map_or_else(|why| why.to_string(), |_| "no error".to_owned())
}

#[test]
fn errors_are_gos() {
    for (expression, expected) in [
        ("(", "missing closing ): `(`"),
        ("a(b|c", "missing closing ): `a(b|c`"),
        ("a)b", "unexpected ): `a)b`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("+?", "missing argument to repetition operator: `+?`"),
        ("(*)", "missing argument to repetition operator: `*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a+?*x", "invalid nested repetition operator: `+?*`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{9999999999}", "invalid repeat count: `{9999999999}`"),
        ("a{5,2}", "invalid repeat count: `{5,2}`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[]a", "missing closing ]: `[]a`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:nosuch:]]", "invalid character class range: `[:nosuch:]`"),
        (r"\p{Nosuch}", r"invalid character class range: `\p{Nosuch}`"),
        (r"\pX", r"invalid character class range: `\pX`"),
        (r"\p{Han", r"invalid character class range: `\p{Han`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        (r"\q", r"invalid escape sequence: `\q`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\xg", r"invalid escape sequence: `\xg`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<a b>x)", "invalid named capture: `(?P<a b>`"),
        ("(?:(?:(?:a{1000}){1000}){1000}){1000}", "expression too large: `(?:(?:(?:a{1000}){1000}){1000}){1000}`"),
    ] {
        assert_eq!(refusal(expression), format!("error parsing regexp: {expected}"), "{expression}");
    }
}

#[test]
fn what_go_matches_is_matched_and_nothing_else() {
    for (expression, text, expected) in [
        ("", "anything", true),
        ("^web-[0-9]+$", "web-12", true),
        ("^web-[0-9]+$", "web-12\n", false),
        ("a{,2}", "a{,2}", true),
        ("a{", "a{", true),
        ("a{02}", "aa", false),
        ("a{2,3}$", "caaa", true),
        ("^a{2}?$", "aa", true),
        (r"^\d$", "٣", false),
        (r"^\d$", "3", true),
        (r"^[\D]$", "٣", true),
        (r"^\s$", "\u{b}", false),
        (r"^[^\w.]+$", "é!", true),
        (r"\bé", "é", false),
        (r"\Bé", "é", true),
        (r"^\Qa.b*\E+$", "a.b***", true),
        (r"^\Qa.b", "axb", false),
        (r"^\x41\x{e9}\101\a?$", "AéA", true),
        (r"\<", "<", true),
        (r"\_\-", "_-", true),
        ("^[]a-]+$", "a]-", true),
        ("[[]", "[", true),
        ("^[a&&b]+$", "&ab", true),
        ("^[~-]+$", "--~~", true),
        (r"^[[:^alpha:]\pL]$", "é", true),
        (r"^\p{^Greek}$", "a", true),
        (r"^\P{Greek}$", "α", false),
        (r"^\pN+$", "12", true),
        ("(?i)WEB", "a web", true),
        ("(?i:w)EB", "Web", false),
        ("(?i)a(?-i)B", "aB", true),
        ("(?i)a(?-i)B", "ab", false),
        ("(?ii-s)a", "A", true),
        ("(?)a", "a", true),
        ("a(?i)*", "aaa", true),
        ("(?P<x>a)(?P<x>b)(?<y>c)", "abc", true),
        ("a|", "", true),
        ("()", "", true),
        ("^*", "x", true),
        ("a #b", "a #b", true),
        (r"[\x{D800}]", "\u{fffd}", false),
        (r"^[\x{D7FF}-\x{E000}]$", "\u{e000}", true),
        (r"[^\x{D800}]", "a", true),
        ("(?s).", "\n", true),
        (".", "\n", false),
        ("(?m)^b$", "a\nb\nc", true),
    ] {
        let compiled = compile(expression).unwrap_or_else(|why| panic!("{expression}: {why}"));
        assert_eq!(compiled.is_match(text.as_bytes()), expected, "{expression} in {text:?}");
    }
}

proptest! {
    /// Whatever Go's grammar lets pass, the engine takes: only too large ones may be refused by it, and short ones never are.
    #[test]
    fn what_is_translated_can_be_built(signs in prop::collection::vec(
        prop::sample::select(vec![
            "a", "é", "(", ")", "[", "]", "^", "-", "|", "*", "+", "?", "{", "}", "{2}", "{1,3}", ",", "\\", "d", "p", "{L}",
            "Q", "E", "(?", "i", ":", "[:", ":]", "alpha", "&&", "x", "41", "b", "B", "$", ".", "<", ">", "P", "s", "#", " ",
        ]), 0..14)) {
        let expression = signs.concat();
        if let Ok(written) = translate(&expression, "(?:") {
            prop_assert!(build(&written).is_some(), "{expression} became {written}");
        }
    }

    #[test]
    fn a_quoted_text_is_found_where_it_stands(text in "[ -\\[\\]-~é]{0,12}", after in "[a-z]{0,5}") {
        let compiled = compile(&format!("^\\Q{text}\\E{after}$")).unwrap();
        let quoted = format!("{text}{after}");
        prop_assert!(compiled.is_match(quoted.as_bytes()));
        let longer = format!("{quoted}x");
        prop_assert!(!compiled.is_match(longer.as_bytes()));
    }
}
