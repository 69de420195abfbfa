//! Tokens to what a file mentions: rooms of the crate, and the names that have a room of their own.

use super::{
    ROOMS,
    lexer::{Token, tokens},
};

/// Something that has its place.
#[derive(Debug, PartialEq, Eq)]
pub struct Mention {
    /// Counted from 1.
    pub line: usize,
    /// `crate::<room>`, or a name from the list of rooms.
    pub what: String,
    /// Whether it stands in a `#[cfg(test)]` module.
    pub in_test: bool,
}

/// Everything that the file mentions, in its order.
pub fn mentions(path: &str, text: &str) -> Vec<Mention> {
    let mut reader = Reader { tokens: tokens(text), file: module(path), inner: Vec::new(), depth: 0, found: Vec::new() };
    let mut test_ahead = false;
    for at in 0..reader.tokens.len() {
        match reader.word(at) {
            "{" => reader.depth += 1,
            "}" => {
                reader.depth -= 1;
                test_ahead = false;
                reader.inner.pop_if(|module| module.depth > reader.depth);
            }
            ";" => test_ahead = false,
            "cfg" if reader.words(at + 1) == ["(", "test", ")"] => test_ahead = true,
            "mod" if reader.word(at + 2) == "{" => {
                let is_test = std::mem::take(&mut test_ahead);
                let name = reader.word(at + 1).to_owned();
                reader.inner.push(Inner { name, depth: reader.depth + 1, is_test });
            }
            _ => reader.path_at(at),
        }
    }
    reader.found
}

/// The module of a file: `src/source/graph/mod.rs` is `source`, `graph`.
fn module(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').filter(|part| !matches!(*part, "lib" | "main")).map(str::to_owned).collect()
}

/// A module written inside the file.
struct Inner {
    name: String,
    depth: usize,
    is_test: bool,
}

struct Reader {
    tokens: Vec<Token>,
    file: Vec<String>,
    inner: Vec<Inner>,
    depth: usize,
    found: Vec<Mention>,
}

impl Reader {
    fn word(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    fn words<const N: usize>(&self, at: usize) -> [&str; N] {
        std::array::from_fn(|offset| self.word(at + offset))
    }

    /// Notes what is mentioned by the word here, if anything is.
    fn path_at(&mut self, at: usize) {
        let begins = at == 0 || self.word(at - 1) != "::" && !matches!(self.words(at - 1), ["in", "crate"]);
        match self.words::<3>(at) {
            ["crate", "as", _] => self.mention(at, "crate::as".to_owned()),
            ["crate" | "callback_ledger", "::", _] if begins => self.tree(at + 2, &mut Vec::new()),
            ["super", "::", _] if begins => {
                let mut here = self.here();
                here.pop();
                self.tree(at + 2, &mut here);
            }
            ["Admitted", "for" | "as", _] => self.mention(at, "impl Admitted for".to_owned()),
            ["Timestamp" | "Zoned", "::", "now"] => self.mention(at, format!("{}::now", self.word(at))),
            [name, ..] if ROOMS.iter().any(|(known, _)| *known == name) => self.mention(at, name.to_owned()),
            _ => {}
        }
    }

    /// The module that is being read.
    fn here(&self) -> Vec<String> {
        self.file.iter().cloned().chain(self.inner.iter().map(|inner| inner.name.clone())).collect()
    }

    /// Follows a path, or a group of them, from a module of the crate until it has come to a room.
    fn tree(&mut self, at: usize, from: &mut Vec<String>) {
        match self.words::<3>(at) {
            ["{", ..] => {
                let (mut depth, mut next) = (0, at);
                loop {
                    match self.word(next) {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 || next >= self.tokens.len() {
                        break;
                    }
                    if depth == 1 && matches!(self.word(next), "{" | ",") && !matches!(self.word(next + 1), "}" | "self") {
                        self.tree(next + 1, &mut from.clone());
                    }
                    next += 1;
                }
            }
            ["super", "::", _] => {
                from.pop();
                self.tree(at + 2, from);
            }
            [name, ..] => {
                let room = from.first().cloned().unwrap_or_else(|| name.to_owned());
                self.mention(at, format!("crate::{room}"));
            }
        }
    }

    fn mention(&mut self, at: usize, what: String) {
        let in_test = self.inner.iter().any(|inner| inner.is_test);
        self.found.push(Mention { line: self.tokens[at].line, what, in_test });
    }
}
