//! Who may write where, on Linux. The supervisor starts a child through `watchdog confine`, which gives up every right to
//! write but to the child's own places, and then becomes the child: the same process, with nothing between.
//!
//! Landlock limits what a process may write, whoever its user is, and keeps it from tracing or signalling others. Where
//! the watchdog runs as root with `--users NAME`, each child is a user of its own besides: `NAME-collector`, `NAME-agent`,
//! `NAME-portal`, which share the group `NAME`.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
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
use rustix::fs::{Dir, Mode, OFlags, openat};
use updater::database::ActiveDatabase;

/// The newest rights that are asked for; an older kernel enforces those that it knows.
const NEWEST: ABI = ABI::V6;

/// Where a child may write. Everything else is the watchdog's: `versions/`, the boot record, keys, `backups/`, `config/`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Folders with all that is in them, of this child alone.
    folders: Vec<PathBuf>,
    /// Among these, what its neighbours may not read either.
    private: Vec<PathBuf>,
    /// Files that it may write, and not replace.
    files: Vec<PathBuf>,
    /// Of a SQLite database: the collector's, and written by whoever reads there as well, because readers of SQLite's
    /// write-ahead log keep its index.
    database: Option<Database>,
    /// What it may read beside what everybody may.
    secrets: Vec<PathBuf>,
}

impl Places {
    fn all_folders(&self) -> impl Iterator<Item = &PathBuf> {
        self.folders.iter().chain(self.database.iter().map(|database| &database.folder))
    }

    /// # Errors
    /// A database that no URL names.
    pub fn of(child: &str, root: &InstallRoot, settings: &Settings) -> Result<Self, Failure> {
        let database = || -> Result<Option<Database>, Failure> {
            let Ok(Some(_)) = Credentials::read(&root.credentials_file()).map(|read| read.database_url) else {
                return Ok(None);
            };
            match readings::place(&ActiveDatabase::of(root)?.url, root.path())? {
                Place::Sqlite(file) => Database::beside(&file, root).map(Some),
                Place::Postgres => Ok(None),
            }
        };
        Ok(match child {
            "collector" => Self {
                folders: vec![root.collector_state()],
                // The key that servers of OPC UA know it by.
                private: vec![root.collector_state().join("opcua")],
                database: database()?,
                secrets: vec![root.sources_file()],
                ..Self::default()
            },
            "agent" => Self {
                folders: vec![root.agent_state(), root.incoming()],
                files: vec![root.last_sync(), root.sessions_log()],
                database: database()?,
                secrets: vec![root.resolve(&settings.agent_key_file)],
                ..Self::default()
            },
            // It writes nothing: what it asks for is the supervisor's to do.
            _ => Self { secrets: vec![root.resolve(&settings.portal_key_file)], ..Self::default() },
        })
    }
}

/// Where a SQLite database lies.
#[derive(Debug, PartialEq, Eq)]
struct Database {
    folder: PathBuf,
    /// What its files, and those that updates make of it, are called by.
    stem: String,
    /// The folder is the root's, and so the watchdog's to give away.
    in_root: bool,
}

impl Database {
    fn beside(file: &Path, root: &InstallRoot) -> Result<Self, Failure> {
        let folder = file.parent().unwrap_or(root.path()).to_owned();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // `plant.3-0badcafe.db` is called by what it was made of.
        let stem = stem.split('.').next().unwrap_or_default().to_owned();
        let in_root = folder.starts_with(root.path());
        let of_the_root = ["agent", "backups", "config", "logs", "pending_update", "portal", "state", "versions"];
        let taken =
            root.path().starts_with(&folder) || of_the_root.iter().any(|name| folder.starts_with(root.resolve(name)));
        if taken || stem.is_empty() {
            return Err(Failure::configuration(format!(
                "the database would lie in {}, among the install root's own files; give it a folder of its own, such as \
                 sqlite:data/plant.db",
                folder.display()
            )));
        }
        Ok(Self { folder, stem, in_root })
    }
}

