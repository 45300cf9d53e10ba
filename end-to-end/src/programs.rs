//! The executables of this workspace.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use crate::windows;

/// Folder of the built executables.
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
        let own = std::env::current_exe().expect("a running program has a path");
        // `target/<profile>/demo`, or `target/<profile>/deps/stories-…`.
        let folder = own.parent().expect("an executable lies in a folder");
        let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
        folder.to_owned()
    });
    &FOLDER
}

/// Builds all of them, showing cargo's own progress.
///
/// # Errors
/// In words, if cargo fails.
pub fn build() -> Result<(), String> {
    let mut command = cargo(&["build", "--workspace", "--bins"]);
    if folder().ends_with("release") {
        command.arg("--release");
    }
    let status =
        command.stdin(Stdio::null()).status().map_err(|error| format!("cargo could not be started: {error}"))?;
    if status.success() { Ok(()) } else { Err("cargo build failed".to_owned()) }
}

/// The cargo that has started this program, in the source tree.
pub fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace());
    // What an outer cargo says of its own package makes build scripts run again, and half of everything with them.
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.to_string_lossy().starts_with(start)) {
            command.env_remove(name);
        }
    }
    command
}

/// The source tree.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace")
}

/// A command that runs one of them.
pub fn program(name: &str) -> Command {
    Platform::Native.program(name)
}

/// Where programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Platform {
    /// Here.
    #[default]
    Native,
    /// Built for Windows, under Wine.
    Windows,
}

impl Platform {
    /// A command that runs a program of the workspace.
    pub fn program(self, name: &str) -> Command {
        match self {
            Self::Native => self.run(&folder().join(name)),
            Self::Windows => self.run(&windows::built(name)),
        }
    }

    /// A command that runs this executable.
    pub fn run(self, executable: &Path) -> Command {
        let mut command = match self {
            Self::Native => Command::new(executable),
            Self::Windows => windows::wine(executable),
        };
        command.stdin(Stdio::null());
        command
    }

    /// A program's file.
    pub fn executable(self, name: &str) -> String {
        match self {
            Self::Native => name.to_owned(),
            Self::Windows => windows::executable(name),
        }
    }

    /// An absolute path as its programs are told it.
    pub fn path(self, path: &Path) -> OsString {
        match self {
            Self::Native => path.as_os_str().to_owned(),
            Self::Windows => windows::path(path),
        }
    }
}

/// What a program said when it had ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run(command: &mut Command) -> Ended {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: status.code(), output: text(stdout), errors: text(stderr) }
}

impl Ended {
    /// What it printed, if it ended well.
    ///
    /// # Panics
    /// If not.
    pub fn good(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.output, self.errors);
        self.output
    }
}
