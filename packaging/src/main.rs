//! What people install: `cargo deb` makes Debian packages, `cargo windows --zip` an archive for Windows.
//!
//! Given the executables of a release build, or of another with `--programs`, it lays out what a package brings beside its
//! scripts in `debian/`, and has `dpkg-deb` pack it.

mod debian;
mod windows;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

/// Makes what people install.
#[derive(Parser)]
#[command(name = "packaging", bin_name = "cargo")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make the Debian packages plantlink and plantlink-server-tools
    Deb {
        /// Executables to pack; without it a release build is made first
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
        /// Where the packages go
        #[arg(long, value_name = "DIR", default_value = "target/debian")]
        out: PathBuf,
        /// What the packages say that they are
        #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
        package_version: String,
        /// As dpkg-deb -Z: xz, zstd, none
        #[arg(long, default_value = "xz")]
        compression: String,
    },
    /// Make the archive for Windows; `cargo windows --zip` builds its programs first
    Zip {
        /// Executables to pack
        #[arg(long, value_name = "DIR", default_value = "target/windows/x86_64-pc-windows-gnu/release")]
        programs: PathBuf,
        /// Where the archive goes
        #[arg(long, value_name = "DIR", default_value = "target/windows")]
        out: PathBuf,
        /// What the archive says that it is
        #[arg(long, value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
        package_version: String,
    },
}

fn main() -> ExitCode {
    let made = match Arguments::parse().verb {
        Verb::Deb { programs, out, package_version, compression } => {
            programs.map_or_else(release_build, Ok).and_then(|programs| {
                let packages = debian::PACKAGES.iter();
                packages.map(|package| debian::make(package, &programs, &out, &package_version, &compression)).collect()
            })
        }
        Verb::Zip { programs, out, package_version } => {
            windows::make(&programs, &out, &package_version).map(|archive| vec![archive])
        }
    };
    match made {
        Ok(made) => {
            let made: Vec<PathBuf> = made;
            made.iter().for_each(|package| println!("{}", package.display()));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("packaging: {error}");
            ExitCode::FAILURE
        }
    }
}

fn release_build() -> Result<PathBuf, String> {
    let workspace = workspace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--release", "--workspace", "--bins", "--exclude", "end-to-end", "--exclude", "packaging"]);
    run(build.current_dir(&workspace))?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    Ok(target.join("release"))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_owned()
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} ended with {status}")),
        Err(error) => Err(format!("{name} could not be started: {error}")),
    }
}
