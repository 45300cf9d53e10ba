//! `[[mqtt]]`: a broker, and the topics that are listened to.

use std::path::PathBuf;

use toml::Spanned;

use super::checks::Checks;
use super::login::Login;
use super::table::Table;
use super::tag::TagSettings;
use crate::read_certificates;

#[derive(Clone, Debug, PartialEq)]
pub struct MqttSource {
    pub name: String,
    pub host: String,
    pub port: u16,
    /// Encrypted; without `ca_file` by the authorities that the system trusts.
    pub tls: bool,
    /// Who has signed the broker's certificate, relative to the root.
    pub ca_file: Option<PathBuf>,
    pub login: Option<Login>,
    /// By which the broker knows this plant, and keeps for it what comes while it is away.
    pub client_id: String,
    pub tags: Vec<MqttTag>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MqttTag {
    /// May have wildcards, `+` and at the end `#`.
    pub topic: String,
    /// Of its name, `{1}`, `{2}` … stand for what the wildcards stood for.
    pub settings: TagSettings,
    pub kind: MqttKind,
    /// In a JSON payload, where the value stands: `/oil/temperature`.
    pub json: Option<String>,
    /// And where its time stands: RFC 3339, or seconds or milliseconds since 1970.
    pub json_time: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MqttKind {
    #[default]
    Number,
    /// `true`, `on`, `1` and the like.
    Bool,
    Text,
}

impl MqttTag {
    /// How many wildcards its topic has.
    pub fn wildcards(&self) -> usize {
        wildcards(&self.topic)
    }
}

fn wildcards(topic: &str) -> usize {
    topic.split('/').filter(|level| matches!(*level, "+" | "#")).count()
}

const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;
const LONGEST_TOPIC: usize = 1024;

impl MqttSource {
    pub(super) fn take<'t>(mut table: Table<'t>, checks: &mut Checks<'t>) -> Self {
        let name = table.required_text("name", checks);
        let name = checks.source_name(name);
        let host = table.required_text("host", checks);
        if let Some(host) = host.as_ref().filter(|host| {
            let text = host.as_ref().trim();
            text.is_empty() || text.contains([':', '/']) && text.parse::<std::net::Ipv6Addr>().is_err()
        }) {
            checks.wrong(host, "host: write a name or an address, and the port as `port`".to_owned());
        }
        let ca_file = table.file("ca_file", checks);
        checks.check_file("ca_file", ca_file.as_ref(), read_certificates);
        let tls = table.flag("tls", checks).unwrap_or(false) || ca_file.is_some();
        let port = table.whole("port", 1..=65_535, checks);
        let login = Login::take(&mut table, checks);
        let client_id = table.text("client_id", checks);
        if let Some(id) = client_id.as_ref().filter(|id| id.as_ref().trim().is_empty()) {
            checks.wrong(id, "client_id: it is empty".to_owned());
        }
        let tags = table.tables("tag", "[[mqtt.tag]]", checks);
        if tags.is_empty() {
            checks.wrong(&table.header(), "there are no tags; add [[mqtt.tag]]".to_owned());
        }
        let tags = tags.into_iter().map(|tag| MqttTag::take(tag, &name, checks)).collect();
        table.end(checks);
        Self {
            host: host.map(Spanned::into_inner).unwrap_or_default().trim().to_owned(),
            port: port.map_or(if tls { TLS_PORT } else { PORT }, Spanned::into_inner),
            tls,
            ca_file: ca_file.map(Spanned::into_inner),
            login,
            client_id: client_id.map_or_else(|| format!("plantlink-{name}"), Spanned::into_inner),
            tags,
            name,
        }
    }
}

impl MqttTag {
    fn take<'t>(mut table: Table<'t>, source: &str, checks: &mut Checks<'t>) -> Self {
        let topic = table.required_text("topic", checks);
        if let Some((topic, what)) = topic.as_ref().and_then(|topic| Some((topic, check_topic(topic.as_ref()).err()?)))
        {
            checks.wrong(topic, format!("topic: {what}"));
        }
        let json = table.text("json", checks);
        let json_time = table.text("json_time", checks);
        for (key, path) in [("json", &json), ("json_time", &json_time)] {
            let Some(path) = path else { continue };
            if !path.as_ref().is_empty() && !path.as_ref().starts_with('/') {
                let what = "write where it stands, such as \"/oil/temperature\" or \"/values/0\"";
                checks.wrong(path, format!("{key}: {what}"));
            }
        }
        if let (Some(time), None) = (&json_time, &json) {
            let what = "json_time: only a JSON payload has one; say where the value stands with `json`";
            checks.wrong(time, what.to_owned());
        }
        let name = table.text("name", checks).or_else(|| {
            let topic = topic.as_ref()?;
            Some(Spanned::new(topic.span(), name_of(topic.as_ref())))
        });
        let number = topic.as_ref().map_or(0, |topic| wildcards(topic.as_ref()));
        for (name, at) in name.iter().flat_map(|name| (1..=number).map(move |at| (name, at))) {
            if !name.as_ref().contains(&format!("{{{at}}}")) {
                checks.wrong(name, format!("name: it has to hold {{{at}}}, or two topics would be one tag"));
            }
        }
        let kinds = [("number", MqttKind::Number), ("bool", MqttKind::Bool), ("text", MqttKind::Text)];
        let kind = table.word("type", &kinds, checks);
        let settings = TagSettings::take(&mut table, source, name.as_ref(), checks);
        table.end(checks);
        Self {
            topic: topic.map(Spanned::into_inner).unwrap_or_default(),
            settings,
            kind: kind.map(Spanned::into_inner).unwrap_or_default(),
            json: json.map(Spanned::into_inner),
            json_time: json_time.map(Spanned::into_inner),
        }
    }
}

/// As a name: with dots, and places for the wildcards.
fn name_of(topic: &str) -> String {
    let mut number = 0;
    let levels = topic.split('/').filter(|level| !level.is_empty()).map(|level| match level {
        "+" | "#" => {
            number += 1;
            format!("{{{number}}}")
        }
        level => level.to_owned(),
    });
    levels.collect::<Vec<_>>().join(".")
}

/// The rules of MQTT 3.1.1, 4.7.
fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.len() > LONGEST_TOPIC || topic.contains('\0') {
        return Err(format!("it has to have 1 to {LONGEST_TOPIC} bytes"));
    }
    let levels: Vec<&str> = topic.split('/').collect();
    for (at, level) in levels.iter().enumerate() {
        if level.contains('#') && (*level != "#" || at + 1 < levels.len()) {
            return Err("`#` stands alone, and at the end".to_owned());
        }
        if level.contains('+') && *level != "+" {
            return Err("`+` stands for a whole level".to_owned());
        }
    }
    Ok(())
}
