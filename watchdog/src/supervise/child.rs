//! One child: started, listened to, probed, restarted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use config::{InstallRoot, Settings};
use daemon::Control;
use protocol::Exit;
use protocol::control::{Answer, ChildState, EventKind, FromChild, Role, ToChild};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::{Semaphore, mpsc, watch};
use updater::boot_record::Phase;

use super::CHILDREN;
use super::board::Board;
use super::desk::Desk;
use super::ports::Ports;
use crate::backoff::{Backoff, Pause};
use crate::certificate;
use crate::child_log::ChildLog;
use crate::configuration::Configuration;
use crate::executable;
use crate::process::{ControlLines, Log, Output, Process, bounded_line};

const STOP_WITHIN: Duration = Duration::from_secs(10);
const PROBE_EVERY: Duration = Duration::from_secs(5);
/// A version that hangs must not pass a trial because nobody has asked it meanwhile.
const PROBE_ON_TRIAL_EVERY: Duration = Duration::from_secs(1);
const PROBE_WITHIN: Duration = Duration::from_secs(2);
const PROBES_MISSED: u32 = 3;
/// A child that has not said by then where its health is asked for is taken for hung.
const HEALTH_WITHIN: Duration = Duration::from_secs(20);
const LONGEST_LOG_LINE: u64 = 64 << 10;
const LONGEST_LAST_WORDS: usize = 400;
const TELL_STATUS_EVERY: Duration = Duration::from_secs(1);
/// For glibc, which gives each thread a heap of its own and keeps what was large once: the agent's exports, packed by one
/// thread after the other, would hold twice what they need. Where an administrator has set one, that counts.
const ALLOCATOR_OF_AGENT: [(&str, &str); 2] = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072")];

/// What is asked of the children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Children from this place in the order on stop.
    pub stop_from: usize,
    /// By their places; each time one counts up, that child restarts once.
    pub restarts: [u64; CHILDREN.len()],
    /// Counts up when a child that cannot work with its configuration may try again.
    pub tries: u64,
    pub licensed: bool,
}

impl Default for Orders {
    fn default() -> Self {
        Self { stop_from: usize::MAX, restarts: [0; CHILDREN.len()], tries: 0, licensed: true }
    }
}

pub struct Child {
    pub name: &'static str,
    /// In the order in which children start.
    pub place: usize,
    pub root: InstallRoot,
    pub board: Arc<Board>,
    pub control: Arc<Control>,
    pub desk: Arc<Desk>,
    pub configuration: Arc<Configuration>,
    pub ports: Arc<Ports>,
    pub orders: watch::Receiver<Orders>,
}

/// How a run of the child came to its end.
enum End {
    Exited(Option<i32>),
    Hung,
    Restart,
    Stop,
}

/// The child's program and arguments, by way of the process that gives up what the child may not do.
#[cfg(target_os = "linux")]
fn confined(child: &str, program: &Path, root: &str) -> (PathBuf, Vec<String>) {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut arguments = words(&["confine", "--root", root, "--child", child]);
    if let Ok(users) = std::env::var(super::CHILD_USERS) {
        arguments.extend(words(&["--users", &users]));
    }
    arguments.extend(words(&["--", &program.to_string_lossy(), "--root", root]));
    (std::env::current_exe().unwrap_or_default(), arguments)
}

#[cfg(not(target_os = "linux"))]
fn confined(_: &str, program: &Path, root: &str) -> (PathBuf, Vec<String>) {
    (program.to_owned(), vec!["--root".to_owned(), root.to_owned()])
}

