//! Regular expressions in Go's grammar, which Consul's users write: read here, and handed to the `regex` crate in its own.
//!
//! The two engines match the same languages, in linear time, but differ in what they let pass and in what a few signs
//! mean: `\d`, `\s` and `\b` know only ASCII in Go; a brace that is no repetition stands for itself; `\Q…\E` quotes; `a**` is an error.
//! Above all, users know Go's error messages. So an expression is read sign by sign as Go reads it, refused in Go's words, and
//! written anew with every literal escaped.

use std::fmt::Write as _;

use regex::bytes::{Regex, RegexBuilder};

/// The most bytes that a compiled expression may take: any that fits into an event stays far below, unless it
/// repeats repetitions.
const COMPILED_BYTES: usize = 1 << 20;
/// The most repetitions that may be asked for.
const MOST_REPEATS: u32 = 1000;

/// Why an expression is none, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{part}`")]
pub struct Invalid {
    what: &'static str,
    part: String,
}

impl Invalid {
    fn new(what: &'static str, part: &str) -> Self {
        Self { what, part: part.to_owned() }
    }
}

const CHAR_RANGE: &str = "invalid character class range";
const ESCAPE: &str = "invalid escape sequence";
const NAMED_CAPTURE: &str = "invalid named capture";
const PERL_OP: &str = "invalid or unsupported Perl syntax";
const REPEAT_OP: &str = "invalid nested repetition operator";
const REPEAT_SIZE: &str = "invalid repeat count";
const MISSING_BRACKET: &str = "missing closing ]";
const MISSING_PAREN: &str = "missing closing )";
const MISSING_ARGUMENT: &str = "missing argument to repetition operator";
const TRAILING_BACKSLASH: &str = "trailing backslash at end of expression";
const UNEXPECTED_PAREN: &str = "unexpected )";
const TOO_LARGE: &str = "expression too large";

/// An expression, ready to be searched for.
///
/// # Errors
/// If it is none in Go's grammar, or would take too much room.
pub fn compile(expression: &str) -> Result<Regex, Invalid> {
    let written = translate(expression, "(?:")?;
    build(&written).ok_or_else(|| Invalid::new(TOO_LARGE, expression))
}

/// The same, for whoever wants to know what its groups have found. They are counted as in Go, those with a name too.
///
/// # Errors
/// As [`compile`].
pub fn compile_with_groups(expression: &str) -> Result<Regex, Invalid> {
    let written = translate(expression, "(")?;
    build(&written).ok_or_else(|| Invalid::new(TOO_LARGE, expression))
}

fn build(written: &str) -> Option<Regex> {
    RegexBuilder::new(written).size_limit(COMPILED_BYTES).dfa_size_limit(COMPILED_BYTES).build().ok()
}

/// The same expression in the grammar of the `regex` crate, with `group` for whatever begins a group that is counted.
///
/// # Errors
/// If it is none in Go's.
fn translate(expression: &str, group: &'static str) -> Result<String, Invalid> {
    let mut reader = Reader { whole: expression, rest: expression, out: String::new(), last: 0, open: 0, group };
    // Whether there is something before to be repeated, and where the last repetition began, if nothing followed it.
    let (mut repeatable, mut repetition): (bool, Option<&str>) = (false, None);
    while let Some(sign) = reader.peek() {
        let before = reader.rest;
        if let Some(operator) = reader.repetition(sign)? {
            if let Some(first) = repetition {
                return Err(Invalid::new(REPEAT_OP, consumed(first, reader.rest)));
            }
            if !repeatable {
                return Err(Invalid::new(MISSING_ARGUMENT, consumed(before, reader.rest)));
            }
            // Not at the end, if flags were switched since: those cannot be repeated.
            reader.out.insert_str(reader.last, &operator);
            reader.last += operator.len();
            repetition = Some(before);
            continue;
        }
        repetition = None;
        match reader.item(sign)? {
            Item::Repeatable => (repeatable, reader.last) = (true, reader.out.len()),
            Item::Opening => repeatable = false,
            Item::Nothing => {}
        }
    }
    if reader.open > 0 {
        return Err(Invalid::new(MISSING_PAREN, expression));
    }
    Ok(reader.out)
}

/// The part of `before` that is not in `after`, its end.
fn consumed<'a>(before: &'a str, after: &str) -> &'a str {
    &before[..before.len() - after.len()]
}

