//! Under systemd: a unit that may do nothing but its work, is told when the plant is up, and starts it again when it hangs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use config::InstallRoot;
use durable::Access;
use protocol::Failure;

use super::{Service, Wish};
use crate::executable;

const PROGRAMS: [&str; 3] = ["collector", "agent", "portal"];
const UNITS: &str = "/etc/systemd/system";

pub fn service(root: &InstallRoot, service: &Service, wish: Wish) -> Result<(), Failure> {
    let unit = PathBuf::from(UNITS).join(format!("{}.service", service.name));
    if !matches!(wish, Wish::Install { print: true }) {
        require_own(root, service, &unit)?;
    }
    match wish {
        Wish::Install { print: true } => {
            print!("{}", text(root, service)?);
            Ok(())
        }
        Wish::Install { print: false } => install(root, service, &unit),
        Wish::Uninstall => uninstall(service, &unit),
        Wish::Start | Wish::Stop | Wish::Status if !is_running() => {
            Err(Failure::failed("systemd does not run on this machine; `watchdog run --root DIR` runs everything here"))
        }
        Wish::Start => systemctl(&["start", &service.name]),
        Wish::Stop => systemctl(&["stop", &service.name]),
        Wish::Status => systemctl(&["--no-pager", "status", &service.name]),
    }
}

fn install(root: &InstallRoot, service: &Service, unit: &Path) -> Result<(), Failure> {
    let text = text(root, service)?;
    if let Some(users) = &service.users {
        add_users(users)?;
    }
    durable::replace(unit, text.as_bytes(), Access::Shared)?;
    reload()?;
    systemctl(&["enable", "--quiet", &service.name])?;
    println!("{} is installed, and starts with the machine", unit.display());
    println!("{}", service.how_to_start(root));
    Ok(())
}

/// A unit that is there has to be one of this root.
fn require_own(root: &InstallRoot, service: &Service, unit: &Path) -> Result<(), Failure> {
    let there = match std::fs::read_to_string(unit) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        there => there.map_err(|error| durable::name_error("read", unit, error))?,
    };
    let line = there.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap_or_default();
    let own = command(root)?;
    match line.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')) {
        true => Ok(()),
        false => Err(service.of_another_root(line)),
    }
}

/// Which the unit starts, users apart.
fn command(root: &InstallRoot) -> Result<String, Failure> {
    let quoted = |path: &Path| quote(&path.to_string_lossy());
    let launcher = root.path().join(executable("watchdog"));
    Ok(format!("{} run --root {}", quoted(&launcher)?, quoted(root.path())?))
}

fn uninstall(service: &Service, unit: &Path) -> Result<(), Failure> {
    if !unit.exists() {
        return Err(Failure::failed(format!("{} is not there: nothing is installed under this name", unit.display())));
    }
    if is_running() {
        systemctl(&["stop", &service.name])?;
    }
    systemctl(&["disable", "--quiet", &service.name])?;
    durable::remove(unit)?;
    reload()?;
    if let Some(users) = &service.users {
        for program in PROGRAMS {
            run("userdel", &[&format!("{users}-{program}")])?;
        }
        run("groupdel", &[users])?;
    }
    println!("{} is removed; the install root stays as it is", unit.display());
    Ok(())
}

/// Those of `watchdog run --users`, as far as they are not there.
fn add_users(users: &str) -> Result<(), Failure> {
    if !is_known("group", users) {
        run("groupadd", &["--system", users])?;
    }
    for program in PROGRAMS {
        let user = format!("{users}-{program}");
        if !is_known("passwd", &user) {
            run("useradd", &["--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", &user])?;
        }
    }
    Ok(())
}

fn is_known(kind: &str, name: &str) -> bool {
    let mut getent = Command::new("getent");
    getent.args([kind, name]).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// In an image that is being made, units are laid and nothing runs.
fn is_running() -> bool {
    Path::new("/run/systemd/system").exists()
}

fn reload() -> Result<(), Failure> {
    if is_running() { systemctl(&["daemon-reload"]) } else { Ok(()) }
}

fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    run("systemctl", arguments)
}

fn run(program: &str, arguments: &[&str]) -> Result<(), Failure> {
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).status();
    let status = status.map_err(|error| Failure::failed(format!("{program} could not be started: {error}")))?;
    match status.success() {
        true => Ok(()),
        false => {
            Err(Failure::failed(format!("`{program} {}` ended with {status}; are you root?", arguments.join(" "))))
        }
    }
}

/// The unit. Restarts are the launcher's own, with its own pauses; systemd only starts a launcher that is gone or hangs.
fn text(root: &InstallRoot, service: &Service) -> Result<String, Failure> {
    let folder = root.path();
    let quoted = |path: &Path| quote(&path.to_string_lossy());
    let mut start = command(root)?;
    // Only whoever may become others needs any rights of root.
    let identity = match &service.users {
        Some(users) => {
            start += &format!(" --users {}", quote(users)?);
            "CapabilityBoundingSet=CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_KILL".to_owned()
        }
        None => format!("User={}\nCapabilityBoundingSet=", owner(root)?),
    };
    let mut writes = vec![quoted(folder)?];
    if let Some(outside) = super::database_folder(root)? {
        writes.push(quoted(&outside)?);
    }
    let home = ["/home", "/root", "/run/user"].iter().any(|home| folder.starts_with(home));
    let home = if home { "no" } else { "yes" };
    // One of its own would hide the root.
    let temporary = ["/tmp", "/var/tmp"].iter().any(|temporary| folder.starts_with(temporary));
    let temporary = if temporary { "no" } else { "yes" };
    Ok(format!(
        "# Made by `watchdog service install`.
[Unit]
Description=Plantlink in {description}
After=network.target time-sync.target postgresql.service
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={start}
Restart=always
RestartSec=2
RestartPreventExitStatus=78
WatchdogSec=60
TimeoutStartSec=180
TimeoutStopSec=60
KillMode=mixed
{identity}
UMask=0027
LimitNOFILE=65536
ReadWritePaths={writes}
ProtectSystem=strict
ProtectHome={home}
PrivateTmp={temporary}
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
RemoveIPC=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service landlock_create_ruleset landlock_add_rule landlock_restrict_self
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
",
        description = folder.display().to_string().replace('%', "%%"),
        writes = writes.join(" "),
    ))
}

/// Whose root it is; systemd takes a number as well as a name.
fn owner(root: &InstallRoot) -> Result<u32, Failure> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(std::fs::metadata(root.boot_record())?.uid())
}

/// As systemd reads a word (systemd.service(5), "Quoting"): `%` and `$` stand for themselves.
fn quote(text: &str) -> Result<String, Failure> {
    if text.chars().any(char::is_control) {
        return Err(Failure::usage(format!("{text:?} cannot stand in a unit")));
    }
    let escaped = text.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}
