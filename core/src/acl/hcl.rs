//! HCL as Consul reads it → HCL as the library reads it.
//!
//! Rules are written in HCL's first version, which does not care about the ends of lines; the library reads the second, which
//! does. So the text is taken apart into words, strings and marks, and put together again with each statement on a line of its
//! own; what stands where is then up to the library. This takes in what the first version allows beyond the second:
//!
//! - several blocks on a line, several attributes in a block of one line, commas between them;
//! - names in quotes, as in `"key" "foo/" { … }`;
//! - blocks within objects, as in `key = { "foo/" { … } }`;
//! - `${` in strings, which stands for itself.
//!
//! It does not take in here-documents, an attribute that is given twice in one block, and escapes beyond
//! `\n \r \t \" \\ \u \U`. And of the second version nothing is taken that the first does not have, such as operators and calls of
//! functions: none of it could be part of a rule.

use std::iter::Peekable;
use std::str::CharIndices;

use hcl::expr::{Expression, ObjectKey};
use hcl::{Body, Structure};

use super::tree::{BadRules, Tree};

/// How deep blocks, objects and lists may stand in each other. Rules need three levels at most.
const MAX_DEPTH: usize = 16;

/// Reads a text.
pub(super) fn read(text: &str) -> Result<Tree, BadRules> {
    let plain = Writer::rewrite(text)?;
    match hcl::parse(&plain.out) {
        Ok(body) => tree_of(body),
        Err(hcl::Error::Parse(error)) => {
            Err(wrong_at(text, plain.origin_of(error.location().offset()), error.message()))
        }
        Err(error) => Err(wrong_at(text, 0, &error.to_string())),
    }
}

/// What is wrong at a place of a text.
fn wrong_at(text: &str, offset: usize, what: &str) -> BadRules {
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    // The library lists what it expected on a line of its own.
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    BadRules(format!("Failed to parse ACL rules: At {line}:{column}: {what}"))
}

fn tree_of(body: Body) -> Result<Tree, BadRules> {
    let fields = body.into_inner().into_iter().map(|structure| match structure {
        Structure::Attribute(attribute) => Ok((attribute.key.into_inner(), tree_of_value(attribute.expr)?)),
        Structure::Block(block) => {
            let labels = block.labels.into_iter().rev();
            let inner =
                labels.fold(tree_of(block.body)?, |inner, label| Tree::Fields(vec![(label.into_inner(), inner)]));
            Ok((block.identifier.into_inner(), inner))
        }
    });
    fields.collect::<Result<_, _>>().map(Tree::Fields)
}

fn tree_of_value(value: Expression) -> Result<Tree, BadRules> {
    Ok(match value {
        Expression::String(text) => Tree::Text(text),
        Expression::Array(items) => Tree::List(items.into_iter().map(tree_of_value).collect::<Result<_, _>>()?),
        Expression::Object(object) => {
            let fields = object.into_iter().map(|(key, value)| match key {
                ObjectKey::Identifier(name) => Ok((name.into_inner(), tree_of_value(value)?)),
                ObjectKey::Expression(Expression::String(name)) => Ok((name, tree_of_value(value)?)),
                key => Err(BadRules(format!("Failed to parse ACL rules: {key} cannot be a name"))),
            });
            Tree::Fields(fields.collect::<Result<_, _>>()?)
        }
        _ => Tree::Other,
    })
}

/// A part of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A name, a number, or the like.
    Word(&'a str),
    /// A string, with its quotes.
    Text(&'a str),
    /// One of `{}[]=:,`.
    Mark(char),
}

/// The parts of a text, each with its place. Comments are left out.
struct Tokens<'a> {
    text: &'a str,
    chars: Peekable<CharIndices<'a>>,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, chars: text.char_indices().peekable() }
    }

    fn next(&mut self) -> Result<Option<(usize, Token<'a>)>, BadRules> {
        while let Some((at, c)) = self.chars.next() {
            return Ok(Some((
                at,
                match c {
                    c if c.is_whitespace() => continue,
                    '#' => {
                        self.skip_line();
                        continue;
                    }
                    '/' => {
                        self.skip_comment(at)?;
                        continue;
                    }
                    '"' => Token::Text(self.string(at)?),
                    '{' | '}' | '[' | ']' | '=' | ':' | ',' => Token::Mark(c),
                    c if is_of_word(c) => Token::Word(self.word(at)),
                    c => return Err(wrong_at(self.text, at, &format!("illegal character {c:?}"))),
                },
            )));
        }
        Ok(None)
    }

    fn end(&mut self) -> usize {
        self.chars.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn skip_line(&mut self) {
        while self.chars.next_if(|(_, c)| *c != '\n').is_some() {}
    }

    fn skip_comment(&mut self, at: usize) -> Result<(), BadRules> {
        match self.chars.next() {
            Some((_, '/')) => self.skip_line(),
            Some((from, '*')) => {
                let length = self.text[from + 1..].find("*/");
                let end = from + 3 + length.ok_or_else(|| wrong_at(self.text, at, "the comment does not end"))?;
                while self.chars.next_if(|(at, _)| *at < end).is_some() {}
            }
            _ => return Err(wrong_at(self.text, at, "illegal character '/'")),
        }
        Ok(())
    }

    fn string(&mut self, at: usize) -> Result<&'a str, BadRules> {
        while let Some((_, c)) = self.chars.next() {
            match c {
                '"' => return Ok(&self.text[at..self.end()]),
                '\\' => drop(self.chars.next()),
                '\n' => break,
                _ => {}
            }
        }
        Err(wrong_at(self.text, at, "the string does not end on its line"))
    }

    fn word(&mut self, at: usize) -> &'a str {
        while self.chars.next_if(|(_, c)| is_of_word(*c)).is_some() {}
        &self.text[at..self.end()]
    }
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+')
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

