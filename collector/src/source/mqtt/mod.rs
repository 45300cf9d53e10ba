//! MQTT. The broker keeps for us what comes while we are away (a session of our own, QoS 1), and is told that a message has
//! come only when its readings are on their way into the spool.

mod payload;
mod topics;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{InstallRoot, MqttSource};
use protocol::{Timestamp, tls};
use readings::Reading;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter, SubscribeReasonCode,
    TlsConfiguration, Transport,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::watch;
use tokio::time::Instant;

use self::topics::Topics;
use super::{LONGEST_PAUSE, Readings};
use crate::account::Account;
use crate::pause::Pause;
use crate::tag::Sample;

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
        let at = format!("{}:{}", self.source.host, self.source.port);
        loop {
            match self.broker.poll().await {
                Err(error) => return format!("{at}: {error}"),
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    let filters = self.source.tags.iter();
                    let filters = filters.map(|tag| SubscribeFilter::new(tag.topic.clone(), QoS::AtLeastOnce));
                    if let Err(error) = self.client.try_subscribe_many(filters) {
                        return format!("{at}: {error}");
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(answer))) => {
                    let refused =
                        answer.return_codes.iter().filter(|code| matches!(code, SubscribeReasonCode::Failure));
                    let refused = refused.count();
                    let error =
                        (refused > 0).then(|| format!("{at}: {refused} of the topics may not be subscribed to"));
                    pause.reset();
                    account.gathered(&self.source.name, &[], error);
                }
                Ok(Event::Incoming(Packet::Publish(message))) => {
                    let (kept, error) = self.take(&message);
                    account.gathered(&self.source.name, &kept, error);
                    if !kept.is_empty() && readings.send(kept).await.is_err() {
                        return "the collector is stopping".to_owned();
                    }
                    if let Err(error) = self.client.try_ack(&message) {
                        return format!("{at}: {error}");
                    }
                }
                Ok(_) => {}
            }
        }
    }

    /// The readings in a message, and what is wrong with it.
    fn take(&mut self, message: &Publish) -> (Vec<Reading>, Option<String>) {
        let (time, now) = (Timestamp::now(), Instant::now());
        let (mut kept, mut error) = (Vec::new(), None);
        self.topics.of(&message.topic, |filter, tag| {
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
    if let Some(user) = &source.user {
        let password = match (&source.password, &source.password_file) {
            (Some(password), _) => password.clone(),
            (None, Some(file)) => {
                let file = root.resolve(file);
                let text = std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                text.lines().next().unwrap_or_default().to_owned()
            }
            (None, None) => String::new(),
        };
        options.set_credentials(user, password);
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
    let named = |what: &dyn std::fmt::Display| format!("{}: {what}", file.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| named(&error))? {
        let certificate = certificate.map_err(|error| named(&error))?;
        roots.add(certificate).map_err(|error| named(&error))?;
    }
    if roots.is_empty() { Err(named(&"it holds no certificate")) } else { Ok(roots) }
}

fn system_authorities() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err("this system trusts no authority; name one with ca_file".to_owned()) } else { Ok(roots) }
}
