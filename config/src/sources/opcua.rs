//! `[[opcua]]`: a server, and the nodes that are subscribed to or polled.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::checks::Checks;
use super::login::Login;
use super::tag::{Common, GroupOfFile, TagSettings, tag_of_file};

#[derive(Clone, Debug, PartialEq)]
pub struct OpcuaSource {
    pub name: String,
    /// `opc.tcp://host:port/path`
    pub url: String,
    pub security: OpcuaSecurity,
    /// The certificate that the server has to show, DER or PEM, relative to the root; with a secured connection nothing
    /// is asked of a server without it.
    pub server_certificate: Option<PathBuf>,
    pub login: Option<Login>,
    pub mode: OpcuaMode,
    /// For one answer.
    pub timeout: Duration,
    pub groups: Vec<OpcuaGroup>,
}

/// The standard's security policies, by their names there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum OpcuaSecurity {
    #[default]
    None,
    /// Signed and encrypted.
    Basic256Sha256,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpcuaMode {
    /// The server tells what has changed.
    #[default]
    Subscribe,
    /// It is asked for every value, each period.
    Poll,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpcuaGroup {
    /// How often the server looks at its device and tells what has changed, or is asked.
    pub period: Duration,
    pub tags: Vec<OpcuaTag>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OpcuaTag {
    pub settings: TagSettings,
    pub node: OpcuaNode,
}

/// A node's id as the standard writes it (part 6, 5.3.1.10), `ns=2;s=Press.Oil`; or with its namespace's URI, whose number
/// may change when the server is configured anew, `nsu=urn:maker:press;s=Press.Oil`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpcuaNode {
    pub namespace: OpcuaNamespace,
    /// `i=…`, `s=…`, `g=…` or `b=…`
    pub identifier: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpcuaNamespace {
    Index(u16),
    Uri(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    name: Spanned<String>,
    url: Spanned<String>,
    #[serde(default)]
    security: OpcuaSecurity,
    server_certificate: Option<Spanned<PathBuf>>,
    user: Option<String>,
    password: Option<Spanned<String>>,
    password_file: Option<PathBuf>,
    #[serde(default)]
    mode: OpcuaMode,
    timeout_seconds: Option<Spanned<f64>>,
    #[serde(default)]
    group: Vec<GroupOfFile<Tag>>,
}

tag_of_file! {
    struct Tag {
        name: Spanned<String>,
        node: Spanned<String>,
    }
}

const SCHEME: &str = "opc.tcp://";
const DEFAULT_PORT: u16 = 4840;
/// A server on a slow controller takes its time to open a session.
const TIMEOUT: Duration = Duration::from_secs(5);

impl File {
    pub fn check(self, checks: &mut Checks<'_>) -> OpcuaSource {
        let name = checks.source_name(&self.name);
        let url = with_port(self.url.as_ref().trim());
        if url.is_none() {
            checks.wrong(&self.url, format!("url: write {SCHEME}host:port, perhaps with a path"));
        }
        if let (OpcuaSecurity::None, Some(certificate)) = (self.security, &self.server_certificate) {
            let what = "server_certificate: nothing is checked without security = \"Basic256Sha256\"";
            checks.wrong(certificate, what.to_owned());
        }
        let login = Login::check(self.user, self.password, self.password_file, checks);
        let timeout = self.timeout_seconds.as_ref().map(|seconds| checks.period("timeout_seconds", seconds));
        let groups = self.group.into_iter().map(|group| {
            let period = checks.period("period_seconds", &group.period_seconds);
            OpcuaGroup { period, tags: group.tag.into_iter().map(|tag| tag.check(&name, checks)).collect() }
        });
        let groups: Vec<OpcuaGroup> = groups.collect();
        if groups.iter().all(|group| group.tags.is_empty()) {
            checks.wrong(&self.name, format!("`{name}` has no tags; add [[opcua.group]] and [[opcua.group.tag]]"));
        }
        OpcuaSource {
            name,
            url: url.unwrap_or_default(),
            security: self.security,
            server_certificate: self.server_certificate.map(Spanned::into_inner),
            login,
            mode: self.mode,
            timeout: timeout.unwrap_or(TIMEOUT),
            groups,
        }
    }
}

impl Tag {
    fn check(mut self, source: &str, checks: &mut Checks<'_>) -> OpcuaTag {
        let node = self.node.as_ref().parse().unwrap_or_else(|what| {
            checks.wrong(&self.node, format!("node: {what}"));
            OpcuaNode { namespace: OpcuaNamespace::Index(0), identifier: String::new() }
        });
        let common = self.common();
        OpcuaTag { settings: common.check(source, &self.name, checks), node }
    }
}

fn with_port(url: &str) -> Option<String> {
    let behind = url.strip_prefix(SCHEME)?;
    let (authority, path) = behind.find('/').map_or((behind, ""), |at| behind.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, DEFAULT_PORT),
    };
    (!host.is_empty()).then(|| format!("{SCHEME}{host}:{port}{path}"))
}

impl std::str::FromStr for OpcuaNode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is no node id; write it as in \"ns=2;s=Press.Oil\" or \"ns=2;i=1001\"");
        let (namespace, identifier) = match text.split_once(';') {
            Some((namespace, identifier)) if !is_identifier(text) => (namespace, identifier),
            _ => ("ns=0", text),
        };
        let namespace = match (namespace.strip_prefix("nsu="), namespace.strip_prefix("ns=")) {
            // As the standard escapes them.
            (Some(uri), _) if !uri.is_empty() => OpcuaNamespace::Uri(uri.replace("%3B", ";").replace("%25", "%")),
            (None, Some(index)) => OpcuaNamespace::Index(index.parse().map_err(|_| form())?),
            _ => return Err(form()),
        };
        if !is_identifier(identifier) {
            return Err(form());
        }
        Ok(Self { namespace, identifier: identifier.to_owned() })
    }
}

