//! The operator's PIN: its hash is known here and nowhere else, and failures are counted here, across restarts.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier as _};
use config::{Credentials, InstallRoot};
use durable::Access;
use protocol::control::{Answer, Caller};
use serde::{Deserialize, Serialize};

/// Judges PINs, one after the other.
pub struct PinJudge {
    root: InstallRoot,
    file: PathBuf,
    counts: Mutex<Counts>,
}

/// `state/pin.json`. A lock is kept as a span of time, not as an end on a clock that can be set.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Saved {
    local: Failures,
    remote: Failures,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Failures {
    wrong: u32,
    locked_seconds: u64,
}

#[derive(Default)]
struct Counts {
    saved: Saved,
    /// The file is there, unless somebody has removed it.
    is_saved: bool,
    local_until: Option<Instant>,
    remote_until: Option<Instant>,
    /// Who was locked out by the last guess, and not only told of it again.
    just_locked: Option<Caller>,
}

/// So many wrong ones are typing errors.
const FREE_TRIES: u32 = 5;
const FIRST_LOCK: Duration = Duration::from_secs(30);
const LONGEST_LOCK: Duration = Duration::from_secs(3600);

impl PinJudge {
    /// After a restart what was locked is locked for its whole time again.
    pub fn new(root: &InstallRoot) -> Self {
        let file = root.pin_failures();
        let bytes = std::fs::read(&file).ok();
        let saved: Saved = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let until = |failures: Failures| {
            (failures.locked_seconds > 0).then(|| Instant::now() + Duration::from_secs(failures.locked_seconds))
        };
        let is_saved = file.exists();
        let counts = Counts {
            saved,
            is_saved,
            local_until: until(saved.local),
            remote_until: until(saved.remote),
            just_locked: None,
        };
        Self { root: root.clone(), file, counts: Mutex::new(counts) }
    }

    /// Takes as long as the hash costs. A right PIN forgets the wrong ones.
    pub fn judge(&self, pin: &str, caller: Caller) -> Answer {
        // Held over the whole of it: guesses side by side are guesses one after the other.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.is_saved && !self.file.exists() {
            // `watchdog reset-pin` has removed it.
            *counts = Counts::default();
        }
        let until = *counts.until(caller);
        counts.just_locked = None;
        if let Some(left) = until.and_then(|until| until.checked_duration_since(Instant::now())) {
            return Answer::LockedOut { seconds: left.as_secs() + 1 };
        }
        let hash = Credentials::read(&self.root.credentials_file()).ok().and_then(|read| read.pin_hash);
        let Some(hash) = hash else {
            let text = "no PIN is set; `watchdog reset-pin --root DIR` sets one".to_owned();
            return Answer::Refused { status: "no_pin".to_owned(), reason: None, text };
        };
        let right = is_right(pin, &hash);
        let failures = counts.failures(caller);
        if right {
            let clean = failures.wrong == 0;
            *failures = Failures::default();
            *counts.until(caller) = None;
            if !clean {
                self.save(&mut counts);
            }
            return Answer::Done;
        }
        failures.wrong = failures.wrong.saturating_add(1);
        let lock = lock_after(failures.wrong);
        failures.locked_seconds = lock.as_secs();
        let wrong = failures.wrong;
        *counts.until(caller) = (!lock.is_zero()).then(|| Instant::now() + lock);
        counts.just_locked = (!lock.is_zero()).then_some(caller);
        self.save(&mut counts);
        tracing::warn!(wrong, locked_seconds = lock.as_secs(), ?caller, "a wrong PIN");
        match lock.as_secs() {
            0 => Answer::WrongPin { tries_left: FREE_TRIES - wrong },
            seconds => Answer::LockedOut { seconds },
        }
    }

    /// Whether the last judgement began a lock.
    pub fn has_just_locked(&self, caller: Caller) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).just_locked == Some(caller)
    }

    fn save(&self, counts: &mut Counts) {
        let json = serde_json::to_vec(&counts.saved).expect("numbers serialise");
        match durable::replace(&self.file, &json, Access::Private) {
            Ok(()) => counts.is_saved = true,
            Err(error) => tracing::error!(%error, "wrong PINs cannot be counted across a restart"),
        }
    }
}

