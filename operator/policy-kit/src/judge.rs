//! What a scenario expects, against what came.

use std::collections::BTreeSet;

use crate::play::{Decided, Report};
use crate::properties;
use crate::scenario::notation::{millis, placed};
use crate::scenario::{Expect, Fault, Scenario, Sites, Some1};

/// Everything that is not as expected, one sentence each; empty if all is well.
///
/// An answer that the operator would not follow is a failure whether the scenario speaks of it or not.
///
/// # Errors
/// An expectation that makes no sense in its scenario.
pub fn judge(scenario: &Scenario, report: &Report) -> Result<Vec<String>, Fault> {
    let sites = scenario.sites()?;
    let mut failures = Vec::new();
    let expected_failure = scenario.expect.iter().find_map(|expect| expect.failure.as_ref());
    match (&report.failure, expected_failure) {
        (Some(failure), None) => failures.push(format!("no answers ({}): {}", failure.kind, failure.message)),
        (Some(failure), Some(kind)) if failure.kind != *kind => {
            failures.push(format!("expected the call to fail with {kind}, it failed with {}: {}", failure.kind, failure.message));
        }
        (Some(_), Some(_)) => {
            let said = report.failure.as_ref().map_or("", |failure| failure.message.as_str());
            let words =
                scenario.expect.iter().filter(|expect| expect.failure.is_some()).filter_map(|expect| expect.message.as_ref());
            failures.extend(
                words
                    .filter(|words| !said.contains(words.as_str()))
                    .map(|words| format!("expected the failure to say {words:?}, it says {said:?}")),
            );
            return Ok(failures);
        }
        (None, Some(kind)) => failures.push(format!("expected the call to fail with {kind}, it gave answers")),
        (None, None) => {}
    }
    if report.failure.is_some() {
        return Ok(failures);
    }
    let mut may_be_rejected = BTreeSet::new();
    for (position, expect) in scenario.expect.iter().enumerate().filter(|(_, expect)| expect.failure.is_none()) {
        let field = format!("expect[{position}]");
        let id = expect.unit.or(expect.group).unwrap_or_default();
        may_be_rejected.extend(expect.rejected.as_ref().map(|_| id));
        let found: Vec<&Decided> = report.decisions.iter().filter(|decided| decided.id == id).collect();
        let wrong = One { sites: &sites, field: &field, expect, id }.judge(&found)?;
        failures.extend(wrong);
    }
    let rejected = report.decisions.iter().filter(|decided| !may_be_rejected.contains(&decided.id));
    failures.extend(rejected.filter_map(|decided| {
        let refusal = decided.rejected.as_ref()?;
        let of = decided.by.as_ref().map(|by| format!(" of {by}")).unwrap_or_default();
        Some(format!("the operator refuses the answer{of} ({}): {}", refusal.code, refusal.message))
    }));
    if scenario.properties || scenario.expect.is_empty() {
        failures.extend(properties::of_report(report));
    }
    let mut seen = BTreeSet::new();
    failures.retain(|failure| seen.insert(failure.clone()));
    Ok(failures)
}

/// One expectation.
struct One<'a> {
    sites: &'a Sites,
    field: &'a str,
    expect: &'a Expect,
    id: u32,
}

