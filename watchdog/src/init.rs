//! `watchdog init`: an install root. Killed half-way it is run again and completes what is missing; the boot record comes
//! last and says that the root is whole.

use std::fs;
use std::path::{Path, PathBuf};

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, SaltString};
use config::{Credentials, DEFAULT_CONFIG, DEFAULT_SOURCES, InstallRoot};
use durable::Access;
use protocol::Failure;
use protocol::signing::PublicKey;
use rand::Rng as _;
use rand::rngs::OsRng;
use readings::{Place, migrate};
use updater::boot_record::BootRecord;
use updater::patch::PROGRAMS;
use updater::version_directory::{VERSION_FILE, read_tree, tree_hash, version_id};

use crate::{as_argument, certificate, executable};

/// What `watchdog init` is given.
#[derive(Clone, Debug)]
pub struct Init {
    pub database: String,
    pub keys: Option<PathBuf>,
    pub pin: Option<String>,
    pub license: Option<PathBuf>,
    pub simulator: Option<u32>,
}

const FOLDERS: [&str; 11] = [
    "config",
    "agent",
    "versions",
    "state",
    "state/agent",
    "state/collector",
    "data",
    "logs",
    "backups",
    "pending_update",
    "pending_update/incoming",
];
/// Keys in `--keys`, and what they are called in the root.
const KEYS: [(&str, &str); 3] = [
    ("public.pem", "server_public.pem"),
    ("update_public.pem", "update_public.pem"),
    ("license_public.pem", "license_public.pem"),
];

/// Lays out an install root from the programs beside this one.
///
/// # Errors
/// A program or key that is missing, or a folder that cannot be written.
pub fn init(root: &InstallRoot, wish: &Init) -> Result<(), Failure> {
    if root.boot_record().exists() {
        println!(
            "{} is an install root already and is left as it is; nothing of this call was applied",
            root.path().display()
        );
        return Ok(());
    }
    require_short(root.path())?;
    let programs = std::env::current_exe()
        .ok()
        .and_then(|path| path.parent().map(Path::to_owned))
        .ok_or_else(|| Failure::failed("could not find out where this program lies"))?;
    for program in PROGRAMS {
        if !programs.join(executable(program)).is_file() {
            return Err(Failure::failed(format!(
                "{program} is missing beside this program in {}; build or unpack all of them",
                programs.display()
            )));
        }
    }
    let keys = read_keys(wish.keys.as_deref())?;
    readings::check_url(&wish.database, root.path()).map_err(|error| Failure::usage(format!("--database: {error}")))?;
    for folder in FOLDERS {
        let path = root.path().join(folder);
        fs::create_dir_all(&path).map_err(|error| durable::name_error("create", &path, error))?;
    }
    #[cfg(windows)]
    crate::access::close(root.path())?;
    for (name, pem) in &keys {
        new_file(&root.path().join("config").join(name), pem.as_bytes(), Access::Shared)?;
    }
    write_configuration(root, wish)?;
    let [certificate, key] = ["agent/cert.pem", "agent/key.pem"].map(|file| root.resolve(file));
    certificate::make(&certificate, &key, &["plantlink-agent".to_owned()])?;
    let id = install_version(root, &programs)?;
    copy_program(&programs.join(executable("watchdog")), &root.path().join(executable("watchdog")))?;
    durable::replace(&root.version_file(), format!("{}\n", daemon::version()).as_bytes(), Access::Shared)?;
    let version = updater::package::parse_version(daemon::version()).map_err(Failure::failed)?;
    let record = BootRecord { database: adopt(root)?, ..BootRecord::first(id, version) };
    record.create(&root.boot_record())?;
    println!("{}: install root of version {}", root.path().display(), daemon::version());
    for (name, from, what) in [
        ("server_public.pem", "HQ's public.pem", "HQ cannot get in"),
        ("update_public.pem", "the publisher's update_public.pem", "no update is taken"),
    ] {
        if !keys.iter().any(|(there, _)| *there == name) && !root.path().join("config").join(name).exists() {
            println!("put {from} there as config/{name}; until then {what}");
        }
    }
    let watchdog = root.path().join(executable("watchdog"));
    println!("start it with: {} run --root {}", as_argument(&watchdog), as_argument(root.path()));
    Ok(())
}

/// Windows starts no program in a folder whose name is longer than 258 characters, nor one that lies deeper; what is no
/// program may have longer names.
fn require_short(root: &Path) -> Result<(), Failure> {
    const LONGEST: usize = 180;
    let length = root.to_string_lossy().encode_utf16().count();
    match !cfg!(windows) || length <= LONGEST {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "the install root's name has {length} characters, and Windows starts programs only where it has {LONGEST} at most; \
             choose a shorter one, such as C:\\Plantlink"
        ))),
    }
}

