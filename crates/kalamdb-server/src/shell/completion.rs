//! What the word before the cursor could be: a keyword, a table, a column, a command of the shell.

use std::collections::BTreeSet;

use crate::shell::meta_command;
use crate::shell::names::KnownTable;
use crate::shell::words::{Ending, Kind, Word, quoted, words};

/// What begins statements and clauses, and what is in most of them.
const KEYWORDS: &str = "\
    ALL ALTER ANALYZE AND AS ASC BETWEEN BIGINT BOOLEAN BY BYTEA CASCADE CASE CAST CHECK COMPACT CREATE CROSS \
    CURRENT_ROLE CURRENT_USER DATE DECIMAL DEFAULT DELETE DESC DESCRIBE DISTINCT DOUBLE DROP ELSE END EXCEPT EXECUTE \
    EXISTS EXPLAIN FALSE FILTER FLUSH FOR FROM FULL GRANT GRANTS GROUP HAVING IN INNER INSERT INTERSECT INTERVAL INTO IS \
    JOBS JOIN JSON KEY KILL LEFT LIKE LIMIT NAMESPACE NAMESPACES NOT NULL NULLS OFFSET ON OR ORDER OUTER OVER PARTITION \
    PRIMARY PRIVILEGES QUERY QUOTA QUOTAS REAL REPLACE RESET RETURNING REVOKE RIGHT ROLE SEGMENTS SELECT SESSION SET \
    SHARED SHOW SMALLINT STORAGE STORAGES STREAM TABLE TABLES TEXT THEN TIME TIMESTAMP TO TRUE TRUNCATE UNION UPDATE \
    USAGE USE USER USERS USING UUID VALUES VIEW WHEN WHERE WITH";

/// After these a table is named.
const BEFORE_TABLES: [&str; 8] = [
    "FROM", "JOIN", "INTO", "UPDATE", "TABLE", "DESCRIBE", "TRUNCATE", "USING",
];

/// The name of the only catalog.
const CATALOG: &str = "kalam";

/// Candidates for the word before the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Completion {
    /// Where that word begins, in bytes.
    pub(crate) start: usize,
    pub(crate) candidates: Vec<String>,
}

impl Completion {
    /// What all candidates begin with.
    pub(crate) fn agreed(&self) -> &str {
        let Some((first, others)) = self.candidates.split_first() else {
            return "";
        };
        let mut length = first.len();
        for other in others {
            let same = first[..length].chars().zip(other.chars()).take_while(|(a, b)| a == b);
            length = same.map(|(a, _)| a.len_utf8()).sum();
        }
        &first[..length]
    }
}

