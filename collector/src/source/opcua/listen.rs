//! A server that tells what has changed. What it tells is on its way into the spool before more is taken from it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::{InstallRoot, OpcuaSource};
use futures_util::FutureExt as _;
use opcua_client::{MonitoredItem, OnSubscriptionNotification};
use opcua_types::{
    DataValue, MonitoredItemCreateRequest, MonitoringMode, MonitoringParameters, NodeId, ReadValueId,
    StatusChangeNotification, TimestampsToReturn,
};
use protocol::Timestamp;
use readings::Reading;
use tokio::sync::watch;
use tokio::time::Instant;

use super::connection::{Connection, MOST_AT_ONCE, named};
use super::value::sample;
use crate::account::Account;
use crate::pause::Pause;
use crate::source::{LONGEST_PAUSE, Readings};
use crate::tag::{Sample, Tag};

/// Of one node, values that the server keeps for us between two of its messages.
const QUEUED_VALUES: u32 = 100;
/// In periods: a server whose messages are not asked for ends the subscription after the latter, and says that it lives
/// after the former.
const KEEP_ALIVES: u32 = 10;
const LIFETIME: u32 = 10 * KEEP_ALIVES;
/// How often heartbeats are looked after.
const BEAT: Duration = Duration::from_millis(500);

/// Listens to a server until it is told to stop.
pub async fn listen(
    source: OpcuaSource,
    root: InstallRoot,
    readings: Readings,
    account: Arc<Account>,
    mut stopped: watch::Receiver<bool>,
) {
    let settings = source.groups.iter().flat_map(|group| &group.tags);
    let mut tags: Vec<Tag> = settings.map(|tag| Tag::new(&tag.settings)).collect();
    let mut pause = Pause::new(LONGEST_PAUSE);
    loop {
        let mut connection = None;
        let ended = {
            let subscribed = Subscribed { source: &source, tags: &mut tags, readings: &readings, account: &account };
            let run = AssertUnwindSafe(subscribed.run(&root, &mut connection, &mut pause)).catch_unwind();
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => None,
                ended = run => Some(ended),
            }
        };
        let Some(ended) = ended else {
            if let Some(connection) = connection {
                connection.leave().await;
            }
            return;
        };
        let error = ended.unwrap_or_else(|_| "what the server sent could not be understood".to_owned());
        let (time, now) = (Timestamp::now(), Instant::now());
        let silent: Vec<Reading> = tags.iter_mut().filter_map(|tag| tag.keep(Sample::bad(time), now)).collect();
        account.gathered(&source.name, &silent, Some(error));
        if !silent.is_empty() && readings.send(silent).await.is_err() {
            return;
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause.next()) => {}
        }
    }
}

/// What has come and is not taken yet: a tag's place, and its value.
#[derive(Default)]
struct Inbox {
    values: Vec<(usize, DataValue)>,
    ended: Option<String>,
}

/// Called while the connection goes on.
struct Post(Arc<Mutex<Inbox>>);

impl OnSubscriptionNotification for Post {
    fn on_data_value(&mut self, value: DataValue, item: &MonitoredItem) {
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.values.push((place_of(item.client_handle()), value));
    }

    fn on_subscription_status_change(&mut self, change: StatusChangeNotification) {
        let mut inbox = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inbox.ended = Some(format!("the server has ended the subscription: {}", named(change.status)));
    }
}

/// 0 would let the library choose one.
fn handle_of(place: usize) -> u32 {
    u32::try_from(place + 1).unwrap_or(u32::MAX)
}

fn place_of(handle: u32) -> usize {
    (handle as usize).wrapping_sub(1)
}

struct Subscribed<'a> {
    source: &'a OpcuaSource,
    tags: &'a mut [Tag],
    readings: &'a Readings,
    account: &'a Account,
}