impl Child {
    /// Until the orders say stop.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            if self.name == "collector" && !self.orders.borrow().licensed {
                self.board.ended(self.name, ChildState::Unlicensed, None);
                if self.pause(None, |orders| orders.licensed).await {
                    break;
                }
            }
            let started = Instant::now();
            // Before it runs: what is asked while it ends is not missed.
            let Orders { restarts, tries, .. } = *self.orders.borrow();
            let (place, restarts) = (self.place, restarts[self.place]);
            let end = self.run_once().await;
            let (state, reason, pause) = match end {
                End::Stop => break,
                End::Restart => (ChildState::Waiting, "asked", Some(Duration::ZERO)),
                End::Exited(Some(code)) if code == i32::from(Exit::Configuration.code()) => {
                    (ChildState::BadConfiguration, "bad_configuration", None)
                }
                End::Exited(_) | End::Hung => {
                    let reason = if matches!(end, End::Hung) { "hung" } else { "exited" };
                    match backoff.exited(Instant::now(), started.elapsed()) {
                        Pause::Short(pause) => (ChildState::Waiting, reason, Some(pause)),
                        Pause::CrashLoop(pause) => (ChildState::CrashLoop, reason, Some(pause)),
                    }
                }
            };
            self.board.ended(self.name, state, Some(reason));
            let asked = |orders: &Orders| orders.restarts[place] != restarts;
            let stopped = match pause {
                Some(pause) => {
                    let stopped = self.pause(Some(pause), asked).await;
                    if asked(&self.orders.borrow()) {
                        // A mended configuration, or somebody's wish: what went wrong before says nothing of what comes.
                        backoff = Backoff::new();
                    }
                    stopped
                }
                // A bad configuration does not get better by trying.
                None => self.pause(None, move |orders| asked(orders) || orders.tries != tries).await,
            };
            if stopped {
                break;
            }
        }
        self.board.ended(self.name, ChildState::Stopped, None);
    }

    async fn run_once(&mut self) -> End {
        let restarts = self.orders.borrow_and_update().restarts[self.place];
        // Of the version that this supervisor belongs to: its neighbours.
        let program = std::env::current_exe().unwrap_or_default().with_file_name(executable(self.name));
        let folder = self.root.path().to_string_lossy().into_owned();
        let (config_text, database_url) = (self.configuration.text(), self.configuration.database_url());
        let last_port = self.ports.last(self.name).map(|port| port.to_string());
        let phase = self.board.starts(self.name);
        let mut environment = vec![(daemon::PHASE, phase.as_str()), (Settings::HANDED_ON, &*config_text)];
        environment.extend(database_url.iter().filter(|_| self.name != "portal").map(|url| ("DATABASE_URL", &**url)));
        if cfg!(target_os = "linux") && self.name == "agent" {
            environment.extend(ALLOCATOR_OF_AGENT.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()));
        }
        environment.extend(last_port.iter().map(|port| (daemon::LAST_PORT, port.as_str())));
        if self.name == "portal"
            && let Err(error) = certificate::make_for_portal(&self.root, &self.configuration.settings())
        {
            tracing::error!(%error, "the portal has no certificate");
        }
        let (program, arguments) = confined(self.name, &program, &folder);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let started = Process::start(&program, &arguments, self.root.path(), &environment, Log::Piped);
        let (mut process, Output { lines, log }) = match started {
            Ok(started) => started,
            Err(error) => {
                tracing::error!(child = self.name, %error, "could not be started");
                self.board.ended_by_itself(self.name, "could not be started");
                return End::Exited(None);
            }
        };
        self.board.started(self.name, process.id());
        tracing::info!(child = self.name, pid = process.id(), "started");
        let (answers, answered) = mpsc::channel(16);
        let mouth = Mouth {
            name: self.name,
            board: self.board.clone(),
            control: self.control.clone(),
            ports: self.ports.clone(),
            answers,
            questions: Arc::new(Semaphore::new(MOST_QUESTIONS)),
            questions_from_elsewhere: Arc::new(Semaphore::new(MOST_QUESTIONS_FROM_ELSEWHERE)),
        };
        let listening = tokio::spawn(mouth.listen(lines, self.desk.clone()));
        let logging = tokio::spawn(keep_log(self.name, log, self.root.logs()));
        let telling = process.input.take().map(|input| tokio::spawn(tell(input, self.board.clone(), answered)));
        let end = tokio::select! {
            status = process.wait() => End::Exited(status.ok().and_then(|status| status.code())),
            () = probe(self.name, &self.board) => End::Hung,
            order = wait_for_order(&mut self.orders, self.place, restarts) => order,
        };
        // With the task that tells it the plant's status, the child's standard input closes.
        if let Some(telling) = telling {
            telling.abort();
        }
        match end {
            End::Exited(code) => {
                tracing::error!(child = self.name, code, "ended");
                let how = code.map_or_else(|| "was killed".to_owned(), |code| format!("ended with exit code {code}"));
                self.board.ended_by_itself(self.name, &how);
            }
            End::Hung => {
                tracing::error!(child = self.name, "does not answer and is replaced");
                self.board.ended_by_itself(self.name, "does not answer");
            }
            End::Restart | End::Stop => {}
        }
        let grace = if matches!(end, End::Hung) { Duration::ZERO } else { STOP_WITHIN };
        process.stop(grace).await;
        let words = tokio::time::timeout(Duration::from_secs(1), logging).await;
        if let (End::Exited(_), Ok(Ok(words))) = (&end, words) {
            self.board.last_words(self.name, &words);
        }
        listening.abort();
        end
    }

    /// Waits for `pause`, or until the orders say `enough`; true if they say stop.
    async fn pause(&mut self, pause: Option<Duration>, enough: impl Fn(&Orders) -> bool) -> bool {
        let place = self.place;
        let order = self.orders.wait_for(|orders| orders.stop_from <= place || enough(orders));
        match pause {
            Some(pause) => match tokio::time::timeout(pause, order).await {
                Ok(Ok(orders)) => orders.stop_from <= place,
                Ok(Err(_)) => true,
                Err(_) => false,
            },
            None => order.await.map_or(true, |orders| orders.stop_from <= place),
        }
    }
}