/// Candidates at the end of `before`; `after` is the rest of the text. Names without a namespace are those of `namespace`.
pub(crate) fn complete(before: &str, after: &str, tables: &[KnownTable], namespace: &str) -> Completion {
    if before.trim_start().starts_with('\\') {
        return command(before, tables, namespace);
    }
    let (all, ending) = words(before);
    if ending == Ending::Opaque {
        return Completion {
            start: before.len(),
            candidates: Vec::new(),
        };
    }
    let path = Path::before_cursor(&all, before.len());
    let previous = path.first.checked_sub(1).map(|index| all[index]);
    let begins_right = |start: &Word<'_>| start.is("GRANT") || start.is("REVOKE");
    let gives_rights = statement_around(&all, before.len()).first().is_some_and(begins_right);
    let names_a_table = previous.is_some_and(|word| {
        // Elsewhere a condition comes after ON.
        BEFORE_TABLES.iter().any(|keyword| word.is(keyword)) || gives_rights && word.is("ON")
    });
    // A name that lacks its second quote would take the rest of the text for itself.
    let quote = if ending == Ending::Quoted { "\"" } else { "" };
    let whole = format!("{before}{quote}{after}");
    let (whole_words, _) = words(&whole);
    let statement = statement_around(&whole_words, before.len());
    let mentioned = mentions(statement, tables, namespace);

    let mut found = BTreeSet::new();
    match path.qualifiers.as_slice() {
        [] => {
            for table in tables {
                if table.namespace == namespace && (names_a_table || !path.is_empty()) {
                    found.insert(quoted(&table.name));
                }
                if names_a_table || !path.is_empty() {
                    found.insert(format!("{}.", quoted(&table.namespace)));
                }
            }
            if !names_a_table {
                for mention in &mentioned {
                    found.extend(mention.table.columns.iter().map(|column| quoted(column)));
                }
            }
        }
        [one] => {
            let inside = tables.iter().filter(|table| table.namespace == *one);
            found.extend(inside.map(|table| quoted(&table.name)));
            for mention in mentioned.iter().filter(|mention| mention.alias == *one) {
                found.extend(mention.table.columns.iter().map(|column| quoted(column)));
            }
        }
        [catalog, one] if catalog == CATALOG => {
            let inside = tables.iter().filter(|table| table.namespace == *one);
            found.extend(inside.map(|table| quoted(&table.name)));
        }
        [one, two] => {
            let table = tables
                .iter()
                .find(|table| table.namespace == *one && table.name == *two);
            found.extend(
                table
                    .iter()
                    .flat_map(|table| &table.columns)
                    .map(|column| quoted(column)),
            );
        }
        _ => {}
    }
    // A name with control characters could drive the terminal that shows it: such a one is typed by hand.
    found.retain(|name| path.fits(name) && !name.contains(char::is_control));
    let mut candidates: Vec<String> = found.into_iter().collect();
    if path.qualifiers.is_empty() && !path.is_quoted && !path.is_empty() && !names_a_table {
        let is_lower = path.prefix.contains(char::is_lowercase);
        let fitting = KEYWORDS.split_whitespace().filter(|keyword| path.fits(keyword));
        for keyword in fitting {
            let keyword = if is_lower {
                keyword.to_lowercase()
            } else {
                keyword.to_owned()
            };
            if !candidates.contains(&keyword) {
                candidates.push(keyword);
            }
        }
    }
    Completion {
        start: path.start,
        candidates,
    }
}

/// Candidates for a command of the shell.
fn command(before: &str, tables: &[KnownTable], namespace: &str) -> Completion {
    let text = before.trim_start();
    let Some((name, argument)) = text.split_once(char::is_whitespace) else {
        let names = meta_command::names().filter(|name| name.starts_with(text));
        return Completion {
            start: before.len() - text.len(),
            candidates: names.map(str::to_owned).collect(),
        };
    };
    let argument = argument.trim_start();
    if name == "\\d" {
        // As where a table is named.
        let statement = format!("TABLE {argument}");
        let completion = complete(&statement, "", tables, namespace);
        return Completion {
            start: before.len() - (statement.len() - completion.start),
            candidates: completion.candidates,
        };
    }
    let values = meta_command::values(name)
        .iter()
        .filter(|value| value.starts_with(argument));
    Completion {
        start: before.len() - argument.len(),
        candidates: values.map(|&value| value.to_owned()).collect(),
    }
}

/// `a.b.c` before the cursor: what is to be completed, and what stands before it.
struct Path {
    /// Folded names, without the last one.
    qualifiers: Vec<String>,
    /// The last one as far as it is there, folded.
    prefix: String,
    is_quoted: bool,
    /// Where the last one begins, in bytes.
    start: usize,
    /// Which word the path begins with.
    first: usize,
}

