//! SQL text as words, and names as SQL text: for completion, history and messages. Statements are taken apart by the server's own
//! tokenizer ([`kalamdb_sql::statement_ranges`]); this one also reads text that ends in the middle.

/// A word and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub(crate) kind: Kind,
    /// As written.
    pub(crate) text: &'a str,
    /// In bytes.
    pub(crate) start: usize,
}

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A keyword or a name.
    Plain,
    /// A name in quotes; the last one may lack its end.
    Quoted,
    /// A literal: text in quotes or dollars, a number, a parameter.
    Literal,
    /// One character of anything else.
    Sign,
}

/// What the end of a text is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Plain,
    /// A name in quotes.
    Quoted,
    /// A literal or a comment: nothing in it is a name.
    Opaque,
}

impl Word<'_> {
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(crate) fn is(&self, keyword: &str) -> bool {
        self.kind == Kind::Plain && self.text.eq_ignore_ascii_case(keyword)
    }

    /// The name that it stands for: folded to lower case, or what the quotes hold.
    pub(crate) fn name(&self) -> Option<String> {
        match self.kind {
            Kind::Plain => Some(self.text.to_lowercase()),
            Kind::Quoted => {
                let inner = &self.text[1..];
                let inner = inner.strip_suffix('"').unwrap_or(inner);
                Some(inner.replace("\"\"", "\""))
            }
            Kind::Literal | Kind::Sign => None,
        }
    }
}

/// The words of a text, without comments, and what it ends in.
pub(crate) fn words(text: &str) -> (Vec<Word<'_>>, Ending) {
    let mut words: Vec<Word<'_>> = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, kind, ending) = if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        } else if rest.starts_with("--") {
            match rest.find('\n') {
                Some(end) => {
                    at += end;
                    continue;
                }
                None => return (words, Ending::Opaque),
            }
        } else if rest.starts_with("/*") {
            match comment_length(rest) {
                Some(length) => {
                    at += length;
                    continue;
                }
                None => return (words, Ending::Opaque),
            }
        } else if first == '\'' {
            let has_escapes = words.last().is_some_and(|word| word.end() == at && word.is("e"));
            let (length, is_closed) = quoted_length(rest, '\'', has_escapes);
            (
                length,
                Kind::Literal,
                if is_closed { Ending::Plain } else { Ending::Opaque },
            )
        } else if first == '"' {
            let (length, is_closed) = quoted_length(rest, '"', false);
            (
                length,
                Kind::Quoted,
                if is_closed { Ending::Plain } else { Ending::Quoted },
            )
        } else if let Some(tag) = dollar_tag(rest) {
            match rest[tag.len()..].find(tag) {
                Some(inner) => (inner + 2 * tag.len(), Kind::Literal, Ending::Plain),
                None => (rest.len(), Kind::Literal, Ending::Opaque),
            }
        } else if first.is_alphabetic() || first == '_' {
            (run_length(rest), Kind::Plain, Ending::Plain)
        } else if first.is_ascii_digit() || first == '$' {
            (1 + run_length(&rest[1..]), Kind::Literal, Ending::Plain)
        } else {
            (first.len_utf8(), Kind::Sign, Ending::Plain)
        };
        words.push(Word {
            kind,
            text: &rest[..length],
            start: at,
        });
        at += length;
        if ending != Ending::Plain {
            return (words, ending);
        }
    }
    (words, Ending::Plain)
}

fn run_length(text: &str) -> usize {
    let is_part = |character: char| character.is_alphanumeric() || matches!(character, '_' | '$');
    text.find(|character| !is_part(character)).unwrap_or(text.len())
}

/// The length of what stands in quotes, and whether it is closed. A doubled quote is one that it holds.
fn quoted_length(text: &str, quote: char, has_escapes: bool) -> (usize, bool) {
    let mut characters = text.char_indices().skip(1).peekable();
    while let Some((index, character)) = characters.next() {
        if character == '\\' && has_escapes {
            characters.next();
        } else if character == quote && characters.next_if(|(_, next)| *next == quote).is_none() {
            return (index + 1, true);
        }
    }
    (text.len(), false)
}

/// `$$` or `$tag$`.
fn dollar_tag(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('$')?;
    let length = inner.find(|character: char| !character.is_alphanumeric() && character != '_')?;
    let is_tag = inner[length..].starts_with('$') && !inner.starts_with(|character: char| character.is_ascii_digit());
    is_tag.then(|| &text[..length + 2])
}

/// Comments hold comments.
fn comment_length(text: &str) -> Option<usize> {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    None
}

/// A name as SQL text: in quotes where it is not folded to lower case already, or is a keyword.
pub(crate) fn quoted(name: &str) -> String {
    let is_plain = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
        && name
            .chars()
            .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_');
    if is_plain && !RESERVED.split_whitespace().any(|word| word == name) {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Keywords that no name can be without quotes (PostgreSQL's reserved ones, as far as names are likely to be called so).
const RESERVED: &str = "\
    all analyze and any array as asc between case cast check column constraint create cross current_role \
    current_user default desc distinct else end except false from full group having in inner intersect into is join \
    left like limit not null offset on or order outer primary references right select table then to true union \
    unique user using when where with";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_words_and_an_ending() {
        let check = |text: &str, expected: &[&str], ending: Ending| {
            let (words, found) = words(text);
            let words: Vec<&str> = words.iter().map(|word| word.text).collect();
            assert_eq!((words, found), (expected.to_vec(), ending), "{text:?}");
        };
        check(
            "SELECT a.b, 1.5;",
            &["SELECT", "a", ".", "b", ",", "1", ".", "5", ";"],
            Ending::Plain,
        );
        check(
            "'it''s' -- x\n/* a /* b */ c */ \"q\"\"r\"",
            &["'it''s'", "\"q\"\"r\""],
            Ending::Plain,
        );
        check("E'\\'' 'a\\'", &["E", "'\\''", "'a\\'"], Ending::Plain);
        check(
            "$$ a ' $x$ $$ $t$ $$ $t$ $1",
            &["$$ a ' $x$ $$", "$t$ $$ $t$", "$1"],
            Ending::Plain,
        );
        check("a 'b", &["a", "'b"], Ending::Opaque);
        check("a \"b", &["a", "\"b"], Ending::Quoted);
        check("a -- b", &["a"], Ending::Opaque);
        check("a /* /* */", &["a"], Ending::Opaque);
        check("a $$ b", &["a", "$$ b"], Ending::Opaque);
        check("größe = 語", &["größe", "=", "語"], Ending::Plain);
    }
}