/// The users that children run as, where they are users of their own.
struct Owner {
    user: Uid,
    own_group: Gid,
    /// Of those that read or write the database.
    shared_group: Gid,
    /// Whose the database is.
    collector: Uid,
}

/// A name that users and a group can be made of; the longest one of a user has 32 characters.
///
/// # Errors
/// It is none.
pub fn check_users(users: &str) -> Result<(), Failure> {
    const LONGEST: usize = 32 - "-collector".len();
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    let begins = users.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    if !begins || users.len() > LONGEST || !users.chars().all(plain) {
        let what = format!(
            "--users is 1 to {LONGEST} small letters, digits, `-` and `_`, and begins with a letter, not {users:?}"
        );
        return Err(Failure::usage(what));
    }
    Ok(())
}

/// Whether there are users to run programs as; looked at before anything is started.
///
/// # Errors
/// The first that is not there, and how to make it.
pub fn require_users(users: &str) -> Result<(), Failure> {
    check_users(users)?;
    ["collector", "agent", "portal"].iter().try_for_each(|child| Owner::find(users, child).map(drop))
}

impl Owner {
    fn find(users: &str, child: &str) -> Result<Self, Failure> {
        let user = |name: &str| match User::from_name(name) {
            Ok(Some(user)) => Ok(user),
            Ok(None) => Err(Failure::configuration(format!(
                "there is no user {name}, which --users {users} asks for; make it with: useradd --system --user-group \
                 --no-create-home {name}"
            ))),
            Err(error) => Err(Failure::configuration(format!("could not look for the user {name}: {error}"))),
        };
        let (itself, collector) = (user(&format!("{users}-{child}"))?, user(&format!("{users}-collector"))?);
        let shared = Group::from_name(users).ok().flatten();
        let shared = shared.ok_or_else(|| {
            Failure::configuration(format!(
                "there is no group {users}, which --users {users} asks for; make it with: groupadd --system {users}"
            ))
        })?;
        Ok(Self { user: itself.uid, own_group: itself.gid, shared_group: shared.gid, collector: collector.uid })
    }

    /// Nothing is left to go back to.
    fn become_it(&self, reads_database: bool) -> nix::Result<()> {
        let groups = [self.own_group, self.shared_group];
        setgroups(if reads_database { &groups } else { &groups[..1] })?;
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
        rustix::process::umask(Mode::RWXO);
        // A database that is elsewhere, or PostgreSQL's, is for whom its administrator has said.
        let become_it = owner.become_it(child != "portal");
        become_it.map_err(|error| Failure::failed(format!("could not become {child}'s user: {error}")))?;
    }
    match limit(&places).map_err(|error| Failure::failed(format!("could not limit what {child} may write: {error}")))? {
        RulesetStatus::FullyEnforced => {}
        RulesetStatus::PartiallyEnforced => eprintln!(
            "this kernel limits only a part of what {child} may do: truncating files takes Linux 6.2, signals 6.12"
        ),
        RulesetStatus::NotEnforced if owner.is_none() => eprintln!(
            "this kernel has no landlock, and all programs run as one user: {child} may write wherever the watchdog may"
        ),
        RulesetStatus::NotEnforced => eprintln!("this kernel has no landlock: {child} is limited by its user alone"),
    }
    let error = Command::new(program).args(arguments).exec();
    Err(durable::name_error("start", program, error).into())
}

fn limit(places: &Places) -> Result<RulesetStatus, landlock::RulesetError> {
    // Terminals are no files of ours.
    let writing = AccessFs::from_write(NEWEST) & !AccessFs::IoctlDev;
    let into_files = AccessFs::WriteFile | AccessFs::Truncate;
    // Files and folders, and nothing that leads elsewhere: no links, pipes, sockets, devices.
    let in_folders = into_files
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let folders = places.all_folders();
    let null = PathBuf::from("/dev/null");
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writing)?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(folders, in_folders))?
        .add_rules(path_beneath_rules(places.files.iter().chain([&null]), into_files))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// Makes what is not there, and gives it to whom it belongs. The folders above are the watchdog's; below them a child may
