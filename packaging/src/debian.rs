use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{run, workspace};

/// A package, and what it brings beside its documents.
pub struct Package {
    name: &'static str,
    programs: &'static [&'static str],
    /// Where they go.
    folder: &'static str,
    depends: &'static str,
    summary: &'static str,
    /// Each line begins with a space.
    description: &'static str,
    scripts: &'static [(&'static str, &'static str)],
    /// Further files: where, with which rights, and what.
    files: &'static [(&'static str, u32, &'static str)],
    documents: &'static [&'static str],
}

pub const PACKAGES: [Package; 2] = [
    Package {
        name: "plantlink",
        programs: &["watchdog", "collector", "agent", "portal"],
        folder: "usr/lib/plantlink",
        depends: "passwd",
        summary: "readings out of a plant, and signed updates into it",
        description: " Collects readings from Modbus TCP, OPC UA and MQTT, keeps them in SQLite or\n PostgreSQL, hands \
                      them to a headquarters that connects in, and takes update\n packages that are signed there and \
                      approved on site. Never dials out.",
        scripts: &[
            ("postinst", include_str!("../debian/postinst")),
            ("prerm", include_str!("../debian/prerm")),
            ("postrm", include_str!("../debian/postrm")),
        ],
        files: &[("usr/bin/plantlink", 0o755, include_str!("../debian/plantlink"))],
        documents: &["engineer.md", "operator.md"],
    },
    Package {
        name: "plantlink-server-tools",
        programs: &["sync_client", "publish", "keygen"],
        folder: "usr/bin",
        depends: "",
        summary: "a headquarters' tools for plants that run Plantlink",
        description: " Pulls readings from plant PCs (sync_client), makes and signs update packages\n (publish) and keys \
                      (keygen).",
        scripts: &[],
        files: &[],
        documents: &["admin.md", "publisher.md"],
    },
];

/// Returns the package's file.
pub fn make(
    package: &Package,
    programs: &Path,
    out: &Path,
    version: &str,
    compression: &str,
) -> Result<PathBuf, String> {
    let tree = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let tree = tree.path();
    // That of a temporary folder is for its owner alone, and would become the rights of `/`.
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", tree.display()))?;
    let mut bytes = 0;
    for program in package.programs {
        let from = programs.join(program);
        let content = fs::read(&from).map_err(|error| format!("{}: {error}; build it first", from.display()))?;
        bytes += content.len();
        place(tree, &format!("{}/{program}", package.folder), 0o755, &content)?;
    }
    for (path, mode, content) in package.files {
        place(tree, path, *mode, content.as_bytes())?;
    }
    let documents = format!("usr/share/doc/{}", package.name);
    for document in package.documents {
        let from = workspace().join("docs").join(document);
        let content = fs::read(&from).map_err(|error| format!("{}: {error}", from.display()))?;
        place(tree, &format!("{documents}/{document}"), 0o644, &content)?;
    }
    place(tree, &format!("{documents}/copyright"), 0o644, include_bytes!("../debian/copyright"))?;
    place(tree, "DEBIAN/control", 0o644, control(package, version, bytes)?.as_bytes())?;
    for (name, text) in package.scripts {
        place(tree, &format!("DEBIAN/{name}"), 0o755, text.as_bytes())?;
    }
    fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let mut pack = Command::new("dpkg-deb");
    pack.args(["--build", "--root-owner-group", &format!("-Z{compression}")]).arg(tree).arg(out);
    run(pack.stdout(std::process::Stdio::null()))?;
    Ok(out.join(format!("{}_{version}_{}.deb", package.name, architecture()?)))
}

fn place(tree: &Path, path: &str, mode: u32, content: &[u8]) -> Result<(), String> {
    let to = tree.join(path);
    let placed = fs::create_dir_all(to.parent().unwrap_or(tree))
        .and_then(|()| fs::write(&to, content))
        .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(mode)));
    placed.map_err(|error| format!("{}: {error}", to.display()))
}

fn control(package: &Package, version: &str, bytes: usize) -> Result<String, String> {
    // The oldest that is certain to do: what it was built against.
    let libc = said_by(Command::new("dpkg-query").args(["--showformat", "${Version}", "--show", "libc6"]))?;
    let libc = libc.split('-').next().unwrap_or_default().to_owned();
    let mut depends = vec![format!("libc6 (>= {libc})"), "libgcc-s1".to_owned()];
    depends.extend((!package.depends.is_empty()).then(|| package.depends.to_owned()));
    Ok(format!(
        "Package: {}\nVersion: {version}\nArchitecture: {}\nMaintainer: The Plantlink developers <plantlink@example.org>\n\
         Section: misc\nPriority: optional\nDepends: {}\nInstalled-Size: {}\nDescription: {}\n{}\n",
        package.name,
        architecture()?,
        depends.join(", "),
        bytes.div_ceil(1024),
        package.summary,
        package.description
    ))
}

fn architecture() -> Result<String, String> {
    said_by(Command::new("dpkg").arg("--print-architecture"))
}

fn said_by(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let said = command.output().map_err(|error| format!("{name} could not be started: {error}; this needs Debian"))?;
    match said.status.success() {
        true => Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned()),
        false => Err(format!("{name} ended with {}", said.status)),
    }
}
