//! The operator's handbook: one page, for somebody who stands in front of the machine.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};

use crate::visitor::Visitor;
use crate::{Portal, assets};

use super::{View, layout};

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor) -> Markup {
    let words = visitor.words();
    let picture = |page: &str, title: &str| {
        let name = format!("{page}.{}.png", visitor.language.code());
        html! { img src=(assets::address(&name)) alt=(title) loading="lazy"; }
    };
    let body = html! {
        div.handbook {
            h1 { (words.help) }
            p { (words.help_what) }
            h2 { (words.help_colours_title) }
            p { (words.help_colours) }
            (picture("overview", words.overview))
            h2 { (words.help_wrong_title) }
            p { (words.help_wrong) }
            h2 { (words.help_update_title) }
            ol {
                li { (words.help_update_read) }
                li { (words.help_update_apply) }
                li { (words.help_update_wait) }
                li { (words.help_update_failed) }
            }
            (picture("update", words.update))
            h2 { (words.help_readings_title) }
            p { (words.help_readings) }
            (picture("trend", words.trend))
            h2 { (words.help_pin_title) }
            p { (words.help_pin) }
            h2 { (words.help_call_title) }
            p { (words.help_call) }
        }
    };
    layout::page(&portal, visitor, View::Help, &body)
}
