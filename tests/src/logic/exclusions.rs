//! The list of records that do not hold, each with one reason: read, written, asked.
//!
//! A file's name stands on a line of its own; the lines below it, indented, give a reason and the places of records. A
//! reason with a `?` is a guess of the recording run, which a person has to confirm; until then the list is not valid.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Columns that a line of the list may take.
const WIDTH: usize = 120;

macro_rules! reasons {
    ($($(#[doc = $why:literal])+ $reason:ident => $name:literal),* $(,)?) => {
        /// Why a record of DataFusion's files does not hold here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Reason {
            $($(#[doc = $why])+ $reason),*
        }

        impl Reason {
            const ALL: &[Reason] = &[$(Reason::$reason),*];

            /// As the list names it.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$reason => $name),* }
            }

            /// What it means, in a sentence.
            pub fn why(self) -> &'static str {
                match self { $(Reason::$reason => concat!($($why),+)),* }
            }
        }
    };
}

reasons! {
    /// It reads or writes files outside the package, or a table made from them.
    ExternalData => "external-data",
    /// It uses a table or function that DataFusion's runner registers in Rust.
    RustContext => "rust-context",
    /// It expects the text of a plan: operators of DataFusion's own tables, its partitions, its statistics.
    PlanText => "plan-text",
    /// It sets or shows an option of DataFusion's runtime, or expects what only that option does.
    RuntimeOptions => "runtime-options",
    /// It is a statement of DataFusion alone: PREPARE, CREATE FUNCTION, CREATE DATABASE and the like.
    OtherStatement => "other-statement",
    /// It names DataFusion's catalog, or expects what its information_schema shows of it.
    CatalogNames => "catalog-names",
    /// It expects an encoding that leaves as its plain type here: views, dictionaries, run ends.
    PlainTypes => "plain-types",
    /// It declares what tables refuse by design: a constraint that would be ignored, a bounded text, an unknown option.
    RefusedByDesign => "refused-by-design",
    /// It means something else here, as in PostgreSQL or as documented: exact decimals, `->` of JSON, columns of DESCRIBE.
    OtherMeaning => "other-meaning",
    /// It expects rows in an order that the statement does not ask for.
    Unordered => "unordered",
    /// It expects an error of DataFusion's where the statement works here.
    WorksHere => "works-here",
    /// It needs a statement that is still to be built.
    NotBuilt => "not-built",
    /// It shows a mistake of ours that is still to be mended.
    Mistake => "mistake",
}

/// The committed list.
#[derive(Clone, Debug, Default)]
pub struct Exclusions {
    /// At least so many records hold.
    pub least: usize,
    /// By file, then by place.
    by_file: BTreeMap<String, BTreeMap<String, Listed>>,
}

/// A reason, and whether a person stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) reason: Reason,
    pub(super) is_guess: bool,
}

