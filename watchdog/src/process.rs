//! A process and all that it starts, as one: a process group on Linux, a Job Object on Windows.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use config::Settings;
#[cfg(windows)]
use process_wrap::tokio::CreationFlags;
use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};
#[cfg(windows)]
use windows::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

use crate::configuration::Configuration;

/// A running child. Dropped, it is killed with all its descendants.
pub struct Process {
    child: Box<dyn ChildWrapper>,
    pub input: Option<ChildStdin>,
}

/// What the child writes.
pub struct Output {
    pub lines: ChildStdout,
    pub log: Option<ChildStderr>,
}

/// Where the child's standard error goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Log {
    Piped,
    Inherited,
}

impl Process {
    /// Starts `program`; its standard input is a pipe whose closing asks it to stop.
    pub fn start(
        program: &Path,
        arguments: &[&str],
        root: &Path,
        environment: &[(&str, &str)],
        log: Log,
    ) -> io::Result<(Self, Output)> {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root).stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(if log == Log::Piped { Stdio::piped() } else { Stdio::inherit() });
        command.env(daemon::SUPERVISED, "1").env_remove("DATABASE_URL").env_remove("CONFIG_PIN_HASH");
        command.env_remove(Settings::HANDED_ON).env_remove(Configuration::DATABASE_HANDED_ON);
        command.envs(environment.iter().copied());
        let mut command = CommandWrap::from(command);
        command.wrap(KillOnDrop);
        #[cfg(unix)]
        command.wrap(process_wrap::tokio::ProcessGroup::leader());
        // In a group of its own, as on Unix, a Ctrl-C at the console reaches it through its parent alone, in order.
        #[cfg(windows)]
        command.wrap(CreationFlags(CREATE_NEW_PROCESS_GROUP)).wrap(process_wrap::tokio::JobObject);
        let mut child = command.spawn()?;
        let input = child.stdin().take();
        let lines = child.stdout().take().ok_or_else(|| io::Error::other("a child without standard output"))?;
        let log = child.stderr().take();
        Ok((Self { child, input }, Output { lines, log }))
    }

    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Until it has ended by itself.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks it to stop by closing its standard input, and kills the whole tree if it has not within `grace`.
    pub async fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        self.input = None;
        let ended = tokio::time::timeout(grace, self.child.wait()).await.ok().and_then(Result::ok);
        // Also after a clean end: a descendant may have stayed behind.
        let _ = self.child.start_kill();
        match ended {
            Some(status) => Some(status),
            None => self.child.wait().await.ok(),
        }
    }
}

/// What a child says on its standard output, line by line. One that says more than a line can hold is not listened to any
/// more.
pub struct ControlLines(BufReader<ChildStdout>);

/// A status with long notes and lists is the longest.
const LONGEST_CONTROL_LINE: u64 = 4 << 20;

impl ControlLines {
    pub fn new(output: ChildStdout) -> Self {
        Self(BufReader::new(output))
    }

    /// `None` at its end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let line = bounded_line(&mut self.0, LONGEST_CONTROL_LINE).await?;
        (line.len() as u64 != LONGEST_CONTROL_LINE).then_some(line)
    }
}

/// A line without its end, or so much of it as `at_most` allows; `None` at the end.
pub async fn bounded_line(reader: &mut (impl AsyncBufRead + Unpin), at_most: u64) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    let count = reader.take(at_most).read_until(b'\n', &mut line).await.ok()?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    (count > 0).then_some(line)
}