/// In a thread that ends with it: its 19 MB would stay in the heap of every thread that ever hashed, of which there are
/// hundreds. A PIN that cannot be judged is none.
fn is_right(pin: &str, hash: &str) -> bool {
    let verify =
        || PasswordHash::new(hash).is_ok_and(|hash| Argon2::default().verify_password(pin.as_bytes(), &hash).is_ok());
    std::thread::scope(|scope| {
        let hashing = std::thread::Builder::new().spawn_scoped(scope, verify);
        hashing.is_ok_and(|hashing| hashing.join().unwrap_or(false))
    })
}

/// Twice as long with each wrong one beyond the free ones.
fn lock_after(wrong: u32) -> Duration {
    match wrong.checked_sub(FREE_TRIES) {
        None => Duration::ZERO,
        Some(beyond) => FIRST_LOCK.saturating_mul(1 << beyond.min(10)).min(LONGEST_LOCK),
    }
}

impl Counts {
    fn failures(&mut self, caller: Caller) -> &mut Failures {
        match caller {
            Caller::Local => &mut self.saved.local,
            Caller::Remote => &mut self.saved.remote,
        }
    }

    fn until(&mut self, caller: Caller) -> &mut Option<Instant> {
        match caller {
            Caller::Local => &mut self.local_until,
            Caller::Remote => &mut self.remote_until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, InstallRoot) {
        let folder = tempfile::tempdir().unwrap();
        let root = InstallRoot::new(folder.path());
        std::fs::create_dir_all(root.state()).unwrap();
        std::fs::create_dir_all(folder.path().join("config")).unwrap();
        let credentials = Credentials { database_url: None, pin_hash: Some(crate::init::hash_pin("482915").unwrap()) };
        std::fs::write(root.credentials_file(), credentials.to_text()).unwrap();
        (folder, root)
    }

    #[test]
    fn five_wrong_ones_lock_across_restarts_and_apart_for_people_elsewhere() {
        let (_folder, root) = root();
        let judge = PinJudge::new(&root);
        assert_eq!(judge.judge("0000", Caller::Local), Answer::WrongPin { tries_left: 4 });
        assert_eq!(judge.judge("482915", Caller::Local), Answer::Done);
        for left in [4, 3, 2, 1] {
            assert_eq!(judge.judge("0000", Caller::Remote), Answer::WrongPin { tries_left: left });
        }
        assert_eq!(PinJudge::new(&root).judge("0000", Caller::Remote), Answer::LockedOut { seconds: 30 });
        let judge = PinJudge::new(&root);
        assert!(matches!(judge.judge("482915", Caller::Remote), Answer::LockedOut { .. }), "even a right one");
        assert_eq!(judge.judge("482915", Caller::Local), Answer::Done);
    }

    #[test]
    fn a_reset_on_site_ends_a_lock_at_once() {
        let (_folder, root) = root();
        updater::boot_record::BootRecord::first("1.0.0-aaaaaaaa".into(), "1.0.0".parse().unwrap())
            .create(&root.boot_record())
            .unwrap();
        let judge = PinJudge::new(&root);
        for _ in 0..6 {
            judge.judge("0000", Caller::Local);
        }
        crate::reset_pin::reset_pin(&root, Some("135790".to_owned())).unwrap();
        assert_eq!(judge.judge("482915", Caller::Local), Answer::WrongPin { tries_left: 4 });
        assert_eq!(judge.judge("135790", Caller::Local), Answer::Done);
    }

    #[test]
    fn each_lock_is_twice_as_long_up_to_an_hour() {
        let seconds: Vec<u64> = (4..14).map(|wrong| lock_after(wrong).as_secs()).collect();
        assert_eq!(seconds, [0, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
    }

    #[test]
    fn without_a_hash_nobody_gets_in() {
        let (_folder, root) = root();
        std::fs::write(root.credentials_file(), "").unwrap();
        assert!(matches!(PinJudge::new(&root).judge("", Caller::Local), Answer::Refused { .. }));
    }
}
