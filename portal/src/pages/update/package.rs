//! What the waiting package says of itself. Notes and paths are somebody else's text.

use maud::{Markup, html};
use protocol::control::{KeyChanges, PendingState, PendingUpdate, PlantStatus};

use crate::language::{Words, fill};

use crate::pages::moment;

/// More paths than anybody reads; a package may have thousands, and the page goes to every browser.
const LISTED: usize = 200;
const KEY_ID_SHOWN: usize = 12;

pub fn package(status: &PlantStatus, pending: &PendingUpdate, words: &Words) -> Markup {
    html! {
        div.package {
            @if !pending.bound {
                p.notice.attention {
                    span.sign aria-hidden="true" { "!" } " " (fill(words.unbound, &status.version))
                }
            }
            @if let Some(keys) = &pending.keys { (warning(keys, words)) }
            (facts(status, pending, words))
            (notes(&pending.notes, words))
            @match &pending.keys {
                Some(keys) => (changes(key_changes(keys, words), words)),
                None => (changes(file_changes(pending, words), words)),
            }
            (actions(pending, words))
        }
    }
}

fn warning(keys: &KeyChanges, words: &Words) -> Markup {
    html! {
        p.notice.attention { span.sign aria-hidden="true" { "!" } " " (words.keys_only) }
        @if keys.required < keys.required_before {
            p.notice.attention { span.sign aria-hidden="true" { "!" } " " (words.fewer_signatures) }
        }
        @if let Some(floor) = &keys.floor {
            p.notice.attention { span.sign aria-hidden="true" { "!" } " " (fill(words.floor_lowered, floor)) }
        }
    }
}

fn key_changes(keys: &KeyChanges, words: &Words) -> Markup {
    html! {
        (paths(words.keys_added, &keys.added, words))
        (paths(words.keys_kept, &keys.kept, words))
        (paths(words.keys_removed, &keys.removed, words))
        p { (fill(words.keys_required, &required(keys, words))) }
    }
}

fn required(keys: &KeyChanges, words: &Words) -> String {
    let number = |number: usize| words.number(number as f64, 0);
    match keys.required == keys.required_before {
        true => number(keys.required),
        false => fill(&fill(words.until_now, &number(keys.required)), &number(keys.required_before)),
    }
}

fn facts(status: &PlantStatus, pending: &PendingUpdate, words: &Words) -> Markup {
    let fact = |label: &str, value: Markup| html! { div { dt { (label) } dd { (value) } } };
    html! {
        dl.facts.package-facts {
            @if pending.keys.is_none() {
                (fact(words.new_version, html! { (pending.version) }))
                (fact(words.running_version, html! { (status.version) }))
            }
            (fact(words.received, moment(pending.received_at)))
            @if let Some(expires) = pending.expires { (fact(words.apply_before, moment(expires))) }
            (fact(words.size, html! { (words.size_of(pending.package_bytes)) }))
            (fact(words.signed_by, html! {
                @for signer in &pending.signers { code title=(signer) { (short(signer)) } " " }
            }))
        }
    }
}

fn short(key_id: &str) -> String {
    let mut short: String = key_id.chars().take(KEY_ID_SHOWN).collect();
    if short.len() < key_id.len() {
        short.push('…');
    }
    short
}

fn notes(notes: &str, words: &Words) -> Markup {
    html! {
        section aria-labelledby="notes" {
            h2 #notes { (words.notes) }
            @if notes.trim().is_empty() {
                p { (words.no_notes) }
            } @else {
                p.notes dir="auto" { (notes) }
            }
        }
    }
}

fn file_changes(pending: &PendingUpdate, words: &Words) -> Markup {
    let changes = &pending.changes;
    html! {
        (paths(words.added, &changes.added, words))
        (paths(words.changed, &changes.changed, words))
        (paths(words.removed, &changes.removed, words))
        (paths(words.migrations, &pending.migrations, words))
    }
}

fn changes(changes: Markup, words: &Words) -> Markup {
    html! {
        section aria-labelledby="changes" {
            h2 #changes { (words.changes) }
            div.changes { (changes) }
        }
    }
}

fn paths(label: &str, paths: &[String], words: &Words) -> Markup {
    let count = |number: usize| words.number(number as f64, 0);
    let summary = fill(label, &count(paths.len()));
    if paths.is_empty() {
        return html! { p.task { (summary) } };
    }
    html! {
        details {
            summary { (summary) }
            ul {
                @for path in paths.iter().take(LISTED) { li { bdi { (path) } } }
                @if paths.len() > LISTED { li.task { (fill(words.and_more, &count(paths.len() - LISTED))) } }
            }
        }
    }
}

/// A button carries the hash of what is shown beside it: that, and nothing else, is what the operator says yes to.
fn actions(pending: &PendingUpdate, words: &Words) -> Markup {
    let (version, manifest) = (&pending.version, &pending.manifest_sha256);
    let apply = if pending.state == PendingState::Failed { words.apply_again } else { words.apply };
    html! {
        p.actions {
            button.main type="button" data-ask="/api/update/apply" data-manifest=(manifest)
                data-title=(fill(words.pin_to_apply, version)) { (apply) }
            @if pending.state != PendingState::Postponed {
                button type="button" data-ask="/api/update/later" data-manifest=(manifest)
                    data-title=(fill(words.pin_for_later, version)) { (words.later) }
            }
        }
    }
}
