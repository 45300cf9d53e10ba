//! What every tag has, whatever its device.

use std::time::Duration;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::checks::Checks;

/// How a raw value becomes a reading, and which readings are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct TagSettings {
    /// With the source's name in front.
    pub name: String,
    pub unit: Option<String>,
    /// `value = raw × scale + offset`.
    pub scale: f64,
    pub offset: f64,
    /// A value beyond these becomes the limit, of uncertain quality.
    pub clamp_min: Option<f64>,
    pub clamp_max: Option<f64>,
    /// How far a value has to move to be kept; `None`: every one is.
    pub deadband: Option<Deadband>,
    /// Within the deadband, one is kept so often all the same.
    pub heartbeat: Option<Duration>,
}

impl Default for TagSettings {
    /// Every value as it is.
    fn default() -> Self {
        Self {
            name: String::new(),
            unit: None,
            scale: 1.0,
            offset: 0.0,
            clamp_min: None,
            clamp_max: None,
            deadband: None,
            heartbeat: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deadband {
    /// In the tag's unit.
    Absolute(f64),
    /// Of the last value that was kept.
    Percent(f64),
}

/// A tag of the file, with the keys that are its device's own and those that are the same for all. A macro, as `serde`
/// knows no unknown keys to deny beside flattened ones.
macro_rules! tag_of_file {
    (struct $name:ident { $($(#[$attribute:meta])* $key:ident: $value:ty,)* }) => {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct $name {
            $($(#[$attribute])* $key: $value,)*
            unit: Option<String>,
            scale: Option<Spanned<f64>>,
            offset: Option<Spanned<f64>>,
            clamp_min: Option<Spanned<f64>>,
            clamp_max: Option<Spanned<f64>>,
            deadband: Option<Spanned<toml::Value>>,
            heartbeat_seconds: Option<Spanned<f64>>,
        }

        impl $name {
            /// Takes them out.
            fn common(&mut self) -> Common {
                Common {
                    unit: self.unit.take(),
                    scale: self.scale.take(),
                    offset: self.offset.take(),
                    clamp_min: self.clamp_min.take(),
                    clamp_max: self.clamp_max.take(),
                    deadband: self.deadband.take(),
                    heartbeat_seconds: self.heartbeat_seconds.take(),
                }
            }
        }
    };
}
pub(super) use tag_of_file;

/// Tags that are read together, whatever their device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupOfFile<T> {
    pub period_seconds: Spanned<f64>,
    #[serde(default = "Vec::new")]
    pub tag: Vec<T>,
}

/// The keys of a tag in the file that are the same for all devices.
pub(super) struct Common {
    pub unit: Option<String>,
    pub scale: Option<Spanned<f64>>,
    pub offset: Option<Spanned<f64>>,
    pub clamp_min: Option<Spanned<f64>>,
    pub clamp_max: Option<Spanned<f64>>,
    pub deadband: Option<Spanned<Value>>,
    pub heartbeat_seconds: Option<Spanned<f64>>,
}

impl Common {
    pub fn check(self, source: &str, name: &Spanned<String>, checks: &mut Checks<'_>) -> TagSettings {
        let name = checks.tag_name(source, name);
        let mut finite = |key: &str, value: Option<&Spanned<f64>>| {
            let value = value?;
            if !value.as_ref().is_finite() {
                checks.wrong(value, format!("{key}: {} is no number", value.as_ref()));
            }
            Some(*value.as_ref())
        };
        let scale = finite("scale", self.scale.as_ref()).unwrap_or(1.0);
        let offset = finite("offset", self.offset.as_ref()).unwrap_or(0.0);
        let clamp_min = finite("clamp_min", self.clamp_min.as_ref());
        let clamp_max = finite("clamp_max", self.clamp_max.as_ref());
        if let (Some(scale), 0.0) = (&self.scale, scale) {
            checks.wrong(scale, "scale: with 0 every value is the same".to_owned());
        }
        if let (Some(least), Some(most), Some(at)) = (clamp_min, clamp_max, &self.clamp_max)
            && least > most
        {
            checks.wrong(at, format!("clamp_max: {most} is below clamp_min, {least}"));
        }
        let deadband = self.deadband.as_ref().and_then(|deadband| check_deadband(deadband, checks));
        let heartbeat = self.heartbeat_seconds.as_ref().map(|seconds| checks.period("heartbeat_seconds", seconds));
        let unit = self.unit.filter(|unit| !unit.is_empty());
        TagSettings { name, unit, scale, offset, clamp_min, clamp_max, deadband, heartbeat }
    }
}

/// `0.5`, or `"1 %"`.
fn check_deadband(value: &Spanned<Value>, checks: &mut Checks<'_>) -> Option<Deadband> {
    let deadband = match value.as_ref() {
        Value::Integer(number) => Some(Deadband::Absolute(*number as f64)),
        Value::Float(number) => Some(Deadband::Absolute(*number)),
        Value::String(text) => {
            text.trim().strip_suffix('%').and_then(|number| number.trim().parse().ok()).map(Deadband::Percent)
        }
        _ => None,
    };
    let good = deadband.filter(|deadband| match deadband {
        Deadband::Absolute(width) => width.is_finite() && *width >= 0.0,
        Deadband::Percent(width) => (0.0..=100.0).contains(width),
    });
    if good.is_none() {
        checks.wrong(value, "deadband: write a width such as 0.5, or a share of the value such as \"1 %\"".to_owned());
    }
    good
}
