mod checks;
mod login;
mod modbus;
mod mqtt;
mod opcua;
mod tag;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use crate::mistake::{self, Mistakes};
use checks::Checks;

pub use login::Login;
pub use modbus::{ByteOrder, MOST_REGISTERS, ModbusGroup, ModbusKind, ModbusSource, ModbusTable, ModbusTag};
pub use mqtt::{MqttKind, MqttSource, MqttTag};
pub use opcua::{OpcuaGroup, OpcuaMode, OpcuaNamespace, OpcuaNode, OpcuaSecurity, OpcuaSource, OpcuaTag};
pub use tag::{Deadband, TagSettings};

/// `config/sources.toml`: what is read, and how often.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sources(pub Vec<Source>);

/// One device, server or broker, by how it is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Simulator(SimulatorSource),
    Modbus(ModbusSource),
    Mqtt(MqttSource),
    Opcua(OpcuaSource),
}

/// A line of machines that exists in memory only.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatorSource {
    pub name: String,
    pub tags: usize,
    pub period: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    simulator: Vec<Simulator>,
    #[serde(default)]
    modbus: Vec<modbus::File>,
    #[serde(default)]
    mqtt: Vec<mqtt::File>,
    #[serde(default)]
    opcua: Vec<opcua::File>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Simulator {
    name: Spanned<String>,
    tags: Spanned<i64>,
    period_seconds: Option<Spanned<f64>>,
}

const MOST_TAGS: i64 = 100_000;

impl Sources {
    /// # Errors
    /// All [`Mistakes`] at once, as far as TOML can be read on from them.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        Self::parse(&mistake::read(path)?, &path.display().to_string())
    }

    fn parse(text: &str, file: &str) -> Result<Self, Mistakes> {
        let mut checks = Checks::new(text, file);
        let Some(parsed) = checks.read::<File>() else { return Err(checks.mistakes()) };
        let mut sources = Vec::new();
        sources.extend(parsed.simulator.into_iter().map(|source| Source::Simulator(source.check(&mut checks))));
        sources.extend(parsed.modbus.into_iter().map(|source| Source::Modbus(source.check(&mut checks))));
        sources.extend(parsed.mqtt.into_iter().map(|source| Source::Mqtt(source.check(&mut checks))));
        sources.extend(parsed.opcua.into_iter().map(|source| Source::Opcua(source.check(&mut checks))));
        let mistakes = checks.mistakes();
        if mistakes.0.is_empty() { Ok(Self(sources)) } else { Err(mistakes) }
    }
}

impl Source {
    pub fn name(&self) -> &str {
        match self {
            Self::Simulator(source) => &source.name,
            Self::Modbus(source) => &source.name,
            Self::Mqtt(source) => &source.name,
            Self::Opcua(source) => &source.name,
        }
    }

    /// How many tags it has.
    pub fn tags(&self) -> usize {
        match self {
            Self::Simulator(source) => source.tags,
            Self::Modbus(source) => source.groups.iter().map(|group| group.tags.len()).sum(),
            Self::Mqtt(source) => source.tags.len(),
            Self::Opcua(source) => source.groups.iter().map(|group| group.tags.len()).sum(),
        }
    }
}