async fn wait_for_order(orders: &mut watch::Receiver<Orders>, place: usize, restarts: u64) -> End {
    match orders.wait_for(|orders| orders.stop_from <= place || orders.restarts[place] != restarts).await {
        Ok(orders) if orders.stop_from > place => End::Restart,
        _ => End::Stop,
    }
}

/// What the child says on its standard output, and where answers to its questions go.
struct Mouth {
    name: &'static str,
    board: Arc<Board>,
    control: Arc<Control>,
    ports: Arc<Ports>,
    answers: mpsc::Sender<ToChild>,
    /// Questions that are not answered yet.
    questions: Arc<Semaphore>,
    questions_from_elsewhere: Arc<Semaphore>,
}

/// A portal with many open pages asks a few at once.
const MOST_QUESTIONS: usize = 16;
/// Whoever asks from another machine takes no place of the operator's.
const MOST_QUESTIONS_FROM_ELSEWHERE: usize = 4;

impl Mouth {
    async fn listen(self, lines: ChildStdout, desk: Arc<Desk>) {
        let mut lines = ControlLines::new(lines);
        while let Some(line) = lines.next().await {
            match serde_json::from_slice(&line) {
                Ok(line) => self.hear(line, &desk),
                Err(_) => tracing::warn!(child = self.name, "said something that is not understood"),
            }
        }
    }

