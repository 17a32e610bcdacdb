//! What the line editor asks about SQL: whether a text is a whole statement, and what Tab makes of a word.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Cmd, ConditionalEventHandler, Context, EventContext, Helper, RepeatCount};
use tokio::runtime::Handle;

use crate::shell::completeness::is_complete;
use crate::shell::completion::{Completion, complete};
use crate::shell::connection::Client;
use crate::shell::names::Names;

/// What Tab is at the beginning of a further line.
const INDENTATION: &str = "    ";

/// The editor's helper and its binding of Tab are two of one.
#[derive(Clone)]
pub(crate) struct Assistant {
    knowledge: Arc<Mutex<Knowledge>>,
}

/// What an assistant goes by.
struct Knowledge {
    runtime: Handle,
    /// Of the session that there is now.
    client: Client,
    names: Names,
    /// What names without one belong to.
    namespace: String,
    /// What is to be listed, and where the cursor was.
    listing: Option<Listing>,
}

/// Candidates that do not agree on more than there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// In bytes.
    pub(crate) cursor: usize,
    pub(crate) candidates: Vec<String>,
}

/// What Tab does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Text in place of what stands between a place and the cursor.
    Replace(usize, String),
    List(Vec<String>),
}

impl Assistant {
    /// To be made in the runtime that serves the connection; the editor's thread is another.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let knowledge = Knowledge {
            runtime: Handle::current(),
            client,
            names: Names::default(),
            namespace: namespace.to_owned(),
            listing: None,
        };
        Assistant {
            knowledge: Arc::new(Mutex::new(knowledge)),
        }
    }

    /// Tables may have been made or dropped.
    pub(crate) fn forget_names(&self) {
        self.knowledge().names.forget();
    }

    pub(crate) fn set_namespace(&self, namespace: &str) {
        namespace.clone_into(&mut self.knowledge().namespace);
    }

    /// The session that there is now.
    pub(crate) fn set_client(&self, client: &Client) {
        self.knowledge().client = client.clone();
    }

    /// What Tab left to be listed.
    pub(crate) fn take_listing(&self) -> Option<Listing> {
        self.knowledge().listing.take()
    }

    /// One thread uses it, and each change is one assignment.
    fn knowledge(&self) -> MutexGuard<'_, Knowledge> {
        self.knowledge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Knowledge {
    fn tab(&mut self, line: &str, cursor: usize) -> Step {
        let (before, after) = line.split_at(cursor);
        if is_indented(before) {
            return Step::Replace(cursor, INDENTATION.to_owned());
        }
        // The prompt holds its thread up in any case; the connection is served by another.
        tokio::task::block_in_place(|| self.runtime.block_on(self.names.refresh(&mut self.client)));
        step(complete(before, after, self.names.tables(), &self.namespace), cursor)
    }
}

/// Completes as far as the candidates agree; where they do not, lists them.
fn step(completion: Completion, cursor: usize) -> Step {
    let agreed = completion.agreed();
    if completion.candidates.len() == 1 || agreed.len() > cursor - completion.start {
        return Step::Replace(completion.start, agreed.to_owned());
    }
    if completion.candidates.is_empty() {
        return Step::Nothing;
    }
    Step::List(completion.candidates)
}

/// Whether the cursor is at the beginning of a further line.
fn is_indented(before: &str) -> bool {
    before.rsplit_once('\n').is_some_and(|(_, line)| line.trim().is_empty())
}

/// What is pasted may hold what no key gives. Of control characters line feeds and tabs are text.
pub(crate) fn without_controls(text: &str) -> Cow<'_, str> {
    let is_control = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    if text.contains(is_control) {
        Cow::Owned(text.replace(is_control, ""))
    } else {
        Cow::Borrowed(text)
    }
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {
    /// rustyline takes control characters to have no width, so without them the line is as wide.
    fn highlight<'l>(&self, line: &'l str, _cursor: usize) -> Cow<'l, str> {
        without_controls(line)
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input();
        Ok(if text.trim().is_empty() || is_complete(text) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

/// Tab. rustyline's own list of candidates is drawn over by a text of several lines, so the line is handed back where there is
/// something to list.
impl ConditionalEventHandler for Assistant {
    fn handle(&self, _: &rustyline::Event, _: RepeatCount, _: bool, context: &EventContext<'_>) -> Option<Cmd> {
        let mut knowledge = self.knowledge();
        let cursor = context.pos();
        match knowledge.tab(context.line(), cursor) {
            Step::Nothing => Some(Cmd::Noop),
            Step::Replace(..) => Some(Cmd::Complete),
            Step::List(candidates) => {
                knowledge.listing = Some(Listing { cursor, candidates });
                Some(Cmd::AcceptLine)
            }
        }
    }
}

impl Completer for Assistant {
    type Candidate = String;

    fn complete(&self, line: &str, cursor: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(match self.knowledge().tab(line, cursor) {
            Step::Replace(start, text) => (start, vec![text]),
            Step::Nothing | Step::List(_) => (cursor, Vec::new()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tab_completes_as_far_as_candidates_agree() {
        let check = |word: &str, candidates: &[&str], expected: Step| {
            let completion = Completion {
                start: 7,
                candidates: candidates.iter().map(|&candidate| candidate.to_owned()).collect(),
            };
            assert_eq!(step(completion, 7 + word.len()), expected, "{word} {candidates:?}");
        };
        let replace = |text: &str| Step::Replace(7, text.to_owned());
        let list = |candidates: &[&str]| Step::List(candidates.iter().map(|&candidate| candidate.to_owned()).collect());
        check("x", &[], Step::Nothing);
        check("n", &["\"Note\""], replace("\"Note\""));
        check("note", &["note"], replace("note"));
        check("na", &["name", "namespace"], replace("name"));
        check("name", &["name", "namespace"], list(&["name", "namespace"]));
        check("", &["id", "name"], list(&["id", "name"]));
    }

    #[test]
    fn tab_indents_further_lines() {
        let check = |before: &str, expected: bool| assert_eq!(is_indented(before), expected, "{before:?}");
        check("", false);
        check("  ", false);
        check("SELECT", false);
        check("SELECT\n", true);
        check("SELECT\n    ", true);
        check("SELECT\n  x", false);
    }

    #[test]
    fn control_characters_are_no_text() {
        let check = |text: &str, expected: &str| assert_eq!(without_controls(text), expected, "{text:?}");
        check("SELECT\t'ä語'\n;", "SELECT\t'ä語'\n;");
        check("a\u{7}b\u{9b}2Jc\u{7f}\r", "ab2Jc");
    }
}