impl Simulator {
    fn check(self, checks: &mut Checks<'_>) -> SimulatorSource {
        let name = checks.source_name(&self.name);
        let tags = checks.whole("tags", &self.tags, 1..=MOST_TAGS).unwrap_or(1_u32) as usize;
        let period = self.period_seconds.map(|seconds| checks.period("period_seconds", &seconds));
        SimulatorSource { name, tags, period: period.unwrap_or(Duration::from_secs(1)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(sources: &Sources) -> Vec<(&str, usize)> {
        sources.0.iter().map(|source| (source.name(), source.tags())).collect()
    }

    #[test]
    fn a_simulated_line_is_read() {
        let sources = Sources::parse("[[simulator]]\nname = \"line1\"\ntags = 50\n", "sources.toml").unwrap();
        let line = SimulatorSource { name: "line1".into(), tags: 50, period: Duration::from_secs(1) };
        assert_eq!(sources.0, [Source::Simulator(line)]);
        assert!(Sources::parse(crate::DEFAULT_SOURCES, "sources.toml").unwrap().0.is_empty());
        let examples = crate::DEFAULT_SOURCES.lines().filter_map(|line| line.strip_prefix("# "));
        let examples: Vec<&str> = examples.filter(|line| line.starts_with('[') || line.contains(" = ")).collect();
        let sources = Sources::parse(&examples.join("\n"), "sources.toml").unwrap();
        assert_eq!(counted(&sources), [("line1", 50), ("press", 3), ("cell", 2), ("mill", 2)]);
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        let text = "[[simulator]]\nname = \"a b\"\ntags = 0\n\n[[simulator]]\nname = \"x\"\ntags = 1\nperiod_seconds = 0.0\n\n[[simulator]]\nname = \"x\"\ntags = 1\n";
        let mistakes = Sources::parse(text, "sources.toml").unwrap_err();
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [Some(2), Some(3), Some(8), Some(11)]);
        for (text, line) in [
            ("[[simulator]\n", 1),
            ("\n[[simulator]]\nname = \"x\"\ntags = 1\ncolour = 1\n", 5),
            ("\n\n[[profibus]]\n", 3),
        ] {
            assert_eq!(Sources::parse(text, "sources.toml").unwrap_err().0[0].line, Some(line), "{text}");
        }
    }

    #[test]
    fn mistakes_of_form_do_not_hide_those_behind_them() {
        let text = "[[simulator]]\nname = \"x\"\ntags = 1\ncolour = 1\nsize = 2\n\n[[simulator]]\nname = \"x\"\ntags = 0\n\n\
            [[mqtt]]\nname = \"cell\"\nhost = 5\n";
        let mistakes = Sources::parse(text, "sources.toml").unwrap_err();
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line.unwrap()).collect();
        assert_eq!(lines, [4, 5, 8, 9, 13], "{mistakes:?}");
        let text = text.replace("host = 5", "host = \"broker\"");
        let mistakes = Sources::parse(&text, "sources.toml").unwrap_err();
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line.unwrap()).collect();
        assert_eq!(lines, [4, 5, 8, 9, 12], "{mistakes:?}");
    }

    const MODBUS: &str = "[[modbus]]\nname = \"press\"\naddress = \"10.0.0.5\"\nunit_id = 3\n\n\
        [[modbus.group]]\nperiod_seconds = 0.5\n\n[[modbus.group.tag]]\nname = \"oil.temp_c\"\naddress = 100\n\
        type = \"int16\"\nscale = 0.1\nunit = \"C\"\ndeadband = \"1 %\"\nheartbeat_seconds = 60\n";

    #[test]
    fn a_modbus_device_is_read() {
        let sources = Sources::parse(MODBUS, "sources.toml").unwrap();
        let [Source::Modbus(source)] = sources.0.as_slice() else { panic!("{sources:?}") };
        assert_eq!((source.address.as_str(), source.timeout), ("10.0.0.5:502", Duration::from_secs(1)));
        let tag = &source.groups[0].tags[0];
        assert_eq!((tag.settings.name.as_str(), tag.unit_id, tag.address), ("press.oil.temp_c", 3, 100));
        assert_eq!((tag.kind, tag.table, tag.byte_order), (ModbusKind::Int16, ModbusTable::Holding, ByteOrder::Big));
        assert_eq!(tag.settings.deadband, Some(Deadband::Percent(1.0)));
        assert_eq!(counted(&sources), [("press", 1)]);
    }

