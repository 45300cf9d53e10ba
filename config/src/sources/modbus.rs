//! `[[modbus]]`: a device that speaks Modbus TCP.

use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::checks::Checks;
use super::tag::{Common, GroupOfFile, TagSettings, tag_of_file};

#[derive(Clone, Debug, PartialEq)]
pub struct ModbusSource {
    pub name: String,
    /// `host:port`
    pub address: String,
    /// For one answer.
    pub timeout: Duration,
    /// Registers that nobody asked for and that are read along, rather than asking twice.
    pub most_between: u16,
    pub groups: Vec<ModbusGroup>,
}

/// Tags that are polled together.
#[derive(Clone, Debug, PartialEq)]
pub struct ModbusGroup {
    pub period: Duration,
    pub tags: Vec<ModbusTag>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ModbusTag {
    pub settings: TagSettings,
    pub unit_id: u8,
    pub table: ModbusTable,
    /// Counted from zero, as on the wire.
    pub address: u16,
    pub kind: ModbusKind,
    pub byte_order: ByteOrder,
}

/// Which of a device's four tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModbusTable {
    /// Function code 1.
    Coil,
    /// Function code 2.
    Discrete,
    /// Function code 4.
    Input,
    /// Function code 3.
    Holding,
}

/// What registers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModbusKind {
    /// A coil or discrete input, or one bit of a register, 0 being the lowest.
    Bool {
        bit: u8,
    },
    Int16,
    UInt16,
    Int32,
    UInt32,
    Int64,
    UInt64,
    Float32,
    Float64,
    /// Two characters in a register, up to the first zero.
    Text {
        registers: u16,
    },
}

/// The order in which the bytes of a value lie on the wire, `A` being the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum ByteOrder {
    /// As the standard has it.
    #[default]
    #[serde(rename = "ABCD")]
    Big,
    /// The lowest register first.
    #[serde(rename = "CDAB")]
    WordsSwapped,
    /// The lowest byte of each register first.
    #[serde(rename = "BADC")]
    BytesSwapped,
    #[serde(rename = "DCBA")]
    Little,
}

impl ModbusKind {
    /// Registers, or coils, that it takes.
    pub fn width(self) -> u16 {
        match self {
            Self::Bool { .. } | Self::Int16 | Self::UInt16 => 1,
            Self::Int32 | Self::UInt32 | Self::Float32 => 2,
            Self::Int64 | Self::UInt64 | Self::Float64 => 4,
            Self::Text { registers } => registers,
        }
    }
}

impl ModbusTable {
    pub fn is_of_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
}

/// What one request may ask for.
pub const MOST_REGISTERS: u16 = 125;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    name: Spanned<String>,
    address: Spanned<String>,
    unit_id: Option<Spanned<i64>>,
    timeout_seconds: Option<Spanned<f64>>,
    most_between: Option<Spanned<i64>>,
    byte_order: Option<ByteOrder>,
    #[serde(default)]
    group: Vec<GroupOfFile<Tag>>,
}

tag_of_file! {
    struct Tag {
        name: Spanned<String>,
        table: Option<ModbusTable>,
        address: Spanned<i64>,
        #[serde(rename = "type")]
        kind: Option<Spanned<String>>,
        bit: Option<Spanned<i64>>,
        length: Option<Spanned<i64>>,
        byte_order: Option<ByteOrder>,
        unit_id: Option<Spanned<i64>>,
    }
}

const DEFAULT_PORT: u16 = 502;
const KINDS: &str = "bool, int16, uint16, int32, uint32, int64, uint64, float32, float64 or text";

