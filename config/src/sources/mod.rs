mod checks;
mod login;
mod modbus;
mod mqtt;
mod opcua;
mod table;
mod tag;

use std::path::Path;
use std::time::Duration;

use toml::Spanned;

use crate::InstallRoot;
use crate::mistake::{self, Mistakes};
use checks::{Checks, Readable};
use table::Table;

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

const MOST_TAGS: i64 = 100_000;

impl Sources {
    /// # Errors
    /// All [`Mistakes`] at once.
    pub fn read(path: &Path) -> Result<Self, Mistakes> {
        Self::parse(mistake::read(path)?, &path.display().to_string(), None)
    }

    /// As `read`, and looks into the files that it names as well: passwords and certificates, which a source that is
    /// running reads itself, each time anew.
    ///
    /// # Errors
    /// All [`Mistakes`] at once.
    pub fn check(root: &InstallRoot) -> Result<Self, Mistakes> {
        let path = root.sources_file();
        Self::parse(mistake::read(&path)?, &path.display().to_string(), Some(root))
    }

    fn parse(text: impl Into<String>, file: &str, root: Option<&InstallRoot>) -> Result<Self, Mistakes> {
        let readable = Readable::of(text.into());
        let mut checks = Checks::new(&readable, file, root);
        let mut document = Table::document(&checks);
        let mut sources = Vec::new();
        for table in document.tables("simulator", "[[simulator]]", &mut checks) {
            sources.push(Source::Simulator(SimulatorSource::take(table, &mut checks)));
        }
        for table in document.tables("modbus", "[[modbus]]", &mut checks) {
            sources.push(Source::Modbus(ModbusSource::take(table, &mut checks)));
        }
        for table in document.tables("mqtt", "[[mqtt]]", &mut checks) {
            sources.push(Source::Mqtt(MqttSource::take(table, &mut checks)));
        }
        for table in document.tables("opcua", "[[opcua]]", &mut checks) {
            sources.push(Source::Opcua(OpcuaSource::take(table, &mut checks)));
        }
        document.end(&mut checks);
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

impl SimulatorSource {
    fn take<'t>(mut table: Table<'t>, checks: &mut Checks<'t>) -> Self {
        let name = table.required_text("name", checks);
        let tags = table.required_whole::<u32>("tags", 1..=MOST_TAGS, checks);
        let period = table.period("period_seconds", checks);
        table.end(checks);
        Self {
            name: checks.source_name(name),
            tags: tags.map_or(1, Spanned::into_inner) as usize,
            period: period.unwrap_or(Duration::from_secs(1)),
        }
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
        let sources = Sources::parse("[[simulator]]\nname = \"line1\"\ntags = 50\n", "sources.toml", None).unwrap();
        let line = SimulatorSource { name: "line1".into(), tags: 50, period: Duration::from_secs(1) };
        assert_eq!(sources.0, [Source::Simulator(line)]);
        assert!(Sources::parse(crate::DEFAULT_SOURCES, "sources.toml", None).unwrap().0.is_empty());
        let examples = crate::DEFAULT_SOURCES.lines().filter_map(|line| line.strip_prefix("# "));
        let examples: Vec<&str> = examples.filter(|line| line.starts_with('[') || line.contains(" = ")).collect();
        let sources = Sources::parse(examples.join("\n"), "sources.toml", None).unwrap();
        assert_eq!(counted(&sources), [("line1", 50), ("press", 3), ("cell", 2), ("mill", 2)]);
    }

    #[test]
    fn mistakes_are_named_with_their_lines() {
        let text = "[[simulator]]\nname = \"a b\"\ntags = 0\n\n[[simulator]]\nname = \"x\"\ntags = 1\nperiod_seconds = 0.0\n\n[[simulator]]\nname = \"x\"\ntags = 1\n";
        let mistakes = Sources::parse(text, "sources.toml", None).unwrap_err();
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line).collect();
        assert_eq!(lines, [Some(2), Some(3), Some(8), Some(11)]);
        for (text, line) in [
            ("[[simulator]\n", 1),
            ("\n[[simulator]]\nname = \"x\"\ntags = 1\ncolour = 1\n", 5),
            ("\n\n[[profibus]]\n", 3),
        ] {
            assert_eq!(Sources::parse(text, "sources.toml", None).unwrap_err().0[0].line, Some(line), "{text}");
        }
    }

