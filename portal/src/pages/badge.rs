//! What every page's header says of updates.

use maud::{Markup, html};
use protocol::control::PlantStatus;

use crate::language::{Words, fill};
use crate::update::standing::{Standing, UnderWay, is_done, standing};

use super::View;

pub fn badge(status: Option<&PlantStatus>, words: &Words) -> Markup {
    let Some(status) = status else { return html! {} };
    match standing(status) {
        Standing::Waiting(pending) if pending.keys.is_some() => link("waiting", words.badge_keys),
        Standing::Postponed(pending) if pending.keys.is_some() => link("quiet", words.badge_keys),
        Standing::Failed(pending) if pending.keys.is_some() => link("failed", words.keys_failed),
        Standing::Waiting(pending) => link("waiting", &fill(words.badge_waiting, &pending.version)),
        Standing::Postponed(pending) => link("quiet", &fill(words.badge_postponed, &pending.version)),
        Standing::Failed(pending) => link("failed", &fill(words.badge_failed, &pending.version)),
        Standing::UnderWay(under_way) => html! {
            a.badge.moving href=(View::Update.path()) data-under-way { (moving(under_way, words)) }
        },
        Standing::Done(last) if last.restored || last.is_of_keys() => link("quiet", &is_done(last, words)),
        Standing::Done(last) => link("quiet", &fill(words.badge_done, &last.to_version)),
        Standing::Nothing => html! {},
    }
}

fn link(class: &str, text: &str) -> Markup {
    html! { a class={ "badge " (class) } href=(View::Update.path()) { (text) } }
}

fn moving(under_way: UnderWay, words: &Words) -> String {
    match under_way.back {
        true => words.badge_back.to_owned(),
        false => fill(words.badge_under_way, &under_way.percent.to_string()),
    }
}
