//! From what a device gave to what is kept: scale, limits, deadband, heartbeat. The same for every kind of device.

use std::sync::Arc;

use config::{Deadband, TagSettings};
use protocol::Timestamp;
use readings::{Quality, Reading};
use tokio::time::Instant;

/// A value as a device gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub time: Timestamp,
    pub value: Option<f64>,
    pub text: Option<String>,
    pub quality: Quality,
}

impl Sample {
    pub fn of_value(time: Timestamp, value: f64) -> Self {
        Self { time, value: Some(value), text: None, quality: Quality::GOOD }
    }

    pub fn of_text(time: Timestamp, text: String) -> Self {
        Self { time, value: None, text: Some(text), quality: Quality::GOOD }
    }

    /// No value, where one was asked for.
    pub fn bad(time: Timestamp) -> Self {
        Self { time, value: None, text: None, quality: Quality::BAD }
    }
}

/// A tag, and what was last kept of it.
pub struct Tag {
    name: Arc<str>,
    unit: Option<Arc<str>>,
    settings: TagSettings,
    kept: Option<Kept>,
    /// Kept or not; for those that have a heartbeat.
    latest: Option<Reading>,
}

struct Kept {
    at: Instant,
    value: Option<f64>,
    text: Option<String>,
    quality: Quality,
}