/// What was read.
enum Item {
    /// Something that may be repeated.
    Repeatable,
    /// The beginning of something.
    Opening,
    /// Nothing that matches anything.
    Nothing,
}

struct Reader<'a> {
    whole: &'a str,
    rest: &'a str,
    out: String,
    /// Where in `out` the last thing ends that can be repeated.
    last: usize,
    /// Groups that are not closed yet.
    open: usize,
    /// What begins a group that is counted.
    group: &'static str,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn take(&mut self) -> Option<char> {
        let sign = self.peek()?;
        self.rest = &self.rest[sign.len_utf8()..];
        Some(sign)
    }

    fn take_if(&mut self, sign: char) -> bool {
        let found = self.peek() == Some(sign);
        if found {
            self.take();
        }
        found
    }

    /// A repetition, with the sign that makes it a reluctant one; a brace may turn out to be none.
    fn repetition(&mut self, sign: char) -> Result<Option<String>, Invalid> {
        let before = self.rest;
        let mut operator = match sign {
            '*' | '+' | '?' => {
                self.take();
                sign.to_string()
            }
            '{' => {
                let Some((least, most, after)) = braces(self.rest) else { return Ok(None) };
                self.rest = after;
                let too_many = |count: Option<u32>| count.is_none_or(|count| count > MOST_REPEATS);
                match most {
                    _ if too_many(least) => return Err(Invalid::new(REPEAT_SIZE, consumed(before, after))),
                    Some(most) if too_many(most) || most < least => {
                        return Err(Invalid::new(REPEAT_SIZE, consumed(before, after)));
                    }
                    Some(most) => format!("{{{},{}}}", least.unwrap_or(0), most.unwrap_or(0)),
                    None => format!("{{{},}}", least.unwrap_or(0)),
                }
            }
            _ => return Ok(None),
        };
        if self.take_if('?') {
            operator.push('?');
        }
        Ok(Some(operator))
    }

    /// Anything but a repetition.
    fn item(&mut self, sign: char) -> Result<Item, Invalid> {
        match sign {
            '(' if self.rest.starts_with("(?") => return self.perl_group(),
            '(' => {
                self.take();
                self.out.push_str(self.group);
                self.open += 1;
                return Ok(Item::Opening);
            }
            ')' if self.open == 0 => return Err(Invalid::new(UNEXPECTED_PAREN, self.whole)),
            ')' => {
                self.take();
                self.out.push(')');
                self.open -= 1;
            }
            '|' => {
                self.take();
                self.out.push('|');
                return Ok(Item::Opening);
            }
            '^' | '$' | '.' => {
                self.take();
                self.out.push(sign);
            }
            '[' => self.class()?,
            '\\' => return self.escape(),
            _ => {
                self.take();
                self.literal(u32::from(sign));
            }
        }
        Ok(Item::Repeatable)
    }

    fn literal(&mut self, code: u32) {
        match char::from_u32(code) {
            Some(_) => write!(self.out, "\\x{{{code:X}}}").expect("a string takes all"),
            // Half of a surrogate pair: no text has it.
            None => self.out.push_str(NOTHING),
        }
    }

    /// `(?…`: flags, a group without a number, or one with a name.
    fn perl_group(&mut self) -> Result<Item, Invalid> {
        let before = self.rest;
        for opening in ["(?P<", "(?<"] {
            let Some(named) = before.strip_prefix(opening) else { continue };
            let Some(end) = named.find('>') else { return Err(Invalid::new(NAMED_CAPTURE, before)) };
            let (name, after) = (&named[..end], &named[end + 1..]);
            if name.is_empty() || !name.chars().all(|sign| sign == '_' || sign.is_ascii_alphanumeric()) {
                return Err(Invalid::new(NAMED_CAPTURE, consumed(before, after)));
            }
            self.rest = after;
            self.out.push_str(self.group);
            self.open += 1;
            return Ok(Item::Opening);
        }
        self.rest = &before[2..];
        let mut flags = [('i', None), ('m', None), ('s', None), ('U', None)];
        let (mut on, mut seen) = (true, false);
        while let Some(sign) = self.take() {
            match sign {
                '-' if on => (on, seen) = (false, false),
                ':' | ')' if on || seen => {
                    self.flags(&flags, sign);
                    return Ok(if sign == ':' { Item::Opening } else { Item::Nothing });
                }
                _ => match flags.iter_mut().find(|(flag, _)| *flag == sign) {
                    Some((_, value)) => (*value, seen) = (Some(on), true),
                    None => break,
                },
            }
        }
        Err(Invalid::new(PERL_OP, consumed(before, self.rest)))
    }

    fn flags(&mut self, flags: &[(char, Option<bool>)], end: char) {
        let with = |wanted: bool| -> String {
            flags.iter().filter(|(_, value)| *value == Some(wanted)).map(|(flag, _)| *flag).collect()
        };
        let (on, off) = (with(true), with(false));
        let minus = if off.is_empty() { "" } else { "-" };
        if end == ':' {
            self.open += 1;
        } else if on.is_empty() && off.is_empty() {
            return;
        }
        write!(self.out, "(?{on}{minus}{off}{end}").expect("a string takes all");
    }

    /// A backslash outside of a class.
    fn escape(&mut self) -> Result<Item, Invalid> {
        let before = self.rest;
        let second = before[1..].chars().next();
        let written = match second {
            Some('A') => Some("\\A"),
            Some('z') => Some("\\z"),
            Some('b') => Some("(?-u:\\b)"),
            Some('B') => Some("(?-u:\\B)"),
            _ => None,
        };
        if let Some(written) = written {
            self.rest = &before[2..];
            self.out.push_str(written);
            return Ok(Item::Repeatable);
        }
        match second {
            Some('C') => return Err(Invalid::new(ESCAPE, &before[..2])),
            Some('Q') => {
                let quoted = &before[2..];
                let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                self.rest = after;
                text.chars().for_each(|sign| self.literal(u32::from(sign)));
                return Ok(if text.is_empty() { Item::Nothing } else { Item::Repeatable });
            }
            _ => {}
        }
        if let Some(class) = self.named_class()? {
            write!(self.out, "[{class}]").expect("a string takes all");
        } else {
            let code = self.escaped_sign()?;
            self.literal(code);
        }
        Ok(Item::Repeatable)
    }

    /// `\d` and its like, and `\p{Greek}`, in or outside of a class: what a class has to hold.
    fn named_class(&mut self) -> Result<Option<String>, Invalid> {
        let before = self.rest;
        let Some(letter) = before.strip_prefix('\\').and_then(|rest| rest.chars().next()) else { return Ok(None) };
        let perl = match letter.to_ascii_lowercase() {
            'd' => Some("0-9"),
            's' => Some("\\t\\n\\x0C\\r\\x20"),
            'w' => Some("0-9A-Za-z_"),
            _ => None,
        };
        if let Some(class) = perl {
            self.rest = &before[2..];
            let not = if letter.is_ascii_uppercase() { "^" } else { "" };
            return Ok(Some(format!("[{not}{class}]")));
        }
        if !matches!(letter, 'p' | 'P') {
            return Ok(None);
        }
        self.rest = &before[2..];
        let name = match self.take() {
            Some('{') => {
                let Some(end) = self.rest.find('}') else { return Err(Invalid::new(CHAR_RANGE, before)) };
                let name = &self.rest[..end];
                self.rest = &self.rest[end + 1..];
                name
            }
            _ => consumed(&before[2..], self.rest),
        };
        let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let letter = if negated == (letter == 'p') { 'P' } else { 'p' };
        let class = format!("\\{letter}{{{name}}}");
        let is_name = !name.is_empty() && name.chars().all(|sign| sign == '_' || sign.is_ascii_alphanumeric());
        if !is_name || build(&class).is_none() {
            return Err(Invalid::new(CHAR_RANGE, consumed(before, self.rest)));
        }
        Ok(Some(class))
    }

    /// A backslash and the one sign that it stands for.
    fn escaped_sign(&mut self) -> Result<u32, Invalid> {
        let before = self.rest;
        self.take();
        let Some(sign) = self.take() else { return Err(Invalid::new(TRAILING_BACKSLASH, "")) };
        let code = match sign {
            '0' => Some(self.octal(0)),
            '1'..='7' if self.peek().is_some_and(|next| next.is_digit(8)) => Some(self.octal(u32::from(sign) - 48)),
            'x' => self.hexadecimal(),
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            _ if sign.is_ascii() && !sign.is_ascii_alphanumeric() => Some(u32::from(sign)),
            _ => None,
        };
        code.ok_or_else(|| Invalid::new(ESCAPE, consumed(before, self.rest)))
    }

    fn octal(&mut self, first: u32) -> u32 {
        let mut code = first;
        for _ in 0..2 {
            let Some(digit) = self.peek().and_then(|sign| sign.to_digit(8)) else { break };
            self.take();
            code = code * 8 + digit;
        }
        code
    }

    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.take()?;
        if first != '{' {
            let second = self.take();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let (mut code, mut digits) = (0, 0);
        loop {
            match self.take()? {
                '}' => return (digits > 0).then_some(code),
                sign => code = code * 16 + sign.to_digit(16)?,
            }
            digits += 1;
            if code > u32::from(char::MAX) {
                return None;
            }
        }
    }

    /// A class in brackets.
    fn class(&mut self) -> Result<(), Invalid> {
        let before = self.rest;
        self.take();
        let not = if self.take_if('^') { "^" } else { "" };
        let (mut content, mut first) = (String::new(), true);
        while first || self.peek() != Some(']') {
            first = false;
            if let Some(named) = self.posix_class()? {
                content.push_str(named);
            } else if let Some(named) = self.named_class()? {
                content.push_str(&named);
            } else {
                let (low, high) = self.range(before)?;
                // No text has halves of surrogate pairs.
                let low = if char::from_u32(low).is_none() { 0xE000 } else { low };
                let high = if char::from_u32(high).is_none() { 0xD7FF } else { high };
                if low <= high {
                    write!(content, "\\x{{{low:X}}}-\\x{{{high:X}}}").expect("a string takes all");
                }
            }
        }
        self.take();
        match (content.is_empty(), not.is_empty()) {
            (false, _) => write!(self.out, "[{not}{content}]").expect("a string takes all"),
            (true, true) => self.out.push_str(NOTHING),
            (true, false) => self.out.push_str("[\\x{0}-\\x{10FFFF}]"),
        }
        Ok(())
    }

    /// `[:alpha:]` within a class.
    fn posix_class(&mut self) -> Result<Option<&'a str>, Invalid> {
        let Some(inner) = self.rest.strip_prefix("[:") else { return Ok(None) };
        let Some(end) = inner.find(":]") else { return Ok(None) };
        let (class, after) = self.rest.split_at(end + 4);
        let name = inner[..end].trim_start_matches('^');
        if inner[..end].len() - name.len() > 1 || !POSIX.contains(&name) {
            return Err(Invalid::new(CHAR_RANGE, class));
        }
        self.rest = after;
        Ok(Some(class))
    }

    fn range(&mut self, class: &str) -> Result<(u32, u32), Invalid> {
        let before = self.rest;
        let low = self.class_sign(class)?;
        let mut high = low;
        if self.rest.len() >= 2 && self.rest.starts_with('-') && !self.rest.starts_with("-]") {
            self.take();
            high = self.class_sign(class)?;
            if high < low {
                return Err(Invalid::new(CHAR_RANGE, consumed(before, self.rest)));
            }
        }
        Ok((low, high))
    }

    fn class_sign(&mut self, class: &str) -> Result<u32, Invalid> {
        if self.peek() == Some('\\') {
            return self.escaped_sign();
        }
        self.take().map(u32::from).ok_or_else(|| Invalid::new(MISSING_BRACKET, class))
    }
}

/// An expression that matches nowhere.
const NOTHING: &str = "[^\\x{0}-\\x{10FFFF}]";

const POSIX: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// A number of repetitions; within, `None` if it is beyond all bounds.
type Count = Option<u32>;

/// `{3}`, `{3,}` or `{3,5}` and what follows it: at least how often, and at most, if there is an end. `None` if it is
/// nothing of the kind: then the brace stands for itself.
fn braces(text: &str) -> Option<(Count, Option<Count>, &str)> {
    let (least, rest) = number(text.strip_prefix('{')?)?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((least, Some(least), after));
    }
    let rest = rest.strip_prefix(',')?;
    if let Some(after) = rest.strip_prefix('}') {
        return Some((least, None, after));
    }
    let (most, rest) = number(rest)?;
    Some((least, Some(most), rest.strip_prefix('}')?))
}

fn number(text: &str) -> Option<(Count, &str)> {
    let end = text.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let is_number = !digits.is_empty() && (digits == "0" || !digits.starts_with('0'));
    is_number.then(|| (digits.parse().ok(), rest))
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod tests;
