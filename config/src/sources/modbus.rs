//! `[[modbus]]`: a device that speaks Modbus TCP.

use std::time::Duration;

use toml::Spanned;

use super::checks::Checks;
use super::table::Table;
use super::tag::{TagSettings, groups};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ByteOrder {
    /// As the standard has it.
    #[default]
    Big,
    /// The lowest register first.
    WordsSwapped,
    /// The lowest byte of each register first.
    BytesSwapped,
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

const DEFAULT_PORT: u16 = 502;
const ORDERS: [(&str, ByteOrder); 4] = [
    ("ABCD", ByteOrder::Big),
    ("CDAB", ByteOrder::WordsSwapped),
    ("BADC", ByteOrder::BytesSwapped),
    ("DCBA", ByteOrder::Little),
];
const TABLES: [(&str, ModbusTable); 4] = [
    ("coil", ModbusTable::Coil),
    ("discrete", ModbusTable::Discrete),
    ("input", ModbusTable::Input),
    ("holding", ModbusTable::Holding),
];
/// Without the bit or length that a tag's other keys give.
const KINDS: [(&str, ModbusKind); 10] = [
    ("bool", ModbusKind::Bool { bit: 0 }),
    ("int16", ModbusKind::Int16),
    ("uint16", ModbusKind::UInt16),
    ("int32", ModbusKind::Int32),
    ("uint32", ModbusKind::UInt32),
    ("int64", ModbusKind::Int64),
    ("uint64", ModbusKind::UInt64),
    ("float32", ModbusKind::Float32),
    ("float64", ModbusKind::Float64),
    ("text", ModbusKind::Text { registers: 1 }),
];

impl ModbusSource {
    pub(super) fn take<'t>(mut table: Table<'t>, checks: &mut Checks<'t>) -> Self {
        let name = table.required_text("name", checks);
        let name = checks.source_name(name);
        let written = table.required_text("address", checks);
        let address = written.as_ref().and_then(|address| with_port(address.as_ref().trim()));
        if let (Some(written), None) = (&written, &address) {
            checks.wrong(written, "address: write host or host:port; a port is 1 to 65535".to_owned());
        }
        let unit_id = unit_id(&mut table, checks).unwrap_or(1);
        let timeout = table.period("timeout_seconds", checks);
        let most_between = table.whole("most_between", 0..=124, checks);
        let order = table.word("byte_order", &ORDERS, checks).map(Spanned::into_inner).unwrap_or_default();
        let kinds = ["[[modbus.group]]", "[[modbus.group.tag]]"];
        let groups =
            groups(&mut table, kinds, checks, |tag, checks| ModbusTag::take(tag, &name, unit_id, order, checks));
        table.end(checks);
        Self {
            name,
            address: address.unwrap_or_default(),
            timeout: timeout.unwrap_or(Duration::from_secs(1)),
            most_between: most_between.map_or(8, Spanned::into_inner),
            groups: groups.into_iter().map(|(period, tags)| ModbusGroup { period, tags }).collect(),
        }
    }
}

fn unit_id<'t>(table: &mut Table<'t>, checks: &mut Checks<'t>) -> Option<u8> {
    table.whole("unit_id", 0..=255, checks).map(Spanned::into_inner)
}

/// `host`, `host:port`, `[address]` or `[address]:port`.
fn with_port(address: &str) -> Option<String> {
    if address.is_empty() || address.contains('/') || address.contains(char::is_whitespace) {
        return None;
    }
    match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && !host.is_empty() => {
            let is_one_address = !host.contains(':') || host.starts_with('[') && host.ends_with(']');
            let port: u16 = port.parse().ok().filter(|port| *port > 0 && is_one_address)?;
            Some(format!("{host}:{port}"))
        }
        Some(("", _)) => None,
        _ => Some(format!("{address}:{DEFAULT_PORT}")),
    }
}

impl ModbusTag {
    fn take<'t>(
        mut table: Table<'t>,
        source: &str,
        unit_id_of_source: u8,
        order: ByteOrder,
        checks: &mut Checks<'t>,
    ) -> Self {
        let name = table.required_text("name", checks);
        let of = table.word("table", &TABLES, checks).map_or(ModbusTable::Holding, Spanned::into_inner);
        let kind = ModbusKind::take(&mut table, of, checks);
        let address = table.required_whole("address", 0..=65_535, checks);
        let width = kind.width();
        if let Some(address) =
            address.as_ref().filter(|address| u32::from(*address.as_ref()) + u32::from(width) > 65_536)
        {
            checks.wrong(address, format!("address: {} leaves no room for {width} registers", address.as_ref()));
        }
        let unit_id = unit_id(&mut table, checks).unwrap_or(unit_id_of_source);
        let byte_order = table.word("byte_order", &ORDERS, checks).map_or(order, Spanned::into_inner);
        let settings = TagSettings::take(&mut table, source, name.as_ref(), checks);
        table.end(checks);
        let address = address.map_or(0, Spanned::into_inner);
        Self { settings, unit_id, table: of, address, kind, byte_order }
    }
}

impl ModbusKind {
    /// Of the keys `type`, `bit` and `length`.
    fn take<'t>(table: &mut Table<'t>, of: ModbusTable, checks: &mut Checks<'t>) -> Self {
        let written = table.word("type", &KINDS, checks);
        let bit = table.whole::<u8>("bit", 0..=15, checks);
        let length = table.whole::<u16>("length", 1..=i64::from(MOST_REGISTERS) * 2, checks);
        let kind = match &written {
            Some(written) => *written.as_ref(),
            None if of.is_of_bits() => Self::Bool { bit: 0 },
            None => Self::UInt16,
        };
        if let Some(bit) = bit.as_ref().filter(|_| !matches!(kind, Self::Bool { .. })) {
            checks.wrong(bit, "bit: only a bool has one; write type = \"bool\"".to_owned());
        }
        if let Some(length) = length.as_ref().filter(|_| !matches!(kind, Self::Text { .. })) {
            checks.wrong(length, "length: only a text has one; write type = \"text\"".to_owned());
        }
        if let Some(written) = written.as_ref().filter(|_| of.is_of_bits() && !matches!(kind, Self::Bool { .. })) {
            checks.wrong(written, "type: a coil or discrete input is a bool".to_owned());
        }
        match (kind, written) {
            (Self::Bool { .. }, _) => Self::Bool { bit: bit.map_or(0, Spanned::into_inner) },
            (Self::Text { .. }, Some(written)) => {
                if length.is_none() {
                    checks.wrong(&written, "type: a text needs its length in characters, `length`".to_owned());
                }
                Self::Text { registers: length.map_or(1, |length| length.into_inner().div_ceil(2)) }
            }
            (kind, _) => kind,
        }
    }
}
