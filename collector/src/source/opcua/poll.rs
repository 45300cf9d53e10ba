//! A server that is asked for every value, each period; and how one gather is shown, whatever the mode.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use config::{InstallRoot, OpcuaSource, TagSettings};
use futures_util::FutureExt as _;
use opcua_client::Session;
use opcua_types::{NodeId, ReadValueId, TimestampsToReturn};
use protocol::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::connection::{Ahead, Connection, MOST_AT_ONCE, answered, locate};
use super::value::Told;
use crate::source::{Device, Gathered, Outcome};

/// A node whose namespace the server does not know is looked for again after this: it may still be starting.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub struct Polled {
    source: OpcuaSource,
    root: InstallRoot,
    link: Option<Link>,
    /// Of each group, of each tag.
    told: Vec<Vec<Told>>,
}

/// A session that a task keeps alive between two polls.
struct Link {
    session: Arc<Session>,
    /// Of each group.
    nodes: Vec<Nodes>,
    keeper: JoinSet<()>,
    leave: oneshot::Sender<()>,
}

struct Nodes {
    ids: Vec<Result<NodeId, String>>,
    located_at: Instant,
}

impl Polled {
    pub fn new(source: &OpcuaSource, root: &InstallRoot) -> Self {
        let groups = source.groups.iter();
        let told = groups.map(|group| group.tags.iter().map(|_| Told::default()).collect()).collect();
        Self { source: source.clone(), root: root.clone(), link: None, told }
    }

    async fn connect(&self) -> Result<Link, String> {
        let mut connection = Connection::open(&self.source, &self.root).await?;
        let session = connection.session.clone();
        let (leave, left) = oneshot::channel();
        let mut keeper = JoinSet::new();
        keeper.spawn(async move {
            let mut left = left;
            loop {
                tokio::select! {
                    _ = &mut left => return connection.leave().await,
                    driven = connection.drive() => if driven.is_err() { return },
                }
            }
        });
        Ok(Link { session, nodes: Vec::new(), keeper, leave })
    }

    async fn read(&mut self, group: usize) -> Result<Gathered, String> {
        if self.link.as_mut().is_none_or(|link| link.keeper.try_join_next().is_some()) {
            self.link = Some(self.connect().await?);
        }
        let Some(link) = &mut self.link else { return Err("no connection".to_owned()) };
        let OpcuaSource { url, timeout, groups, .. } = &self.source;
        while link.nodes.len() <= group {
            let ids = answered(url, *timeout, locate(&link.session, &wanted(&groups[link.nodes.len()]))).await?;
            link.nodes.push(Nodes { ids, located_at: Instant::now() });
        }
        let nodes = &mut link.nodes[group];
        if nodes.ids.iter().any(Result::is_err) && nodes.located_at.elapsed() > LOOK_AGAIN {
            let ids = answered(url, *timeout, locate(&link.session, &wanted(&groups[group]))).await?;
            *nodes = Nodes { ids, located_at: Instant::now() };
        }
        let (mut gathered, mut known) = (Gathered::new(), Vec::new());
        for (tag, id) in nodes.ids.iter().enumerate() {
            match id {
                Ok(id) => known.push((tag, ReadValueId::new_value(id.clone()))),
                Err(error) => gathered.push(Outcome::bad(tag, Timestamp::now(), error.clone())),
            }
        }
        for part in known.chunks(MOST_AT_ONCE) {
            let (tags, ids): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
            let values = answered(url, *timeout, link.session.read(&ids, TimestampsToReturn::Both, 0.0)).await?;
            if values.len() != tags.len() {
                return Err(format!("{url}: it sent another number of values than was asked for"));
            }
            let (now, ahead) = (Timestamp::now(), Ahead::of(&link.session));
            for (tag, value) in tags.into_iter().zip(values) {
                let (sample, error) = self.told[group][tag].sample(value, now, ahead);
                gathered.push(Outcome { tag, sample, error });
            }
        }
        Ok(gathered)
    }
}

fn wanted(group: &config::OpcuaGroup) -> Vec<&config::OpcuaNode> {
    group.tags.iter().map(|tag| &tag.node).collect()
}

impl Device for Polled {
    fn name(&self) -> &str {
        &self.source.name
    }

    fn groups(&self) -> Vec<(Duration, Vec<&TagSettings>)> {
        let groups = self.source.groups.iter();
        groups.map(|group| (group.period, group.tags.iter().map(|tag| &tag.settings).collect())).collect()
    }

    async fn gather(&mut self, group: usize) -> Result<Gathered, String> {
        let read = AssertUnwindSafe(self.read(group)).catch_unwind().await;
        let gathered = read.unwrap_or_else(|_| Err("the server's answer could not be understood".to_owned()));
        if gathered.is_err() {
            // Nothing of a connection that has failed is used again.
            self.close().await;
        }
        gathered
    }

    async fn close(&mut self) {
        let Some(mut link) = self.link.take() else { return };
        let _ = link.leave.send(());
        // It takes a second at most; whatever happens, the connection goes with it.
        while link.keeper.join_next().await.is_some() {}
    }
}
