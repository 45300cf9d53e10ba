//! MQTT. The broker keeps for us what comes while we are away (a session of our own, QoS 1), and is told that a message has
//! come only when its readings are on their way into the spool.

mod payload;
mod topics;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{InstallRoot, MqttSource, read_certificates};
use protocol::{Timestamp, tls};
use readings::Reading;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter, SubscribeReasonCode,
    TlsConfiguration, Transport,
};
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::time::Instant;

use self::topics::Topics;
use super::{LONGEST_PAUSE, Shown};
use crate::accept::Readings;
use crate::account::Account;
use crate::pause::Pause;
use crate::tag::{Sample, Tag};

const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A message larger than this is none of a sensor's; the broker is left, and comes again with growing pauses.
const LARGEST_MESSAGE: usize = 1 << 20;
const WAITING_REQUESTS: usize = 1024;

/// Listens to a broker until it is told to stop.
pub async fn listen(
    source: MqttSource,
    root: InstallRoot,
    readings: Readings,
    account: Arc<Account>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut topics = Topics::new(&source.tags);
    let mut pause = Pause::new(LONGEST_PAUSE);
    loop {
        // Read again each time: a password or an authority may have been put right.
        let error = match options(&source, &root) {
            Err(error) => error,
            Ok(options) => {
                let (client, broker) = AsyncClient::new(options, WAITING_REQUESTS + source.tags.len());
                let mut session = Session { source: &source, client, broker, topics: &mut topics };
                let ended = tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => None,
                    error = session.run(&readings, &account, &mut pause) => Some(error),
                };
                let Some(error) = ended else { return session.leave().await };
                error
            }
        };
        let (time, now) = (Timestamp::now(), Instant::now());
        let silent: Vec<Reading> = topics.seen().filter_map(|tag| tag.keep(Sample::bad(time), now)).collect();
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

/// What the broker tells within so long, for a person; most of it is what it has kept.
const ONCE: Duration = Duration::from_secs(5);

/// Listens a while, beside the collector and without taking anything away from it.
pub async fn listen_once(source: &MqttSource, root: &InstallRoot) -> Vec<Shown> {
    let mut seen: BTreeMap<(usize, String), Shown> = BTreeMap::new();
    let outcome = tokio::time::timeout(ONCE, look(source, root, &mut seen)).await;
    let error = outcome.unwrap_or_else(|_| format!("no message within {} s", ONCE.as_secs()));
    for (number, filter) in source.tags.iter().enumerate() {
        if !seen.keys().any(|(of_filter, _)| *of_filter == number) {
            let reading = Tag::new(&filter.settings).reading(Sample::bad(Timestamp::now()));
            seen.insert((number, String::new()), Shown { reading, error: Some(error.clone()) });
        }
    }
    seen.into_values().collect()
}

/// Until the connection ends; says why.
async fn look(source: &MqttSource, root: &InstallRoot, seen: &mut BTreeMap<(usize, String), Shown>) -> String {
    // By another name, or the broker would send the collector away, and a session that ends with us.
    let source =
        MqttSource { client_id: format!("{}-{:08x}", source.client_id, rand::random::<u32>()), ..source.clone() };
    let mut options = match options(&source, root) {
        Ok(options) => options,
        Err(error) => return error,
    };
    options.set_clean_session(true);
    let (client, broker) = AsyncClient::new(options, WAITING_REQUESTS + source.tags.len());
    let mut topics = Topics::new(&source.tags);
    let mut session = Session { source: &source, client, broker, topics: &mut topics };
    loop {
        match session.next().await {
            Err(error) => return error,
            Ok(Next::Subscribed { refused: None }) => {}
            Ok(Next::Subscribed { refused: Some(error) }) => return error,
            Ok(Next::Message(message)) => {
                let time = Timestamp::now();
                session.topics.of(&message.topic, |number, filter, tag| {
                    let Some(tag) = tag else { return };
                    let (sample, error) = payload::sample(filter, &message.payload, message.retain, time)
                        .map_or_else(|what| (Sample::bad(time), Some(what)), |sample| (sample, None));
                    let key = (number, message.topic.clone());
                    seen.insert(key, Shown { reading: tag.reading(sample), error });
                });
            }
        }
    }
}

/// What a broker tells.
enum Next {
    /// It has let us in, but perhaps not to every topic.
    Subscribed {
        refused: Option<String>,
    },
    Message(Publish),
}

/// One connection.
struct Session<'a> {
    source: &'a MqttSource,
    client: AsyncClient,
    broker: EventLoop,
    topics: &'a mut Topics,
}

