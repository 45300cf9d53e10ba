//! What has happened here, the newest first.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use maud::{Markup, html};
use protocol::control::{Event, EventKind};

use crate::Portal;
use crate::language::{Words, fill};
use crate::plant_link::NoAnswer;
use crate::verdict::{Gravity, child_name};
use crate::visitor::Visitor;

use super::finding::{class, sign};
use super::{View, layout, moment, unanswered};

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor) -> Markup {
    let words = visitor.words();
    let body = html! {
        h1.unseen { (words.events) }
        div #live { (fragment(portal.link.events().await, words)) }
    };
    layout::page(&portal, visitor, View::Events, &body)
}

pub fn fragment(events: Result<Arc<Vec<Event>>, NoAnswer>, words: &Words) -> Markup {
    match events {
        Err(no_answer) => unanswered(&no_answer, words.watchdog, words),
        Ok(events) if events.is_empty() => html! { p { (words.no_events) } },
        Ok(events) => html! {
            table.list {
                thead {
                    tr {
                        th scope="col" { (words.time) }
                        th scope="col" { (words.event) }
                        th scope="col" { (words.detail) }
                    }
                }
                tbody {
                    @for event in events.iter() {
                        @let (gravity, sentence, detail) = in_words(event, words);
                        tr {
                            th scope="row" { (moment(event.time)) }
                            td {
                                @match gravity {
                                    Gravity::Fault | Gravity::Attention => span class=(class(gravity)) { (sign(gravity)) " " (sentence) },
                                    _ => (sentence),
                                }
                            }
                            td.text { (detail) }
                        }
                    }
                }
            }
        },
    }
}

/// Details are in the words of whoever noticed it.
fn in_words(event: &Event, words: &Words) -> (Gravity, String, String) {
    let Event { subject, detail, .. } = event;
    let program = || child_name(subject, words).to_owned();
    let count = |text: &str| text.parse::<f64>().map_or_else(|_| text.to_owned(), |number| words.number(number, 0));
    let (gravity, sentence) = match event.kind {
        EventKind::Started => (Gravity::Normal, fill(words.event_started, subject)),
        EventKind::Stopped => (Gravity::Normal, words.event_stopped.to_owned()),
        EventKind::Restarted if detail == "asked" => (Gravity::Normal, fill(words.event_restarted, &program())),
        EventKind::Restarted => (Gravity::Attention, fill(words.event_fell, &program())),
        EventKind::CrashLoop => (Gravity::Fault, fill(words.crash_loop, &program())),
        EventKind::BadConfiguration => (Gravity::Fault, fill(words.bad_configuration, &program())),
        EventKind::ConfigurationMistake => (Gravity::Attention, words.event_mistake.to_owned()),
        EventKind::ConfigurationTaken => (Gravity::Normal, words.event_taken.to_owned()),
        EventKind::Unlicensed => (Gravity::Fault, words.unlicensed.to_owned()),
        EventKind::SourceSilent => (Gravity::Attention, fill(words.source_down, subject)),
        EventKind::SourceBack => (Gravity::Normal, fill(words.event_source_back, subject)),
        EventKind::SourceGone => (Gravity::Normal, fill(words.event_source_gone, subject)),
        EventKind::PinChanged => (Gravity::Normal, words.event_pin_changed.to_owned()),
        EventKind::RestartAsked => (Gravity::Normal, words.event_restart_asked.to_owned()),
        EventKind::DatabaseAway => (Gravity::Attention, words.event_database_away.to_owned()),
        EventKind::DatabaseBack => (Gravity::Normal, words.event_database_back.to_owned()),
        EventKind::LosingBegan => (Gravity::Fault, words.event_losing.to_owned()),
        EventKind::LosingEnded => (Gravity::Attention, fill(words.event_lost, &count(detail))),
        EventKind::ReadingsSetAside => (Gravity::Attention, fill(words.set_aside, &count(detail))),
        EventKind::ClockJumped => (Gravity::Attention, fill(words.event_clock, &count(detail))),
        EventKind::UpdateReceived => (Gravity::Normal, fill(words.update_waiting, subject)),
        EventKind::UpdateApproved => (Gravity::Normal, fill(words.event_approved, subject)),
        EventKind::PackageRefused => (Gravity::Attention, fill(words.event_refused, subject)),
        EventKind::LockedOut => {
            let seconds = detail.parse().unwrap_or(0);
            (Gravity::Attention, fill(words.event_locked, &words.span(Duration::from_secs(seconds))))
        }
        EventKind::Other => (Gravity::Normal, subject.clone()),
    };
    // What stands in the sentence already is not said twice.
    let told = match event.kind {
        EventKind::LosingEnded | EventKind::LosingBegan => subject.clone(),
        EventKind::ConfigurationTaken => {
            subject.split(", ").map(|name| child_name(name, words)).collect::<Vec<_>>().join(", ")
        }
        EventKind::ReadingsSetAside | EventKind::ClockJumped => String::new(),
        EventKind::RestartAsked => subject.clone(),
        EventKind::LockedOut | EventKind::PinChanged => {
            let place = match subject.as_str() {
                "portal" => words.in_the_portal,
                "remote" => words.from_elsewhere,
                _ => words.on_this_pc,
            };
            place.to_owned()
        }
        EventKind::Restarted if detail == "hung" => words.event_hung.to_owned(),
        EventKind::Restarted => String::new(),
        _ => detail.clone(),
    };
    (gravity, sentence, told)
}
