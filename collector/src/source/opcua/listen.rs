//! A server that tells what has changed. What it tells is on its way into the spool before more is taken from it.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::{InstallRoot, OpcuaSource, OpcuaTag};
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

use super::connection::{Ahead, Connection, MOST_AT_ONCE, locate, named};
use super::value::Told;
use crate::accept::Readings;
use crate::account::Account;
use crate::pause::Pause;
use crate::source::LONGEST_PAUSE;
use crate::tag::{Sample, Tag};

/// Of one node, values that the server keeps for us between two of its messages.
const QUEUED_VALUES: u32 = 100;
/// So often the server tells what it has seen, however seldom it looks at its device.
const LONGEST_PUBLISHING: Duration = Duration::from_secs(1);
/// A server that has nothing to tell says that it lives after so long,
const ALIVE: Duration = Duration::from_secs(10);
/// is taken for dead after so long without that,
const DEAD: Duration = Duration::from_secs(45);
/// and ends a subscription itself whose news nobody fetches for so long.
const LIFETIME: Duration = Duration::from_secs(120);
/// How often heartbeats are looked after.
const BEAT: Duration = Duration::from_millis(500);
/// A connection that has lived so long is a good one: the next pause is a short one again.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// Listens to a server until it is told to stop.
pub async fn listen(
    source: OpcuaSource,
    root: InstallRoot,
    readings: Readings,
    account: Arc<Account>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut nodes: Vec<Node> = (source.groups.iter().enumerate())
        .flat_map(|(group, settings)| settings.tags.iter().map(move |tag| Node::new(group, tag)))
        .collect();
    let mut pause = Pause::new(LONGEST_PAUSE);
    loop {
        let (mut connection, started) = (None, Instant::now());
        let ended = {
            let run = Listening { source: &source, nodes: &mut nodes, readings: &readings, account: &account };
            let run = AssertUnwindSafe(run.run(&root, &mut connection)).catch_unwind();
            tokio::select! {
                _ = stopped.wait_for(|stop| *stop) => None,
                ended = run => Some(ended.ok()),
            }
        };
        // One in which the library has panicked can be used no more, not even to take leave.
        if let (Some(connection), None | Some(Some(_))) = (connection, &ended) {
            connection.leave().await;
        }
        let Some(ended) = ended else { return };
        let error = ended.unwrap_or_else(|| "what the server sent could not be understood".to_owned());
        let (time, now) = (Timestamp::now(), Instant::now());
        let silent: Vec<Reading> = nodes.iter_mut().filter_map(|node| node.tag.keep(Sample::bad(time), now)).collect();
        account.gathered(&source.name, &silent, Some(error));
        if !silent.is_empty() && readings.send(silent).await.is_err() {
            return;
        }
        if started.elapsed() > GOOD_AFTER {
            pause.reset();
        }
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause.next()) => {}
        }
    }
}

struct Node {
    group: usize,
    id: config::OpcuaNode,
    tag: Tag,
    told: Told,
    /// What is wrong with it at present.
    error: Option<String>,
}

impl Node {
    fn new(group: usize, tag: &OpcuaTag) -> Self {
        Self { group, id: tag.node.clone(), tag: Tag::new(&tag.settings), told: Told::default(), error: None }
    }
}

/// What has come and is not taken yet: a node's place, and its value.
#[derive(Default)]
struct Inbox {
    values: Vec<(usize, DataValue)>,
    ended: Option<String>,
}

/// Called while the connection is driven.
struct Delivery(Arc<Mutex<Inbox>>);

impl OnSubscriptionNotification for Delivery {
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

struct Listening<'a> {
    source: &'a OpcuaSource,
    nodes: &'a mut [Node],
    readings: &'a Readings,
    account: &'a Account,
}