/// Checked before anything is written; missing ones of the three are nobody's mistake but the first's.
fn read_keys(folder: Option<&Path>) -> Result<Vec<(&'static str, String)>, Failure> {
    let Some(folder) = folder else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for (from, to) in KEYS {
        let path = folder.join(from);
        if path.exists() || from == KEYS[0].0 {
            let pems: Vec<String> = PublicKey::read_all(&path)?.iter().map(PublicKey::to_pem).collect();
            keys.push((to, pems.concat()));
        }
    }
    Ok(keys)
}

fn write_configuration(root: &InstallRoot, wish: &Init) -> Result<(), Failure> {
    let mut settings = DEFAULT_CONFIG.to_owned();
    if let Some(license) = &wish.license {
        let content = fs::read(license).map_err(|error| durable::name_error("read", license, error))?;
        new_file(&root.resolve("license.dat"), &content, Access::Shared)?;
        settings = settings.replace("LICENSE_FILE =           ", "LICENSE_FILE = license.dat");
    }
    new_file(&root.config_file(), settings.as_bytes(), Access::Shared)?;
    let sources = match wish.simulator {
        None => DEFAULT_SOURCES.to_owned(),
        Some(tags) => {
            format!("{DEFAULT_SOURCES}\n[[simulator]]\nname = \"line1\"\ntags = {tags}\nperiod_seconds = 1.0\n")
        }
    };
    new_file(&root.sources_file(), sources.as_bytes(), Access::Shared)?;
    if root.credentials_file().exists() {
        return Ok(());
    }
    let pin = wish.pin.clone().unwrap_or_else(new_pin);
    let credentials = Credentials { database_url: Some(wish.database.clone()), pin_hash: Some(hash_pin(&pin)?) };
    new_file(&root.credentials_file(), credentials.to_text().as_bytes(), Access::Private)?;
    if wish.pin.is_none() {
        println!("the operator's PIN is {pin}; it is shown only this once");
    }
    Ok(())
}

/// A database that an earlier root has left, with the migrations of updates in it, is taken as it is. One that does not
/// answer is taken for new.
fn adopt(root: &InstallRoot) -> Result<Option<updater::boot_record::Database>, Failure> {
    let url = Credentials::read(&root.credentials_file())?.require_database_url()?;
    let applied = match readings::place(&url, root.path())? {
        Place::Sqlite(path) => migrate::applied_sqlite(&path),
        Place::Postgres => migrate::applied_postgres(&url),
    };
    match applied {
        Ok(applied) if applied.is_empty() => Ok(None),
        Ok(applied) => {
            println!("{} holds readings already and is used on", readings::shown_url(&url));
            Ok(Some(updater::database::record(&url, None, migrate::schema_of(&applied))))
        }
        Err(error) => {
            println!("the database does not answer yet: {error}");
            Ok(None)
        }
    }
}

/// Six digits.
pub(crate) fn new_pin() -> String {
    format!("{:06}", OsRng.gen_range(0..1_000_000))
}

/// Argon2id with its recommended cost.
pub(crate) fn hash_pin(pin: &str) -> Result<String, Failure> {
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(pin.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|error| Failure::failed(format!("could not hash the PIN: {error}")))
}

/// A version directory of the programs, under its name only when it is whole.
fn install_version(root: &InstallRoot, programs: &Path) -> Result<String, Failure> {
    let new = root.versions().join(".new");
    durable::remove_tree(&new)?;
    fs::create_dir(&new).map_err(|error| durable::name_error("create", &new, error))?;
    for program in PROGRAMS {
        copy_program(&programs.join(executable(program)), &new.join(executable(program)))?;
    }
    durable::replace(&new.join(VERSION_FILE), format!("{}\n", daemon::version()).as_bytes(), Access::Shared)?;
    let id = version_id(daemon::version(), &tree_hash(&read_tree(&new)?));
    let directory = root.versions().join(&id);
    match directory.exists() {
        true => durable::remove_tree(&new)?,
        false => durable::rename(&new, &directory)?,
    }
    Ok(id)
}

fn copy_program(from: &Path, to: &Path) -> Result<(), Failure> {
    durable::copy(from, to)?;
    Ok(durable::sync_folder_of(to)?)
}

/// A file that is there already is somebody's and stays.
fn new_file(path: &Path, content: &[u8], access: Access) -> Result<(), Failure> {
    if path.exists() { Ok(()) } else { Ok(durable::replace(path, content, access)?) }
}
