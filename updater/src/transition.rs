//! Every legal change of the boot record, in one `match`; all else is refused.

use protocol::control::Attempted;
use semver::Version;

use crate::boot_record::{Attempt, BootRecord, Database, KeyChange, Phase, Previous, Trial};

/// What is to happen next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The operator has approved a package.
    Approve { id: String, manifest_sha256: String, from_version: Version, to_version: Version },
    /// The new version directory is whole; from here on the collector spools.
    Migrate { to: String, in_place: bool, schema_before: Option<String> },
    /// The database is migrated: the new version runs from now on.
    Switch { database: Option<Database> },
    /// A package of keys: what it names is laid ready, and counts from now on.
    Trust(KeyChange),
    /// A version is put back: it is laid ready, its database with it, or with a rehearsed way back to it. Also the current
    /// one, where the boot record was lost: then the floor stays.
    Restore {
        id: String,
        from_version: Version,
        to_version: Version,
        to: String,
        database: Option<Database>,
        in_place: bool,
    },
    /// The new version is about to be started, in this boot of the machine.
    Start { boot: Option<String> },
    /// The new version has proved itself.
    Pass,
    /// The attempt is given up.
    Fail { error: String },
    /// Everything that shows the outcome is written, but for this line of the log where the disk is full.
    Finish { unlogged: Option<Attempted> },
    /// That line is written now.
    Logged,
}

/// A step that the phase does not allow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not in the phase {}", .phase.word())]
pub struct NotNow {
    pub phase: Phase,
}

/// An error is shown in one line, and has to fit into a slot beside everything else.
const LONGEST_ERROR: usize = 300;

impl BootRecord {
    /// The record after `step`.
    ///
    /// # Errors
    /// [`NotNow`].
    pub fn after(&self, step: Step) -> Result<Self, NotNow> {
        let not_now = NotNow { phase: self.phase };
        let mut next = self.clone();
        match (self.phase, step, next.attempt.as_mut()) {
            (Phase::Committed, Step::Approve { id, manifest_sha256, from_version, to_version }, _) => {
                next.phase = Phase::Preparing;
                next.begin(id, manifest_sha256, from_version, to_version);
            }
            (Phase::Committed, Step::Restore { id, from_version, to_version, to, database, in_place }, _) => {
                next.phase = Phase::Committing;
                let attempt = next.begin(id, String::new(), from_version, to_version);
                (attempt.to, attempt.database, attempt.in_place) = (Some(to), database, in_place);
                attempt.restores = true;
            }
            (Phase::Preparing, Step::Migrate { to, in_place, schema_before }, Some(attempt)) => {
                next.phase = Phase::Migrating;
                (attempt.to, attempt.in_place, attempt.schema_before) = (Some(to), in_place, schema_before);
            }
            (Phase::Migrating, Step::Switch { database }, Some(attempt)) => {
                next.phase = Phase::Trial;
                attempt.database = database;
            }
            (Phase::Preparing, Step::Trust(keys), Some(attempt)) => {
                next.phase = Phase::Committing;
                attempt.keys = Some(keys);
            }
            (Phase::Trial, Step::Start { boot }, Some(attempt)) => {
                let trial = &mut attempt.trial;
                trial.starts += 1;
                trial.restarts = if trial.boot.is_some() && trial.boot == boot { trial.restarts + 1 } else { 0 };
                trial.boot = boot;
            }
            (Phase::Trial, Step::Pass, Some(_)) => next.phase = Phase::Committing,
            (Phase::Committing, Step::Fail { .. }, Some(attempt)) if !attempt.restores => return Err(not_now),
            // Of a restore whose way back is refused after all, nothing was taken back.
            (
                Phase::Preparing | Phase::Migrating | Phase::Trial | Phase::Committing,
                Step::Fail { error },
                Some(attempt),
            ) => {
                attempt.in_place &= !attempt.restores;
                next.phase = Phase::FallingBack;
                let plain = error.chars().map(|character| if character.is_control() { ' ' } else { character });
                attempt.error = Some(plain.take(LONGEST_ERROR).collect());
            }
            (Phase::Committing, Step::Finish { unlogged }, Some(_)) => {
                next.commit();
                next.unlogged = unlogged;
            }
            (Phase::FallingBack, Step::Finish { unlogged }, Some(_)) => {
                (next.phase, next.attempt, next.unlogged) = (Phase::Committed, None, unlogged);
            }
            (Phase::Committed, Step::Logged, _) => next.unlogged = None,
            _ => return Err(not_now),
        }
        Ok(next)
    }

