//! One file a page; what a page shows live is its fragment, which the feed sends again when it changes.

pub mod badge;
mod chart;
pub mod events;
mod finding;
pub mod help;
mod layout;
pub mod overview;
pub mod readings;
pub mod sessions;
pub mod settings;
pub mod trend;
pub mod update;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use maud::{Markup, html};
use protocol::Timestamp;
use serde::Deserialize;

use crate::Portal;
use crate::language::{Words, fill};
use crate::plant_link::NoAnswer;
use crate::visitor::Visitor;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    #[default]
    Overview,
    Readings,
    /// Of one tag; reached from the readings.
    Trend,
    Update,
    Sessions,
    Events,
    Settings,
    Help,
    /// A page of which only the header lives.
    NotFound,
}

impl View {
    /// Those one can go to.
    const ALL: [Self; 7] =
        [Self::Overview, Self::Readings, Self::Update, Self::Sessions, Self::Events, Self::Settings, Self::Help];

    fn path(self) -> &'static str {
        match self {
            Self::Overview | Self::NotFound => "/",
            Self::Readings => "/readings",
            Self::Trend => "/trend",
            Self::Update => "/update",
            Self::Sessions => "/sessions",
            Self::Events => "/log",
            Self::Settings => "/settings",
            Self::Help => "/help",
        }
    }

    fn title(self, words: &Words) -> &'static str {
        match self {
            Self::Overview => words.overview,
            Self::Readings => words.readings,
            Self::Trend => words.trend,
            Self::Update => words.update,
            Self::Sessions => words.sessions,
            Self::Events => words.events,
            Self::Settings => words.settings,
            Self::Help => words.help,
            Self::NotFound => words.not_found,
        }
    }

    /// The name by which the script asks for this page's events.
    fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Readings => "readings",
            Self::Trend => "trend",
            Self::Update => "update",
            Self::Sessions => "sessions",
            Self::Events => "events",
            Self::Settings => "settings",
            Self::Help => "help",
            Self::NotFound => "notfound",
        }
    }
}

/// What a browser looks at: the query of a page and of its events alike.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Looking {
    pub view: View,
    /// Words that a tag has to contain.
    pub filter: String,
    /// Counted from one.
    pub page: usize,
    /// Of a trend.
    pub tag: String,
}

/// The part of a page that lives.
pub async fn fragment(portal: &Portal, looking: &Looking, words: &Words) -> Markup {
    match looking.view {
        View::Overview => overview::fragment(portal.plant_status().as_ref(), words),
        View::Readings => readings::fragment(&portal.live.current().await, looking, words),
        View::Trend => trend::fragment(&portal.live.current().await, &looking.tag, words),
        View::Update => update::fragment(portal.plant_status().as_ref(), words),
        View::Sessions => sessions::fragment(portal.link.sessions().await, words),
        View::Events => events::fragment(portal.link.events().await, words),
        View::Settings | View::Help | View::NotFound => html! {},
    }
}

/// Readable as it is; the script puts it into the PC's own time.
fn moment(time: Timestamp) -> Markup {
    let text = time.to_string();
    let minute = text.get(..16).unwrap_or(&text).replace('T', " ");
    html! { time.moment datetime=(text) { (minute) " UTC" } }
}

/// Of a program that was asked for a list.
fn unanswered(no_answer: &NoAnswer, program: &str, words: &Words) -> Markup {
    html! {
        p.notice.attention role="status" {
            span.sign aria-hidden="true" { "!" } " " (fill(words.is_silent, program))
            @if let NoAnswer::Refused(text) = no_answer { " " (text) }
        }
    }
}

pub async fn not_found(State(portal): State<Arc<Portal>>, visitor: Visitor) -> impl IntoResponse {
    let words = visitor.words();
    let body = html! {
        h1 { (words.not_found) }
        p { a.button href=(View::Overview.path()) { (words.to_overview) } }
    };
    (StatusCode::NOT_FOUND, layout::page(&portal, visitor, View::NotFound, &body))
}
