//! What is wrong, in the order of gravity, each thing with one sentence and what to do about it.

use protocol::control::{ChildState, ChildStatus, Collected, PlantStatus};

use crate::language::{Words, fill};
use crate::update::standing::{Standing, UnderWay, came_to_nothing, is_under_way, received, standing};

/// Below this, a full buffer is near enough to call somebody now.
const BUFFER_SHORT_SECONDS: f64 = 4.0 * 3_600.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gravity {
    Fault,
    Attention,
    Normal,
    /// Good to know, and nothing is wrong.
    Information,
}

pub struct Finding {
    pub gravity: Gravity,
    pub sentence: String,
    pub advice: String,
}

impl Finding {
    pub fn new(gravity: Gravity, sentence: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { gravity, sentence: sentence.into(), advice: advice.into() }
    }
}

/// At least one; the gravest first.
pub fn findings(status: Option<&PlantStatus>, words: &Words) -> Vec<Finding> {
    let Some(status) = status else {
        return vec![Finding::new(Gravity::Attention, words.unsupervised, words.unsupervised_advice)];
    };
    // What a collector that is down said last is no longer so.
    let alive = matches!(child_state(status, "collector"), ChildState::Running | ChildState::NotReady);
    let collected = status.collected.as_ref().filter(|_| alive);
    let mut findings = collected.map_or_else(Vec::new, |collected| of_collected(collected, words));
    // A collector without database or devices says that it is not ready; that is said better already.
    let explained = !findings.is_empty();
    for name in ["collector", "agent", "portal"] {
        findings.extend(of_child(status, name, explained, words));
    }
    let collecting = child_state(status, "collector") != ChildState::Unlicensed;
    if !status.licensed && collecting {
        findings.push(Finding::new(Gravity::Attention, words.licence_invalid, words.unlicensed_advice));
    }
    let updating = is_under_way(status);
    let calm = findings.iter().all(|finding| finding.gravity == Gravity::Normal);
    // What programs report while an update restarts them is for it to judge.
    if calm && !updating && !status.problems.is_empty() {
        findings.push(Finding::new(Gravity::Attention, words.reported, words.reported_advice));
    }
    if findings.is_empty() && !updating {
        findings.push(Finding::new(Gravity::Normal, words.running, words.running_advice));
    }
    findings.extend(of_update(status, words));
    findings.sort_by_key(|finding| finding.gravity);
    findings
}

pub fn child<'a>(status: &'a PlantStatus, name: &str) -> Option<&'a ChildStatus> {
    status.children.iter().find(|child| child.name == name)
}

pub fn child_state(status: &PlantStatus, name: &str) -> ChildState {
    child(status, name).map_or(ChildState::Stopped, |child| child.state)
}

/// A child's name as people say it; an unknown one as it is.
pub fn child_name<'a>(name: &'a str, words: &Words) -> &'a str {
    match name {
        "collector" => words.collector,
        "agent" => words.agent,
        "portal" => words.portal,
        _ => name,
    }
}

fn of_child(status: &PlantStatus, name: &str, explained: bool, words: &Words) -> Option<Finding> {
    let updating = is_under_way(status);
    let (gravity, sentence, advice) = match child_state(status, name) {
        ChildState::Running => return None,
        // An update stops and starts them all, and that is said better already.
        ChildState::Starting | ChildState::NotReady | ChildState::Stopped if updating => return None,
        // Whoever reads this page has a portal.
        ChildState::Stopped if name == "portal" => return None,
        ChildState::NotReady if name == "collector" && explained => return None,
        ChildState::Starting => (Gravity::Normal, words.starting, words.starting_advice),
        ChildState::NotReady => (Gravity::Attention, words.not_ready, words.crash_loop_advice),
        ChildState::Waiting | ChildState::Stopped => (Gravity::Fault, words.down, words.down_advice),
        ChildState::CrashLoop => (Gravity::Fault, words.crash_loop, words.crash_loop_advice),
        ChildState::BadConfiguration => (Gravity::Fault, words.bad_configuration, words.bad_configuration_advice),
        ChildState::Unlicensed => (Gravity::Fault, words.unlicensed, words.unlicensed_advice),
    };
    Some(Finding::new(gravity, fill(sentence, child_name(name, words)), advice))
}

fn of_collected(collected: &Collected, words: &Words) -> Vec<Finding> {
    let mut findings = Vec::new();
    // While an update holds the collector back, nobody expects the database to take anything.
    if collected.store_error.is_some() && collected.holding.is_none() {
        let left = collected.spool_seconds_left;
        let short = left.is_some_and(|left| left < BUFFER_SHORT_SECONDS);
        let gravity = if short { Gravity::Fault } else { Gravity::Attention };
        let left = left.map_or_else(|| words.unknown.to_owned(), |left| words.hours_of(left));
        findings.push(Finding::new(gravity, words.store_away, fill(words.store_away_advice, &left)));
    }
    if collected.sources_mistake.is_some() {
        findings.push(Finding::new(Gravity::Attention, words.sources_mistake, words.bad_configuration_advice));
    }
    let silent: Vec<&str> =
        collected.sources.iter().filter(|(_, source)| !source.up).map(|(name, _)| name.as_str()).collect();
    if !silent.is_empty() {
        let sentence = fill(words.source_down, &silent.join(", "));
        findings.push(Finding::new(Gravity::Fault, sentence, words.source_down_advice));
    }
    if collected.set_aside > 0 {
        let sentence = fill(words.set_aside, &words.number(collected.set_aside as f64, 0));
        findings.push(Finding::new(Gravity::Attention, sentence, words.set_aside_advice));
    }
    let dropped: u64 = collected.dropped.values().sum();
    if dropped > 0 {
        let sentence = fill(words.dropped, &words.number(dropped as f64, 0));
        findings.push(Finding::new(Gravity::Attention, sentence, words.dropped_advice));
    }
    findings
}

fn of_update(status: &PlantStatus, words: &Words) -> Option<Finding> {
    match standing(status) {
        Standing::Waiting(pending) => {
            let sentence = received(pending, words);
            Some(Finding::new(Gravity::Information, sentence, words.update_waiting_advice))
        }
        Standing::UnderWay(under_way) => Some(update_under_way(under_way, words)),
        Standing::Failed(pending) => {
            let sentence = came_to_nothing(pending, words);
            let advice = format!("{} {}", fill(words.previous_runs, &status.version), words.update_failed_advice);
            Some(Finding::new(Gravity::Attention, sentence, advice))
        }
        Standing::Postponed(_) | Standing::Done(_) | Standing::Nothing => None,
    }
}

pub fn update_under_way(under_way: UnderWay, words: &Words) -> Finding {
    if under_way.back {
        return Finding::new(Gravity::Information, words.update_back, words.update_back_advice);
    }
    let sentence = match under_way.version {
        Some(version) => fill(words.updating_to, version),
        None => words.updating.to_owned(),
    };
    Finding::new(Gravity::Information, sentence, words.updating_advice)
}
