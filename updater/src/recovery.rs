//! What to do about a boot record, whatever came before: one `match`, with no look at anything else.

use crate::boot_record::{BootRecord, Phase};
use crate::transition::Step;

/// Why the launcher asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing of the plant runs: the launcher has just begun, or its supervisor has ended.
    Start {
        boot: Option<String>,
    },
    TrialPassed,
    TrialFailed {
        error: String,
    },
}

/// What the boot record calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run [`BootRecord::running`].
    Run,
    /// Write this step, and ask again.
    Take(Step),
    /// As `Take`, and then run.
    TakeAndRun(Step),
    /// Write what shows that the new version is committed, then take [`Step::Finish`].
    FinishCommit,
    /// Take back what the attempt did to the database, write what shows it, then take [`Step::Finish`].
    FinishFallback,
}

/// Power cuts during a healthy trial use up nothing, but not for ever.
const MOST_STARTS: u32 = 10;
/// In one boot of the machine it was the new version, or somebody who kills the watchdog.
const MOST_RESTARTS: u32 = 3;

/// The recovery table of ARCHITECTURE.md.
pub fn decide(record: &BootRecord, cause: &Cause) -> Action {
    let fail = |error: &str| Action::Take(Step::Fail { error: error.to_owned() });
    match (record.phase, cause) {
        (Phase::Committed, _) => Action::Run,
        (Phase::Preparing | Phase::Migrating, _) => {
            fail("the update was interrupted before the switch; nothing of it is left")
        }
        (Phase::Trial, Cause::TrialPassed) => Action::Take(Step::Pass),
        (Phase::Trial, Cause::TrialFailed { error }) => fail(error),
        (Phase::Trial, Cause::Start { boot }) => {
            let trial = record.attempt.as_ref().map(|attempt| attempt.trial.clone()).unwrap_or_default();
            let same_boot = trial.boot.is_some() && trial.boot == *boot;
            if trial.starts >= MOST_STARTS {
                return fail("the trial was begun ten times and never came to its end");
            }
            if same_boot && trial.restarts >= MOST_RESTARTS {
                return fail("the watchdog was ended again and again during the trial");
            }
            Action::TakeAndRun(Step::Start { boot: boot.clone() })
        }
        (Phase::Committing, _) => Action::FinishCommit,
        (Phase::FallingBack, _) => Action::FinishFallback,
    }
}

/// What names this boot of the machine; `None` where nothing does, and every start counts as one after a power cut.
pub fn boot_id() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use semver::Version;

    use super::*;

    fn record(phase: Phase, starts: u32, restarts: u32) -> BootRecord {
        let first = BootRecord::first("1.0.0-aaaaaaaa".into(), Version::new(1, 0, 0));
        if phase == Phase::Committed {
            return first;
        }
        let mut record = first
            .after(Step::Approve {
                id: "a".into(),
                manifest_sha256: "m".into(),
                from_version: Version::new(1, 0, 0),
                to_version: Version::new(1, 1, 0),
            })
            .unwrap();
        record.phase = phase;
        let attempt = record.attempt.as_mut().unwrap();
        attempt.to = Some("1.1.0-bbbbbbbb".into());
        attempt.trial = crate::boot_record::Trial { boot: Some("this".into()), starts, restarts };
        record
    }

    fn boot(id: &str) -> Cause {
        Cause::Start { boot: Some(id.to_owned()) }
    }

    #[test]
    fn every_step_that_is_decided_is_legal_and_every_way_ends() {
        use Phase::*;
        let causes = [
            boot("this"),
            boot("next"),
            Cause::Start { boot: None },
            Cause::TrialPassed,
            Cause::TrialFailed { error: "x".into() },
        ];
        for phase in [Committed, Preparing, Migrating, Trial, Committing, FallingBack] {
            for starts in [1, 9, 10] {
                for restarts in [0, 3] {
                    for cause in &causes {
                        let mut record = record(phase, starts, restarts);
                        let mut ended = false;
                        for _ in 0..4 {
                            record = match decide(&record, cause) {
                                Action::Run => {
                                    ended = true;
                                    break;
                                }
                                Action::Take(step) => record.after(step).unwrap(),
                                Action::TakeAndRun(step) => {
                                    record.after(step).unwrap();
                                    ended = true;
                                    break;
                                }
                                Action::FinishCommit | Action::FinishFallback => {
                                    record.after(Step::Finish { unlogged: None }).unwrap()
                                }
                            };
                        }
                        assert!(ended, "{phase:?} {cause:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn power_cuts_use_up_nothing_but_a_version_that_ends_its_watchdog_is_taken_back() {
        let mut healthy = record(Phase::Trial, 0, 0);
        for cut in 0..MOST_STARTS {
            let Action::TakeAndRun(step) = decide(&healthy, &boot(&cut.to_string())) else { panic!("cut {cut}") };
            healthy = healthy.after(step).unwrap();
        }
        assert!(matches!(decide(&healthy, &boot("last")), Action::Take(Step::Fail { .. })));
        let mut ill = record(Phase::Trial, 1, 0);
        for _ in 0..MOST_RESTARTS {
            let Action::TakeAndRun(step) = decide(&ill, &boot("this")) else { panic!() };
            ill = ill.after(step).unwrap();
        }
        assert!(matches!(decide(&ill, &boot("this")), Action::Take(Step::Fail { .. })));
    }
}
