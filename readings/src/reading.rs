use std::sync::Arc;

use protocol::Timestamp;

/// The OPC quality byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality(pub u8);

impl Quality {
    pub const GOOD: Self = Self(192);
    pub const UNCERTAIN: Self = Self(64);
    pub const BAD: Self = Self(0);

    /// The two highest bits say it.
    pub fn is_bad(self) -> bool {
        self.0 < Self::UNCERTAIN.0
    }
}

/// One value of one tag at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub time: Timestamp,
    pub tag: Arc<str>,
    /// Always finite: what is no number is `None`.
    pub value: Option<f64>,
    pub unit: Option<Arc<str>>,
    pub quality: Quality,
    /// Of text tags.
    pub text: Option<String>,
}

impl Reading {
    /// A reading that every store keeps as it is: NaN and infinities become no value, -0 becomes 0 (SQLite knows no
    /// other), an empty unit becomes none, and U+0000, which PostgreSQL cannot store, becomes U+FFFD.
    pub fn normalised(mut self) -> Self {
        self.value = self.value.filter(|value| value.is_finite()).map(|value| value + 0.0);
        self.unit = self.unit.filter(|unit| !unit.is_empty()).map(without_nul);
        self.tag = without_nul(self.tag);
        self.text = self.text.map(|text| if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text });
        self
    }
}

fn without_nul(text: Arc<str>) -> Arc<str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text }
}
