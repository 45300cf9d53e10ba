//! Where readings come from. Each device has a task of its own, so that a slow one delays no other.

pub mod file;
mod modbus;
mod mqtt;
mod opcua;
mod simulator;

use std::sync::Arc;
use std::time::Duration;

use config::{InstallRoot, OpcuaMode, Source, Sources, TagSettings};
use protocol::{Failure, Timestamp};
use readings::Reading;
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::Instant;

use self::modbus::Modbus;
use self::opcua::Polled;
use self::simulator::Simulator;
use crate::accept::Readings;
use crate::account::Account;
use crate::pause::Pause;
use crate::tag::{Sample, Tag};

/// What one poll of a group brought.
pub type Gathered = Vec<Outcome>;

/// What came of one tag.
pub struct Outcome {
    /// The tag's place in its group.
    pub tag: usize,
    pub sample: Sample,
    /// Why it is no good one.
    pub error: Option<String>,
}

impl Outcome {
    pub fn bad(tag: usize, time: Timestamp, error: String) -> Self {
        Self { tag, sample: Sample::bad(time), error: Some(error) }
    }
}

/// Something that is asked for its tags' values, group by group.
pub trait Device: Send + 'static {
    fn name(&self) -> &str;

    /// How often each group is polled, and what is in it.
    fn groups(&self) -> Vec<(Duration, Vec<&TagSettings>)>;

    /// Asks for a group's values. An error means that the device does not answer; what it refuses of single tags stands
    /// beside them.
    fn gather(&mut self, group: usize) -> impl Future<Output = Result<Gathered, String>> + Send;

    /// Takes leave, where the other side would wait for us.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// Between two tries of a device that does not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// All sources at work.
pub struct Polling {
    root: InstallRoot,
    readings: Readings,
    account: Arc<Account>,
    running: Vec<Running>,
    tasks: JoinSet<()>,
}

struct Running {
    source: Source,
    stop: watch::Sender<bool>,
    task: task::Id,
}

impl Polling {
    pub fn start(sources: Sources, root: &InstallRoot, readings: Readings, account: &Arc<Account>) -> Self {
        let (root, account) = (root.clone(), account.clone());
        let mut polling = Self { root, readings, account, running: Vec::new(), tasks: JoinSet::new() };
        for source in sources.0 {
            polling.run(source);
        }
        polling
    }

    fn run(&mut self, source: Source) {
        let (stop, stopped) = watch::channel(false);
        let (root, readings, account) = (self.root.clone(), self.readings.clone(), self.account.clone());
        let task = match source.clone() {
            Source::Simulator(source) => self.tasks.spawn(poll(Simulator::new(&source), readings, account, stopped)),
            Source::Modbus(source) => self.tasks.spawn(poll(Modbus::new(&source), readings, account, stopped)),
            Source::Mqtt(source) => self.tasks.spawn(mqtt::listen(source, root, readings, account, stopped)),
            Source::Opcua(source) => match source.mode {
                OpcuaMode::Poll => self.tasks.spawn(poll(Polled::new(&source, &root), readings, account, stopped)),
                OpcuaMode::Subscribe => self.tasks.spawn(opcua::listen(source, root, readings, account, stopped)),
            },
        };
        self.running.push(Running { source, stop, task: task.id() });
    }

    /// Stops what is no longer named and starts what is new. A source that is named as before is not disturbed.
    ///
    /// # Errors
    /// As [`Self::broken`].
    pub async fn change_to(&mut self, sources: Sources) -> Result<(), Failure> {
        let (staying, going): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(|running| sources.0.contains(&running.source));
        self.running = staying;
        let new: Vec<_> = (sources.0.iter())
            .filter(|source| self.running.iter().all(|running| running.source != **source))
            .cloned()
            .collect();
        let names = |sources: &[Source]| sources.iter().map(|source| source.name().to_owned()).collect::<Vec<_>>();
        let going_names = going.iter().map(|running| running.source.name().to_owned()).collect::<Vec<_>>();
        tracing::info!(ended = ?going_names, started = ?names(&new), "sources.toml has changed");
        for running in &going {
            running.stop.send_replace(true);
        }
        // By the same name, a changed source begins when the one before has taken its leave.
        let mut waited_for: Vec<task::Id> = going.iter().map(|running| running.task).collect();
        while !waited_for.is_empty() {
            let ended = self.tasks.join_next_with_id().await;
            match ended {
                Some(Ok((task, ()))) if waited_for.contains(&task) => waited_for.retain(|other| *other != task),
                None => break,
                Some(ended) => return Err(by_itself(ended.map(|_| ()))),
            }
        }
        // What the ended ones read last is not to bring their tags back.
        self.readings.settled().await;
        self.account.set_sources(&sources, &going_names);
        for source in new {
            self.run(source);
        }
        Ok(())
    }

