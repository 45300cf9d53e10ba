//! Is everything running, and if not: what is wrong, and what to do.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use maud::{Markup, html};
use protocol::Timestamp;
use protocol::control::{ChildState, Collected, PlantStatus};

use crate::Portal;
use crate::language::{Words, fill};
use crate::update::standing::is_under_way;
use crate::verdict::{Finding, Gravity, child, child_name, child_state, findings};
use crate::visitor::Visitor;

use super::finding::{class, headline, sign};
use super::{View, layout};

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor) -> Markup {
    let words = visitor.words();
    let body = html! {
        h1.unseen { (words.overview) }
        div #live { (fragment(portal.plant_status().as_ref(), words)) }
    };
    layout::page(&portal, visitor, View::Overview, &body)
}

pub fn fragment(status: Option<&PlantStatus>, words: &Words) -> Markup {
    let findings = findings(status, words);
    html! {
        @if let [first, others @ ..] = findings.as_slice() {
            (headline(first))
            @if !others.is_empty() { (also(others, words)) }
        }
        @if let Some(status) = status {
            (facts(status, words))
            (programs(status, words))
            @if !details(status).is_empty() {
                section aria-labelledby="messages" {
                    h2 #messages { (words.messages) }
                    ul.messages { @for message in details(status) { li { (message) } } }
                }
            }
        } @else {
            (version(daemon::version(), None, words))
        }
    }
}

fn also(others: &[Finding], words: &Words) -> Markup {
    html! {
        section aria-labelledby="also" {
            h2 #also { (words.also) }
            ul.also {
                @for finding in others {
                    li class=(class(finding.gravity)) {
                        strong { (sign(finding.gravity)) " " (finding.sentence) } " " (finding.advice)
                    }
                }
            }
        }
    }
}

fn facts(status: &PlantStatus, words: &Words) -> Markup {
    let collected = status.collected.as_ref();
    let pulled = status.exported.as_ref().and_then(|exported| exported.last_success);
    html! {
        dl.facts {
            (fact(words.rate, &html! { (rate(collected, words)) }))
            (fact(words.last_pulled, &pulled.map_or_else(|| html! { (words.not_yet) }, |time| ago(time, words))))
            (fact(words.buffer_left, &html! { (buffer_left(collected, words)) }))
            (fact(words.waiting, &html! { (words.number(status.spool_readings as f64, 0)) }))
            (fact(words.version, &running_version(&status.version, (status.phase == "trial").then_some(words.on_trial))))
        }
    }
}

fn version(version: &str, note: Option<&str>, words: &Words) -> Markup {
    html! { dl.facts { (fact(words.version, &running_version(version, note))) } }
}

fn running_version(version: &str, note: Option<&str>) -> Markup {
    html! { (version) @if let Some(note) = note { " (" (note) ")" } }
}

fn fact(label: &str, value: &Markup) -> Markup {
    html! { div { dt { (label) } dd { (value) } } }
}

fn rate(collected: Option<&Collected>, words: &Words) -> String {
    collected.map_or_else(|| words.unknown.to_owned(), |collected| words.number(collected.readings_per_second, 1))
}

fn buffer_left(collected: Option<&Collected>, words: &Words) -> String {
    match collected.map(|collected| collected.spool_seconds_left) {
        None => words.unknown.to_owned(),
        Some(None) => words.buffer_idle.to_owned(),
        Some(Some(seconds)) => words.hours_of(seconds),
    }
}

fn ago(time: Timestamp, words: &Words) -> Markup {
    html! { time datetime=(time) title=(time) { (words.ago(Timestamp::now().since(time))) } }
}

fn programs(status: &PlantStatus, words: &Words) -> Markup {
    let tasks = [("collector", words.collector_task), ("agent", words.agent_task), ("portal", words.portal_task)];
    html! {
        section aria-labelledby="programs" {
            h2 #programs { (words.programs) }
            ul.programs {
                @for (name, task) in tasks { (program(status, name, task, words)) }
            }
        }
    }
}

fn program(status: &PlantStatus, name: &str, task: &str, words: &Words) -> Markup {
    let state = child_state(status, name);
    let (gravity, state_words) = in_words(state, is_under_way(status), words);
    let running = child(status, name).filter(|_| matches!(state, ChildState::Running | ChildState::NotReady));
    let restarts = child(status, name).map_or(0, |child| child.restarts);
    html! {
        li {
            span.name { strong { (child_name(name, words)) } " " span.task { (task) } }
            span.state {
                span class=(class(gravity)) { (sign(gravity)) " " (state_words) }
                @if let Some(child) = running {
                    " " span.task { (fill(words.since, &words.span(Duration::from_secs(child.uptime_seconds)))) }
                }
                @if restarts > 0 {
                    " " span.task { (fill(words.restarts, &words.number(restarts as f64, 0))) }
                }
            }
        }
    }
}

fn in_words<'a>(state: ChildState, updating: bool, words: &Words) -> (Gravity, &'a str) {
    match state {
        // An update stops and starts them all; whether the new ones do their work is what it waits to see.
        ChildState::NotReady | ChildState::Stopped if updating => (Gravity::Normal, words.state_starting),
        ChildState::Starting => (Gravity::Normal, words.state_starting),
        ChildState::Running => (Gravity::Normal, words.state_running),
        ChildState::NotReady => (Gravity::Attention, words.state_not_ready),
        ChildState::Waiting => (Gravity::Fault, words.state_waiting),
        ChildState::CrashLoop => (Gravity::Fault, words.state_crash_loop),
        ChildState::BadConfiguration => (Gravity::Fault, words.state_bad_configuration),
        ChildState::Unlicensed => (Gravity::Fault, words.state_unlicensed),
        ChildState::Stopped => (Gravity::Fault, words.state_stopped),
    }
}

/// What the programs themselves say of it, for whoever is called.
fn details(status: &PlantStatus) -> Vec<String> {
    let mut details = status.problems.clone();
    if let Some(collected) = &status.collected {
        let failing = collected.sources.iter().filter(|(_, source)| !source.up);
        let failing = failing.filter_map(|(name, source)| Some(format!("{name}: {}", source.error.as_ref()?)));
        for detail in failing.chain(collected.store_error.clone()) {
            // The supervisor has mostly said so.
            if !details.iter().any(|said| said.contains(&detail)) {
                details.push(detail);
            }
        }
    }
    details
}
