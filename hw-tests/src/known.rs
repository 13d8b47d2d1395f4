//! Failures that are known: `known_failures.toml`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use chrono::NaiveDate;
use glob::Pattern;
use serde::Deserialize;

use crate::cases::PRESENT;

const BUILT_IN: &str = include_str!("../known_failures.toml");

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    case: Pattern,
    device: Pattern,
    pub(crate) reason: String,
    /// The last day on which it is excused.
    pub(crate) until: NaiveDate,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    known: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    case: String,
    device: String,
    reason: String,
    until: toml::value::Datetime,
}

/// Those of a file, or those built in. A case that does not exist is a slip of the pen.
pub(crate) fn load(file: Option<&Path>, cases: &[&str]) -> Result<Vec<Known>> {
    match file {
        None => parse(BUILT_IN, cases).context("the known failures built in"),
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            parse(&text, cases).with_context(|| file.display().to_string())
        }
    }
}

fn parse(text: &str, cases: &[&str]) -> Result<Vec<Known>> {
    let file: File = toml::from_str(text)?;
    file.known.into_iter().map(|entry| Known::read(&entry, cases)).collect()
}

impl Known {
    fn read(entry: &Entry, cases: &[&str]) -> Result<Self> {
        let pattern = |text: &str| Pattern::new(text).with_context(|| format!("`{text}` is no pattern"));
        let (case, device) = (pattern(&entry.case)?, pattern(&entry.device)?);
        if !cases.iter().any(|name| case.matches(name)) {
            bail!("case = \"{}\" matches no case; --list shows them", entry.case);
        }
        if entry.reason.trim().is_empty() {
            bail!("case = \"{}\" needs a reason", entry.case);
        }
        let date = entry.until.date.filter(|_| entry.until.time.is_none());
        let until = date
            .and_then(|date| NaiveDate::from_ymd_opt(date.year.into(), date.month.into(), date.day.into()))
            .with_context(|| format!("until = {} must be a day, like 2027-06-30", entry.until))?;
        Ok(Self { case, device, reason: entry.reason.clone(), until })
    }

    #[cfg(test)]
    pub(crate) fn new(case: &str, device: &str, reason: &str, until: NaiveDate) -> Self {
        let pattern = |text| Pattern::new(text).unwrap();
        Self { case: pattern(case), device: pattern(device), reason: reason.into(), until }
    }
}

/// The first that is about this. Whether a device works at all is excused by name alone: `*` means cases.
pub(crate) fn find<'a>(known: &'a [Known], case: &str, device: &str) -> Option<&'a Known> {
    let is_about =
        |pattern: &Pattern| pattern.matches(case) && (case != PRESENT || pattern.as_str() == PRESENT);
    known.iter().find(|known| is_about(&known.case) && known.device.matches(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: [&str; 2] = ["writes_are_seen_at_once", "imports_what_it_exports"];

    fn entry(case: &str, device: &str, until: &str) -> String {
        format!("[[known]]\ncase = \"{case}\"\ndevice = \"{device}\"\nreason = \"bug 7\"\nuntil = {until}\n")
    }

    #[test]
    fn patterns_match_whole_names_and_the_first_counts() {
        let text = entry("writes_*", "drm:card[12]", "2027-06-30") + &entry("*", "drm:*", "2027-07-01");
        let known = parse(&text, &CASES).unwrap();
        let day = |case, device| find(&known, case, device).map(|known| known.until.to_string());
        assert_eq!(day("writes_are_seen_at_once", "drm:card1").as_deref(), Some("2027-06-30"));
        assert_eq!(day("writes_are_seen_at_once", "drm:card3").as_deref(), Some("2027-07-01"));
        assert_eq!(day("imports_what_it_exports", "drm:card1").as_deref(), Some("2027-07-01"));
        assert_eq!(day("writes_are_seen_at_once", "dma-heap:system"), None);
    }

    #[test]
    fn that_a_device_is_broken_is_excused_by_name_alone() {
        let find = |case| {
            find(&parse(&entry(case, "*", "2027-06-30"), &[PRESENT]).unwrap(), PRESENT, "cuda").is_some()
        };
        assert!(find("present") && !find("*") && !find("pres*"));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_next_step() {
        let bad = [
            (entry("writes_*s", "*", "2027-06-30"), "--list"),
            (entry("writes_*", "[", "2027-06-30"), "no pattern"),
            (entry("writes_*", "*", "2027-06-30T10:00:00Z"), "must be a day"),
            (entry("writes_*", "*", "2027-06-30").replace("bug 7", " "), "needs a reason"),
            (entry("writes_*", "*", "2027-06-30").replace("until", "til"), "til"),
        ];
        for (text, says) in bad {
            let error = format!("{:#}", parse(&text, &CASES).unwrap_err());
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn those_built_in_can_be_read() {
        let cases: Vec<_> = crate::cases::all().map(|case| case.name).collect();
        load(None, &cases).unwrap();
    }

    /// What the file shows as an example must work when it is copied.
    #[test]
    fn the_example_in_the_file_is_one() {
        let example: String = BUILT_IN
            .lines()
            .filter_map(|line| line.strip_prefix("#   "))
            .map(|line| format!("{line}\n"))
            .collect();
        let cases: Vec<_> = crate::cases::all().map(|case| case.name).collect();
        assert_eq!(parse(&example, &cases).unwrap().len(), 1, "{example}");
    }
}
