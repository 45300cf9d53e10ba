//! Where the operator enters the PIN: with keys large enough for gloves, or the keyboard.

use maud::{Markup, html};

use crate::language::Words;

const PIN_DIGITS: usize = 12;

/// Closed until the script opens it, with the title of what it is for. Not a password field: a browser would offer to
/// remember the PIN.
pub fn dialog(words: &Words) -> Markup {
    html! {
        dialog #pin-dialog aria-labelledby="pin-title" data-unreachable=(words.portal_silent) {
            form method="dialog" {
                h2 #pin-title {}
                label for="pin" { (words.pin) }
                input #pin type="text" inputmode="numeric" autocomplete="off" autocapitalize="off" spellcheck="false"
                    maxlength=(PIN_DIGITS) aria-describedby="pin-problem";
                p #pin-problem role="alert" {}
                (pad(words))
                p.actions {
                    button.main type="submit" { (words.confirm) }
                    button type="button" data-cancel { (words.cancel) }
                }
            }
        }
    }
}

fn pad(words: &Words) -> Markup {
    let digit = |digit: &str| html! { button type="button" data-key=(digit) { (digit) } };
    html! {
        div.pad {
            @for number in 1..=9 { (digit(&number.to_string())) }
            span {}
            (digit("0"))
            button type="button" data-key="erase" aria-label=(words.erase) { "⌫" }
        }
    }
}
