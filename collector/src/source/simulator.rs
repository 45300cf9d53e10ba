//! A line of machines that exists in memory only. Its values wander as real ones do: slowly, within limits, with
//! the resolution of a sensor.

use std::time::Duration;

use config::{SimulatorSource, TagSettings};
use protocol::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};
use readings::Quality;

use super::{Device, Gathered, Outcome};
use crate::tag::Sample;

pub struct Simulator {
    name: String,
    period: Duration,
    tags: Vec<Tag>,
    random: SmallRng,
}

struct Tag {
    settings: TagSettings,
    kind: &'static Kind,
    value: f64,
}

/// What a station measures.
struct Kind {
    word: &'static str,
    unit: Option<&'static str>,
    low: f64,
    high: f64,
    /// Steps of the sensor; values are whole multiples.
    resolution: f64,
}

const KINDS: [Kind; 5] = [
    Kind { word: "temperature", unit: Some("°C"), low: 18.0, high: 92.0, resolution: 0.1 },
    Kind { word: "pressure", unit: Some("bar"), low: 0.0, high: 6.0, resolution: 0.01 },
    Kind { word: "speed", unit: Some("rpm"), low: 0.0, high: 1500.0, resolution: 1.0 },
    Kind { word: "power", unit: Some("kW"), low: 0.0, high: 45.0, resolution: 0.05 },
    Kind { word: "state", unit: None, low: 0.0, high: 3.0, resolution: 1.0 },
];
/// A `state` also says its value in words.
const STATES: [&str; 4] = ["stopped", "idle", "running", "fault"];

impl Simulator {
    /// The same source always begins with the same values.
    pub fn new(source: &SimulatorSource) -> Self {
        let seed = source.name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(byte.into()));
        let mut random = SmallRng::seed_from_u64(seed);
        let tags = (0..source.tags).map(|at| {
            let kind = &KINDS[at % KINDS.len()];
            let name = format!("{}.station{:02}.{}", source.name, at / KINDS.len() + 1, kind.word);
            let settings = TagSettings { name, unit: kind.unit.map(str::to_owned), ..TagSettings::default() };
            Tag { settings, kind, value: random.gen_range(kind.low..kind.high) }
        });
        let tags = tags.collect();
        Self { name: source.name.clone(), period: source.period, tags, random }
    }
}

impl Device for Simulator {
    fn name(&self) -> &str {
        &self.name
    }

    fn groups(&self) -> Vec<(Duration, Vec<&TagSettings>)> {
        vec![(self.period, self.tags.iter().map(|tag| &tag.settings).collect())]
    }

    /// Every tag, all of one time.
    async fn gather(&mut self, _: usize) -> Result<Gathered, String> {
        let time = Timestamp::now();
        let Self { tags, random, .. } = self;
        let outcome = |(tag, it): (usize, &mut Tag)| Outcome { tag, sample: it.read(time, random), error: None };
        Ok(tags.iter_mut().enumerate().map(outcome).collect())
    }
}

impl Tag {
    fn read(&mut self, time: Timestamp, random: &mut SmallRng) -> Sample {
        let Kind { low, high, resolution, .. } = *self.kind;
        let step = (high - low) * 0.01;
        self.value = (self.value + random.gen_range(-step..step)).clamp(low, high);
        // Whole steps, and no digits that only binary arithmetic brought in.
        let steps = (self.value / resolution).round();
        let value = (steps * resolution * 1000.0).round() / 1000.0;
        let text = (self.kind.word == "state").then(|| STATES[(value as usize).min(STATES.len() - 1)].to_owned());
        Sample { time, value: Some(value), text, quality: Quality::GOOD }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gather_has_each_tag_once_within_its_limits() {
        let source = SimulatorSource { name: "line1".into(), tags: 50, period: Duration::from_secs(1) };
        let mut simulator = Simulator::new(&source);
        for _ in 0..100 {
            let gathered = simulator.gather(0).await.unwrap();
            assert_eq!(gathered.iter().map(|outcome| outcome.tag).collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
            for (Outcome { sample, .. }, kind) in gathered.iter().zip(KINDS.iter().cycle()) {
                assert!((kind.low..=kind.high).contains(&sample.value.unwrap()), "{sample:?}");
                assert_eq!(sample.text.is_some(), kind.word == "state");
            }
        }
    }
}
