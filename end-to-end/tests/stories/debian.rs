//! The Debian packages.

use std::path::Path;
use std::process::Command;

use end_to_end::programs::{cargo, program, run};

use crate::KEYS;

/// Packages of the programs under test.
fn packages(programs: &Path, out: &Path, version: &str) {
    let mut deb = cargo(&["deb", "--compression", "none", "--package-version", version]);
    run(deb.arg("--programs").arg(programs).arg("--out").arg(out)).good();
}

#[test]
fn the_package_installs_starts_upgrades_and_goes_without_a_trace() {
    let folder = tempfile::tempdir().unwrap();
    let (programs, out) = (folder.path().join("programs"), folder.path().join("out"));
    std::fs::create_dir(&programs).unwrap();
    let keys = &*KEYS;
    for name in ["watchdog", "collector", "agent", "portal", "sync_client", "publish", "keygen"] {
        let file = program(name);
        run(Command::new("strip").arg("-o").arg(programs.join(name)).arg(file.get_program())).good();
    }
    packages(&programs, &out, "0.1.0");
    packages(&programs, &out, "0.1.1");
    let work = folder.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let architecture = run(Command::new("dpkg").arg("--print-architecture")).good();
    let package = |version: &str| out.join(format!("plantlink_{version}_{}.deb", architecture.trim()));
    let mut namespaces = Command::new("unshare");
    namespaces.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh"]);
    namespaces.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories/debian.sh"));
    namespaces.args([&work, &package("0.1.0"), &package("0.1.1")]).arg(keys.join(""));
    run(&mut namespaces).good();

    let tools = out.join(format!("plantlink-server-tools_0.1.0_{}.deb", architecture.trim()));
    let listed = run(Command::new("dpkg-deb").arg("--contents").arg(tools)).good();
    assert!(
        ["sync_client", "publish", "keygen"].iter().all(|name| listed.contains(&format!("./usr/bin/{name}\n"))),
        "{listed}"
    );
}
