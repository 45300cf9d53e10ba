//! A new version as a publisher makes it: files beside each other in a folder, packed with `publish`.

use std::path::{Path, PathBuf};
use std::process::Command;

use protocol::Failure;
use updater::boot_record::BootRecord;

use crate::headquarters::Headquarters;
use crate::plant::Plant;
use crate::programs::{Ended, program, run};

/// What is to be published.
#[derive(Clone, Debug)]
pub struct Release {
    pub version: String,
    folder: PathBuf,
    files: Vec<String>,
    migrations: Vec<PathBuf>,
    onto: Vec<PathBuf>,
    notes: String,
    more: Vec<String>,
}

impl Release {
    /// # Panics
    /// If its folder cannot be made.
    pub fn new(version: &str, work: &Path) -> Self {
        let folder = work.join(format!("release-{version}"));
        std::fs::create_dir_all(folder.join("files")).expect("a writable folder");
        std::fs::create_dir_all(folder.join("migrations")).expect("a writable folder");
        Self {
            version: version.to_owned(),
            folder,
            files: Vec::new(),
            migrations: Vec::new(),
            onto: Vec::new(),
            notes: format!("What is new in {version}"),
            more: Vec::new(),
        }
    }

    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn file(mut self, path: &str, content: &str) -> Self {
        let file = self.folder.join("files").join(path);
        std::fs::create_dir_all(file.parent().expect("below the folder")).expect("a writable folder");
        std::fs::write(&file, content).expect("a writable folder");
        self.files.push(path.to_owned());
        self
    }

    /// A program that is another one.
    ///
    /// # Panics
    /// If it cannot be copied.
    #[must_use]
    pub fn program(self, path: &str, other: &Path) -> Self {
        let release = self.file(path, "");
        std::fs::copy(other, release.folder.join("files").join(path)).expect("a writable folder");
        release
    }

    /// A program that is a shell script.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn script(self, path: &str, text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let release = self.file(path, &format!("#!/bin/sh\n{text}\n"));
        let file = release.folder.join("files").join(path);
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).expect("our own file");
        release
    }

    /// A program of the version that runs there, behind a shell script: `"$real"` is that program, in the new version's
    /// own directory, so that it reports the new version.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn wrapped(self, plant: &Plant, program: &str, text: &str) -> Self {
        let real = format!("{program}.real");
        let file = self.folder.join("files").join(&real);
        std::fs::copy(plant.version_directory().join(program), &file).expect("a writable folder");
        // Smaller it is packed sooner; where there is no strip(1), it is packed as it is.
        let _ = Command::new("strip").arg(&file).status();
        let mut release = self.script(program, &format!("real=\"${{0%/*}}/{real}\"\n{text}"));
        release.files.push(real);
        release
    }

    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn migration(mut self, name: &str, text: &str) -> Self {
        let file = self.folder.join("migrations").join(name);
        std::fs::write(&file, text).expect("a writable folder");
        self.migrations.push(file);
        self
    }

    /// Made for the version that runs there.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn onto(mut self, plant: &Plant) -> Self {
        self.onto.push(plant.version_directory());
        self
    }

    #[must_use]
    pub fn notes(mut self, notes: &str) -> Self {
        notes.clone_into(&mut self.notes);
        self
    }

    /// Further arguments of `publish`.
    #[must_use]
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.more.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Runs `publish`, which may refuse.
    pub fn try_publish(&self, headquarters: &Headquarters) -> Ended {
        let mut command = program("publish");
        command.args(["--version", &self.version, "--json", "--notes", &self.notes]);
        command.arg("--key").arg(headquarters.keys.join("update_private.pem"));
        command.arg("--base").arg(self.folder.join("files")).arg("--out").arg(&self.folder);
        for (flag, values) in [("--migrations", &self.migrations), ("--onto", &self.onto)] {
            if !values.is_empty() {
                command.arg(flag).args(values);
            }
        }
        if !self.files.is_empty() {
            command.arg("--files").args(&self.files);
        }
        run(command.args(&self.more))
    }

    /// The package.
    ///
    /// # Panics
    /// If `publish` refuses.
    pub fn publish(&self, headquarters: &Headquarters) -> PathBuf {
        self.try_publish(headquarters).good();
        self.folder.join(format!("update_v{}.zip", self.version))
    }
}

impl Plant {
    /// # Panics
    /// If there is no boot record.
    pub fn boot_record(&self) -> BootRecord {
        let record = BootRecord::read(&self.install_root().boot_record()).map_err(Failure::failed);
        record.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Of the version that runs.
    pub fn version_directory(&self) -> PathBuf {
        self.install_root().versions().join(self.boot_record().running())
    }
}
