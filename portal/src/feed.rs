//! Server-sent events: what a page shows, again whenever it changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::{Stream, StreamExt as _, stream};
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::pages::badge::badge;
use crate::pages::{self, Looking};
use crate::query::Query;
use crate::visitor::Visitor;
use crate::{Portal, assets};

/// A browser that has heard nothing for much longer than this says that the connection is lost.
const BEAT_EVERY_TICKS: u32 = 5;

#[derive(Serialize)]
struct Update<'a> {
    build: &'a str,
    #[serde(flatten)]
    shown: &'a Shown,
}

#[derive(PartialEq, Eq, Serialize)]
struct Shown {
    /// In the header, whatever the page.
    badge: String,
    html: String,
}

struct Feed {
    portal: Arc<Portal>,
    visitor: Visitor,
    looking: Looking,
    ticks: Interval,
    shown: Option<Shown>,
    silent_ticks: u32,
}

/// Until the browser goes or the portal stops.
pub async fn events(
    State(portal): State<Arc<Portal>>,
    visitor: Visitor,
    Query(looking): Query<Looking>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let control = portal.control.clone();
    let feed = Feed { portal, visitor, looking, ticks, shown: None, silent_ticks: 0 };
    let events = stream::unfold(feed, async |mut feed| Some((Ok(feed.next().await), feed)));
    Sse::new(events.take_until(async move { control.stopped().await }))
}

impl Feed {
    async fn next(&mut self) -> Event {
        loop {
            self.ticks.tick().await;
            let shown = self.render().await;
            if self.shown.as_ref() != Some(&shown) {
                let update = Update { build: assets::build(), shown: &shown };
                let data = serde_json::to_string(&update).expect("an update serialises");
                self.shown = Some(shown);
                self.silent_ticks = 0;
                return Event::default().event("update").data(data);
            }
            self.silent_ticks += 1;
            if self.silent_ticks >= BEAT_EVERY_TICKS {
                self.silent_ticks = 0;
                // Browsers pass over an event without data.
                return Event::default().event("beat").data("-");
            }
        }
    }

    async fn render(&self) -> Shown {
        let words = self.visitor.words();
        let html = pages::fragment(&self.portal, &self.looking, words).await.into_string();
        let badge = badge(self.portal.plant_status().as_ref(), words).into_string();
        Shown { badge, html }
    }
}
