//! Regular expressions that users give, and what is wrong with them in the words of Go, which Consul's users know.

use regex::Regex;
use regex_syntax::ast;
use regex_syntax::ast::parse::Parser;

/// The most memory that an expression may take: as it comes from a user of this machine, a slip is all that it guards
/// against.
const SIZE: usize = 10 << 20;

/// Reads an expression.
pub(crate) fn compile(text: &str) -> Result<Regex, String> {
    if let Err(error) = Parser::new().parse(text) {
        return Err(format!("error parsing regexp: {}", in_go_s_words(&error)));
    }
    let compiled = regex::RegexBuilder::new(text).size_limit(SIZE).build();
    compiled.map_err(|error| format!("error parsing regexp: {error}"))
}

fn in_go_s_words(error: &ast::Error) -> String {
    let (from, to) = (error.span().start.offset, error.span().end.offset);
    let whole = error.pattern();
    let part = whole.get(from..to).unwrap_or_default();
    match error.kind() {
        ast::ErrorKind::GroupUnclosed => format!("missing closing ): `{whole}`"),
        ast::ErrorKind::GroupUnopened => format!("unexpected ): `{whole}`"),
        ast::ErrorKind::ClassUnclosed => format!("missing closing ]: `{}`", whole.get(from..).unwrap_or_default()),
        ast::ErrorKind::RepetitionMissing => {
            // What the parser marks is the empty place before the operator.
            let operator = whole.get(from..).and_then(|rest| rest.chars().next()).unwrap_or_default();
            format!("missing argument to repetition operator: `{operator}`")
        }
        ast::ErrorKind::EscapeUnexpectedEof => "trailing backslash at end of expression: ``".to_owned(),
        ast::ErrorKind::EscapeUnrecognized => format!("invalid escape sequence: `{part}`"),
        other => format!("{other}: `{part}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_as_go_tells_them() {
        let told = |text| compile(text).unwrap_err();
        assert_eq!(told("("), "error parsing regexp: missing closing ): `(`");
        assert_eq!(told("a)"), "error parsing regexp: unexpected ): `a)`");
        assert_eq!(told("x[a"), "error parsing regexp: missing closing ]: `[a`");
        assert_eq!(told("*"), "error parsing regexp: missing argument to repetition operator: `*`");
        assert_eq!(told("\\"), "error parsing regexp: trailing backslash at end of expression: ``");
        assert!(compile("^al").unwrap().is_match("alive"));
    }
}
