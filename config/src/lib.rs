//! What a person may set, and where everything lies.
//!
//! Every mistake in a file is named with file and line, all of them at once; nothing unknown is passed over.

mod certificates;
mod credentials;
mod mistake;
mod root;
mod settings;
mod sources;

pub use certificates::read_certificates;
pub use credentials::Credentials;
pub use mistake::{Mistake, Mistakes};
pub use root::InstallRoot;
pub use settings::{AuthForms, Language, LogFormat, LogLevel, Settings, Unbound};
pub use sources::{
    ByteOrder, Deadband, Login, MOST_REGISTERS, ModbusGroup, ModbusKind, ModbusSource, ModbusTable, ModbusTag,
    MqttKind, MqttSource, MqttTag, OpcuaGroup, OpcuaMode, OpcuaNamespace, OpcuaNode, OpcuaSecurity, OpcuaSource,
    OpcuaTag, SimulatorSource, Source, Sources, TagSettings,
};

/// `config/config.txt` as `watchdog init` lays it out: every key with its default, commented.
pub const DEFAULT_CONFIG: &str = include_str!("../config.txt");
/// `config/sources.toml` as `watchdog init` lays it out: an example of each kind, all commented out.
pub const DEFAULT_SOURCES: &str = include_str!("../sources.toml");
