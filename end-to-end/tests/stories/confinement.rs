//! Code that runs as one of the programs, and what it can do to the rest of the plant.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use end_to_end::programs::{Ended, run};
use sha2::{Digest as _, Sha256};

use crate::{SQLITE, World};

/// What no program but the watchdog may change.
const THE_WATCHDOGS: [&str; 10] = [
    "versions",
    "config",
    "backups",
    "agent",
    "portal",
    "state",
    "pending_update",
    "version.txt",
    "watchdog",
    "license.dat",
];

impl World {
    /// A shell in the place of a program.
    fn as_program(&self, child: &str, users: Option<&str>, script: &str) -> Ended {
        let mut command = Command::new(self.plant.version_directory().join("watchdog"));
        command.current_dir(&self.plant.root);
        command.args(["confine", "--child", child, "--root"]).arg(&self.plant.root);
        if let Some(users) = users {
            command.args(["--users", users]);
        }
        run(command.args(["--", "/bin/sh", "-c", script]))
    }

    /// Every file that only the watchdog may change, with mode and content.
    fn the_watchdogs_files(&self) -> BTreeMap<PathBuf, String> {
        let mut found = BTreeMap::new();
        for place in THE_WATCHDOGS {
            collect(&self.plant.root.join(place), &mut found);
        }
        let of_others =
            ["state/agent", "state/collector", "state/run.json", "agent/last_sync.txt", "pending_update/incoming"];
        found.retain(|path, _| !of_others.iter().any(|other| path.starts_with(self.plant.root.join(other))));
        assert!(found.len() > 15, "{found:?}");
        found
    }

    fn assert_can_change_nothing(&self, child: &str, users: Option<&str>) {
        let before = self.the_watchdogs_files();
        let supervisor = self.plant.status().unwrap();
        assert_eq!(supervisor.phase, "committed");
        for path in before.keys() {
            let path = path.display();
            let script = format!(
                "(echo x >> '{path}'; : > '{path}'; rm -f '{path}'; mv /proc/self/cwd/version.txt '{path}'; \
                  ln -f /bin/sh '{path}'; ln -sf /bin/sh '{path}'; cp /bin/sh '{path}') 2>/dev/null; true"
            );
            self.as_program(child, users, &script).good();
        }
        for folder in ["", "versions", "config", "state", "state/update", "agent", "pending_update", "backups", "logs"]
        {
            for try_it in ["touch {}/new", "mkdir {}/new", "ln -s /bin/sh {}/new", "mkfifo {}/new"] {
                let tried = self.as_program(child, users, &try_it.replace("{}", &format!("./{folder}")));
                assert!(tried.code != Some(0), "{child} in {folder:?}: {try_it} went well");
            }
        }
        assert_eq!(self.the_watchdogs_files(), before, "{child}");
        // Not by way of another process either.
        let launcher = self.plant.launcher().as_raw_nonzero();
        for try_it in [
            format!("kill -0 {launcher}"),
            format!("kill -9 {launcher}"),
            format!("head -c 1 /proc/{launcher}/mem"),
            format!("readlink /proc/{launcher}/fd/1"),
        ] {
            let tried = self.as_program(child, users, &try_it);
            assert!(tried.code != Some(0), "{child}: {try_it} went well: {tried:?}");
        }
    }

    fn assert_can_do_its_work(&self, child: &str, users: Option<&str>, places: &[&str]) {
        for place in places {
            let tried = self.as_program(child, users, &format!("echo x >> {place}"));
            assert_eq!(tried.code, Some(0), "{child} and {place}: {tried:?}");
        }
    }
}

fn collect(path: &Path, found: &mut BTreeMap<PathBuf, String>) {
    use std::os::unix::fs::PermissionsExt as _;
    if path.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), found);
        }
    } else if let Ok(metadata) = std::fs::symlink_metadata(path) {
        let content = std::fs::read(path).map(|bytes| protocol::signing::hex(&Sha256::digest(bytes)));
        found.insert(path.to_owned(), format!("{:o} {}", metadata.permissions().mode(), content.unwrap_or_default()));
    }
}

