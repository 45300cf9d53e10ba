//! `watchdog`: is given an install root and keeps the plant PC's programs running, whatever happens to them.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use config::InstallRoot;
use protocol::Failure;
use updater::recovery::{self, Cause};
use watchdog::{
    Init, Service, Wish, check_config, init, launch, move_database, reset_pin, restore, service, show_status,
    supervise, upgrade_launcher,
};

/// Lays out an install root, and keeps its programs running.
#[derive(Parser)]
#[command(name = "watchdog", version = daemon::version())]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Args)]
struct Root {
    /// Install root
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
}

#[derive(Subcommand)]
enum Verb {
    /// Lay out an install root from the programs beside this one; one that is there is left as it is
    Init {
        #[command(flatten)]
        root: Root,
        /// Where readings are kept: sqlite:data/plant.db or postgres://…
        #[arg(long, value_name = "URL", default_value = "sqlite:data/plant.db")]
        database: String,
        /// Folder with public.pem, update_public.pem and license_public.pem
        #[arg(long, value_name = "DIR")]
        keys: Option<PathBuf>,
        /// The operator's PIN, 4 to 12 digits; without it one is made and printed once
        #[arg(long, value_parser = parse_pin)]
        pin: Option<String>,
        /// The licence to install
        #[arg(long, value_name = "FILE")]
        license: Option<PathBuf>,
        /// Add a running simulated source of so many tags at 1 Hz
        #[arg(long, value_name = "TAGS")]
        simulator: Option<u32>,
    },
    /// Run everything, in the foreground; also the service's entry
    Run {
        #[command(flatten)]
        root: Root,
        /// Run each program as a user of its own: NAME-collector, NAME-agent and NAME-portal, which share the group NAME
        #[cfg(target_os = "linux")]
        #[arg(long, value_name = "NAME")]
        users: Option<String>,
        /// As this service; for the service manager
        #[cfg(windows)]
        #[arg(long, value_name = "NAME", hide = true)]
        service: Option<String>,
    },
    /// Give up every right to write but to a program's own places, and become it; started by `supervise`
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    Confine {
        #[command(flatten)]
        root: Root,
        /// Whose places
        #[arg(long)]
        child: String,
        #[arg(long)]
        users: Option<String>,
        #[arg(last = true, required = true)]
        command: Vec<std::ffi::OsString>,
    },
    /// Supervise the children of this version; started by `run`
    #[command(hide = true)]
    Supervise {
        #[command(flatten)]
        root: Root,
    },
    /// Apply the update that the operator has approved; started by `supervise`
    #[command(hide = true)]
    Apply {
        #[command(flatten)]
        root: Root,
    },
    /// Bring to its end whatever an update has begun; started by `run`
    #[command(hide = true)]
    Settle {
        #[command(flatten)]
        root: Root,
        /// Why it is asked
        #[arg(long, value_enum)]
        cause: CauseWord,
        /// With `--cause failed`: why
        #[arg(long, default_value = "")]
        error: String,
    },
    /// Show what runs
    Status {
        #[command(flatten)]
        root: Root,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Set another PIN for the operator, and forget the wrong ones
    ResetPin {
        #[command(flatten)]
        root: Root,
        /// 4 to 12 digits; without it one is made and printed once
        #[arg(long, value_parser = parse_pin)]
        pin: Option<String>,
    },
    /// Put a version back that was backed up before an update; without a backup, list them
    Restore {
        #[command(flatten)]
        root: Root,
        /// Its number in the list, or its file
        #[arg(value_name = "BACKUP")]
        backup: Option<String>,
        /// The operator's PIN; without it it is asked for
        #[arg(long, value_parser = parse_pin)]
        pin: Option<String>,
    },
    /// Move all readings from SQLite to PostgreSQL; HQ goes on where it was
    MoveDatabase {
        #[command(flatten)]
        root: Root,
        /// An empty database: postgres://user:password@host/database
        #[arg(long, value_name = "URL")]
        to: String,
    },
    /// Have the machine start the watchdog by itself (systemd, or a Windows service)
    Service {
        #[command(subcommand)]
        verb: ServiceVerb,
    },
    /// Replace the launcher by the running version's watchdog; on site, called as the launcher itself
    UpgradeLauncher {
        #[command(flatten)]
        root: Root,
        /// The service that starts it, where it has another name
        #[cfg(windows)]
        #[arg(long, default_value = watchdog::DEFAULT_NAME)]
        name: String,
    },
    /// Name every mistake in the configuration, with file and line
    CheckConfig {
        #[command(flatten)]
        root: Root,
    },
}

#[derive(Subcommand)]
enum ServiceVerb {
    /// Install the service, which then starts with the machine
    Install {
        #[command(flatten)]
        which: WhichService,
        #[command(flatten)]
        users: Users,
        /// Print what would be installed, and install nothing
        #[arg(long)]
        print: bool,
    },
    /// Stop it and remove it; the install root stays
    Uninstall {
        #[command(flatten)]
        which: WhichService,
        #[command(flatten)]
        users: Users,
    },
    /// Start it now
    Start {
        #[command(flatten)]
        which: WhichService,
    },
    /// Stop it; it starts again with the machine
    Stop {
        #[command(flatten)]
        which: WhichService,
    },
    /// What the service manager says of it
    Status {
        #[command(flatten)]
        which: WhichService,
    },
}

#[derive(Args)]
struct WhichService {
    #[command(flatten)]
    root: Root,
    /// Another name, where there is more than one install root
    #[arg(long, default_value = watchdog::DEFAULT_NAME)]
    name: String,
}

#[derive(Args)]
struct Users {
    /// Each program runs as a user of its own, made with the service and removed with it: NAME-collector, NAME-agent and
    /// NAME-portal
    #[cfg(target_os = "linux")]
    #[arg(long, value_name = "NAME")]
    users: Option<String>,
}

impl Users {
    #[cfg(target_os = "linux")]
    fn name(self) -> Option<String> {
        self.users
    }

