//! The operator's handbook: one page, for somebody who stands in front of the machine.

use std::sync::Arc;

use axum::extract::State;
use maud::{Markup, html};

use crate::Portal;
use crate::visitor::Visitor;

use super::{View, layout};

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor) -> Markup {
    let words = visitor.words();
    let body = html! {
        div.handbook {
            h1 { (words.help) }
            p { (words.help_what) }
            h2 { (words.help_colours_title) }
            p { (words.help_colours) }
            h2 { (words.help_wrong_title) }
            p { (words.help_wrong) }
            h2 { (words.help_update_title) }
            ol {
                li { (words.help_update_read) }
                li { (words.help_update_apply) }
                li { (words.help_update_wait) }
                li { (words.help_update_failed) }
            }
            h2 { (words.help_readings_title) }
            p { (words.help_readings) }
            h2 { (words.help_pin_title) }
            p { (words.help_pin) }
            h2 { (words.help_call_title) }
            p { (words.help_call) }
        }
    };
    layout::page(&portal, visitor, View::Help, &body)
}