impl Subscribed<'_> {
    /// Until the connection ends; says why.
    async fn run(mut self, root: &InstallRoot, slot: &mut Option<Connection>, pause: &mut Pause) -> String {
        let inbox = Arc::default();
        let connection = match Connection::open(self.source, root).await {
            Ok(connection) => slot.insert(connection),
            Err(error) => return error,
        };
        let mut refused = match self.subscribe(connection, &inbox).await {
            Ok(refused) => refused,
            Err(error) => return error,
        };
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let (values, ended) = {
                let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
                (std::mem::take(&mut inbox.values), inbox.ended.take())
            };
            if !values.is_empty() || refused.is_some() {
                pause.reset();
            }
            if let Err(error) = self.take(values, &mut refused).await {
                return error;
            }
            if let Some(ended) = ended {
                return ended;
            }
            tokio::select! {
                went_on = connection.go_on() => if let Err(error) = went_on { return error },
                _ = beat.tick() => if let Err(error) = self.beat().await { return error },
            }
        }
    }

    /// One subscription a group. Returns the first node that the server will not watch, and why.
    async fn subscribe(
        &mut self,
        connection: &mut Connection,
        inbox: &Arc<Mutex<Inbox>>,
    ) -> Result<Option<String>, String> {
        let (mut first, mut refused) = (0, Vec::new());
        let session = connection.session.clone();
        for group in &self.source.groups {
            let wanted: Vec<_> = group.tags.iter().map(|tag| &tag.node).collect();
            let nodes = connection.locate(&wanted).await?;
            let post = Post(inbox.clone());
            let creating = session.create_subscription(group.period, LIFETIME, KEEP_ALIVES, 0, 0, true, post);
            let subscription = connection.ask(creating).await?;
            let mut items = Vec::new();
            for (at, node) in nodes.into_iter().enumerate() {
                match node {
                    Ok(node) => items.push((first + at, item(node, first + at, group.period))),
                    Err(error) => refused.push((first + at, error)),
                }
            }
            for part in items.chunks(MOST_AT_ONCE) {
                let (places, requests): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
                let creating = session.create_monitored_items(subscription, TimestampsToReturn::Both, requests);
                let created = connection.ask(creating).await?;
                if created.len() != places.len() {
                    return Err("the server watches another number of nodes than was asked for".to_owned());
                }
                for (place, created) in places.into_iter().zip(created) {
                    let status = created.result.status_code;
                    if !status.is_good() {
                        refused.push((place, format!("the server says: {}", named(status))));
                    }
                }
            }
            first += group.tags.len();
        }
        let (time, now) = (Timestamp::now(), Instant::now());
        let bad: Vec<Reading> =
            refused.iter().filter_map(|(place, _)| self.tags[*place].keep(Sample::bad(time), now)).collect();
        let first = refused.first().map(|(place, error)| format!("{}: {error}", self.tags[*place].name()));
        self.account.gathered(&self.source.name, &bad, first.clone());
        self.send(bad).await?;
        Ok(first)
    }

    /// `refused` is told as long as nothing else is wrong.
    async fn take(&mut self, values: Vec<(usize, DataValue)>, refused: &mut Option<String>) -> Result<(), String> {
        if values.is_empty() {
            return Ok(());
        }
        let (time, now) = (Timestamp::now(), Instant::now());
        let (mut kept, mut error) = (Vec::new(), None);
        for (place, value) in values {
            let Some(tag) = self.tags.get_mut(place) else { continue };
            let (sample, what) = sample(value, time);
            error = error.or_else(|| what.map(|what| format!("{}: {what}", tag.name())));
            kept.extend(tag.keep(sample, now));
        }
        self.account.gathered(&self.source.name, &kept, error.or_else(|| refused.clone()));
        self.send(kept).await
    }

    /// A value that does not change is not told again; it is kept again as often as its heartbeat says.
    async fn beat(&mut self) -> Result<(), String> {
        let (time, now) = (Timestamp::now(), Instant::now());
        let kept: Vec<Reading> = self.tags.iter_mut().filter_map(|tag| tag.beat(time, now)).collect();
        self.send(kept).await
    }

    async fn send(&self, kept: Vec<Reading>) -> Result<(), String> {
        if !kept.is_empty() && self.readings.send(kept).await.is_err() {
            return Err("the collector is stopping".to_owned());
        }
        Ok(())
    }
}

fn item(node: NodeId, place: usize, period: Duration) -> MonitoredItemCreateRequest {
    let parameters = MonitoringParameters {
        client_handle: handle_of(place),
        sampling_interval: period.as_secs_f64() * 1000.0,
        queue_size: QUEUED_VALUES,
        discard_oldest: true,
        ..MonitoringParameters::default()
    };
    MonitoredItemCreateRequest::new(ReadValueId::new_value(node), MonitoringMode::Reporting, parameters)
}