    fn hear(&self, line: FromChild, desk: &Arc<Desk>) {
        let name = self.name;
        match line {
            FromChild::Listening { role: Role::Service, url } => {
                self.board.listening(name, &url);
                self.ports.note(name, &url);
                self.control.listening(Role::Service, &format!("{name} {url}"));
            }
            FromChild::Listening { role: Role::Health, url } => self.board.health_at(name, &url),
            FromChild::Ready { version } => self.board.is_ready(name, version),
            FromChild::Collected(collected) => self.board.collected(collected),
            FromChild::PackageRefused { code, detail } => {
                self.board.journal.note(EventKind::PackageRefused, &code, &detail);
            }
            FromChild::Exported(exported) => self.board.exported(exported),
            FromChild::Ask { request, question } => {
                let (answers, desk) = (self.answers.clone(), desk.clone());
                let places = if question.is_remote() { &self.questions_from_elsewhere } else { &self.questions };
                let Ok(place) = places.clone().try_acquire_owned() else {
                    let text = "too much is asked at once".to_owned();
                    let answer = Answer::Refused { status: "busy".to_owned(), reason: None, text };
                    let _ = answers.try_send(ToChild::Answer { request, answer });
                    return;
                };
                tokio::spawn(async move {
                    let _place = place;
                    let answer = desk.answer(name, question).await;
                    // Nobody hears it if the child has ended meanwhile.
                    let _ = answers.send(ToChild::Answer { request, answer }).await;
                });
            }
            FromChild::Pulse(_) => tracing::warn!(child = name, "only a supervisor has a pulse"),
        }
    }
}

/// What the child logs, line by line. Returns why it has ended, if that was the last that it said.
pub(crate) async fn keep_log(name: &'static str, log: Option<ChildStderr>, folder: PathBuf) -> String {
    let Some(log) = log else { return String::new() };
    let mut last = Vec::new();
    let mut log = BufReader::new(log);
    let mut file = ChildLog::open(&folder, name);
    // A longer line is kept as several.
    while let Some(line) = bounded_line(&mut log, LONGEST_LOG_LINE).await {
        // A full disk must not block the child: its lines are then lost, and said so here.
        if let Err(error) = file
            .as_mut()
            .map_err(|error| std::io::Error::new(error.kind(), error.to_string()))
            .and_then(|file| file.line(&line))
        {
            tracing::warn!(child = name, %error, "a log line could not be kept");
            file = ChildLog::open(&folder, name);
        }
        last = line;
    }
    // As a program says it that ends with a failure.
    let said = String::from_utf8_lossy(&last);
    let words = said.trim_end().strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).unwrap_or_default();
    words.chars().take(LONGEST_LAST_WORDS).collect()
}

/// Tells the child how everything is, and what it has asked. Dropped, it closes the child's standard input.
async fn tell(mut input: ChildStdin, board: Arc<Board>, mut answers: mpsc::Receiver<ToChild>) {
    let mut news = board.watch_news();
    let mut next = ToChild::Status(Box::new(board.status()));
    loop {
        let mut line = serde_json::to_vec(&next).expect("a status serialises");
        line.push(b'\n');
        if input.write_all(&line).await.is_err() {
            return;
        }
        next = tokio::select! {
            biased;
            // Before an answer, so that whoever is answered knows what has changed by it.
            _ = news.changed() => ToChild::Status(Box::new(board.status())),
            Some(answer) = answers.recv() => answer,
            () = tokio::time::sleep(TELL_STATUS_EVERY) => ToChild::Status(Box::new(board.status())),
        };
    }
}

/// Returns when the child has not answered three times in a row.
async fn probe(name: &str, board: &Board) {
    let started = Instant::now();
    let mut missed = 0;
    while missed < PROBES_MISSED {
        let on_trial = board.current_phase() == Phase::Trial;
        tokio::time::sleep(if on_trial { PROBE_ON_TRIAL_EVERY } else { PROBE_EVERY }).await;
        let answered = match board.health_address(name) {
            Some(address) => match daemon::ask(&format!("{address}/readyz"), PROBE_WITHIN).await {
                Ok((status, _)) => {
                    board.healthy(name, status.is_success());
                    true
                }
                Err(error) => {
                    tracing::warn!(child = name, error, "did not answer");
                    board.healthy(name, false);
                    false
                }
            },
            None => started.elapsed() < HEALTH_WITHIN,
        };
        missed = if answered { 0 } else { missed + 1 };
    }
}