const WORK: [(&str, &[&str]); 2] = [
    ("collector", &["state/collector/x", "data/x"]),
    (
        "agent",
        &["state/agent/x", "pending_update/incoming/x", "agent/last_sync.txt", "logs/sessions.jsonl", "/dev/null"],
    ),
];

#[test]
fn as_one_user_no_program_can_write_but_to_its_own_places() {
    let world = World::running(SQLITE);
    world.plant.wait_for_readings(20);
    let landlock = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let seen = world.as_program("portal", None, "touch ./x");
    assert!(seen.code != Some(0), "nothing is limited here, which takes a kernel with landlock (it has {landlock:?})");
    for child in ["portal", "agent", "collector"] {
        world.assert_can_change_nothing(child, None);
    }
    for (child, places) in WORK {
        world.assert_can_do_its_work(child, None, places);
    }
    world.assert_goes_on();
}

/// Users that are there for the time of a story.
struct Users(String);

impl Users {
    fn new() -> Self {
        let name = format!("plt{}", std::process::id());
        run(Command::new("groupadd").args(["--system", &name])).good();
        for child in ["collector", "agent", "portal"] {
            let user = format!("{name}-{child}");
            run(Command::new("useradd").args(["--system", "--no-create-home", "--user-group", &user])).good();
        }
        Self(name)
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        for child in ["collector", "agent", "portal"] {
            let _ = Command::new("userdel").arg(format!("{}-{child}", self.0)).status();
        }
        let _ = Command::new("groupdel").arg(&self.0).status();
    }
}

#[test]
fn as_users_of_their_own_the_programs_work_update_and_can_write_but_to_their_own_places() {
    use std::os::unix::fs::PermissionsExt as _;
    assert!(rustix::process::geteuid().is_root(), "only root can start programs as other users");
    let users = Users::new();
    let mut world = World::new(SQLITE);
    std::fs::set_permissions(world.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.plant.set("UPDATE_TRIAL_SECONDS", "1");
    world.plant.run_with = vec!["--users".to_owned(), users.0.clone()];
    // As in the unit for systemd.
    world.plant.umask = Some(0o027);
    world.plant.set("PORTAL_BIND", "0.0.0.0");
    world.plant.start_and_wait();
    world.plant.wait_for_readings(20);
    let mut seen = Vec::new();
    for child in ["collector", "agent", "portal"] {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", world.plant.pid(child).as_raw_nonzero())).unwrap();
        let line = |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
        assert!(!line("Uid:").contains("\t0\t"), "{status}");
        assert!(line("CapEff:").ends_with("0000000000000000"), "{status}");
        seen.push(line("Uid:"));
    }
    seen.dedup();
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert_eq!(world.update(&world.alarms_release("0.2.0"))["status"], "ok");
    world.assert_goes_on();
    for child in ["portal", "agent", "collector"] {
        world.assert_can_change_nothing(child, Some(&users.0));
        let secret = world.as_program(child, Some(&users.0), "cat config/credentials.env");
        assert!(secret.code != Some(0), "{child}: {secret:?}");
        let key = world.as_program(child, Some(&users.0), "cat agent/key.pem");
        assert_eq!(key.code == Some(0), child == "agent", "{child}: {key:?}");
        let key = world.as_program(child, Some(&users.0), "cat portal/key.pem");
        assert_eq!(key.code == Some(0), child == "portal", "{child}: {key:?}");
        let modes = world.as_program(child, Some(&users.0), "chmod 700 versions/*/agent");
        assert!(modes.code != Some(0), "{child}: {modes:?}");
    }
    for (child, places) in WORK {
        world.assert_can_do_its_work(child, Some(&users.0), places);
    }
    world.assert_goes_on();
    world.plant.stop();
}
