//! All tags live, some at a time: what an old PC has to draw every second stays small with ten thousand tags.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};

use crate::Portal;
use crate::language::{Words, fill};
use crate::live::{LiveValue, Snapshot, Trouble};
use crate::query::Query;
use crate::visitor::Visitor;

use super::{Looking, View, layout};

const TAGS_A_PAGE: usize = 200;

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor, Query(looking): Query<Looking>) -> Markup {
    let words = visitor.words();
    let snapshot = portal.live.current().await;
    let body = html! {
        h1.unseen { (words.readings) }
        form #filter-form role="search" action=(View::Readings.path()) {
            label for="filter" { (words.filter) }
            input #filter type="search" name="filter" maxlength=(LONGEST_FILTER) value=(looking.filter) autocomplete="off" spellcheck="false";
            button type="submit" { (words.filter_button) }
        }
        div #live { (fragment(&snapshot, &looking, words)) }
    };
    layout::page(&portal, visitor, View::Readings, &body)
}

pub fn fragment(snapshot: &Snapshot, looking: &Looking, words: &Words) -> Markup {
    let wanted = wanted(&looking.filter);
    let matching: Vec<&LiveValue> = snapshot.values.iter().filter(|value| matches(value, &wanted)).collect();
    let pages = matching.len().div_ceil(TAGS_A_PAGE).max(1);
    let page = looking.page.clamp(1, pages);
    let first = (page - 1) * TAGS_A_PAGE;
    let shown = &matching[first..matching.len().min(first + TAGS_A_PAGE)];
    html! {
        @if let Some(trouble) = snapshot.trouble { (notice(trouble, snapshot.values.is_empty(), words)) }
        @if snapshot.values.is_empty() {
            p { (words.no_tags) }
        } @else if shown.is_empty() {
            p { (words.no_match) }
        } @else {
            (pager(&looking.filter, page, pages, first + 1..=first + shown.len(), matching.len(), words))
            (table(shown, snapshot, words))
        }
    }
}

/// More than a person types: each is looked for in every tag, once a second.
const MOST_WORDS: usize = 8;
const LONGEST_FILTER: usize = 200;

fn wanted(filter: &str) -> Vec<String> {
    let filter: String = filter.chars().take(LONGEST_FILTER).collect();
    filter.to_lowercase().split_whitespace().take(MOST_WORDS).map(str::to_owned).collect()
}

fn matches(value: &LiveValue, wanted: &[String]) -> bool {
    let tag = value.tag.to_lowercase();
    wanted.iter().all(|part| tag.contains(part))
}

fn notice(trouble: Trouble, nothing_below: bool, words: &Words) -> Markup {
    let text = match trouble {
        Trouble::Unsupervised => words.collector_unknown,
        Trouble::Silent => words.collector_silent,
    };
    html! { p.notice.attention role="status" { span.sign aria-hidden="true" { "!" } " " (text) @if !nothing_below { " " (words.values_old) } } }
}

/// A form, so that the filter goes along without a script.
fn pager(
    filter: &str,
    page: usize,
    pages: usize,
    shown: std::ops::RangeInclusive<usize>,
    all: usize,
    words: &Words,
) -> Markup {
    let count = |number: usize| words.number(number as f64, 0);
    let range = if pages == 1 { count(all) } else { format!("{}–{}", count(*shown.start()), count(*shown.end())) };
    html! {
        form.pager action=(View::Readings.path()) {
            p { (fill(words.shown, &range)) @if pages > 1 { " " (fill(words.of, &count(all))) } }
            @if pages > 1 {
                input type="hidden" name="filter" value=(filter);
                button name="page" value=(page - 1) disabled[page == 1] { (words.previous) }
                button name="page" value=(page + 1) disabled[page == pages] { (words.next) }
            }
        }
    }
}

fn table(shown: &[&LiveValue], snapshot: &Snapshot, words: &Words) -> Markup {
    html! {
        table.readings.old[snapshot.trouble.is_some()] {
            thead {
                tr {
                    th scope="col" { (words.tag) }
                    th.value scope="col" { (words.value) }
                    th.quality scope="col" { (words.quality) }
                    th.age scope="col" { (words.age) }
                }
            }
            tbody {
                @for value in shown {
                    tr {
                        th scope="row" { a href=(super::trend::link(&value.tag)) { (value.tag) } }
                        td class={ "value " (kind(value)) } { (measured(value, words)) }
                        td.quality { (quality(value.quality, words)) }
                        td.age { (words.age(snapshot.age(value))) }
                    }
                }
            }
        }
    }
}

/// Numbers stay on one line; texts may be long.
fn kind(value: &LiveValue) -> &'static str {
    if value.text.is_none() { "number" } else { "text" }
}

pub fn measured(value: &LiveValue, words: &Words) -> Markup {
    let text = value.text.clone().or_else(|| value.value.map(|number| words.measured(number)));
    html! {
        @if let Some(text) = text { b { (text) } } @else { "–" }
        @if let Some(unit) = &value.unit { " " span.unit { (unit) } }
    }
}

/// The two highest bits of an OPC quality say whether a value can be used; the rest says why not.
pub fn quality(quality: u8, words: &Words) -> Markup {
    const NOT_CONNECTED: u8 = 8;
    const NO_COMMUNICATION: u8 = 24;
    let (class, word) = match (quality >> 6, quality & 0b11_1100) {
        (3, _) => return html! { (words.good) },
        (1, _) => ("attention", words.uncertain),
        (_, NOT_CONNECTED | NO_COMMUNICATION) => ("fault", words.no_answer),
        _ => ("fault", words.bad),
    };
    html! { span class=(class) { (word) } }
}
