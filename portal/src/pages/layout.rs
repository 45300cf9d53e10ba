//! What stands around every page.

use maud::{DOCTYPE, Markup, html};

use crate::assets;
use crate::language::{LANGUAGES, words};
use crate::visitor::Visitor;

use super::View;

/// A whole page; `view` is `None` for what is not one of the views and does not live.
pub fn page(visitor: Visitor, view: Option<View>, title: &str, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang=(visitor.language.code()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Plantlink" }
                link rel="icon" href=(assets::address("icon.svg")) type="image/svg+xml";
                link rel="stylesheet" href=(assets::address("portal.css"));
                script src=(assets::address("portal.js")) defer {}
                @if view.is_some() {
                    noscript { meta http-equiv="refresh" content="5"; }
                }
            }
            body data-view=[view.map(View::name)] data-build=(assets::build()) {
                a.skip href="#content" { (visitor.words().skip) }
                (header(visitor, view))
                (connection_note(visitor))
                main #content tabindex="-1" { (body) }
            }
        }
    }
}

fn header(visitor: Visitor, view: Option<View>) -> Markup {
    let here = visitor.words();
    let back = view.unwrap_or_default().path();
    html! {
        header.top {
            span.brand { "Plantlink" }
            nav aria-label=(here.pages) {
                @for other in View::ALL {
                    a href=(other.path()) aria-current=[(view == Some(other)).then_some("page")] { (other.title(here)) }
                }
            }
            nav.languages aria-label=(here.language) {
                @for language in LANGUAGES {
                    @let code = language.code();
                    a href={ "/language?to=" (code) "&back=" (back) } lang=(code) hreflang=(code)
                        aria-current=[(language == visitor.language).then_some("true")] {
                        (words(language).own_name)
                    }
                }
            }
        }
    }
}

/// Hidden until the script hears nothing any more; it puts the time in.
fn connection_note(visitor: Visitor) -> Markup {
    let words = visitor.words();
    html! {
        div role="status" {
            p #lost hidden { (words.connection_lost) " " (words.last_heard) " " time #heard {} "." }
        }
    }
}