impl Listening<'_> {
    /// Until the connection ends; says why.
    async fn run(mut self, root: &InstallRoot, place: &mut Option<Connection>) -> String {
        match Connection::open(self.source, root).await {
            Ok(connection) => {
                let connection = place.insert(connection);
                self.listen(connection).await.err().unwrap_or_default()
            }
            Err(error) => error,
        }
    }

    async fn listen(&mut self, connection: &mut Connection) -> Result<(), String> {
        let inbox = Arc::default();
        let mut subscriptions = Vec::new();
        for group in &self.source.groups {
            let every = group.period.min(LONGEST_PUBLISHING);
            let periods = |time: Duration| (time.as_secs_f64() / every.as_secs_f64()).ceil() as u32;
            let (session, delivery) = (connection.session.clone(), Delivery(Arc::clone(&inbox)));
            let most = MOST_AT_ONCE as u32;
            let creating =
                session.create_subscription(every, periods(LIFETIME), periods(ALIVE), most, 0, true, delivery);
            subscriptions.push(connection.ask(creating).await?);
        }
        connection.told_at = Instant::now();
        let all = (0..self.nodes.len()).collect();
        let mut refused = self.watch(connection, &subscriptions, all).await?;
        // One that the server does not know now it may know once it has started.
        let mut again = Pause::new(LONGEST_PAUSE);
        let mut again_at = Instant::now() + again.next();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                driven = connection.drive() => driven?,
                _ = beat.tick() => self.beat().await?,
            }
            let (values, ended) = {
                let mut inbox = inbox.lock().unwrap_or_else(PoisonError::into_inner);
                (std::mem::take(&mut inbox.values), inbox.ended.take())
            };
            self.take(values, connection.server_ahead()).await?;
            if let Some(ended) = ended {
                return Err(ended);
            }
            if connection.told_at.elapsed() > DEAD {
                return Err("the server tells nothing any more".to_owned());
            }
            if !refused.is_empty() && Instant::now() >= again_at {
                refused = self.watch(connection, &subscriptions, refused).await?;
                again_at = Instant::now() + again.next();
            }
        }
    }

    /// Has the server watch these nodes. Returns those that it will not.
    async fn watch(
        &mut self,
        connection: &mut Connection,
        subscriptions: &[u32],
        places: Vec<usize>,
    ) -> Result<Vec<usize>, String> {
        let session = connection.session.clone();
        let wanted: Vec<_> = places.iter().map(|place| &self.nodes[*place].id).collect();
        let ids = connection.ask(locate(&session, &wanted)).await?;
        let mut refused = Vec::new();
        for (group, subscription) in subscriptions.iter().enumerate() {
            let period = self.source.groups[group].period;
            let mut items = Vec::new();
            for (place, id) in places.iter().copied().zip(&ids).filter(|(place, _)| self.nodes[*place].group == group) {
                match id {
                    Ok(id) => items.push((place, item(id.clone(), place, period))),
                    Err(error) => refused.push((place, error.clone())),
                }
            }
            for part in items.chunks(MOST_AT_ONCE) {
                let (places, requests): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
                let creating = session.create_monitored_items(*subscription, TimestampsToReturn::Both, requests);
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
        }
        let (time, now) = (Timestamp::now(), Instant::now());
        let mut bad = Vec::new();
        for (place, error) in &refused {
            let node = &mut self.nodes[*place];
            node.error = Some(error.clone());
            bad.extend(node.tag.keep(Sample::bad(time), now));
        }
        let refused = refused.into_iter().map(|(place, _)| place).collect();
        self.tell(bad).await.map(|()| refused)
    }

    async fn take(&mut self, values: Vec<(usize, DataValue)>, ahead: Ahead) -> Result<(), String> {
        if values.is_empty() {
            return Ok(());
        }
        let (time, now) = (Timestamp::now(), Instant::now());
        let mut kept = Vec::new();
        for (place, value) in values {
            let Some(node) = self.nodes.get_mut(place) else { continue };
            let (sample, error) = node.told.sample(value, time, ahead);
            node.error = error;
            kept.extend(node.tag.keep(sample, now));
        }
        self.tell(kept).await
    }

    /// A value that does not change is not told again; it is kept again as often as its heartbeat says.
    async fn beat(&mut self) -> Result<(), String> {
        let (time, now) = (Timestamp::now(), Instant::now());
        let kept: Vec<Reading> = self.nodes.iter_mut().filter_map(|node| node.tag.beat(time, now)).collect();
        if kept.is_empty() { Ok(()) } else { self.tell(kept).await }
    }

    async fn tell(&self, kept: Vec<Reading>) -> Result<(), String> {
        let wrong = self.nodes.iter().find_map(|node| Some((node.tag.name(), node.error.as_deref()?)));
        self.account.gathered(&self.source.name, &kept, wrong.map(|(name, error)| format!("{name}: {error}")));
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
