//! One file a page; what a page shows live is its fragment, which the feed sends again when it changes.

pub mod badge;
mod finding;
mod layout;
pub mod overview;
pub mod readings;
pub mod update;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use maud::{Markup, html};
use serde::Deserialize;

use crate::Portal;
use crate::language::Words;
use crate::visitor::Visitor;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum View {
    #[default]
    Overview,
    Readings,
    Update,
    /// A page of which only the header lives.
    NotFound,
}

impl View {
    /// Those one can go to.
    const ALL: [Self; 3] = [Self::Overview, Self::Readings, Self::Update];

    fn path(self) -> &'static str {
        match self {
            Self::Overview | Self::NotFound => "/",
            Self::Readings => "/readings",
            Self::Update => "/update",
        }
    }

    fn title(self, words: &Words) -> &'static str {
        match self {
            Self::Overview => words.overview,
            Self::Readings => words.readings,
            Self::Update => words.update,
            Self::NotFound => words.not_found,
        }
    }

    /// The name by which the script asks for this page's events.
    fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Readings => "readings",
            Self::Update => "update",
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
}

/// The part of a page that lives.
pub async fn fragment(portal: &Portal, looking: &Looking, words: &Words) -> Markup {
    match looking.view {
        View::Overview => overview::fragment(portal.plant_status().as_ref(), words),
        View::Readings => readings::fragment(&portal.live.current().await, looking, words),
        View::Update => update::fragment(portal.plant_status().as_ref(), words),
        View::NotFound => html! {},
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