impl Tag {
    pub fn new(settings: &TagSettings) -> Self {
        let unit = settings.unit.as_deref().map(Arc::from);
        Self { name: settings.name.as_str().into(), unit, settings: settings.clone(), kept: None, latest: None }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// As a reading, whether or not it is kept.
    pub fn reading(&self, sample: Sample) -> Reading {
        let Sample { time, value, text, mut quality } = sample;
        let scaled = value.map(|raw| raw * self.settings.scale + self.settings.offset);
        let value = scaled.filter(|value| value.is_finite());
        let least = self.settings.clamp_min.unwrap_or(f64::NEG_INFINITY);
        let most = self.settings.clamp_max.unwrap_or(f64::INFINITY);
        if value.is_some_and(|value| value < least || value > most) && quality == Quality::GOOD {
            quality = Quality::UNCERTAIN;
        }
        // What is no number is no good one.
        if scaled.is_some() && value.is_none() {
            quality = Quality::BAD;
        }
        let value = value.map(|value| value.max(least).min(most));
        Reading { time, tag: self.name.clone(), value, unit: self.unit.clone(), quality, text }.normalised()
    }

    /// The reading, if it is to be kept; `now` is of the monotonic clock.
    pub fn keep(&mut self, sample: Sample, now: Instant) -> Option<Reading> {
        let reading = self.reading(sample);
        if self.settings.heartbeat.is_some() {
            self.latest = Some(reading.clone());
        }
        if self.kept.as_ref().is_some_and(|kept| self.is_dull(kept, &reading, now)) {
            return None;
        }
        let Reading { value, quality, .. } = reading;
        self.kept = Some(Kept { at: now, value, text: reading.text.clone(), quality });
        Some(reading)
    }

    /// The latest again, as of `time`, if its heartbeat is due: of a device that tells changes only.
    pub fn beat(&mut self, time: Timestamp, now: Instant) -> Option<Reading> {
        let (heartbeat, kept) = (self.settings.heartbeat?, self.kept.as_mut()?);
        if now.duration_since(kept.at) < heartbeat {
            return None;
        }
        let reading = Reading { time, ..self.latest.clone()? };
        *kept = Kept { at: now, value: reading.value, text: reading.text.clone(), quality: reading.quality };
        Some(reading)
    }

    /// Whether it says nothing that the last one kept has not said.
    fn is_dull(&self, kept: &Kept, reading: &Reading, now: Instant) -> bool {
        if kept.quality != reading.quality || kept.text != reading.text {
            return false;
        }
        if self.settings.heartbeat.is_some_and(|heartbeat| now.duration_since(kept.at) >= heartbeat) {
            return false;
        }
        match (kept.value, reading.value) {
            (Some(before), Some(value)) => {
                let width = match self.settings.deadband {
                    None => return false,
                    Some(Deadband::Absolute(width)) => width,
                    Some(Deadband::Percent(percent)) => before.abs() * percent / 100.0,
                };
                (value - before).abs() <= width
            }
            // A device that still does not answer, or a text that is still the same where a deadband is set.
            (None, None) => reading.text.is_none() || self.settings.deadband.is_some(),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn settings() -> TagSettings {
        TagSettings { name: "press.oil".to_owned(), unit: Some("C".to_owned()), ..TagSettings::default() }
    }

    fn value(value: f64) -> Sample {
        Sample::of_value(Timestamp::EPOCH, value)
    }

    /// Which of these values are kept, one a second.
    fn kept(settings: &TagSettings, samples: &[Sample]) -> Vec<usize> {
        let (mut tag, start) = (Tag::new(settings), Instant::now());
        let seconds = samples.iter().cloned().enumerate();
        seconds
            .filter_map(|(at, sample)| tag.keep(sample, start + Duration::from_secs(at as u64)).map(|_| at))
            .collect()
    }

    #[test]
    fn raw_values_are_scaled_and_held_within_their_limits() {
        let tag = Tag::new(&TagSettings { scale: 0.1, offset: -40.0, clamp_max: Some(60.0), ..settings() });
        let reading = |raw| tag.reading(value(raw));
        assert_eq!((reading(400.0).value, reading(400.0).quality), (Some(0.0), Quality::GOOD));
        assert_eq!((reading(2000.0).value, reading(2000.0).quality), (Some(60.0), Quality::UNCERTAIN));
        assert_eq!((reading(f64::NAN).value, reading(f64::NAN).quality), (None, Quality::BAD));
        assert_eq!(tag.reading(Sample::bad(Timestamp::EPOCH)).quality, Quality::BAD);
    }

    #[test]
    fn within_the_deadband_nothing_is_kept_but_the_heartbeat() {
        let samples: Vec<Sample> = [10.0, 10.4, 10.5, 10.51, 10.0, 10.0, 10.1, 9.0].map(value).to_vec();
        assert_eq!(kept(&settings(), &samples), [0, 1, 2, 3, 4, 5, 6, 7]);
        let narrow = TagSettings { deadband: Some(Deadband::Absolute(0.5)), ..settings() };
        assert_eq!(kept(&narrow, &samples), [0, 3, 4, 7], "10.5 is not beyond it; measured from what was kept");
        let percent = TagSettings { deadband: Some(Deadband::Percent(5.0)), ..settings() };
        assert_eq!(kept(&percent, &samples), [0, 3, 7]);
        let beating = TagSettings { heartbeat: Some(Duration::from_secs(2)), ..narrow };
        assert_eq!(kept(&beating, &samples), [0, 2, 4, 6, 7]);
    }

    #[test]
    fn what_is_not_told_again_is_kept_again_with_each_heartbeat() {
        let beating = TagSettings {
            deadband: Some(Deadband::Absolute(1.0)),
            heartbeat: Some(Duration::from_secs(10)),
            ..settings()
        };
        let (mut tag, start) = (Tag::new(&beating), Instant::now());
        let beat = |tag: &mut Tag, seconds: i64| {
            let time = Timestamp::from_micros(seconds * 1_000_000).unwrap();
            tag.beat(time, start + Duration::from_secs(seconds as u64)).map(|reading| (reading.time, reading.value))
        };
        assert_eq!(beat(&mut tag, 60), None, "nothing is known yet");
        assert!(tag.keep(value(5.0), start + Duration::from_secs(60)).is_some());
        assert!(tag.keep(value(5.5), start + Duration::from_secs(65)).is_none());
        assert_eq!(beat(&mut tag, 69), None);
        assert_eq!(beat(&mut tag, 70), Some((Timestamp::from_micros(70_000_000).unwrap(), Some(5.5))));
        assert_eq!(beat(&mut tag, 79), None);
        assert!(tag.keep(value(6.0), start + Duration::from_secs(79)).is_none(), "measured from what was kept");
        assert!(beat(&mut tag, 80).is_some());
    }

    #[test]
    fn a_change_of_quality_or_text_is_kept_and_silence_is_told_once() {
        let bad = || Sample::bad(Timestamp::EPOCH);
        let samples = [value(1.0), bad(), bad(), bad(), value(1.0), value(1.0)];
        let wide = TagSettings { deadband: Some(Deadband::Absolute(9.0)), ..settings() };
        assert_eq!(kept(&wide, &samples), [0, 1, 4]);
        assert_eq!(kept(&settings(), &samples), [0, 1, 4, 5]);
        let text = |text: &str| Sample::of_text(Timestamp::EPOCH, text.to_owned());
        assert_eq!(kept(&wide, &[text("run"), text("run"), text("stop"), bad()]), [0, 2, 3]);
        assert_eq!(kept(&settings(), &[text("run"), text("run")]), [0, 1]);
    }
}
