use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::workspace;

const PROGRAMS: [&str; 7] = ["watchdog", "collector", "agent", "portal", "sync_client", "publish", "keygen"];
const DOCUMENTS: [&str; 4] = ["engineer.md", "operator.md", "admin.md", "publisher.md"];

/// What is unpacked on a plant PC or at headquarters: all programs in one folder, as `watchdog init` expects them. Returns
/// the archive, `plantlink_<version>_windows-x86_64.zip`.
pub fn make(programs: &Path, out: &Path, version: &str) -> Result<PathBuf, String> {
    let folder = format!("plantlink_{version}_windows-x86_64");
    fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    let archive = out.join(format!("{folder}.zip"));
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", archive.display());
    let mut files = vec![("README.txt".to_owned(), as_windows_reads_it(include_bytes!("../windows/README.txt")))];
    for program in PROGRAMS {
        let name = format!("{program}.exe");
        let content = read(&programs.join(&name))?;
        if !content.starts_with(b"MZ") {
            return Err(format!("{} is no program for Windows", programs.join(&name).display()));
        }
        files.push((name, content));
    }
    for document in DOCUMENTS {
        files.push((format!("docs/{document}"), read(&workspace().join("docs").join(document))?));
    }
    let mut zip = ZipWriter::new(File::create(&archive).map_err(|error| failed(&error))?);
    for (name, content) in files {
        // Without a time of its own, so that the same programs make the same archive.
        zip.start_file(format!("{folder}/{name}"), SimpleFileOptions::default()).map_err(|error| failed(&error))?;
        zip.write_all(&content).map_err(|error| failed(&error))?;
    }
    let file = zip.finish().map_err(|error| failed(&error))?;
    file.sync_all().map_err(|error| failed(&error))?;
    Ok(archive)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("{}: {error}; build it first", path.display()))
}

/// Older editors of Windows know no other end of a line.
fn as_windows_reads_it(text: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(text).replace('\n', "\r\n").into_bytes()
}