fn is_identifier(text: &str) -> bool {
    match text.split_at_checked(2) {
        Some(("i=", number)) => number.parse::<u32>().is_ok(),
        Some(("s=" | "g=" | "b=", rest)) => !rest.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_are_read_as_the_standard_writes_them() {
        let index = |index, identifier: &str| {
            Ok(OpcuaNode { namespace: OpcuaNamespace::Index(index), identifier: identifier.to_owned() })
        };
        assert_eq!("ns=2;s=Press.Oil".parse(), index(2, "s=Press.Oil"));
        assert_eq!("i=2258".parse(), index(0, "i=2258"));
        // A string may hold whatever it likes.
        assert_eq!("s=a;ns=3;b".parse(), index(0, "s=a;ns=3;b"));
        let node: OpcuaNode = "nsu=urn:maker%3Bpress;i=7".parse().unwrap();
        assert_eq!(node.namespace, OpcuaNamespace::Uri("urn:maker;press".to_owned()));
        for wrong in ["", "Press.Oil", "ns=2", "ns=x;i=1", "ns=2;i=x", "ns=2;s=", "ns=70000;i=1", "nsu=;i=1", "x=1;i=2"]
        {
            assert!(wrong.parse::<OpcuaNode>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_url_has_a_port() {
        let with = |url| with_port(url).unwrap_or_default();
        assert_eq!(with("opc.tcp://press"), "opc.tcp://press:4840");
        assert_eq!(with("opc.tcp://10.0.0.7:4841/a/b:c"), "opc.tcp://10.0.0.7:4841/a/b:c");
        assert_eq!(with("opc.tcp://[fd00::1]/a"), "opc.tcp://[fd00::1]:4840/a");
        assert_eq!([with("http://press"), with("opc.tcp://"), with("opc.tcp://press:x")], ["", "", ""]);
    }
}