/// Within what a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Block,
    Object,
    List,
}

/// What came before within a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Nothing,
    Names,
    Equals,
}

/// Puts the parts together again.
struct Writer {
    out: String,
    /// Where each part now is, and where it was.
    origins: Vec<(usize, usize)>,
    stack: Vec<Within>,
    after: After,
}

impl Writer {
    fn rewrite(text: &str) -> Result<Self, BadRules> {
        let mut writer = Self { out: String::new(), origins: Vec::new(), stack: Vec::new(), after: After::Nothing };
        let mut tokens = Tokens::new(text);
        while let Some((at, token)) = tokens.next()? {
            writer.origins.push((writer.out.len(), at));
            writer.put(token);
            if writer.stack.len() > MAX_DEPTH {
                return Err(wrong_at(text, at, "nested too deeply"));
            }
        }
        writer.origins.push((writer.out.len(), text.len()));
        Ok(writer)
    }

    /// Where the part was that is now at this place.
    fn origin_of(&self, offset: usize) -> usize {
        let next = self.origins.partition_point(|(now, _)| *now <= offset);
        self.origins[next.saturating_sub(1)].1
    }

    fn put(&mut self, token: Token<'_>) {
        let within = self.stack.last().copied().unwrap_or(Within::Block);
        match (within, self.after, token) {
            (Within::List, _, token) => self.put_item(token),
            (_, After::Nothing, Token::Mark(',')) => {}
            (within, After::Nothing, Token::Mark('}')) => {
                self.out.push('}');
                self.stack.pop();
                if within == Within::Block { self.end_statement() } else { self.end_value() }
            }
            (Within::Block, After::Nothing, Token::Text(text)) if is_name(&text[1..text.len() - 1]) => {
                self.out.push_str(&text[1..text.len() - 1]);
                self.after = After::Names;
            }
            (_, After::Nothing | After::Names, Token::Word(_) | Token::Text(_)) => {
                self.out.push(' ');
                self.put_plain(token);
                self.after = After::Names;
            }
            (within, After::Names, Token::Mark(c @ ('=' | ':'))) => {
                // Only objects of the second version have colons, and mean the same.
                self.out.push(if within == Within::Object { '=' } else { c });
                self.after = After::Equals;
            }
            (Within::Block, After::Names, Token::Mark('{')) => {
                self.out.push_str("{\n");
                self.enter(Within::Block);
            }
            (Within::Object, After::Names, Token::Mark('{')) => {
                self.out.push_str("={\n");
                self.enter(Within::Object);
            }
            (_, After::Equals, Token::Mark('{')) => {
                self.out.push_str("{\n");
                self.enter(Within::Object);
            }
            (_, After::Equals, Token::Mark('[')) => {
                self.out.push('[');
                self.enter(Within::List);
            }
            (_, After::Equals, Token::Word(_) | Token::Text(_)) => {
                self.put_plain(token);
                self.end_value();
            }
            // It stands where it must not: the library says so.
            (_, _, Token::Mark(_)) => self.put_plain(token),
        }
    }

    fn put_item(&mut self, token: Token<'_>) {
        match token {
            Token::Mark('{') => {
                self.out.push_str("{\n");
                self.enter(Within::Object);
            }
            Token::Mark('[') => {
                self.out.push('[');
                self.enter(Within::List);
            }
            Token::Mark(']') => {
                self.out.push(']');
                self.stack.pop();
                self.end_value();
            }
            token => self.put_plain(token),
        }
    }

    /// As it was; but `${` and `%{` stand for themselves.
    fn put_plain(&mut self, token: Token<'_>) {
        match token {
            Token::Word(text) => self.out.push_str(text),
            Token::Text(text) => self.out.push_str(&text.replace("${", "$${").replace("%{", "%%{")),
            Token::Mark(c) => self.out.push(c),
        }
    }

    fn enter(&mut self, within: Within) {
        self.stack.push(within);
        self.after = After::Nothing;
    }

    fn end_value(&mut self) {
        if self.stack.last() != Some(&Within::List) {
            self.end_statement();
        }
    }

    fn end_statement(&mut self) {
        self.out.push('\n');
        self.after = After::Nothing;
    }
}