    fn begin(
        &mut self,
        id: String,
        manifest_sha256: String,
        from_version: Version,
        to_version: Version,
    ) -> &mut Attempt {
        self.attempts += 1;
        self.attempt.insert(Attempt {
            number: self.attempts,
            id,
            manifest_sha256,
            from_version,
            to_version,
            to: None,
            database: None,
            in_place: false,
            schema_before: None,
            trial: Trial::default(),
            restores: false,
            keys: None,
            error: None,
            more: serde_json::Map::new(),
        })
    }

    fn commit(&mut self) {
        self.phase = Phase::Committed;
        let Some(attempt) = self.attempt.take() else { return };
        if let Some(keys) = attempt.keys {
            self.keys_version = keys.version;
            // Lowered, never raised: only what has run here raises it.
            if let Some(floor) = keys.floor.filter(|floor| floor.cmp_precedence(&self.floor).is_lt()) {
                self.floor = floor;
            }
            return;
        }
        let Some(to) = attempt.to else { return };
        if self.first_schema.is_none() {
            self.first_schema = attempt.schema_before;
        }
        let database = std::mem::replace(&mut self.database, attempt.database);
        let to_is_other = to != self.current;
        if to_is_other {
            self.previous = Some(Previous { current: std::mem::replace(&mut self.current, to), database });
        }
        // What is put back on site may be followed by what follows it.
        let put_back = attempt.restores && to_is_other;
        if put_back || self.floor.cmp_precedence(&attempt.to_version).is_lt() {
            self.floor = attempt.to_version;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        vec![
            Step::Approve {
                id: "a".into(),
                manifest_sha256: "m".into(),
                from_version: Version::new(1, 0, 0),
                to_version: Version::new(1, 1, 0),
            },
            Step::Migrate { to: "1.1.0-bbbbbbbb".into(), in_place: true, schema_before: Some("s".into()) },
            Step::Switch { database: None },
            Step::Restore {
                id: "r".into(),
                from_version: Version::new(1, 0, 0),
                to_version: Version::new(0, 9, 0),
                to: "1.1.0-bbbbbbbb".into(),
                database: None,
                in_place: false,
            },
            Step::Trust(KeyChange { version: 2, floor: Some(Version::new(0, 9, 0)) }),
            Step::Start { boot: Some("b".into()) },
            Step::Pass,
            Step::Fail { error: "x".repeat(1000) },
            Step::Finish { unlogged: None },
        ]
    }

    #[test]
    fn whatever_the_order_of_steps_the_record_stays_sound() {
        let first = BootRecord::first("1.0.0-aaaaaaaa".into(), Version::new(1, 0, 0));
        let mut reached = vec![first.clone()];
        let mut seen = reached.clone();
        while let Some(record) = reached.pop() {
            for step in steps() {
                let Ok(next) = record.after(step.clone()) else { continue };
                assert_eq!(next.attempt.is_none(), next.phase == Phase::Committed, "{step:?}");
                assert!(["1.0.0-aaaaaaaa", "1.1.0-bbbbbbbb"].contains(&next.running()));
                // Only a trial that has passed, or keys that are laid ready, change what is committed.
                let committed = record.phase == Phase::Committing && matches!(step, Step::Finish { .. });
                assert_eq!(next.current != record.current || next.floor != record.floor, committed, "{step:?}");
                assert!(next.keys_version == record.keys_version || committed, "{step:?}");
                if !seen.contains(&next)
                    && next.attempts < 2
                    && next.attempt.as_ref().is_none_or(|a| a.trial.starts < 3)
                {
                    seen.push(next.clone());
                    reached.push(next);
                }
            }
        }
        assert!(seen.iter().any(|record| record.current == "1.1.0-bbbbbbbb" && record.floor == Version::new(1, 1, 0)));
        assert!(seen.len() > 8, "{}", seen.len());
    }

    #[test]
    fn an_approval_counts_once() {
        let first = BootRecord::first("1.0.0-aaaaaaaa".into(), Version::new(1, 0, 0));
        let approved = first.after(steps().remove(0)).unwrap();
        assert_eq!(approved.after(steps().remove(0)), Err(NotNow { phase: Phase::Preparing }));
    }
}
