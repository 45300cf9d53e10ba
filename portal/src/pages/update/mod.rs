//! The update that waits, how far one is, and what became of the earlier ones.

mod attempt;
mod package;
mod pin_dialog;

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};
use protocol::control::{PendingUpdate, PlantStatus};

use crate::Portal;
use crate::language::{Words, fill};
use crate::update::standing::{Standing, UnderWay, is_done, put_off, received, standing};
use crate::verdict::{Finding, Gravity, update_under_way};
use crate::visitor::Visitor;

use super::{View, finding, layout};

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor) -> Markup {
    let words = visitor.words();
    let body = html! {
        h1.unseen { (words.update) }
        div #notice .notice.attention role="alert" tabindex="-1" hidden { p #message {} p #detail .said {} }
        noscript { p.notice { (words.script_needed) } }
        div #live { (fragment(portal.plant_status().as_ref(), words)) }
        (pin_dialog::dialog(words))
    };
    layout::page(&portal, visitor, View::Update, &body)
}

pub fn fragment(status: Option<&PlantStatus>, words: &Words) -> Markup {
    let Some(status) = status else {
        let finding = Finding::new(Gravity::Attention, words.unsupervised, words.unsupervised_advice);
        return finding::headline(&finding);
    };
    let history = attempt::history(&status.update.history, words);
    html! {
        @match standing(status) {
            Standing::UnderWay(under_way) => (moving(status, under_way, words)),
            Standing::Waiting(pending) => (waiting(status, pending, words)),
            Standing::Postponed(pending) => (postponed(status, pending, words)),
            Standing::Failed(pending) => (failed(status, pending, words)),
            Standing::Done(last) => {
                (finding::headline(&Finding::new(
                    Gravity::Normal,
                    is_done(last, words),
                    fill(words.update_none_advice, &status.version),
                )))
            }
            Standing::Nothing => {
                (finding::headline(&Finding::new(
                    Gravity::Normal,
                    words.update_none,
                    fill(words.update_none_advice, &status.version),
                )))
            }
        }
        (history)
    }
}

fn moving(status: &PlantStatus, under_way: UnderWay, words: &Words) -> Markup {
    html! {
        (finding::headline(&update_under_way(under_way, words)))
        (attempt::progress(&status.update.progress, under_way, words))
    }
}

fn waiting(status: &PlantStatus, pending: &PendingUpdate, words: &Words) -> Markup {
    let sentence = received(pending, words);
    html! {
        (finding::headline(&Finding::new(Gravity::Information, sentence, words.update_read)))
        (package::package(status, pending, words))
    }
}

fn postponed(status: &PlantStatus, pending: &PendingUpdate, words: &Words) -> Markup {
    let sentence = put_off(pending, words);
    html! {
        (finding::headline(&Finding::new(Gravity::Information, sentence, words.update_postponed_advice)))
        (package::package(status, pending, words))
    }
}

fn failed(status: &PlantStatus, pending: &PendingUpdate, words: &Words) -> Markup {
    html! {
        (attempt::failure(status, pending, words))
        (package::package(status, pending, words))
    }
}