impl File {
    pub fn check(self, checks: &mut Checks<'_>) -> ModbusSource {
        let name = checks.source_name(&self.name);
        let address = self.address.as_ref().trim();
        let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let address = if has_port { address.to_owned() } else { format!("{address}:{DEFAULT_PORT}") };
        if self.address.as_ref().trim().is_empty() || self.address.as_ref().contains("://") {
            checks.wrong(&self.address, "address: write host or host:port".to_owned());
        }
        let unit_id = self.unit_id.as_ref().and_then(|id| checks.whole("unit_id", id, 0..=255)).unwrap_or(1);
        let timeout = self.timeout_seconds.as_ref().map(|seconds| checks.period("timeout_seconds", seconds));
        let most_between =
            self.most_between.as_ref().and_then(|number| checks.whole("most_between", number, 0..=124)).unwrap_or(8);
        let order = self.byte_order.unwrap_or_default();
        let groups = self.group.into_iter().map(|group| {
            let period = checks.period("period_seconds", &group.period_seconds);
            let tags = group.tag.into_iter().map(|tag| tag.check(&name, unit_id, order, checks)).collect();
            ModbusGroup { period, tags }
        });
        let groups: Vec<ModbusGroup> = groups.collect();
        if groups.iter().all(|group| group.tags.is_empty()) {
            checks.wrong(&self.name, format!("`{name}` has no tags; add [[modbus.group]] and [[modbus.group.tag]]"));
        }
        ModbusSource { name, address, timeout: timeout.unwrap_or(Duration::from_secs(1)), most_between, groups }
    }
}

impl Tag {
    fn check(mut self, source: &str, unit_id: u8, order: ByteOrder, checks: &mut Checks<'_>) -> ModbusTag {
        let table = self.table.unwrap_or(ModbusTable::Holding);
        let kind = self.kind(table, checks);
        let address: u16 = checks.whole("address", &self.address, 0..=65_535).unwrap_or(0);
        if u32::from(address) + u32::from(kind.width()) > 65_536 {
            checks.wrong(&self.address, format!("address: {address} leaves no room for {} registers", kind.width()));
        }
        let unit_id = self.unit_id.as_ref().and_then(|id| checks.whole("unit_id", id, 0..=255)).unwrap_or(unit_id);
        let settings = self.common().check(source, &self.name, checks);
        ModbusTag { settings, unit_id, table, address, kind, byte_order: self.byte_order.unwrap_or(order) }
    }

    fn kind(&self, table: ModbusTable, checks: &mut Checks<'_>) -> ModbusKind {
        let word = match &self.kind {
            Some(kind) => kind.as_ref().as_str(),
            None if table.is_of_bits() => "bool",
            None => "uint16",
        };
        let mut of_kind = |value: &Option<Spanned<i64>>, key: &str, of: &str, most: i64| {
            let value = value.as_ref()?;
            if word != of {
                checks.wrong(value, format!("{key}: only a {of} has one"));
            }
            checks.whole::<u16>(key, value, (if key == "bit" { 0 } else { 1 })..=most)
        };
        let bit = of_kind(&self.bit, "bit", "bool", 15);
        let length = of_kind(&self.length, "length", "text", i64::from(MOST_REGISTERS) * 2);
        let kind = match word {
            "bool" => ModbusKind::Bool { bit: u8::try_from(bit.unwrap_or(0)).unwrap_or(0) },
            "int16" => ModbusKind::Int16,
            "uint16" => ModbusKind::UInt16,
            "int32" => ModbusKind::Int32,
            "uint32" => ModbusKind::UInt32,
            "int64" => ModbusKind::Int64,
            "uint64" => ModbusKind::UInt64,
            "float32" => ModbusKind::Float32,
            "float64" => ModbusKind::Float64,
            "text" => ModbusKind::Text { registers: length.unwrap_or(2).div_ceil(2) },
            strange => {
                if let Some(kind) = &self.kind {
                    checks.wrong(kind, format!("type: `{strange}` is none; known are {KINDS}"));
                }
                ModbusKind::UInt16
            }
        };
        match (&self.kind, &self.length) {
            (Some(at), _) if table.is_of_bits() && !matches!(kind, ModbusKind::Bool { .. }) => {
                checks.wrong(at, format!("type: a coil or discrete input is a bool, not {word}"));
            }
            (Some(at), None) if word == "text" => {
                checks.wrong(at, "type: a text needs its length in characters".to_owned());
            }
            _ => {}
        }
        kind
    }
}
