//! Whether what was typed is whole, so that Enter submits it instead of going to the next line.

/// Whether what was typed can be obeyed.
pub(crate) fn is_complete(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('\\') || matches!(text, "exit" | "quit") || ends_a_statement(text)
}

/// Whether the text ends with a semicolon that ends a statement. One in an open literal does not.
fn ends_a_statement(text: &str) -> bool {
    // A comment behind the semicolon is fine, and one more statement can only be split off where the semicolon was a real one.
    let count = |text: &str| kalamdb_sql::statement_ranges(text).map(|statements| statements.len());
    let is_blank = text
        .chars()
        .all(|character| character == ';' || character.is_whitespace());
    match (count(text), count(&format!("{text}\n SELECT 1"))) {
        (Ok(whole), Ok(longer)) => is_blank || (longer > whole && whole > 0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_its_semicolon() {
        let check = |text: &str, expected: bool| assert_eq!(is_complete(text), expected, "{text}");
        check("SELECT 1;\n", true);
        check("SELECT 1\n", false);
        check("SELECT 1; SELECT 2", false);
        check("SELECT ';\n", false);
        check("SELECT 1 -- ;\n", false);
        check("SELECT 1; -- that is all\n", true);
        check("SELECT 1 /* ;", false);
        check("SELECT ';';\n", true);
        check("SELECT \"a;", false);
        check("SELECT $$ ;", false);
        check("SELECT $$ ; $$;", true);
        check("SELECT $x$ ; $$ ;", false);
        check("-- nothing;\n", false);
        check(";", true);
        check("\\d shop.orders", true);
        check("quit", true);
        check("quit the", false);
    }
}
