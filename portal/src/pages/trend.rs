//! One tag: its value now, and what it did over hours to years. Everything but zooming with the pointer works without a
//! script.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use form_urlencoded::Serializer;
use maud::{Markup, html};
use protocol::Timestamp;
use serde::Deserialize;

use crate::Portal;
use crate::language::{Words, fill};
use crate::live::Snapshot;
use crate::plant_link::{Columns, NoAnswer, Stretch};
use crate::query::Query;
use crate::visitor::Visitor;

use super::readings::{measured, quality};
use super::{View, chart, layout};

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// Names of whiles that end now, and their seconds.
const SPANS: [(&str, u64); 7] = [
    ("1h", HOUR),
    ("8h", 8 * HOUR),
    ("1d", DAY),
    ("7d", 7 * DAY),
    ("30d", 30 * DAY),
    ("90d", 90 * DAY),
    ("365d", 365 * DAY),
];
const USUAL_SPAN: &str = "8h";
const SHORTEST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(20 * 365 * DAY);
/// As wide as a large screen is; a chart draws smallest and largest of each piece.
const PIECES: u32 = 1_200;
const PIECES_OF_A_PICTURE: u32 = 400;

/// The query of the page, of its data and of its files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Asked {
    tag: String,
    span: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl Asked {
    /// `from` and `to`, or a while that ends now.
    fn stretch(&self, now: Timestamp) -> Stretch {
        let named = |name: &str| SPANS.iter().find(|(other, _)| *other == name).map(|(_, seconds)| *seconds);
        let (from, to) = match (self.from, self.to) {
            (Some(from), Some(to)) if from < to => (from, to),
            _ => {
                let seconds = self.span.as_deref().and_then(named).or_else(|| named(USUAL_SPAN)).unwrap_or(HOUR);
                (now.saturating_sub(Duration::from_secs(seconds)), now)
            }
        };
        let length = to.since(from).clamp(SHORTEST, LONGEST);
        Stretch { tag: self.tag.clone(), from: to.saturating_sub(length), to }
    }

    fn ends_now(&self) -> bool {
        self.from.is_none() || self.to.is_none()
    }
}

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor, Query(asked): Query<Asked>) -> Response {
    let words = visitor.words();
    let stretch = asked.stretch(Timestamp::now());
    let snapshot = portal.live.current().await;
    // One that has a value now is known; only of others anybody else is asked.
    if !snapshot.values.iter().any(|value| value.tag == asked.tag)
        && matches!(portal.link.trend(&stretch, 1).await, Err(NoAnswer::NoSuchTag))
    {
        let body = html! {
            h1.tag { (asked.tag) }
            p { (words.no_such_tag) }
            p { a.button href=(View::Readings.path()) { (words.all_tags) } }
        };
        return (StatusCode::NOT_FOUND, layout::page(&portal, visitor, View::Trend, &body)).into_response();
    }
    let body = html! {
        h1.tag { (asked.tag) }
        div #live { (fragment(&snapshot, &asked.tag, words)) }
        nav.spans aria-label=(words.period) {
            @for (name, seconds) in SPANS {
                @let chosen = asked.ends_now() && asked.span.as_deref().unwrap_or(USUAL_SPAN) == name;
                a.button href=(address("/trend", &asked.tag, &[("span", name)])) aria-current=[chosen.then_some("true")] {
                    (words.span(Duration::from_secs(seconds)))
                }
            }
        }
        (moves(&stretch, words))
        (figure(&stretch, asked.ends_now(), words))
        p {
            a.button href={ "/history.csv?" (stretch.query()) } download { (words.download) }
            " " a.button href=(View::Readings.path()) { (words.all_tags) }
        }
    };
    layout::page(&portal, visitor, View::Trend, &body).into_response()
}

/// The value now.
pub fn fragment(snapshot: &Snapshot, tag: &str, words: &Words) -> Markup {
    let value = snapshot.values.iter().find(|value| value.tag == tag);
    html! {
        @match value {
            Some(value) => p.now {
                span.value { (measured(value, words)) } " " (quality(value.quality, words)) " "
                span.task { (words.ago(snapshot.age(value))) }
            },
            None => p.now { span.task { (words.no_value_now) } },
        }
    }
}

/// Where one can go from here with a keyboard or a finger.
fn moves(stretch: &Stretch, words: &Words) -> Markup {
    let length = stretch.to.since(stretch.from);
    let half = length / 2;
    let link = |label: &str, from: Timestamp, to: Timestamp| {
        let (from, to) = (from.to_string(), to.to_string());
        let to_there = address("/trend", &stretch.tag, &[("from", &from), ("to", &to)]);
        html! { a.button href=(to_there) { (label) } }
    };
    let (from, to) = (stretch.from, stretch.to);
    html! {
        nav.moves aria-label=(words.look_elsewhere) {
            (link(words.earlier, from.saturating_sub(half), to.saturating_sub(half)))
            (link(words.later_on, from.saturating_add(half), to.saturating_add(half)))
            (link(words.closer, from.saturating_add(length / 4), to.saturating_sub(length / 4)))
            (link(words.wider, from.saturating_sub(half), to.saturating_add(half)))
        }
    }
}

