//! How far an attempt is, what became of it, and of those before.

use maud::{Markup, html};
use protocol::control::{Attempted, PendingUpdate, PlantStatus, ProgressStep};

use crate::language::{Words, fill};
use crate::pages::finding::sign;
use crate::update::standing::{self, UnderWay};
use crate::verdict::Gravity;

use crate::pages::moment;

const LISTED: usize = 50;

/// A step is told when it begins.
pub fn progress(progress: &[ProgressStep], under_way: UnderWay, words: &Words) -> Markup {
    let last = progress.last();
    let at = last.and_then(|last| steps(words).iter().position(|(step, _)| *step == last.step));
    html! {
        section.progress aria-label=(words.progress) {
            @if !under_way.back {
                p.bar {
                    progress max="100" value=(under_way.percent) aria-label=(words.progress) {}
                    span aria-hidden="true" { (under_way.percent) " %" }
                }
                ol.steps {
                    @for (number, (_, name)) in steps(words).iter().enumerate() {
                        (step(name, at.map(|at| number.cmp(&at)), words))
                    }
                }
            }
            @if let Some(last) = last { p.task.said { (last.msg) } }
        }
    }
}

fn step(name: &str, to_current: Option<std::cmp::Ordering>, words: &Words) -> Markup {
    use std::cmp::Ordering::{Equal, Less};
    html! {
        @match to_current {
            Some(Less) => li.past { span.sign aria-hidden="true" { "✓" } " " (name) " " span.unseen { (words.finished) } },
            Some(Equal) => li aria-current="step" { span.sign aria-hidden="true" { "▸" } " " (name) },
            _ => li.future { span.sign aria-hidden="true" { "·" } " " (name) },
        }
    }
}

fn steps(words: &Words) -> [(&'static str, &'static str); 8] {
    [
        ("verify", words.step_verify),
        ("backup", words.step_backup),
        ("patch", words.step_patch),
        ("version", words.step_version),
        ("migrate", words.step_migrate),
        ("restart", words.step_restart),
        ("confirm", words.step_confirm),
        ("done", words.step_done),
    ]
}

/// What happened in plain words, the program's own in small print, and that the previous version runs.
pub fn failure(status: &PlantStatus, pending: &PendingUpdate, words: &Words) -> Markup {
    let told = standing::failure(&status.update.progress);
    let what = match told.and_then(|(step, _)| step) {
        Some("verify") => words.failed_verify,
        Some("backup") => words.failed_backup,
        Some("patch" | "version") => words.failed_patch,
        Some("migrate") => words.failed_migrate,
        Some("restart") => words.failed_restart,
        Some("confirm") => words.failed_confirm,
        _ => words.failed_somehow,
    };
    let said = told.map(|(_, said)| said).or(pending.error.as_deref()).filter(|said| !said.is_empty());
    html! {
        section.headline.attention aria-live="polite" aria-atomic="true" {
            p.sentence { (sign(Gravity::Attention)) " " (standing::came_to_nothing(pending, words)) }
            p.advice { (what) " " (fill(words.previous_runs, &status.version)) }
            @if let Some(said) = said { p.said { (said) } }
        }
    }
}

pub fn history(attempts: &[Attempted], words: &Words) -> Markup {
    html! {
        @if !attempts.is_empty() {
            section aria-labelledby="history" {
                h2 #history { (words.history) }
                table.history {
                    thead {
                        tr {
                            th scope="col" { (words.time) }
                            th scope="col" { (words.from_version) }
                            th scope="col" { (words.to_version) }
                            th scope="col" { (words.outcome) }
                            th.error scope="col" { (words.error) }
                        }
                    }
                    tbody { @for attempt in attempts.iter().take(LISTED) { (row(attempt, words)) } }
                }
            }
        }
    }
}

fn row(attempt: &Attempted, words: &Words) -> Markup {
    let ok = attempt.status == "ok";
    html! {
        tr {
            th scope="row" { (moment(attempt.time)) }
            td { (attempt.from_version) }
            td { span.arrow aria-hidden="true" { "→ " } (attempt.to_version) }
            td.outcome {
                span.sign aria-hidden="true" { @if ok { "✓" } @else { "✕" } } " "
                @if ok { (words.attempt_ok) } @else { (words.attempt_failed) }
            }
            td.error { @if let Some(error) = &attempt.error { (error) } }
        }
    }
}