impl Exclusions {
    /// Reads the list.
    ///
    /// # Errors
    /// The first line that is wrong, and how.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut list = Exclusions::default();
        let mut file = None;
        for (index, line) in text.lines().enumerate() {
            let wrong = |how: &str| format!("line {}: {how}: {line}", index + 1);
            let content = line.split('#').next().unwrap_or_default();
            if content.trim().is_empty() {
                continue;
            }
            if let Some(number) = content.strip_prefix("least ") {
                list.least = number.trim().parse().map_err(|_| wrong("not a number"))?;
            } else if content.starts_with(' ') {
                let file: &String = file.as_ref().ok_or_else(|| wrong("no file before it"))?;
                let (reason, places) = content
                    .split_once(':')
                    .ok_or_else(|| wrong("no reason before a colon"))?;
                let listed = Listed::parse(reason.trim()).ok_or_else(|| wrong("not one of the reasons"))?;
                let of_file = list.by_file.entry(file.clone()).or_default();
                for place in places.split_ascii_whitespace() {
                    if of_file.insert(place.to_owned(), listed).is_some() {
                        return Err(wrong(&format!("{place} has a reason already")));
                    }
                }
            } else {
                file = Some(content.trim().to_owned());
            }
        }
        Ok(list)
    }

    pub(super) fn insert(&mut self, file: &str, place: &str, listed: Listed) {
        self.by_file
            .entry(file.to_owned())
            .or_default()
            .insert(place.to_owned(), listed);
    }

    pub(super) fn get(&self, file: &str, place: &str) -> Option<Listed> {
        self.by_file.get(file)?.get(place).copied()
    }

    /// The part about the files with these names, and the rest. The number of records that hold is of all, and goes with the
    /// rest.
    pub fn split(mut self, names: &[&str]) -> (Self, Self) {
        let mut chosen = Exclusions::default();
        for name in names {
            chosen.by_file.extend(self.by_file.remove_entry(*name));
        }
        (chosen, self)
    }

    /// Both together; the number of the other one counts unless that is empty.
    pub fn joined(mut self, other: Self) -> Self {
        if other.least > 0 {
            self.least = other.least;
        }
        self.by_file.extend(other.by_file);
        self
    }

    /// Every record that is listed.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str, Listed)> {
        self.by_file.iter().flat_map(|(file, places)| {
            places
                .iter()
                .map(move |(place, listed)| (file.as_str(), place.as_str(), *listed))
        })
    }

    /// The text that [`Exclusions::parse`] reads.
    pub fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for reason in Reason::ALL {
            let _ = writeln!(text, "#   {:<18} {}", reason.name(), reason.why().trim()); // A String takes all.
        }
        let _ = writeln!(text, "\nleast {}", self.least); // Likewise.
        for (file, places) in &self.by_file {
            let _ = writeln!(text, "\n{file}"); // Likewise.
            let listed: BTreeSet<Listed> = places.values().copied().collect();
            for listed in listed {
                let mut of_it: Vec<&str> = places
                    .iter()
                    .filter(|(_, other)| **other == listed)
                    .map(|(place, _)| place.as_str())
                    .collect();
                of_it.sort_by_key(|place| order(place));
                wrap(&mut text, &listed.text(), &of_it);
            }
        }
        text
    }
}

const HEAD: &str = "\
# Records of DataFusion's sqllogictest files (package datafusion-sqllogictest) that do not hold over Flight SQL, by file, reason
# and line. Everything else holds, hot and flushed. `LOGIC_TESTS=record` with the test writes this list anew: it keeps the
# reasons given here and guesses those of new records, with a question mark, for a person to confirm.
#
";

impl Listed {
    fn parse(text: &str) -> Option<Self> {
        let (name, is_guess) = match text.strip_suffix('?') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let reason = Reason::ALL.iter().copied().find(|reason| reason.name() == name)?;
        Some(Listed { reason, is_guess })
    }

    fn text(self) -> String {
        format!("{}{}", self.reason.name(), if self.is_guess { "?" } else { "" })
    }
}

/// Included files first, then lines as numbers.
fn order(place: &str) -> (bool, &str, usize) {
    let (file, line) = place.rsplit_once(':').unwrap_or(("", place));
    (file.is_empty(), file, line.parse().unwrap_or(usize::MAX))
}

fn wrap(text: &mut String, reason: &str, places: &[&str]) {
    let start = format!("  {reason}:");
    let mut line = start.clone();
    for place in places {
        if line.len() + 1 + place.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.clone_from(&start);
        }
        line.push(' ');
        line.push_str(place);
    }
    text.push_str(&line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_reads_as_it_is_written() {
        let mut list = Exclusions {
            least: 7,
            ..Exclusions::default()
        };
        let sure = |reason| Listed {
            reason,
            is_guess: false,
        };
        for line in 100..180 {
            list.insert("a/b.slt", &line.to_string(), sure(Reason::PlanText));
        }
        list.insert("a/b.slt", "init.slt.part:9", sure(Reason::Mistake));
        let guess = Listed {
            reason: Reason::NotBuilt,
            is_guess: true,
        };
        list.insert("c.slt", "2", guess);
        let text = list.to_text();
        assert!(text.lines().skip(20).all(|line| line.len() <= WIDTH), "{text}");
        let read = Exclusions::parse(&text).expect("it is as it was written");
        assert_eq!((read.least, &read.by_file), (7, &list.by_file));
        assert_eq!(read.to_text(), text);
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, how) in [
            ("  plan-text: 1", "line 1: no file before it"),
            ("a.slt\n  plan-texts: 1", "line 2: not one of the reasons"),
            ("a.slt\n  plan-text 1", "line 2: no reason before a colon"),
            ("a.slt\n  plan-text: 1\n  mistake: 1", "line 3: 1 has a reason already"),
            ("least many", "line 1: not a number"),
        ] {
            let error = Exclusions::parse(text).expect_err(text);
            assert!(error.starts_with(how), "{error}");
        }
    }
}
