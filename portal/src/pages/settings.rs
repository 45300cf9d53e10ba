//! What the operator may set: the language of this browser, and the PIN.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use protocol::control::{Question, Secret};
use serde::Deserialize;

use crate::Portal;
use crate::client::{Client, parse};
use crate::language::{LANGUAGES, words};
use crate::refusal::{Refusal, verdict};
use crate::visitor::Visitor;

use super::{View, layout};

const PIN_DIGITS: std::ops::RangeInclusive<usize> = 4..=12;

pub async fn page(State(portal): State<Arc<Portal>>, visitor: Visitor) -> Markup {
    let here = visitor.words();
    let field = |id: &str, label: &str| {
        html! {
            p.field {
                label for=(id) { (label) }
                input.secret id=(id) type="password" inputmode="numeric" autocomplete="off" minlength=(PIN_DIGITS.start())
                    maxlength=(PIN_DIGITS.end()) required;
            }
        }
    };
    let body = html! {
        h1 { (here.settings) }
        section aria-labelledby="language" {
            h2 #language { (here.language) }
            p {
                @for language in LANGUAGES {
                    @let code = language.code();
                    a.button href={ "/language?to=" (code) "&back=" (View::Settings.path()) } lang=(code) hreflang=(code)
                        aria-current=[(language == visitor.language).then_some("true")] {
                        (words(language).own_name)
                    } " "
                }
            }
            p.task { (here.language_of_browser) }
        }
        section aria-labelledby="pin-title" {
            h2 #pin-title { (here.change_pin) }
            noscript { p.notice { (here.script_for_pin) } }
            form #pin-form.fields data-differ=(here.pins_differ) data-done=(here.pin_changed)
                data-unreachable=(here.portal_silent) {
                (field("pin-now", here.pin_now))
                (field("pin-new", here.pin_new))
                (field("pin-again", here.pin_again))
                p #pin-said role="status" {}
                p.actions { button.main type="submit" { (here.change_pin) } }
            }
            p.task { (here.pin_forgotten) }
        }
    };
    layout::page(&portal, visitor, View::Settings, &body)
}

#[derive(Deserialize)]
struct Change {
    pin: Option<Secret>,
    new_pin: Option<Secret>,
}

/// `POST /api/pin`
pub async fn change_pin(
    State(portal): State<Arc<Portal>>,
    client: Client,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    match change(&portal, &client, body).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refusal) => refusal.answer(client.words),
    }
}

async fn change(portal: &Portal, client: &Client, body: Result<Bytes, BytesRejection>) -> Result<(), Refusal> {
    let change: Change = parse(body)?;
    let pin = client.pin_or_header(change.pin)?;
    let new_pin = change.new_pin.ok_or(Refusal::NoSuchPin)?;
    if !PIN_DIGITS.contains(&new_pin.0.len()) || !new_pin.0.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::NoSuchPin);
    }
    let question = Question::ChangePin { pin, new_pin, caller: client.caller };
    verdict(portal.supervisor.ask(question).await, StatusCode::FORBIDDEN)?;
    // Whoever knew the old one has to show the new one.
    portal.sessions.end_all();
    Ok(())
}