    #[test]
    fn mistakes_of_form_do_not_hide_those_behind_them() {
        let text = "[[simulator]]\nname = \"x\"\ntags = 1\ncolour = 1\nsize = 2\n\n[[simulator]]\nname = \"x\"\ntags = 0\n\n\
            [[mqtt]]\nname = \"cell\"\nhost = 5\n";
        let mistakes = Sources::parse(text, "sources.toml", None).unwrap_err();
        let lines: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line.unwrap()).collect();
        assert_eq!(lines, [4, 5, 8, 9, 11, 13], "{mistakes:?}");
    }

    #[test]
    fn every_mistake_of_a_file_is_named_at_once_in_words_of_its_own() {
        let text = "[modbus]\nname = 5\naddress = \"press:70000\"\nunit_id = \"3\"\ncolour = \"red\"\n\n\
            [[modbus.group]]\n[[modbus.group.tag]]\nname = \"x\"\naddress = 1.5\ntype = \"Int16\"\nscale = \"0.1\"\n\n\
            [[mqtt]]\nname = \"cell\"\nhost broker\nport = 0\ntls = 1\nca_file = \"config/none.pem\"\nuser = \"u\"\n\
            password_file = \"config/none\"\n[[mqtt.tag]]\ntopic = \"a/#/b\"\ndeadband = \"wide\"\n\n\
            [[opcua]]\nname = \"mill\"\nurl = \"opc.tcp://mill:0\"\nsecurity = \"basic\"\n\
            server_certificate = \"config/mill.der\"\n";
        let folder = tempfile::tempdir().unwrap();
        let root = InstallRoot::new(folder.path());
        let mistakes = Sources::parse(text, "sources.toml", Some(&root)).unwrap_err();
        let said: Vec<String> = mistakes.0.iter().map(ToString::to_string).collect();
        let expected = [
            (1, "modbus: write it as [[modbus]] in double brackets"),
            (2, "name: write a text in quotes, not 5"),
            (3, "address: write host or host:port; a port is 1 to 65535"),
            (4, "unit_id: write a whole number from 0 to 255, not the text \"3\""),
            (5, "`colour` is no key of [[modbus]]; it has `name`, `address`, "),
            (7, "period_seconds is missing; [[modbus.group]] needs it"),
            (10, "address: write a whole number from 0 to 65535, not 1.5"),
            (11, "type: write \"bool\", \"int16\", "),
            (12, "scale: write a number, not the text \"0.1\""),
            (16, "this is no TOML: "),
            (17, "port: write a whole number from 1 to 65535, not 0"),
            (18, "tls: write true or false, not 1"),
            (19, "ca_file: "),
            (21, "password_file: "),
            (23, "topic: `#` stands alone"),
            (24, "deadband: write a width such as 0.5"),
            (26, "there are no tags; add [[opcua.group]] and [[opcua.group.tag]]"),
            (28, "url: write opc.tcp://host:port"),
            (29, "security: write \"None\" or \"Basic256Sha256\", not the text \"basic\""),
            (30, "server_certificate: "),
        ];
        for (said, (line, begin)) in said.iter().zip(expected) {
            assert!(said.starts_with(&format!("sources.toml:{line}: {begin}")), "{said}\n{begin}");
        }
        assert_eq!(said.len(), expected.len(), "{said:#?}");
    }

    #[test]
    fn a_line_that_is_no_toml_hides_nothing_and_brings_nothing_forth() {
        for (text, lines) in [
            ("[[simulator]]\nname = \"x\ntags = 1\nsize = 2\n", vec![2, 4]),
            ("[[simulator]]\nname = \"x\"\ntags =\nsize = 2\n", vec![3, 4]),
            ("[[simulator]\nname = \"x\"\ntags = 1\n[[simulator]]\nname = \"y\"\ntags = 0\n", vec![1, 6]),
            ("[[simulator]]\nname = \"x\"\nname = \"y\"\ntags = 1\n", vec![3]),
            ("ünsinn\n[[simulator]]\nname = \"ü\"\ntags = \"ü\"\n", vec![1, 4]),
        ] {
            let mistakes = Sources::parse(text, "sources.toml", None).unwrap_err();
            let found: Vec<_> = mistakes.0.iter().map(|mistake| mistake.line.unwrap()).collect();
            assert_eq!(found, lines, "{text}\n{mistakes:#?}");
        }
    }

    const MODBUS: &str = "[[modbus]]\nname = \"press\"\naddress = \"10.0.0.5\"\nunit_id = 3\n\n\
        [[modbus.group]]\nperiod_seconds = 0.5\n\n[[modbus.group.tag]]\nname = \"oil.temp_c\"\naddress = 100\n\
        type = \"int16\"\nscale = 0.1\nunit = \"C\"\ndeadband = \"1 %\"\nheartbeat_seconds = 60\n";

    #[test]
    fn a_modbus_device_is_read() {
        let sources = Sources::parse(MODBUS, "sources.toml", None).unwrap();
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
            let mistakes = Sources::parse(MODBUS.replace(right, wrong), "sources.toml", None).unwrap_err();
            assert_eq!(mistakes.0[0].line, Some(line), "{wrong}: {mistakes}");
        }
        let twice = MODBUS.to_owned() + &MODBUS[MODBUS.find("[[modbus.group.tag]]").unwrap()..];
        assert_eq!(Sources::parse(twice, "sources.toml", None).unwrap_err().0[0].line, Some(18));
    }

    #[test]
    fn an_opc_ua_server_is_read_and_its_mistakes_are_named_with_their_lines() {
        let text = "[[opcua]]\nname = \"mill\"\nurl = \"opc.tcp://mill\"\nsecurity = \"Basic256Sha256\"\n\
            server_certificate = \"config/mill.der\"\nuser = \"u\"\npassword = \"p\"\n\n\
            [[opcua.group]]\nperiod_seconds = 0.5\n\n[[opcua.group.tag]]\nname = \"speed\"\nnode = \"ns=2;s=Speed\"\n";
        let sources = Sources::parse(text, "sources.toml", None).unwrap();
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
            let mistakes = Sources::parse(text.replace(right, wrong), "sources.toml", None).unwrap_err();
            assert_eq!(mistakes.0[0].line, Some(line), "{wrong}: {mistakes}");
        }
    }

    #[test]
    fn a_broker_is_read_and_its_mistakes_are_named_with_their_lines() {
        let text = "[[mqtt]]\nname = \"cell\"\nhost = \"broker\"\ntls = true\nuser = \"u\"\npassword = \"p\"\n\n\
            [[mqtt.tag]]\ntopic = \"plant/+/oil/#\"\njson = \"/value\"\njson_time = \"/at\"\n";
        let sources = Sources::parse(text, "sources.toml", None).unwrap();
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
            let mistakes = Sources::parse(text.replace(right, wrong), "sources.toml", None).unwrap_err();
            assert_eq!(mistakes.0[0].line, Some(line), "{wrong}: {mistakes}");
        }
    }
}