impl One<'_> {
    fn judge(&self, found: &[&Decided]) -> Result<Vec<String>, Fault> {
        let what = if self.expect.group.is_some() { "group" } else { "unit" };
        let id = self.id;
        let decided = match (found, self.expect.unanswered) {
            ([], true) => return Ok(Vec::new()),
            ([], false) => return Ok(vec![format!("{what} {id}: no answer")]),
            ([decided, ..], true) => return Ok(vec![format!("{what} {id}: expected no answer, got {}", in_words(decided))]),
            ([decided, ..], false) => *decided,
        };
        let mut wrong = Vec::new();
        let mut say = |expected: String| wrong.push(format!("{what} {id}: expected {expected}, got {}", in_words(decided)));
        match (&self.expect.rejected, &decided.rejected) {
            (Some(code), Some(refusal)) if *code != refusal.code => say(format!("the operator to refuse it with {code}")),
            (Some(code), None) => say(format!("the operator to refuse it with {code}")),
            _ => {}
        }
        self.decision(decided, &mut say)?;
        self.details(decided, &mut say)?;
        Ok(wrong)
    }

    /// Domains in the words of reports.
    fn places(&self, texts: &[String]) -> Result<Vec<String>, Fault> {
        texts.iter().map(|text| self.place(text)).collect()
    }

    fn place(&self, text: &str) -> Result<String, Fault> {
        let (key, value) = self.sites.place(self.field, text)?;
        Ok(self.sites.named(&key, &value))
    }

    fn decision(&self, decided: &Decided, say: &mut impl FnMut(String)) -> Result<(), Fault> {
        let expect = self.expect;
        let is = |decision: &str, places: &[String]| decided.decision == decision && decided.places == places;
        match &expect.within {
            Some(Some1::One(text)) => {
                let place = self.place(text)?;
                // What was refused took nothing, so the best that it names counts.
                let taken = decided.taken.as_ref().or(decided.places.first());
                if decided.decision != "within" || taken != Some(&place) {
                    say(format!("within {place}"));
                }
            }
            Some(Some1::Many(texts)) => {
                let places = self.places(texts)?;
                if !is("within", &places) {
                    say(format!("within {}", places.join(", else ")));
                }
            }
            None => {}
        }
        if let Some(text) = &expect.inside {
            let (key, value) = self.sites.place(self.field, text)?;
            let inside = self.sites.nodes_of(&key, &value);
            if decided.nodes.is_empty() || !decided.nodes.iter().all(|node| inside.contains(node.as_str())) {
                say(format!("every pod inside {}", self.sites.named(&key, &value)));
            }
        }
        if let Some(texts) = &expect.parts {
            let part = |text: &String| match placed(text) {
                (pods, Some(at)) => Ok(format!("{pods} @ {}", self.place(at)?)),
                _ => Err(Fault::new(self.field, format!("{text:?} is no part: write PODS @ PLACE, such as 4 @ rack=r1"))),
            };
            let parts = texts.iter().map(part).collect::<Result<Vec<_>, _>>()?;
            if !is("parts", &parts) {
                say(format!("parts {}", parts.join(", ")));
            }
        }
        if let Some(texts) = &expect.subgroups {
            let places = self.places(texts)?;
            if decided.subgroups != places {
                say(format!("subgroups in {}", places.join(", ")));
            }
        }
        if let Some(text) = &expect.leader {
            let place = self.place(text)?;
            if decided.leader.as_ref() != Some(&place) {
                say(format!("the leader in {place}"));
            }
        }
        if let Some(nodes) = &expect.pinned {
            nodes.iter().try_for_each(|node| self.sites.has_node(self.field, node))?;
            if !is("pinned", nodes) {
                say(format!("pinned {}", nodes.join(", ")));
            }
        }
        if let Some(texts) = &expect.preferred {
            let places = self.places(texts)?;
            if !is("preferred", &places) {
                say(format!("preferred {}", places.join(", then ")));
            }
        }
        let plain = [("unconstrained", expect.unconstrained), ("hold", expect.hold), ("refuse", expect.refuse)];
        for (word, _) in plain.into_iter().filter(|(word, wanted)| *wanted && decided.decision != *word) {
            say(word.to_owned());
        }
        Ok(())
    }

    fn details(&self, decided: &Decided, say: &mut impl FnMut(String)) -> Result<(), Fault> {
        let expect = self.expect;
        if let Some(admit) = expect.admit.filter(|admit| decided.admit != Some(*admit)) {
            say(format!("admit {admit}"));
        }
        for text in [&expect.retry, &expect.recheck].into_iter().flatten() {
            let wanted = millis(text).map_err(|message| Fault::new(self.field, message))?;
            if decided.again_ms.map(u64::from) != Some(wanted) {
                say(format!("to be asked again after {text}"));
            }
        }
        if let Some(by) = expect.by.as_ref().filter(|by| decided.by.as_ref() != Some(*by)) {
            say(format!("{by} to have the last word"));
        }
        if let Some(code) = expect.code.as_ref().filter(|code| decided.code != **code) {
            say(format!("code {code}"));
        }
        if let Some(words) = expect.message.as_ref().filter(|words| !decided.message.contains(words.as_str())) {
            say(format!("a message with {words:?}"));
        }
        let differ = |wanted: &Vec<String>, got: &Vec<String>| {
            wanted.iter().collect::<BTreeSet<_>>() != got.iter().collect::<BTreeSet<_>>()
        };
        if let Some(avoid) = expect.avoid.as_ref().filter(|avoid| differ(avoid, &decided.avoid)) {
            avoid.iter().try_for_each(|node| self.sites.has_node(self.field, node))?;
            say(format!("to avoid {avoid:?}, not {:?}", decided.avoid));
        }
        if let Some(effects) = expect.effects.as_ref().filter(|effects| differ(effects, &decided.effects)) {
            say(format!("effects {effects:?}, not {:?}", decided.effects));
        }
        Ok(())
    }
}

/// A decision as a sentence says it.
pub fn in_words(decided: &Decided) -> String {
    let places = match (&decided.taken, decided.admit) {
        (Some(taken), _) if decided.places.len() > 1 => format!(" {taken} (of {})", decided.places.join(", ")),
        (_, Some(admit)) => format!(" {admit}"),
        _ if decided.places.is_empty() => String::new(),
        _ => format!(" {}", decided.places.join(", ")),
    };
    let subgroups = match (decided.subgroups.as_slice(), &decided.leader) {
        ([], _) => String::new(),
        (domains, None) => format!(" with subgroups in {}", domains.join(", ")),
        (domains, Some(leader)) => format!(" with subgroups in {} and the leader in {leader}", domains.join(", ")),
    };
    let Decided { decision, code, message, .. } = decided;
    format!("{decision}{places}{subgroups} ({code}: {message}){}", last_word(decided))
}

/// Who of a chain decided, and what was left to it.
fn last_word(decided: &Decided) -> String {
    let Some(by) = &decided.by else { return String::new() };
    let inside = if decided.inside.is_empty() { "anywhere".to_owned() } else { format!("inside {}", decided.inside.join(", ")) };
    match decided.decision {
        _ if decided.rejected.is_some() => format!("; {by} was asked {inside}"),
        "hold" | "refuse" => format!("; {by} left nothing, asked {inside}"),
        _ => format!("; {by} had the last word, asked {inside}"),
    }
}