    /// The service has an account of its own there.
    #[cfg(not(target_os = "linux"))]
    fn name(self) -> Option<String> {
        None
    }
}

impl ServiceVerb {
    fn run(self) -> Result<(), Failure> {
        let (which, users, wish) = match self {
            Self::Install { which, users, print } => (which, users.name(), Wish::Install { print }),
            Self::Uninstall { which, users } => (which, users.name(), Wish::Uninstall),
            Self::Start { which } => (which, None, Wish::Start),
            Self::Stop { which } => (which, None, Wish::Stop),
            Self::Status { which } => (which, None, Wish::Status),
        };
        let WhichService { root, name } = which;
        service(&InstallRoot::new(&root.root), &Service { name, users }, wish)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum CauseWord {
    Start,
    Passed,
    Failed,
}

fn parse_pin(text: &str) -> Result<String, String> {
    match (4..=12).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => Ok(text.to_owned()),
        false => Err("4 to 12 digits".to_owned()),
    }
}

fn main() -> ExitCode {
    protocol::exit::end_at_closed_pipes();
    let arguments = Arguments::parse();
    protocol::exit::end("watchdog", run(arguments.verb))
}

fn run(verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Init { root, database, keys, pin, license, simulator } => {
            init(&InstallRoot::new(&root.root), &Init { database, keys, pin, license, simulator })
        }
        #[cfg(target_os = "linux")]
        Verb::Run { root, users } => {
            daemon::runtime()?.block_on(launch(&InstallRoot::new(&root.root), users.as_deref()))
        }
        #[cfg(windows)]
        Verb::Run { root, service: Some(name) } => watchdog::run_service(&InstallRoot::new(&root.root), &name),
        #[cfg(not(target_os = "linux"))]
        Verb::Run { root, .. } => daemon::runtime()?.block_on(launch(&InstallRoot::new(&root.root), None)),
        #[cfg(target_os = "linux")]
        Verb::Confine { root, child, users, command } => {
            let (program, arguments) = command.split_first().ok_or_else(|| Failure::usage("no program is named"))?;
            let root = InstallRoot::new(&root.root);
            watchdog::confine(&root, &child, users.as_deref(), program.as_ref(), arguments)
        }
        Verb::Supervise { root } => daemon::runtime()?.block_on(supervise(&InstallRoot::new(&root.root))),
        Verb::Apply { root } => updater::apply::apply(&InstallRoot::new(&root.root)),
        Verb::Settle { root, cause, error } => {
            let cause = match cause {
                CauseWord::Start => Cause::Start { boot: recovery::boot_id() },
                CauseWord::Passed => Cause::TrialPassed,
                CauseWord::Failed => Cause::TrialFailed { error },
            };
            updater::settle::settle(&InstallRoot::new(&root.root), &cause)
        }
        Verb::Status { root, json } => daemon::runtime()?.block_on(show_status(&InstallRoot::new(&root.root), json)),
        Verb::ResetPin { root, pin } => reset_pin(&InstallRoot::new(&root.root), pin),
        Verb::Restore { root, backup, pin } => restore(&InstallRoot::new(&root.root), backup.as_deref(), pin),
        Verb::MoveDatabase { root, to } => move_database(&InstallRoot::new(&root.root), &to),
        Verb::Service { verb } => verb.run(),
        #[cfg(windows)]
        Verb::UpgradeLauncher { root, name } => {
            upgrade_launcher(&InstallRoot::new(&root.root), &Service { name, users: None })
        }
        #[cfg(not(windows))]
        Verb::UpgradeLauncher { root } => upgrade_launcher(&InstallRoot::new(&root.root)),
        Verb::CheckConfig { root } => check_config(&InstallRoot::new(&root.root)),
    }
}