fn figure(stretch: &Stretch, follows: bool, words: &Words) -> Markup {
    let query = stretch.query();
    html! {
        figure.trend {
            div #chart role="img" aria-label=(fill(words.trend_of, &stretch.tag)) data-tag=(stretch.tag)
                data-from=(stretch.from.as_micros() / 1_000) data-to=(stretch.to.as_micros() / 1_000)
                data-follows[follows] data-time=(words.time) data-value=(words.value) data-smallest=(words.smallest)
                data-largest=(words.largest) data-none=(words.nothing_then) data-failed=(words.no_trend) {}
            noscript { img.trend src={ "/trend.svg?" (query) } alt=(fill(words.trend_of, &stretch.tag)); }
            figcaption {
                span.key.band {} " " (words.band_means) " "
                span.key.nothing {} " " (words.nothing_means) " "
                span.key.poor {} " " (words.poor_means)
                " " span.task { (words.zoom_means) }
            }
        }
    }
}

fn address(path: &str, tag: &str, more: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    query.append_pair("tag", tag).extend_pairs(more);
    format!("{path}?{}", query.finish())
}

/// Of a tag's name in a table.
pub fn link(tag: &str) -> String {
    address("/trend", tag, &[])
}

/// `GET /api/trend`
pub async fn data(State(portal): State<Arc<Portal>>, visitor: Visitor, Query(asked): Query<Asked>) -> Response {
    match portal.link.trend(&asked.stretch(Timestamp::now()), PIECES).await {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(no_answer) => answer(&no_answer, visitor.words()),
    }
}

/// `GET /trend.svg`, for browsers without a script.
pub async fn picture(State(portal): State<Arc<Portal>>, visitor: Visitor, Query(asked): Query<Asked>) -> Response {
    let stretch = asked.stretch(Timestamp::now());
    let read = portal.link.trend(&stretch, PIECES_OF_A_PICTURE).await.and_then(|json| {
        serde_json::from_slice::<Columns>(&json).map_err(|error| NoAnswer::Refused(error.to_string()))
    });
    match read {
        Ok(columns) => {
            let svg = chart::picture(&columns, &stretch, visitor.words()).into_string();
            ([(header::CONTENT_TYPE, "image/svg+xml")], svg).into_response()
        }
        Err(no_answer) => answer(&no_answer, visitor.words()),
    }
}

/// `GET /history.csv`
pub async fn file(State(portal): State<Arc<Portal>>, visitor: Visitor, Query(asked): Query<Asked>) -> Response {
    let stretch = asked.stretch(Timestamp::now());
    let plain: String = stretch
        .tag
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .collect();
    match portal.link.history(&stretch).await {
        Ok(history) => {
            let disposition = format!("attachment; filename=\"{plain}.csv\"");
            let headers = [
                (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
                (header::CONTENT_DISPOSITION, disposition),
            ];
            (headers, history.into_body()).into_response()
        }
        Err(no_answer) => answer(&no_answer, visitor.words()),
    }
}

fn answer(no_answer: &NoAnswer, words: &Words) -> Response {
    match no_answer {
        NoAnswer::NoSuchTag => (StatusCode::NOT_FOUND, format!("{}\n", words.no_such_tag)).into_response(),
        NoAnswer::Away => (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", words.collector_silent)).into_response(),
        NoAnswer::Refused(text) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{} {text}\n", words.no_trend)).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_while_is_named_or_given_and_always_a_sane_one() {
        let now = Timestamp::parse("2026-02-22T10:00:00Z").unwrap();
        let asked = |span: Option<&str>, from: Option<&str>, to: Option<&str>| {
            let time = |text: Option<&str>| text.map(|text| Timestamp::parse(text).unwrap());
            let asked = Asked { tag: "a".into(), span: span.map(str::to_owned), from: time(from), to: time(to) };
            let stretch = asked.stretch(now);
            (stretch.from.to_string(), stretch.to.to_string())
        };
        let eight = ("2026-02-22T02:00:00.000Z".to_owned(), "2026-02-22T10:00:00.000Z".to_owned());
        assert_eq!(asked(None, None, None), eight);
        assert_eq!(asked(Some("nonsense"), None, None), eight);
        assert_eq!(asked(Some("1h"), None, None).0, "2026-02-22T09:00:00.000Z");
        let given = asked(Some("1h"), Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:00:01Z"));
        assert_eq!(given, ("2025-12-31T23:59:51.000Z".into(), "2026-01-01T00:00:01.000Z".into()));
        assert_eq!(
            asked(None, Some("2026-01-02T00:00:00Z"), Some("2026-01-01T00:00:00Z")),
            eight,
            "the wrong way round"
        );
        let all = asked(None, Some("0001-01-01T00:00:00Z"), Some("9999-01-01T00:00:00Z"));
        assert!(all.0.starts_with("9979-"), "{all:?}");
    }
}