    /// Returns if a source's task has ended although nobody asked it to: a mistake in the program.
    pub async fn broken(&mut self) -> Failure {
        match self.tasks.join_next().await {
            None => std::future::pending().await,
            Some(ended) => by_itself(ended),
        }
    }

    /// Ends polling; what was gathered is on its way.
    pub async fn stop(mut self) {
        for running in &self.running {
            running.stop.send_replace(true);
        }
        while self.tasks.join_next().await.is_some() {}
    }
}

fn by_itself(ended: Result<(), JoinError>) -> Failure {
    match ended {
        Ok(()) => Failure::failed("a source's task has ended by itself"),
        Err(panic) => Failure::failed(format!("a source's task has failed: {panic}")),
    }
}

struct Group {
    period: Duration,
    due: Instant,
    tags: Vec<Tag>,
}

impl Group {
    fn all_of(device: &impl Device) -> Vec<Self> {
        let due = Instant::now();
        let groups = device.groups().into_iter();
        groups.map(|(period, tags)| Self { period, due, tags: tags.into_iter().map(Tag::new).collect() }).collect()
    }

    /// The next beat that is still to come: one that was missed is not made up for.
    fn next_beat(&mut self, now: Instant) {
        let missed = now.saturating_duration_since(self.due).as_nanos() / self.period.as_nanos().max(1);
        self.due += self.period * (u32::try_from(missed).unwrap_or(u32::MAX - 1) + 1);
    }

    /// Every tag without a value, told as often as it is to be kept.
    fn silent(&mut self, time: Timestamp, now: Instant, readings: &mut Vec<Reading>) {
        readings.extend(self.tags.iter_mut().filter_map(|tag| tag.keep(Sample::bad(time), now)));
    }
}

/// On the monotonic clock: a jump of the wall clock neither bunches nor skips polls. A device that does not answer gives
/// one reading of bad quality a tag, and is asked again after growing pauses.
async fn poll(mut device: impl Device, readings: Readings, account: Arc<Account>, mut stopped: watch::Receiver<bool>) {
    let mut groups = Group::all_of(&device);
    let mut pause = Pause::new(LONGEST_PAUSE);
    while let Some(at) = (0..groups.len()).min_by_key(|at| groups[*at].due) {
        let gathered = tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => break,
            gathered = async {
                tokio::time::sleep_until(groups[at].due).await;
                device.gather(at).await
            } => gathered,
        };
        let now = Instant::now();
        let mut kept = Vec::new();
        let error = match gathered {
            Ok(gathered) => {
                let error = gathered.iter().find_map(|outcome| outcome.error.clone());
                for Outcome { tag, sample, .. } in gathered {
                    kept.extend(groups[at].tags[tag].keep(sample, now));
                }
                groups[at].next_beat(now);
                pause.reset();
                error
            }
            Err(error) => {
                let time = Timestamp::now();
                let again = now + pause.next();
                for group in &mut groups {
                    group.silent(time, now, &mut kept);
                    group.due = again;
                }
                Some(error)
            }
        };
        account.gathered(device.name(), &kept, error);
        if !kept.is_empty() && readings.send(kept).await.is_err() {
            break;
        }
    }
    device.close().await;
}

/// What one gather of a tag brought, for a person.
pub struct Shown {
    pub reading: Reading,
    pub error: Option<String>,
}

/// Asks every source once, all at a time.
pub async fn gather_all(sources: &Sources, root: &InstallRoot) -> Vec<Shown> {
    let mut tasks = JoinSet::new();
    for (number, source) in sources.0.iter().cloned().enumerate() {
        let root = root.clone();
        tasks.spawn(async move {
            let shown = match source {
                Source::Simulator(source) => gather_one(Simulator::new(&source)).await,
                Source::Modbus(source) => gather_one(Modbus::new(&source)).await,
                Source::Mqtt(source) => mqtt::listen_once(&source, &root).await,
                // What it would tell first is what it says when it is asked.
                Source::Opcua(source) => gather_one(Polled::new(&source, &root)).await,
            };
            (number, shown)
        });
    }
    // In the order of their kinds and of the file, whichever answers first.
    let mut gathered = tasks.join_all().await;
    gathered.sort_by_key(|(number, _)| *number);
    gathered.into_iter().flat_map(|(_, shown)| shown).collect()
}

