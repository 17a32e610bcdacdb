//! What the passes add up to, beside the list of exclusions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::exclusions::{Exclusions, Listed, Reason};
use super::proposal::Guesses;
use super::{FileOutcome, Verdict};

/// Records that are named where they are only counted otherwise.
const SHOWN: usize = 40;

/// What one pass gave, file by file.
#[derive(Clone, Debug)]
pub struct Outcomes(pub(super) Vec<FileOutcome>);

/// Two passes beside the list.
pub struct Report {
    /// Records that were run, in one pass.
    pub records: usize,
    /// Those that hold in both passes and are not excluded.
    pub holding: usize,
    /// What makes the run fail, in words.
    pub problems: Vec<String>,
    /// Records that do not hold, excluded or not: place, text and why.
    pub failures: Vec<String>,
    failed: Vec<(String, Verdict)>,
    needless: Vec<String>,
    excluded: BTreeMap<Reason, usize>,
    by_file: Vec<(String, usize, usize)>,
}

impl Report {
    /// Compares two passes with the list.
    pub fn new(hot: &Outcomes, flushed: &Outcomes, list: &Exclusions) -> Self {
        let mut report = Report {
            records: 0,
            holding: 0,
            problems: Vec::new(),
            failures: Vec::new(),
            failed: Vec::new(),
            needless: Vec::new(),
            excluded: BTreeMap::new(),
            by_file: Vec::new(),
        };
        let mut run = BTreeSet::new();
        for (hot, flushed) in hot.0.iter().zip(&flushed.0) {
            run.extend(
                hot.verdicts
                    .iter()
                    .map(|verdict| (hot.name.as_str(), verdict.place.as_str())),
            );
            report.file(hot, flushed, list);
        }
        for (file, place, Listed { reason, is_guess }) in list.iter() {
            if is_guess {
                let message = format!("{file}:{place}: {} is a guess, confirm it", reason.name());
                report.problems.push(message);
            }
            if !run.contains(&(file, place)) {
                report
                    .problems
                    .push(format!("{file}:{place} is excluded and is no record"));
            }
        }
        if report.holding < list.least {
            let message = format!("{} records hold, and at least {} did", report.holding, list.least);
            report.problems.push(message);
        }
        report
    }

    fn file(&mut self, hot: &FileOutcome, flushed: &FileOutcome, list: &Exclusions) {
        let name = &hot.name;
        let before = self.holding;
        if hot.verdicts.len() != flushed.verdicts.len() {
            self.problems.push(format!("{name} has other records when flushed"));
        }
        for (hot, flushed) in hot.verdicts.iter().zip(&flushed.verdicts) {
            self.records += 1;
            let failed = [("", hot), ("when flushed, ", flushed)]
                .into_iter()
                .find(|(_, verdict)| verdict.failure.is_some());
            let shown = failed.map(|(when, verdict)| {
                let failure = verdict.failure.as_deref().unwrap_or_default();
                format!(
                    "{name}:{}, {when}does not hold\n{}\n{failure}",
                    verdict.place, verdict.sql
                )
            });
            match (list.get(name, &hot.place), &shown) {
                (Some(listed), shown) => {
                    *self.excluded.entry(listed.reason).or_default() += 1;
                    if shown.is_none() {
                        self.needless.push(format!("{name}:{}", hot.place));
                    }
                }
                (None, Some(shown)) => self.problems.push(shown.clone()),
                (None, None) => self.holding += 1,
            }
            self.failures.extend(shown);
            self.failed
                .extend(failed.map(|(_, verdict)| (name.clone(), Verdict::clone(verdict))));
        }
        self.by_file
            .push((name.clone(), self.holding - before, hot.verdicts.len()));
    }

    /// The list with which these passes hold. The reasons of `before` are kept, others guessed.
    pub fn exclusions(&self, before: &Exclusions) -> Exclusions {
        let mut list = Exclusions::default();
        let mut guesses: BTreeMap<&str, Guesses> = BTreeMap::new();
        for (file, verdict) in &self.failed {
            let guess = Listed {
                reason: guesses.entry(file).or_default().guess(verdict),
                is_guess: true,
            };
            list.insert(file, &verdict.place, before.get(file, &verdict.place).unwrap_or(guess));
        }
        list.least = self.records - self.failed.len();
        list
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Files with exclusions, and what holds of them:")?;
        for (name, holding, records) in self.by_file.iter().filter(|(_, holding, records)| holding < records) {
            writeln!(f, "{holding:>7} of {records:<6} {name}")?;
        }
        writeln!(f, "Excluded:")?;
        for (reason, count) in &self.excluded {
            writeln!(f, "{count:>7} {}", reason.name())?;
        }
        if !self.needless.is_empty() {
            writeln!(
                f,
                "{} records are excluded and hold by now (LOGIC_TESTS=record strikes them out): {}",
                self.needless.len(),
                self.needless
                    .iter()
                    .take(SHOWN)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(" ")
            )?;
        }
        write!(
            f,
            "DataFusion's logic tests: {} of {} records hold, hot and flushed ({} files)",
            self.holding,
            self.records,
            self.by_file.len()
        )
    }
}
