//! How a page says that all is well, or what is not.

use maud::{Markup, html};

use crate::verdict::{Finding, Gravity};

/// The one thing that a page has to say.
pub fn headline(finding: &Finding) -> Markup {
    html! {
        section class={ "headline " (class(finding.gravity)) } aria-live="polite" aria-atomic="true" {
            p.sentence { (sign(finding.gravity)) " " (finding.sentence) }
            p.advice { (finding.advice) }
        }
    }
}

pub fn class(gravity: Gravity) -> &'static str {
    match gravity {
        Gravity::Normal | Gravity::Information => "normal",
        Gravity::Attention => "attention",
        Gravity::Fault => "fault",
    }
}

/// Never colour alone.
pub fn sign(gravity: Gravity) -> Markup {
    let sign = match gravity {
        Gravity::Information => return html! {},
        Gravity::Normal => "✓",
        Gravity::Attention => "!",
        Gravity::Fault => "✕",
    };
    html! { span.sign aria-hidden="true" { (sign) } }
}