async fn gather_one(mut device: impl Device) -> Vec<Shown> {
    let mut shown = Vec::new();
    for (at, group) in Group::all_of(&device).into_iter().enumerate() {
        let outcome = device.gather(at).await;
        let silence = outcome.as_ref().err().cloned();
        let mut gathered = outcome.unwrap_or_default();
        gathered.sort_by_key(|outcome| outcome.tag);
        let mut gathered = gathered.into_iter().peekable();
        for (at, tag) in group.tags.iter().enumerate() {
            let of_tag = gathered.next_if(|outcome| outcome.tag == at);
            let (sample, error) = match of_tag {
                Some(Outcome { sample, error, .. }) => (sample, error),
                None => (Sample::bad(Timestamp::now()), silence.clone()),
            };
            shown.push(Shown { reading: tag.reading(sample), error });
        }
    }
    device.close().await;
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A device of one tag that answers as it is told, and says when it was asked.
    struct Told {
        settings: TagSettings,
        answers: Box<dyn Iterator<Item = Option<f64>> + Send>,
        asked: Arc<Mutex<Vec<Instant>>>,
    }

    impl Device for Told {
        fn name(&self) -> &str {
            "told"
        }

        fn groups(&self) -> Vec<(Duration, Vec<&TagSettings>)> {
            vec![(Duration::from_secs(1), vec![&self.settings])]
        }

        async fn gather(&mut self, _: usize) -> Result<Gathered, String> {
            self.asked.lock().unwrap().push(Instant::now());
            match self.answers.next() {
                Some(Some(value)) => {
                    Ok(vec![Outcome { tag: 0, sample: Sample::of_value(Timestamp::EPOCH, value), error: None }])
                }
                _ => Err("silence".to_owned()),
            }
        }
    }

    /// Qualities of the readings that came of these answers, and when the device was asked, in seconds from the start.
    async fn polled(answers: Vec<Option<f64>>, until: Duration) -> (Vec<u8>, Vec<f64>) {
        let settings = TagSettings { name: "told.tag".to_owned(), ..TagSettings::default() };
        let (asked, start) = (Arc::new(Mutex::new(Vec::new())), Instant::now());
        let device = Told { settings, answers: Box::new(answers.into_iter()), asked: asked.clone() };
        let (readings, gathers) = Readings::unaccepted(1000);
        let (stop, stopped) = watch::channel(false);
        let account = Arc::new(Account::new(&Sources::default()));
        let task = tokio::spawn(poll(device, readings, account, stopped));
        tokio::time::sleep_until(start + until).await;
        stop.send_replace(true);
        task.await.unwrap();
        let qualities = gathers.await.into_iter().flatten().map(|reading| reading.quality.0).collect();
        let asked = asked.lock().unwrap().iter().map(|at| at.duration_since(start).as_secs_f64()).collect();
        (qualities, asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_answers_is_asked_on_its_beat() {
        let (qualities, asked) = polled(vec![Some(1.0); 20], Duration::from_millis(5500)).await;
        assert_eq!(qualities, [192; 6]);
        assert!(asked.iter().zip(0..).all(|(asked, second)| (asked - f64::from(second)).abs() < 0.01), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_device_is_told_once_and_asked_after_growing_pauses() {
        let answers: Vec<_> = [vec![Some(1.0)], vec![None; 9], vec![Some(2.0); 3]].concat();
        let (qualities, asked) = polled(answers, Duration::from_secs(600)).await;
        assert_eq!(qualities[..5], [192, 0, 192, 192, 192]);
        let pauses: Vec<f64> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
        for (pause, expected) in pauses[1..].iter().zip([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]) {
            assert!((0.74..1.26).contains(&(pause / expected)), "{pauses:?}");
        }
        assert!((pauses[10] - 1.0).abs() < 0.01, "on its beat again: {pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_beat_that_was_missed_is_not_made_up_for() {
        let mut group = Group { period: Duration::from_secs(1), due: Instant::now(), tags: Vec::new() };
        let start = group.due;
        group.next_beat(start + Duration::from_millis(3400));
        assert_eq!(group.due, start + Duration::from_secs(4));
        group.next_beat(group.due + Duration::from_millis(1));
        assert_eq!(group.due, start + Duration::from_secs(5));
    }
}
