//! A server that is asked for every value, each period; and how one gather is shown, whatever the mode.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use config::{InstallRoot, OpcuaSource, TagSettings};
use futures_util::FutureExt as _;
use opcua_client::Session;
use opcua_types::{NodeId, ReadValueId, TimestampsToReturn};
use protocol::Timestamp;
use tokio::task::JoinSet;

use super::connection::{Connection, MOST_AT_ONCE};
use super::value::sample;
use crate::source::{Device, Gathered, Outcome};

pub struct Polled {
    source: OpcuaSource,
    root: InstallRoot,
    link: Option<Link>,
}

/// A session that a task keeps alive between two polls; dropped, it ends.
struct Link {
    session: Arc<Session>,
    /// Of each group.
    nodes: Vec<Vec<Result<NodeId, String>>>,
    keeper: JoinSet<()>,
}

impl Polled {
    pub fn new(source: &OpcuaSource, root: &InstallRoot) -> Self {
        Self { source: source.clone(), root: root.clone(), link: None }
    }

    async fn connect(&self) -> Result<Link, String> {
        let mut connection = Connection::open(&self.source, &self.root).await?;
        let mut nodes = Vec::new();
        for group in &self.source.groups {
            let wanted: Vec<_> = group.tags.iter().map(|tag| &tag.node).collect();
            nodes.push(connection.locate(&wanted).await?);
        }
        let session = connection.session.clone();
        let mut keeper = JoinSet::new();
        keeper.spawn(async move { while connection.go_on().await.is_ok() {} });
        Ok(Link { session, nodes, keeper })
    }

    async fn read(&mut self, group: usize) -> Result<Gathered, String> {
        if self.link.as_mut().is_none_or(|link| link.keeper.try_join_next().is_some()) {
            self.link = Some(self.connect().await?);
        }
        let Some(link) = &self.link else { return Err("no connection".to_owned()) };
        let (mut gathered, mut wanted) = (Gathered::new(), Vec::new());
        for (tag, node) in link.nodes[group].iter().enumerate() {
            match node {
                Ok(node) => wanted.push((tag, ReadValueId::new_value(node.clone()))),
                Err(error) => gathered.push(Outcome::bad(tag, Timestamp::now(), error.clone())),
            }
        }
        for part in wanted.chunks(MOST_AT_ONCE) {
            let (tags, ids): (Vec<_>, Vec<_>) = part.iter().cloned().unzip();
            let reading = link.session.read(&ids, TimestampsToReturn::Both, 0.0);
            let read = tokio::time::timeout(self.source.timeout, reading).await;
            let read = read.map_err(|_| format!("no answer within {:.1} s", self.source.timeout.as_secs_f64()));
            let read = read.and_then(|read| read.map_err(|error| error.to_string()));
            let values = read.map_err(|error| format!("{}: {error}", self.source.url))?;
            if values.len() != tags.len() {
                return Err(format!("{}: it sent another number of values than was asked for", self.source.url));
            }
            let now = Timestamp::now();
            gathered.extend(tags.into_iter().zip(values).map(|(tag, value)| {
                let (sample, error) = sample(value, now);
                Outcome { tag, sample, error }
            }));
        }
        Ok(gathered)
    }
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
            self.link = None;
        }
        gathered
    }
}
