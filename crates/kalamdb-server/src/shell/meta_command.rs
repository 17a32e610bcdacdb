//! The shell's own commands: lines that begin with a backslash.

use std::path::PathBuf;

use clap::ValueEnum as _;

use crate::shell::output::OutputFormat;

/// A command of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MetaCommand {
    Help,
    Quit,
    /// All tables, or those like a pattern with `*`.
    List(Option<String>),
    /// One table, by the parts of its name.
    Describe(Vec<String>),
    /// How long statements take; without a word the other way than now.
    Timing(Option<bool>),
    /// Records in place of tables, and back.
    Expanded,
    /// Without a word, which it is.
    Format(Option<OutputFormat>),
    /// Without a word, back to the terminal.
    Output(Option<PathBuf>),
}

/// Each command with its value and what it does.
const COMMANDS: &[(&str, &str, &str)] = &[
    (
        "\\d",
        "[name | pattern]",
        "list tables (* stands for anything), or describe one",
    ),
    ("\\format", "[table|record|csv|json|parquet]", "how rows are printed"),
    ("\\o", "[file]", "rows go to a file; without one, to the terminal again"),
    ("\\q", "", "leave; so does Ctrl-D"),
    ("\\timing", "[on|off]", "print how long each statement takes"),
    ("\\x", "", "a line for each column, or tables again"),
    ("\\?", "", "this list"),
];

const KEYS: &str = "\
A statement ends with ; and may have many lines. Enter goes to the next line until it is complete.
Up, Down   earlier statements            Ctrl-R   search them
Tab        complete                      Ctrl-C   cancel the statement
Alt-Enter  a new line, whatever comes    Ctrl-L   clear the screen
";

/// The commands' names.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    COMMANDS.iter().map(|(name, _, _)| *name)
}

/// The words that a command takes.
pub(crate) fn values(name: &str) -> &'static [&'static str] {
    match name {
        "\\format" => &["table", "record", "csv", "json", "parquet"],
        "\\timing" => &["on", "off"],
        _ => &[],
    }
}

/// What `\?` prints.
pub(crate) fn help() -> String {
    let mut text = String::new();
    for (name, value, about) in COMMANDS {
        let usage = format!("{name} {value}");
        text.push_str(&format!("{usage:<41}{about}\n"));
    }
    text.push('\n');
    text.push_str(KEYS);
    text
}

/// Reads a line that begins with a backslash.
///
/// # Errors
/// A message for people.
pub(crate) fn parse(line: &str) -> Result<MetaCommand, String> {
    // Out of habit.
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    let given = (!argument.is_empty()).then_some(argument);
    let none = |command: MetaCommand| match given {
        None => Ok(command),
        Some(argument) => Err(format!("{name} takes no value, and '{argument}' is one")),
    };
    match name {
        "\\?" | "\\h" | "\\help" => none(MetaCommand::Help),
        "\\q" | "\\quit" => none(MetaCommand::Quit),
        "\\x" => none(MetaCommand::Expanded),
        "\\d" => match given {
            None => Ok(MetaCommand::List(None)),
            Some(pattern) if pattern.contains('*') => Ok(MetaCommand::List(Some(pattern.to_owned()))),
            Some(name) => table_name(name).map(MetaCommand::Describe),
        },
        "\\timing" => match given {
            None => Ok(MetaCommand::Timing(None)),
            Some("on") => Ok(MetaCommand::Timing(Some(true))),
            Some("off") => Ok(MetaCommand::Timing(Some(false))),
            Some(other) => Err(format!("\\timing is on or off, not '{other}'")),
        },
        "\\format" => match given {
            None => Ok(MetaCommand::Format(None)),
            Some(word) => OutputFormat::from_str(word, true)
                .map(|format| MetaCommand::Format(Some(format)))
                .map_err(|_| format!("there is no format '{word}'; there are {}", values(name).join(", "))),
        },
        "\\o" => Ok(MetaCommand::Output(given.map(PathBuf::from))),
        other => Err(format!("there is no command {other}; \\? lists them")),
    }
}

/// `namespace.table`, each part in quotes or folded to lower case.
fn table_name(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("'{text}' is not the name of a table; write namespace.table");
    let (words, ending) = crate::shell::words::words(text);
    let mut parts = Vec::new();
    for (index, word) in words.iter().enumerate() {
        if index % 2 == 1 {
            if word.text != "." {
                return Err(wrong());
            }
            continue;
        }
        parts.push(word.name().ok_or_else(wrong)?);
    }
    if ending != crate::shell::words::Ending::Plain || words.len() % 2 == 0 {
        return Err(wrong());
    }
    Ok(parts)
}

/// Whether a pattern stands for a table: `*` is any text, and without a dot it is about names alone.
pub(crate) fn is_like(pattern: &str, namespace: &str, name: &str) -> bool {
    let pattern = pattern.to_lowercase();
    if pattern.contains('.') {
        matches(&pattern, &format!("{namespace}.{name}").to_lowercase())
    } else {
        matches(&pattern, &name.to_lowercase())
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_commands() {
        let check = |line: &str, expected: MetaCommand| assert_eq!(parse(line), Ok(expected), "{line}");
        check("\\?", MetaCommand::Help);
        check(" \\q;", MetaCommand::Quit);
        check("\\x", MetaCommand::Expanded);
        check("\\d", MetaCommand::List(None));
        check("\\d shop.*", MetaCommand::List(Some("shop.*".to_owned())));
        check(
            "\\d Shop.\"My.Table\" ;",
            MetaCommand::Describe(vec!["shop".to_owned(), "My.Table".to_owned()]),
        );
        check("\\timing", MetaCommand::Timing(None));
        check("\\timing off", MetaCommand::Timing(Some(false)));
        check("\\format CSV", MetaCommand::Format(Some(OutputFormat::Csv)));
        check("\\format", MetaCommand::Format(None));
        check(
            "\\o /tmp/a file.csv",
            MetaCommand::Output(Some(PathBuf::from("/tmp/a file.csv"))),
        );
        check("\\o", MetaCommand::Output(None));
    }

    #[test]
    fn what_is_no_command_is_said() {
        let check = |line: &str, word: &str| {
            let message = parse(line).expect_err(line);
            assert!(message.contains(word), "{message}");
        };
        check("\\nothing", "\\nothing");
        check("\\format xml", "parquet");
        check("\\timing maybe", "maybe");
        check("\\q now", "now");
        check("\\d a; DROP TABLE a", "not the name");
        check("\\d a.", "not the name");
        check("\\d \"a", "not the name");
        check("\\d 1", "not the name");
    }

    #[test]
    fn patterns_stand_for_tables() {
        let check =
            |pattern: &str, expected: bool| assert_eq!(is_like(pattern, "shop", "Orders"), expected, "{pattern}");
        check("*", true);
        check("or*", true);
        check("*er*", true);
        check("*ers", true);
        check("shop.*", true);
        check("*.orders", true);
        check("system.*", false);
        check("o*x*s", false);
        check("orders*s", false);
    }

    #[test]
    fn help_names_every_value() {
        let help = help();
        for name in names() {
            assert!(help.contains(name), "{name}");
            for value in values(name) {
                assert!(help.contains(value), "{value}");
                assert!(parse(&format!("{name} {value}")).is_ok(), "{name} {value}");
            }
        }
    }
}