impl Session<'_> {
    /// Until the connection ends; says why.
    async fn run(&mut self, readings: &Readings, account: &Account, pause: &mut Pause) -> String {
        loop {
            let message = match self.next().await {
                Err(error) => return error,
                Ok(Next::Subscribed { refused }) => {
                    pause.reset();
                    account.gathered(&self.source.name, &[], refused);
                    continue;
                }
                Ok(Next::Message(message)) => message,
            };
            let (kept, error) = self.take(&message);
            account.gathered(&self.source.name, &kept, error);
            if !kept.is_empty() && readings.send(kept).await.is_err() {
                return "the collector is stopping".to_owned();
            }
            if let Err(error) = self.client.try_ack(&message) {
                return self.named(&error);
            }
        }
    }

    fn named(&self, what: &dyn std::fmt::Display) -> String {
        format!("{}:{}: {what}", self.source.host, self.source.port)
    }

    /// What the broker tells next; topics are subscribed to whenever it has let us in.
    async fn next(&mut self) -> Result<Next, String> {
        loop {
            match self.broker.poll().await.map_err(|error| self.named(&error))? {
                Event::Incoming(Packet::ConnAck(_)) => {
                    let filters = self.source.tags.iter();
                    let filters = filters.map(|tag| SubscribeFilter::new(tag.topic.clone(), QoS::AtLeastOnce));
                    self.client.try_subscribe_many(filters).map_err(|error| self.named(&error))?;
                }
                Event::Incoming(Packet::SubAck(answer)) => {
                    let codes = answer.return_codes.iter();
                    let refused = codes.filter(|code| matches!(code, SubscribeReasonCode::Failure)).count();
                    let what = format!("{refused} of the topics may not be subscribed to");
                    return Ok(Next::Subscribed { refused: (refused > 0).then(|| self.named(&what)) });
                }
                Event::Incoming(Packet::Publish(message)) => return Ok(Next::Message(message)),
                _ => {}
            }
        }
    }

    /// The readings in a message, and what is wrong with it.
    fn take(&mut self, message: &Publish) -> (Vec<Reading>, Option<String>) {
        let (time, now) = (Timestamp::now(), Instant::now());
        let (mut kept, mut error) = (Vec::new(), None);
        self.topics.of(&message.topic, |_, filter, tag| {
            let Some(tag) = tag else {
                error = Some(format!("{}: more topics than are kept apart", message.topic));
                return;
            };
            let sample = payload::sample(filter, &message.payload, message.retain, time).unwrap_or_else(|what| {
                error = Some(format!("{}: {what}", message.topic));
                Sample::bad(time)
            });
            kept.extend(tag.keep(sample, now));
        });
        (kept, error)
    }

    /// So that the broker does not take us for lost.
    async fn leave(&mut self) {
        let leaving = async {
            let _ = self.client.disconnect().await;
            while !matches!(self.broker.poll().await, Err(_) | Ok(Event::Outgoing(rumqttc::Outgoing::Disconnect))) {}
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), leaving).await;
    }
}

fn options(source: &MqttSource, root: &InstallRoot) -> Result<MqttOptions, String> {
    let mut options = MqttOptions::new(&source.client_id, &source.host, source.port);
    options.set_keep_alive(KEEP_ALIVE).set_clean_session(false).set_manual_acks(true);
    options.set_max_packet_size(LARGEST_MESSAGE, LARGEST_MESSAGE);
    if let Some(login) = &source.login {
        options.set_credentials(&login.user, login.password(root)?);
    }
    if source.tls {
        let roots = match &source.ca_file {
            Some(file) => authorities(&root.resolve(file))?,
            None => system_authorities()?,
        };
        let config = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(Arc::new(config))));
    }
    Ok(options)
}

fn authorities(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(file)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(roots)
}

fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err("this system trusts no authority; name one with ca_file".to_owned()) } else { Ok(roots) }
}
