//! `/live`: the newest reading of each tag, for the portal. It answers whether or not there is a database.

use std::sync::Arc;

use axum::routing::get;
use axum::{Json, Router};
use protocol::Timestamp;
use serde::Serialize;

use crate::account::Account;

#[derive(Serialize)]
struct Live {
    tags: Vec<LiveTag>,
}

#[derive(Serialize)]
struct LiveTag {
    tag: Arc<str>,
    value: Option<f64>,
    unit: Option<Arc<str>>,
    quality: u8,
    text: Option<String>,
    time: Timestamp,
}

pub fn routes(account: Arc<Account>) -> Router {
    Router::new().route("/live", get(async move || Json(live(&account))))
}

fn live(account: &Account) -> Live {
    let tags = account.latest().into_iter().map(|reading| LiveTag {
        tag: reading.tag,
        value: reading.value,
        unit: reading.unit,
        quality: reading.quality.0,
        text: reading.text,
        time: reading.time,
    });
    Live { tags: tags.collect() }
}