impl Path {
    fn before_cursor(words: &[Word<'_>], cursor: usize) -> Self {
        let is_name = |word: &Word<'_>| matches!(word.kind, Kind::Plain | Kind::Quoted);
        let mut path = Path {
            qualifiers: Vec::new(),
            prefix: String::new(),
            is_quoted: false,
            start: cursor,
            first: words.len(),
        };
        let Some(last) = words.last().filter(|word| word.end() == cursor) else {
            return path;
        };
        if is_name(last) {
            path.prefix = match last.kind {
                Kind::Plain => last.text.to_owned(),
                _ => last.name().unwrap_or_default(),
            };
            path.is_quoted = last.kind == Kind::Quoted;
            path.start = last.start;
            path.first -= 1;
        }
        // Backwards: a dot, and a name right before it.
        while let [.., name, dot] = &words[..path.first] {
            let end = words.get(path.first).map_or(cursor, |word| word.start);
            if dot.text != "." || dot.end() != end || name.end() != dot.start || !is_name(name) {
                break;
            }
            path.qualifiers.insert(0, name.name().unwrap_or_default());
            path.first -= 2;
        }
        path
    }

    fn is_empty(&self) -> bool {
        self.prefix.is_empty() && !self.is_quoted
    }

    /// Whether a candidate begins with what is there, whatever the case.
    fn fits(&self, candidate: &str) -> bool {
        if self.is_quoted && !candidate.starts_with('"') {
            return false;
        }
        let mut letters = candidate.trim_start_matches('"').chars().flat_map(char::to_lowercase);
        self.prefix
            .chars()
            .flat_map(char::to_lowercase)
            .all(|letter| letters.next() == Some(letter))
    }
}

/// A table that a statement names.
struct Mention<'a> {
    table: &'a KnownTable,
    /// What its columns can be called by.
    alias: String,
}

/// The words of the statement that a place is in.
fn statement_around<'a, 'b>(words: &'b [Word<'a>], place: usize) -> &'b [Word<'a>] {
    let is_end = |word: &Word<'_>| word.kind == Kind::Sign && word.text == ";";
    let start = words
        .iter()
        .rposition(|word| is_end(word) && word.end() <= place)
        .map_or(0, |index| index + 1);
    let length = words[start..].iter().position(is_end).unwrap_or(words.len() - start);
    &words[start..start + length]
}

