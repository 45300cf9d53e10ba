use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// A child's log: whole lines, in files of bounded size.
pub struct ChildLog {
    path: PathBuf,
    file: File,
    bytes: u64,
}

const LARGEST: u64 = 10 << 20;
/// `<child>.log`, `<child>.log.1` … `.9`.
const FILES: u32 = 10;

impl ChildLog {
    pub fn open(folder: &Path, child: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{child}.log"));
        let (file, bytes) = append_to(&path)?;
        Ok(Self { path, file, bytes })
    }

    /// One write a line, so that a kill tears at most the last.
    pub fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes + line.len() as u64 + 1 > LARGEST && self.bytes > 0 {
            self.rotate()?;
        }
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        self.file.write_all(&whole)?;
        self.bytes += whole.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| match number {
            0 => self.path.clone(),
            number => self.path.with_extension(format!("log.{number}")),
        };
        for number in (0..FILES - 1).rev() {
            if numbered(number).exists() {
                fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        (self.file, self.bytes) = append_to(&self.path)?;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_files_of_bounded_size_and_no_line_torn() {
        let folder = tempfile::tempdir().unwrap();
        let mut log = ChildLog::open(folder.path(), "agent").unwrap();
        let line = "x".repeat(1 << 20);
        for number in 0..130 {
            log.line(format!("{number} {line}").as_bytes()).unwrap();
        }
        drop(log);
        let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert_eq!(files.len(), 10);
        for file in files {
            let text = fs::read_to_string(file).unwrap();
            assert!(
                text.len() as u64 <= LARGEST && text.lines().all(|one| one.ends_with(&line)) && text.ends_with('\n')
            );
        }
    }
}
