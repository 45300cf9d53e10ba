//! What is the same in every line of a tag, made ready once.

use std::collections::HashMap;

/// The constant parts of a tag's lines.
pub struct Tag {
    id: i64,
    name: Box<str>,
    unit: Option<Box<str>>,
    /// From behind the time up to the value.
    pub before_value: Box<[u8]>,
    /// From behind the value up to the quality.
    pub before_quality: Box<[u8]>,
    pub alike: Alike,
}

/// Numbers that are equal for tags of which a part is equal.
#[derive(Clone, Copy)]
pub struct Alike {
    /// The name up to its last part, which often says where the signal is taken,
    pub beginning: usize,
    /// the last part of the name, which often says what it is,
    pub ending: usize,
    pub unit: usize,
}

/// Texts, numbered as they come.
type Numbers = HashMap<Box<[u8]>, usize>;

/// Tags by where their identifier leads to.
///
/// An identifier only says where to look: what is there is compared, so that whatever a database holds, a line says what
/// its row said.
pub struct Tags {
    /// For each of the lowest bits of an identifier, one more than the place in `tags`; 0 if there is none.
    places: Box<[u16; Self::PLACES]>,
    tags: Vec<Tag>,
    beginnings: Numbers,
    endings: Numbers,
    units: Numbers,
    text_bytes: usize,
}

impl Default for Tags {
    fn default() -> Self {
        Self {
            places: Box::new([0; Self::PLACES]),
            tags: Vec::new(),
            beginnings: Numbers::new(),
            endings: Numbers::new(),
            units: Numbers::new(),
            text_bytes: 0,
        }
    }
}

impl Tags {
    /// Stores number their tags from one on. More than these make each other's places change hands, which is slow only.
    const PLACES: usize = 1 << 13;
    /// Beyond that all are forgotten, as if each row had its own.
    const TEXT_BYTES: usize = 1 << 20;

    /// Where this tag is, made ready if it was not.
    #[inline]
    pub fn place(&mut self, id: i64, name: &str, unit: Option<&str>) -> usize {
        let place = usize::from(self.places[id as usize % Self::PLACES]);
        if let Some(tag) = place.checked_sub(1).and_then(|place| self.tags.get(place))
            && tag.id == id
            && *tag.name == *name
            && tag.unit.as_deref() == unit
        {
            return place - 1;
        }
        self.prepare(id, name, unit)
    }

    #[inline]
    pub fn get(&self, place: usize) -> &Tag {
        &self.tags[place]
    }

    #[cold]
    fn prepare(&mut self, id: i64, name: &str, unit: Option<&str>) -> usize {
        let (name_json, unit_json) = (json(&name), json(&unit));
        // Each part is kept as it came, as JSON, and as a key of a number, at most.
        let text_bytes = 3 * (name_json.len() + unit_json.len());
        if self.text_bytes + text_bytes > Self::TEXT_BYTES {
            *self = Self::default();
        }
        self.text_bytes += text_bytes;
        let tag = Tag {
            id,
            name: name.into(),
            unit: unit.map(Into::into),
            before_value: [b",\"tag\":", &name_json[..], b",\"value\":"].concat().into(),
            before_quality: [b",\"unit\":", &unit_json[..], b",\"quality\":"].concat().into(),
            alike: self.alike(name.as_bytes(), &unit_json),
        };
        let place = &mut self.places[id as usize % Self::PLACES];
        match usize::from(*place).checked_sub(1) {
            Some(place) => {
                self.tags[place] = tag;
                place
            }
            None => {
                self.tags.push(tag);
                *place = u16::try_from(self.tags.len()).expect("there are fewer places");
                self.tags.len() - 1
            }
        }
    }

    fn alike(&mut self, name: &[u8], unit: &[u8]) -> Alike {
        let last_part = name.iter().rposition(|byte| b"./".contains(byte)).map_or(name.len() / 2, |at| at + 1);
        let (beginning, ending) = name.split_at(last_part);
        let number = |numbers: &mut Numbers, text: &[u8]| {
            let next = numbers.len();
            *numbers.entry(text.into()).or_insert(next)
        };
        Alike {
            beginning: number(&mut self.beginnings, beginning),
            ending: number(&mut self.endings, ending),
            unit: number(&mut self.units, unit),
        }
    }
}

pub fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings serialise")
}
