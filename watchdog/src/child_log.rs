use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// A child's log: whole lines, in files of bounded size.
pub struct ChildLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// At so many bytes the file is put aside.
    largest: u64,
}

const LARGEST: u64 = 10 << 20;
/// `<child>.log`, `<child>.log.1` … `.9`.
const FILES: u32 = 10;

impl ChildLog {
    pub fn open(folder: &Path, child: &str) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{child}.log"));
        let (file, bytes) = append_to(&path)?;
        Ok(Self { path, file, bytes, largest: LARGEST })
    }

    /// One write a line, so that a kill tears none.
    pub fn line(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes + line.len() as u64 + 1 > self.largest && self.bytes > 0 {
            // On Windows somebody may look at it: it goes on for a while, and no line is lost.
            match self.rotate() {
                Ok(()) => self.largest = LARGEST,
                Err(_) => self.largest = self.bytes + LARGEST / 10,
            }
        }
        let mut whole = Vec::with_capacity(line.len() + 1);
        whole.extend_from_slice(line);
        whole.push(b'\n');
        if let Err(error) = self.file.write_all(&whole) {
            // Half a line would run into the next one, once there is room again.
            let _ = self.file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += whole.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| match number {
            0 => self.path.clone(),
            number => self.path.with_extension(format!("log.{number}")),
        };
        // Only so far as there is no room: one that somebody holds on Windows stops it again and again, and costs no old one.
        let free = (1..FILES).find(|number| !numbered(*number).exists()).unwrap_or(FILES - 1);
        for number in (0..free).rev() {
            fs::rename(numbered(number), numbered(number + 1))?;
        }
        (self.file, self.bytes) = append_to(&self.path)?;
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
    let mut bytes = file.metadata()?.len();
    if bytes > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            // What a power cut has left of a line ends here.
            file.write_all(b"\n")?;
            bytes += 1;
        }
    }
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_power_cut_left_of_a_line_does_not_run_into_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        fs::write(&path, "whole\nhal").unwrap();
        ChildLog::open(folder.path(), "agent").unwrap().line(b"next").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "whole\nhal\nnext\n");
    }

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