fn mentions<'t>(words: &[Word<'_>], tables: &'t [KnownTable], namespace: &str) -> Vec<Mention<'t>> {
    let mut mentions = Vec::new();
    let mut index = 0;
    while index < words.len() {
        let mut path: Vec<String> = words[index].name().into_iter().collect();
        let mut next = index + 1;
        while !path.is_empty() && words.get(next).is_some_and(|word| word.text == ".") {
            let Some(name) = words.get(next + 1).and_then(Word::name) else {
                break;
            };
            path.push(name);
            next += 2;
        }
        let (wanted_namespace, name) = match path.as_slice() {
            [name] => (namespace, name),
            [.., namespace, name] => (namespace.as_str(), name),
            [] => {
                index = next;
                continue;
            }
        };
        let table = tables
            .iter()
            .find(|table| table.namespace == wanted_namespace && table.name == *name);
        if let Some(table) = table {
            let alias = match &words[next..] {
                [as_, alias, ..] if as_.is("AS") => alias.name(),
                [alias, ..] if !KEYWORDS.split_whitespace().any(|keyword| alias.is(keyword)) => alias.name(),
                _ => None,
            };
            mentions.push(Mention {
                table,
                alias: alias.unwrap_or_else(|| name.clone()),
            });
        }
        index = next;
    }
    mentions
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Vec<KnownTable> {
        let table = |namespace: &str, name: &str, columns: &[&str]| KnownTable {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            table_type: "TABLE".to_owned(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
        };
        vec![
            table("public", "notes", &["id", "note_text", "Upper"]),
            table("shop", "orders", &["id", "order", "product_id"]),
            table("shop", "products", &["id", "name", "price"]),
            table("system", "users", &["user_id", "username"]),
        ]
    }

    /// A text with `|` at the cursor; where the completed word begins, and the candidates.
    fn check(text: &str, expected: &[&str]) {
        let (before, after) = text.split_once('|').expect("a cursor");
        let completion = complete(before, after, &tables(), "public");
        assert_eq!(completion.candidates, expected, "{text}");
    }

    #[test]
    fn keywords_keep_the_case_that_was_begun() {
        check("sel|", &["select"]);
        check("SEL|", &["SELECT"]);
        check("SELECT * FROM notes WHE|", &["WHEN", "WHERE"]);
        check("GRA|", &["GRANT", "GRANTS"]);
        check("rev|", &["revoke"]);
        check("EXEC|", &["EXECUTE"]);
        check(
            "EXECUTE AS U|",
            &["UNION", "UPDATE", "USAGE", "USE", "USER", "USERS", "USING", "UUID"],
        );
        check("|", &[]);
    }

    #[test]
    fn tables_come_where_a_table_is_named() {
        check("SELECT * FROM |", &["notes", "public.", "shop.", "system."]);
        check("SELECT * FROM n|", &["notes"]);
        check("SELECT * FROM shop.|", &["orders", "products"]);
        check("SELECT * FROM kalam.shop.p|", &["products"]);
        check("SELECT * FROM shop.or|", &["orders"]);
        check("insert into sh|", &["shop."]);
        check("SELECT * FROM nothing.|", &[]);
        check("GRANT SELECT ON n|", &["notes"]);
        check("SELECT 1; REVOKE ALL ON shop.|", &["orders", "products"]);
        check("GRANT SELECT ON TABLE n|", &["notes"]);
        check(
            "SELECT 1 FROM notes JOIN shop.orders ON not|",
            &["note_text", "notes", "not"],
        );
    }

    #[test]
    fn columns_come_from_the_tables_of_the_statement() {
        check("SELECT na| FROM shop.products", &["name", "namespace", "namespaces"]);
        check("SELECT p.| FROM shop.products AS p", &["id", "name", "price"]);
        check("SELECT p.na| FROM shop.products p", &["name"]);
        check(
            "SELECT * FROM shop.orders o JOIN shop.products p ON p.id = o.pro|",
            &["product_id"],
        );
        check(
            "SELECT shop.orders.| FROM shop.orders",
            &["\"order\"", "id", "product_id"],
        );
        check("SELECT notes.u| FROM notes", &["\"Upper\""]);
        check("SELECT \"u| FROM notes", &["\"Upper\""]);
        check("SELECT 1 FROM shop.products; SELECT note_| FROM notes", &["note_text"]);
        check(
            "SELECT pri| FROM notes; SELECT 1 FROM shop.products",
            &["primary", "privileges"],
        );
    }

    #[test]
    fn literals_and_comments_are_left_alone() {
        check("SELECT 'sel|", &[]);
        check("SELECT 1 -- sel|", &[]);
        check("SELECT $$ sel|", &[]);
    }

    #[test]
    fn commands_and_their_values() {
        check("\\ti|", &["\\timing"]);
        check("\\d sho|", &["shop."]);
        check("\\d shop.o|", &["orders"]);
        check("\\format c|", &["csv"]);
        check("\\timing o|", &["on", "off"]);
    }

    #[test]
    fn the_word_is_known_where_it_begins() {
        let start = |before: &str| complete(before, "", &tables(), "public").start;
        assert_eq!(start("SELECT na"), 7);
        assert_eq!(start("SELECT * FROM shop.or"), 19);
        assert_eq!(start("SELECT * FROM shop."), 19);
        assert_eq!(start("\\d shop.o"), 8);
        assert_eq!(start("  \\ti"), 2);
        assert_eq!(start("\\format c"), 8);
    }

    #[test]
    fn candidates_agree_on_their_beginning() {
        let check = |candidates: &[&str], expected: &str| {
            let completion = Completion {
                start: 0,
                candidates: candidates.iter().map(|&candidate| candidate.to_owned()).collect(),
            };
            assert_eq!(completion.agreed(), expected);
        };
        check(&["name", "namespace"], "name");
        check(&["größe", "größer", "grün"], "gr");
        check(&["a", "b"], "");
        check(&[], "");
    }
}
