//! Who may write where, on Linux. The supervisor starts a child through `watchdog confine`, which gives up every right to
//! write but to the child's own places, and then becomes the child: the same process, with nothing between.
//!
//! Landlock limits what a process may write, whoever its user is, and keeps it from tracing or signalling others. Where
//! the watchdog runs as root with `--users NAME`, each child is a user of its own besides: `NAME-collector`, `NAME-agent`,
//! `NAME-portal`, which share the group `NAME`.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use config::{Credentials, InstallRoot, Settings};
use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
    RulesetStatus, Scope, path_beneath_rules,
};
use nix::unistd::{Gid, Group, Uid, User, setgid, setgroups, setuid};
use protocol::Failure;
use readings::Place;
use rustix::fs::OFlags;
use updater::database::ActiveDatabase;

/// The newest rights that are asked for; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// Where a child may write. Everything else is the watchdog's: `versions/`, the boot record, keys, `backups/`, `config/`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders with all that is in them, of this child alone.
    folders: Vec<PathBuf>,
    /// Files that it may write, and not replace.
    files: Vec<PathBuf>,
    /// The folder of a SQLite database: the collector's, and written by whoever reads there as well, because readers of
    /// SQLite's write-ahead log keep its index.
    database: Option<PathBuf>,
    /// What it may read beside what everybody may.
    secrets: Vec<PathBuf>,
}

impl Places {
    /// # Errors
    /// A database that no URL names.
    pub fn of(child: &str, root: &InstallRoot, settings: &Settings) -> Result<Self, Failure> {
        let database = || -> Result<Option<PathBuf>, Failure> {
            let Ok(Some(_)) = Credentials::read(&root.credentials_file()).map(|read| read.database_url) else {
                return Ok(None);
            };
            Ok(match readings::place(&ActiveDatabase::of(root)?.url, root.path())? {
                Place::Sqlite(file) => file.parent().map(Path::to_owned),
                Place::Postgres => None,
            })
        };
        Ok(match child {
            "collector" => Self {
                folders: vec![root.collector_state()],
                database: database()?,
                secrets: vec![root.sources_file()],
                ..Self::default()
            },
            "agent" => Self {
                folders: vec![root.agent_state(), root.incoming()],
                files: vec![root.last_sync(), root.sessions_log()],
                database: database()?,
                secrets: vec![root.resolve(&settings.agent_key_file)],
            },
            // It writes nothing: what it asks for is the supervisor's to do.
            _ => Self::default(),
        })
    }
}

/// The users that children run as, where they are users of their own.
struct Owner {
    user: Uid,
    own_group: Gid,
    shared_group: Gid,
    /// Of the collector, whose the database is.
    collector: Uid,
}

impl Owner {
    fn find(users: &str, child: &str) -> Result<Self, Failure> {
        let user = |name: &str| match User::from_name(name) {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(Failure::configuration(format!("there is no user {name}, which --users {users} asks for"))),
            Err(error) => Err(Failure::configuration(format!("could not look for the user {name}: {error}"))),
        };
        let (itself, collector) = (user(&format!("{users}-{child}"))?, user(&format!("{users}-collector"))?);
        let shared = Group::from_name(users).ok().flatten();
        let shared = shared.ok_or_else(|| Failure::configuration(format!("there is no group {users}")))?;
        Ok(Self { user: itself.uid, own_group: itself.gid, shared_group: shared.gid, collector: collector.uid })
    }

    /// Nothing is left to go back to.
    fn become_it(&self) -> nix::Result<()> {
        setgroups(&[self.own_group, self.shared_group])?;
        setgid(self.own_group)?;
        setuid(self.user)
    }
}

/// Lays the child's places, gives up all other rights to write, and becomes `program`. Returns only if that fails.
///
/// # Errors
/// A user that is not there, a place that cannot be made, or a program that cannot be started.
pub fn confine(
    root: &InstallRoot,
    child: &str,
    users: Option<&str>,
    program: &Path,
    arguments: &[OsString],
) -> Result<(), Failure> {
    let places = Places::of(child, root, &Settings::read(root)?)?;
    let owner = users.map(|users| Owner::find(users, child)).transpose()?;
    lay(&places, owner.as_ref())?;
    if let Some(owner) = &owner {
        // What it makes in the database's folder is for its group as well.
        rustix::process::umask(rustix::fs::Mode::RWXO);
        owner.become_it().map_err(|error| Failure::failed(format!("could not become {child}'s user: {error}")))?;
    }
    match limit(&places).map_err(|error| Failure::failed(format!("could not limit what {child} may write: {error}")))? {
        RulesetStatus::NotEnforced if owner.is_none() => eprintln!(
            "this kernel has no landlock, and all programs run as one user: {child} may write wherever the watchdog may"
        ),
        _ => {}
    }
    let error = Command::new(program).args(arguments).exec();
    Err(durable::name_error("start", program, error).into())
}

fn limit(places: &Places) -> Result<RulesetStatus, landlock::RulesetError> {
    // Terminals are no files of ours.
    let writing = AccessFs::from_write(NEWEST) & !AccessFs::IoctlDev;
    let into_files = AccessFs::WriteFile | AccessFs::Truncate;
    let folders = places.folders.iter().chain(&places.database);
    let null = PathBuf::from("/dev/null");
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(folders, writing))?
        .add_rules(path_beneath_rules(places.files.iter().chain([&null]), into_files))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Makes what is not there, and gives it to whom it belongs. A child may have left anything there, so nothing is followed.
fn lay(places: &Places, owner: Option<&Owner>) -> Result<(), Failure> {
    for folder in places.folders.iter().chain(&places.database) {
        let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
        made.map_err(|error| durable::name_error("create", folder, error))?;
    }
    for file in &places.files {
        let mut options = OpenOptions::new();
        options.create(true).append(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
        options.open(file).map_err(|error| durable::name_error("create", file, error))?;
    }
    let Some(owner) = owner else { return Ok(()) };
    for folder in &places.folders {
        give(folder, owner.user, owner.shared_group, 0o2750, 0o640)?;
    }
    for file in &places.files {
        give_one(file, owner.user, owner.shared_group, 0o640)?;
    }
    if let Some(folder) = &places.database {
        give(folder, owner.collector, owner.shared_group, 0o2770, 0o660)?;
    }
    for secret in places.secrets.iter().filter(|secret| secret.exists()) {
        give_one(secret, Uid::from_raw(0), owner.own_group, 0o640)?;
    }
    Ok(())
}

fn give(folder: &Path, user: Uid, group: Gid, folder_mode: u32, file_mode: u32) -> io::Result<()> {
    give_one(folder, user, group, folder_mode)?;
    for entry in fs::read_dir(folder).map_err(|error| durable::name_error("read", folder, error))? {
        let entry = entry.map_err(|error| durable::name_error("read", folder, error))?;
        let kind = entry.file_type().map_err(|error| durable::name_error("read", &entry.path(), error))?;
        let given = match (kind.is_dir(), kind.is_file()) {
            (true, _) => give(&entry.path(), user, group, folder_mode, file_mode),
            (_, true) => give_one(&entry.path(), user, group, file_mode),
            _ => Ok(()),
        };
        match given {
            // Gone meanwhile, or made into something that is not followed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            given => given?,
        }
    }
    Ok(())
}

fn give_one(path: &Path, user: Uid, group: Gid, mode: u32) -> io::Result<()> {
    let named = |error| durable::name_error("give away", path, error);
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).map_err(named)?;
    fchown(&file, Some(user.as_raw()), Some(group.as_raw())).map_err(named)?;
    file.set_permissions(Permissions::from_mode(mode)).map_err(named)
}