    #[test]
    fn a_tags_mistakes_are_named_with_their_lines() {
        let wrong = [
            ("address = 100", "address = 70000", 11),
            ("type = \"int16\"", "type = \"int17\"", 12),
            ("scale = 0.1", "scale = 0.0", 13),
            ("\"1 %\"", "\"a little\"", 15),
            ("heartbeat_seconds = 60", "heartbeat_seconds = -1.0", 16),
            ("heartbeat_seconds = 60", "clamp_min = 2\nclamp_max = 1", 17),
            ("heartbeat_seconds = 60", "bit = 3", 16),
            ("heartbeat_seconds = 60", "table = \"coil\"", 12),
            ("type = \"int16\"", "type = \"text\"", 12),
            ("name = \"oil.temp_c\"", "name = \" \"", 10),
            ("unit_id = 3", "unit_id = 256", 4),
            ("period_seconds = 0.5", "period_seconds = 0", 7),
        ];
        for (right, wrong, line) in wrong {
            let mistakes = Sources::parse(&MODBUS.replace(right, wrong), "sources.toml").unwrap_err();
            assert_eq!(mistakes.0[0].line, Some(line), "{wrong}: {mistakes}");
        }
        let twice = MODBUS.to_owned() + &MODBUS[MODBUS.find("[[modbus.group.tag]]").unwrap()..];
        assert_eq!(Sources::parse(&twice, "sources.toml").unwrap_err().0[0].line, Some(18));
    }

    #[test]
    fn an_opc_ua_server_is_read_and_its_mistakes_are_named_with_their_lines() {
        let text = "[[opcua]]\nname = \"mill\"\nurl = \"opc.tcp://mill\"\nsecurity = \"Basic256Sha256\"\n\
            server_certificate = \"config/mill.der\"\nuser = \"u\"\npassword = \"p\"\n\n\
            [[opcua.group]]\nperiod_seconds = 0.5\n\n[[opcua.group.tag]]\nname = \"speed\"\nnode = \"ns=2;s=Speed\"\n";
        let sources = Sources::parse(text, "sources.toml").unwrap();
        let [Source::Opcua(source)] = sources.0.as_slice() else { panic!("{sources:?}") };
        assert_eq!((source.url.as_str(), source.mode), ("opc.tcp://mill:4840", OpcuaMode::Subscribe));
        assert_eq!(source.groups[0].tags[0].settings.name, "mill.speed");
        assert!(!format!("{source:?}").contains("\"p\""), "a password is never logged");
        let wrong = [
            ("opc.tcp://mill", "http://mill", 3),
            ("Basic256Sha256", "Basic128", 4),
            ("security = \"Basic256Sha256\"", "", 5),
            ("user = \"u\"\n", "", 6),
            ("period_seconds = 0.5", "period_seconds = 0", 10),
            ("ns=2;s=Speed", "Speed", 14),
            ("name = \"speed\"", "name = \"speed\"\ncolour = 1", 14),
        ];
        for (right, wrong, line) in wrong {
            let mistakes = Sources::parse(&text.replace(right, wrong), "sources.toml").unwrap_err();
            assert_eq!(mistakes.0[0].line, Some(line), "{wrong}: {mistakes}");
        }
    }

    #[test]
    fn a_broker_is_read_and_its_mistakes_are_named_with_their_lines() {
        let text = "[[mqtt]]\nname = \"cell\"\nhost = \"broker\"\ntls = true\nuser = \"u\"\npassword = \"p\"\n\n\
            [[mqtt.tag]]\ntopic = \"plant/+/oil/#\"\njson = \"/value\"\njson_time = \"/at\"\n";
        let sources = Sources::parse(text, "sources.toml").unwrap();
        let [Source::Mqtt(source)] = sources.0.as_slice() else { panic!("{sources:?}") };
        assert_eq!((source.port, source.client_id.as_str()), (8883, "plantlink-cell"));
        assert_eq!((source.tags[0].settings.name.as_str(), source.tags[0].wildcards()), ("cell.plant.{1}.oil.{2}", 2));
        let wrong = [
            ("host = \"broker\"", "host = \"tcp://broker\"", 3),
            ("user = \"u\"\n", "", 5),
            ("plant/+/oil/#", "plant/#/oil", 9),
            ("plant/+/oil/#", "plant/a+", 9),
            ("json = \"/value\"", "json = \"value\"", 10),
            ("json = \"/value\"", "json = \"/value\"\nname = \"oil.{1}\"", 11),
            ("json = \"/value\"\n", "", 10),
        ];
        for (right, wrong, line) in wrong {
            let mistakes = Sources::parse(&text.replace(right, wrong), "sources.toml").unwrap_err();
            assert_eq!(mistakes.0[0].line, Some(line), "{wrong}: {mistakes}");
        }
    }
}