/// have left anything, and may be at it now, so the way down is by open folders, and no link is followed.
fn lay(places: &Places, owner: Option<&Owner>) -> Result<(), Failure> {
    for folder in places.all_folders() {
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
        let given = Gift { user: owner.user, group: owner.shared_group, folder_mode: 0o2750, file_mode: 0o640 };
        given.folder(
            &File::open(folder).map_err(|error| durable::name_error("open", folder, error))?,
            DEEPEST,
            &|_| true,
        )?;
    }
    for folder in &places.private {
        let flags = (OFlags::NOFOLLOW | OFlags::DIRECTORY).bits().cast_signed();
        // Made when it is first needed.
        let Ok(opened) = OpenOptions::new().read(true).custom_flags(flags).open(folder) else { continue };
        let given = Gift { user: owner.user, group: owner.own_group, folder_mode: 0o2750, file_mode: 0o640 };
        given.folder(&opened, DEEPEST, &|_| true)?;
    }
    for file in &places.files {
        let given = Gift { user: owner.user, group: owner.shared_group, folder_mode: 0, file_mode: 0o640 };
        given.file(&durable::open_plain(file)?).map_err(|error| durable::name_error("give away", file, error))?;
    }
    if let Some(Database { folder, stem, in_root: true }) = &places.database {
        let given = Gift { user: owner.collector, group: owner.shared_group, folder_mode: 0o2770, file_mode: 0o660 };
        let opened = File::open(folder).map_err(|error| durable::name_error("open", folder, error))?;
        given.folder(&opened, 0, &|name| name.strip_prefix(stem.as_str()).is_some_and(|rest| rest.starts_with('.')))?;
    }
    for secret in places.secrets.iter().filter(|secret| secret.exists()) {
        let given = Gift { user: Uid::from_raw(0), group: owner.own_group, folder_mode: 0, file_mode: 0o640 };
        let opened = File::open(secret).map_err(|error| durable::name_error("open", secret, error))?;
        given.file(&opened).map_err(|error| durable::name_error("give away", secret, error))?;
    }
    Ok(())
}

/// Nothing of ours lies deeper.
const DEEPEST: u32 = 8;

/// To whom files are given.
#[derive(Clone, Copy)]
struct Gift {
    user: Uid,
    group: Gid,
    folder_mode: u32,
    file_mode: u32,
}

impl Gift {
    /// An open folder with the files in it that are `meant`, and the folders so far down. What cannot be given is told and
    /// passed over: a child must not be able to keep itself or another from starting.
    fn folder(self, folder: &File, depth: u32, meant: &dyn Fn(&str) -> bool) -> io::Result<()> {
        self.one(folder, self.folder_mode)?;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." || !meant(&name) {
                continue;
            }
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let given =
                openat(folder, entry.file_name(), flags, Mode::empty()).map_err(io::Error::from).and_then(|opened| {
                    let opened = File::from(opened);
                    match opened.metadata()?.is_dir() {
                        true if depth > 0 => self.folder(&opened, depth - 1, meant),
                        true => Ok(()),
                        false => self.file(&opened),
                    }
                });
            if let Err(error) = given {
                eprintln!("{name:?} stays whose it is: {error}");
            }
        }
        Ok(())
    }

    /// An open file; one that has another name as well may be somebody else's.
    fn file(self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        match metadata.is_file() && metadata.nlink() == 1 {
            true => self.one(file, self.file_mode),
            false => Err(io::Error::other("it is no plain file with one name")),
        }
    }

    fn one(self, file: &File, mode: u32) -> io::Result<()> {
        fchown(file, Some(self.user.as_raw()), Some(self.group.as_raw()))?;
        file.set_permissions(Permissions::from_mode(mode))
    }
}
