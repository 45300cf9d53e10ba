//! `[[opcua]]`: a server, and the nodes that are subscribed to or polled.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::checks::Checks;
use super::login::Login;
use super::table::Table;
use super::tag::{TagSettings, groups};
use crate::read_certificates;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OpcuaSecurity {
    #[default]
    None,
    /// Signed and encrypted.
    Basic256Sha256,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

const SCHEME: &str = "opc.tcp://";
const DEFAULT_PORT: u16 = 4840;
/// A server on a slow controller takes its time to open a session.
const TIMEOUT: Duration = Duration::from_secs(5);

impl OpcuaSource {
    pub(super) fn take<'t>(mut table: Table<'t>, checks: &mut Checks<'t>) -> Self {
        let name = table.required_text("name", checks);
        let name = checks.source_name(name);
        let written = table.required_text("url", checks);
        let url = written.as_ref().and_then(|url| with_port(url.as_ref().trim()));
        if let (Some(written), None) = (&written, &url) {
            let what = format!("url: write {SCHEME}host:port, perhaps with a path; a port is 1 to 65535");
            checks.wrong(written, what);
        }
        let policies = [("None", OpcuaSecurity::None), ("Basic256Sha256", OpcuaSecurity::Basic256Sha256)];
        let names_none = !table.has("security");
        let security = table.word("security", &policies, checks);
        let server_certificate = table.file("server_certificate", checks);
        checks.check_file("server_certificate", server_certificate.as_ref(), read_certificates);
        let is_unsecured = security.as_ref().map_or(names_none, |security| *security.as_ref() == OpcuaSecurity::None);
        if let Some(certificate) = server_certificate.as_ref().filter(|_| is_unsecured) {
            let what = "server_certificate: nothing is checked without security = \"Basic256Sha256\"";
            checks.wrong(certificate, what.to_owned());
        }
        let login = Login::take(&mut table, checks);
        let modes = [("subscribe", OpcuaMode::Subscribe), ("poll", OpcuaMode::Poll)];
        let mode = table.word("mode", &modes, checks);
        let timeout = table.period("timeout_seconds", checks);
        let kinds = ["[[opcua.group]]", "[[opcua.group.tag]]"];
        let groups = groups(&mut table, kinds, checks, |tag, checks| OpcuaTag::take(tag, &name, checks));
        table.end(checks);
        Self {
            name,
            url: url.unwrap_or_default(),
            security: security.map(Spanned::into_inner).unwrap_or_default(),
            server_certificate: server_certificate.map(Spanned::into_inner),
            login,
            mode: mode.map(Spanned::into_inner).unwrap_or_default(),
            timeout: timeout.unwrap_or(TIMEOUT),
            groups: groups.into_iter().map(|(period, tags)| OpcuaGroup { period, tags }).collect(),
        }
    }
}

impl OpcuaTag {
    fn take<'t>(mut table: Table<'t>, source: &str, checks: &mut Checks<'t>) -> Self {
        let name = table.required_text("name", checks);
        let written = table.required_text("node", checks);
        let node = written.as_ref().map(|written| (written, written.as_ref().parse()));
        if let Some((written, Err(what))) = &node {
            checks.wrong(written, format!("node: {what}"));
        }
        let none = OpcuaNode { namespace: OpcuaNamespace::Index(0), identifier: String::new() };
        let node = node.and_then(|(_, node)| node.ok()).unwrap_or(none);
        let settings = TagSettings::take(&mut table, source, name.as_ref(), checks);
        table.end(checks);
        Self { settings, node }
    }
}

fn with_port(url: &str) -> Option<String> {
    let behind = url.strip_prefix(SCHEME)?;
    let (authority, path) = behind.find('/').map_or((behind, ""), |at| behind.split_at(at));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok().filter(|port| *port > 0)?),
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
