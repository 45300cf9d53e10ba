//! The steps of an attempt as server-sent events: those so far, then each as it comes.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive};
use axum::response::{IntoResponse as _, Response, Sse};
use futures_util::{StreamExt as _, stream};
use protocol::control::ProgressStep;

use crate::client::Client;
use crate::{PlantStatusFeed, Portal};

const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Until the browser goes or the portal stops.
pub async fn progress(State(portal): State<Arc<Portal>>, client: Client) -> Response {
    if let Err(refusal) = client.admit(&portal).await {
        return refusal.answer(client.words);
    }
    let control = portal.control.clone();
    let steps = stream::unfold(Steps::of(portal.status.clone()), async |mut steps| {
        let step = steps.next().await?;
        let data = serde_json::to_string(&step).expect("a step serialises");
        Some((Ok::<_, Infallible>(Event::default().data(data)), steps))
    });
    Sse::new(steps.take_until(async move { control.stopped().await }))
        .keep_alive(KeepAlive::new().interval(BEAT_EVERY).text("beat"))
        .into_response()
}

struct Steps {
    status: PlantStatusFeed,
    told: Vec<ProgressStep>,
    to_tell: VecDeque<ProgressStep>,
}

impl Steps {
    fn of(mut status: PlantStatusFeed) -> Self {
        status.mark_changed();
        Self { status, told: Vec::new(), to_tell: VecDeque::new() }
    }

    async fn next(&mut self) -> Option<ProgressStep> {
        loop {
            if let Some(step) = self.to_tell.pop_front() {
                return Some(step);
            }
            self.status.changed().await.ok()?;
            let steps = self.status.borrow_and_update().as_ref().map(|status| status.update.progress.clone());
            self.hear(steps.unwrap_or_default());
        }
    }

    /// A list that does not go on from what was told is another attempt's.
    fn hear(&mut self, steps: Vec<ProgressStep>) {
        let known = if steps.starts_with(&self.told) { self.told.len() } else { 0 };
        self.to_tell.extend(steps[known..].iter().cloned());
        self.told = steps;
    }
}
