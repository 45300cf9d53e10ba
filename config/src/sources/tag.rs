//! What every tag has, whatever its device.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::checks::Checks;
use super::table::{Table, number};

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

impl TagSettings {
    /// Of the keys that are the same for all devices.
    pub(super) fn take<'t>(
        table: &mut Table<'t>,
        source: &str,
        name: Option<&Spanned<String>>,
        checks: &mut Checks<'t>,
    ) -> Self {
        let name = name.map_or_else(String::new, |name| checks.tag_name(source, name));
        let unit = table.text("unit", checks).map(Spanned::into_inner).filter(|unit| !unit.is_empty());
        let scale = table.number("scale", checks);
        let offset = table.number("offset", checks);
        let clamp_min = table.number("clamp_min", checks).map(Spanned::into_inner);
        let clamp_max = table.number("clamp_max", checks);
        if let Some(scale) = scale.as_ref().filter(|scale| *scale.as_ref() == 0.0) {
            checks.wrong(scale, "scale: with 0 every value is the same".to_owned());
        }
        if let (Some(least), Some(most)) = (clamp_min, &clamp_max)
            && least > *most.as_ref()
        {
            checks.wrong(most, format!("clamp_max: {} is below clamp_min, {least}", most.as_ref()));
        }
        let form = "a width such as 0.5, or a share of the value such as \"1 %\"";
        Self {
            name,
            unit,
            scale: scale.map_or(1.0, Spanned::into_inner),
            offset: offset.map_or(0.0, Spanned::into_inner),
            clamp_min,
            clamp_max: clamp_max.map(Spanned::into_inner),
            deadband: table.value("deadband", form, checks, |value| deadband(&value)).map(Spanned::into_inner),
            heartbeat: table.period("heartbeat_seconds", checks),
        }
    }
}

/// `[[modbus.group]]` and the like: tags that are read together, whatever their device.
pub(super) fn groups<'t, T>(
    source: &mut Table<'t>,
    [group, tag]: [&'static str; 2],
    checks: &mut Checks<'t>,
    mut read: impl FnMut(Table<'t>, &mut Checks<'t>) -> T,
) -> Vec<(Duration, Vec<T>)> {
    let mut groups = Vec::new();
    let mut tags = 0;
    for mut table in source.tables("group", group, checks) {
        let period = table.required_period("period_seconds", checks).unwrap_or_default();
        let read: Vec<T> = table.tables("tag", tag, checks).into_iter().map(|table| read(table, checks)).collect();
        table.end(checks);
        tags += read.len();
        groups.push((period, read));
    }
    if tags == 0 {
        checks.wrong(&source.header(), format!("there are no tags; add {group} and {tag}"));
    }
    groups
}

/// `0.5`, or `"1 %"`.
fn deadband(value: &DeValue<'_>) -> Option<Deadband> {
    let deadband = match value {
        DeValue::String(text) => {
            let percent = text.trim().strip_suffix('%')?;
            Deadband::Percent(percent.trim().parse().ok()?)
        }
        value => Deadband::Absolute(number(value)?),
    };
    let is_good = match deadband {
        Deadband::Absolute(width) => width.is_finite() && width >= 0.0,
        Deadband::Percent(width) => (0.0..=100.0).contains(&width),
    };
    is_good.then_some(deadband)
}
