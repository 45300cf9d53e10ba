//! `[[mqtt]]`: a broker, and the topics that are listened to.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::checks::Checks;
use super::login::Login;
use super::tag::{Common, TagSettings, tag_of_file};

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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    name: Spanned<String>,
    host: Spanned<String>,
    port: Option<Spanned<i64>>,
    #[serde(default)]
    tls: bool,
    ca_file: Option<PathBuf>,
    user: Option<String>,
    password: Option<Spanned<String>>,
    password_file: Option<PathBuf>,
    client_id: Option<Spanned<String>>,
    #[serde(default)]
    tag: Vec<Tag>,
}

tag_of_file! {
    struct Tag {
        topic: Spanned<String>,
        name: Option<Spanned<String>>,
        #[serde(rename = "type", default)]
        kind: MqttKind,
        json: Option<Spanned<String>>,
        json_time: Option<Spanned<String>>,
    }
}

const PORT: u16 = 1883;
const TLS_PORT: u16 = 8883;
const LONGEST_TOPIC: usize = 1024;

impl File {
    pub fn check(self, checks: &mut Checks<'_>) -> MqttSource {
        let name = checks.source_name(&self.name);
        if self.host.as_ref().trim().is_empty() || self.host.as_ref().contains([':', '/']) {
            checks.wrong(&self.host, "host: write a name or an address, and the port as `port`".to_owned());
        }
        let default = if self.tls { TLS_PORT } else { PORT };
        let port = self.port.as_ref().and_then(|port| checks.whole("port", port, 1..=65_535)).unwrap_or(default);
        let login = Login::check(self.user, self.password, self.password_file, checks);
        let client_id = match &self.client_id {
            Some(id) if id.as_ref().trim().is_empty() => {
                checks.wrong(id, "client_id: it is empty".to_owned());
                String::new()
            }
            Some(id) => id.as_ref().clone(),
            None => format!("plantlink-{name}"),
        };
        let tags: Vec<MqttTag> = self.tag.into_iter().map(|tag| tag.check(&name, checks)).collect();
        if tags.is_empty() {
            checks.wrong(&self.name, format!("`{name}` has no tags; add [[mqtt.tag]]"));
        }
        MqttSource {
            name,
            host: self.host.into_inner(),
            port,
            tls: self.tls || self.ca_file.is_some(),
            ca_file: self.ca_file,
            login,
            client_id,
            tags,
        }
    }
}

impl Tag {
    fn check(mut self, source: &str, checks: &mut Checks<'_>) -> MqttTag {
        let common = self.common();
        let topic = self.topic.as_ref().clone();
        if let Err(what) = check_topic(&topic) {
            checks.wrong(&self.topic, format!("topic: {what}"));
        }
        for path in [&self.json, &self.json_time].into_iter().flatten() {
            if !path.as_ref().is_empty() && !path.as_ref().starts_with('/') {
                checks.wrong(path, "write where it stands, such as \"/oil/temperature\" or \"/values/0\"".to_owned());
            }
        }
        if let (Some(time), None) = (&self.json_time, &self.json) {
            checks.wrong(
                time,
                "json_time: only a JSON payload has one; say where the value stands with `json`".to_owned(),
            );
        }
        let number = wildcards(&topic);
        let span = self.topic.span();
        let name = self.name.unwrap_or_else(|| Spanned::new(span, name_of(&topic)));
        for at in 1..=number {
            if !name.as_ref().contains(&format!("{{{at}}}")) {
                checks.wrong(&name, format!("name: it has to hold {{{at}}}, or two topics would be one tag"));
            }
        }
        let settings = common.check(source, &name, checks);
        let path = |path: Option<Spanned<String>>| path.map(Spanned::into_inner);
        MqttTag { topic, settings, kind: self.kind, json: path(self.json), json_time: path(self.json_time) }
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
