//! Who has fetched what, and when.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use maud::{Markup, html};
use protocol::control::PastSession;

use crate::Portal;
use crate::language::Words;
use crate::plant_link::NoAnswer;
use crate::visitor::Visitor;

use super::{View, layout, moment, unanswered};

const KEY_SHOWN: usize = 12;

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor) -> Markup {
    let words = visitor.words();
    let body = html! {
        h1.unseen { (words.sessions) }
        div #live { (fragment(portal.link.sessions().await, words)) }
    };
    layout::page(&portal, visitor, View::Sessions, &body)
}

pub fn fragment(sessions: Result<Arc<Vec<PastSession>>, NoAnswer>, words: &Words) -> Markup {
    match sessions {
        Err(no_answer) => unanswered(&no_answer, words.agent, words),
        Ok(sessions) if sessions.is_empty() => html! { p { (words.no_sessions) } },
        Ok(sessions) => html! {
            table.list {
                thead {
                    tr {
                        th scope="col" { (words.time) }
                        th scope="col" { (words.from_where) }
                        th scope="col" { (words.key) }
                        th.number scope="col" { (words.readings) }
                        th.number scope="col" { (words.size) }
                        th.number scope="col" { (words.duration) }
                        th scope="col" { (words.outcome) }
                    }
                }
                tbody { @for session in sessions.iter() { (row(session, words)) } }
            }
        },
    }
}

fn row(session: &PastSession, words: &Words) -> Markup {
    let key: String = session.key.chars().take(KEY_SHOWN).collect();
    html! {
        tr {
            th scope="row" { (moment(session.time)) }
            td { (session.address) }
            td { code title=(session.key) { (key) } }
            td.number { (words.number(session.records as f64, 0)) }
            td.number { @if session.bytes > 0 { (words.size_of(session.bytes)) } @else { "–" } }
            td.number { (words.span(Duration::from_secs_f64(session.duration_seconds.clamp(0.0, 1e9)))) }
            td.text {
                @match (&session.version_delivered, &session.verdict) {
                    (Some(version), Some(verdict)) => {
                        (words.update) " " (version) ": " @if verdict == "queued" { (words.session_queued) } @else { (verdict) }
                    },
                    _ => (ended(&session.ended, words))
                }
            }
        }
    }
}

/// What the agent calls it; another word of a newer one as it is.
fn ended<'a>(word: &'a str, words: &Words) -> &'a str {
    match word {
        "whole" => words.session_whole,
        "nothing asked" => words.session_nothing,
        other => other,
    }
}
