//! What stands around every page.

use maud::{DOCTYPE, Markup, html};

use crate::language::{LANGUAGES, words};
use crate::visitor::Visitor;
use crate::{Portal, assets};

use super::View;
use super::badge::badge;

pub fn page(portal: &Portal, visitor: Visitor, view: View, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(visitor.language.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (view.title(visitor.words())) " · Plantlink" }
                link rel="icon" href=(assets::address("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::address("portal.css"));
                script src=(assets::address("portal.js")) defer {}
                @if view == View::Update { script src=(assets::address("update.js")) defer {} }
                @if view == View::Settings { script src=(assets::address("settings.js")) defer {} }
                @if view == View::Trend {
                    link rel="stylesheet" href=(assets::address("uplot.css"));
                    script src=(assets::address("uplot.js")) defer {}
                    script src=(assets::address("trend.js")) defer {}
                }
                @if !matches!(view, View::NotFound | View::Settings | View::Help | View::Trend) {
                    noscript { meta http-equiv="refresh" content="5"; }
                }
            }
            body data-view=(view.name()) data-build=(assets::build()) {
                a.skip href="#content" { (visitor.words().skip) }
                (header(portal, visitor, view))
                (connection_note(visitor))
                main #content tabindex="-1" { (body) }
            }
        }
    }
}

fn header(portal: &Portal, visitor: Visitor, view: View) -> Markup {
    let here = visitor.words();
    html! {
        header.top {
            span.brand { "Plantlink" }
            nav aria-label=(here.pages) {
                @for other in View::ALL {
                    a href=(other.path()) aria-current=[(view == other).then_some("page")] { (other.title(here)) }
                }
            }
            div #badge role="status" { (badge(portal.plant_status().as_ref(), here)) }
            nav.languages aria-label=(here.language) {
                @for language in LANGUAGES {
                    @let code = language.code();
                    a href={ "/language?to=" (code) "&back=" (view.path()) } lang=(code) hreflang=(code)
                        aria-current=[(language == visitor.language).then_some("true")] {
                        (words(language).own_name)
                    }
                }
            }
        }
    }
}

/// Hidden until the script hears nothing any more; it shows one of them, and puts the time in.
fn connection_note(visitor: Visitor) -> Markup {
    let words = visitor.words();
    html! {
        div role="status" {
            p #lost hidden { (words.connection_lost) " " (words.last_heard) " " time #heard {} "." }
            p #restarting hidden { (words.restarting) }
        }
    }
}
