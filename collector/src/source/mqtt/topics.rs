//! Which tags a message is of.

use std::collections::HashMap;

use config::{MqttTag, TagSettings};

use crate::tag::Tag;

/// Tags by the topics that they come by. What wildcards stand for makes tags of its own, as they turn up.
pub struct Topics {
    filters: Vec<MqttTag>,
    /// Tags that were seen, by filter and topic.
    seen: HashMap<(usize, String), Tag>,
}

/// Whoever may publish must not fill the memory with topics.
const MOST_SEEN: usize = 100_000;

impl Topics {
    pub fn new(filters: &[MqttTag]) -> Self {
        Self { filters: filters.to_vec(), seen: HashMap::new() }
    }

    /// Each filter that a topic passes, its place, and the tag that it is there. `None` for one tag too many.
    pub fn of(&mut self, topic: &str, mut each: impl FnMut(usize, &MqttTag, Option<&mut Tag>)) {
        for (number, filter) in self.filters.iter().enumerate() {
            let Some(stood_for) = matched(&filter.topic, topic) else { continue };
            let key = (number, topic.to_owned());
            if !self.seen.contains_key(&key) && self.seen.len() >= MOST_SEEN {
                each(number, filter, None);
                continue;
            }
            let tag = self.seen.entry(key).or_insert_with(|| Tag::new(&named(&filter.settings, &stood_for)));
            each(number, filter, Some(tag));
        }
    }

    /// Those that have had a message.
    pub fn seen(&mut self) -> impl Iterator<Item = &mut Tag> {
        self.seen.values_mut()
    }
}

fn named(settings: &TagSettings, stood_for: &[&str]) -> TagSettings {
    let mut name = settings.name.clone();
    for (at, text) in stood_for.iter().enumerate() {
        let plain: String = text.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
        name = name.replace(&format!("{{{}}}", at + 1), &plain.replace('/', "."));
    }
    TagSettings { name, ..settings.clone() }
}

/// What the wildcards stand for, if the filter lets the topic pass (MQTT 3.1.1, 4.7).
fn matched<'a>(filter: &str, topic: &'a str) -> Option<Vec<&'a str>> {
    // Wildcards at the start pass no topic of the broker's own.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return None;
    }
    let mut stood_for = Vec::new();
    let mut rest = Some(topic);
    for level in filter.split('/') {
        if level == "#" {
            stood_for.push(rest.unwrap_or(""));
            return Some(stood_for);
        }
        let (first, behind) = match rest?.split_once('/') {
            Some((first, behind)) => (first, Some(behind)),
            None => (rest?, None),
        };
        match level {
            "+" => stood_for.push(first),
            level if level == first => {}
            _ => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(stood_for)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_pass_what_the_standard_says() {
        assert_eq!(matched("a/b", "a/b"), Some(vec![]));
        assert_eq!(matched("a/b", "a/b/c"), None);
        assert_eq!(matched("a/b/c", "a/b"), None);
        assert_eq!(matched("a/+/c", "a/b/c"), Some(vec!["b"]));
        assert_eq!(matched("a/+", "a/"), Some(vec![""]));
        assert_eq!(matched("a/+", "a"), None);
        assert_eq!(matched("a/#", "a"), Some(vec![""]));
        assert_eq!(matched("a/#", "a/b/c"), Some(vec!["b/c"]));
        assert_eq!(matched("+/#", "a/b/c"), Some(vec!["a", "b/c"]));
        assert_eq!(matched("#", "$SYS/load"), None);
        assert_eq!(matched("$SYS/#", "$SYS/load"), Some(vec!["load"]));
    }

    #[test]
    fn a_wildcard_gives_each_topic_a_name_of_its_own() {
        let settings = TagSettings { name: "cell.{1}.{2}".to_owned(), ..TagSettings::default() };
        assert_eq!(named(&settings, &["press", "oil/temp"]).name, "cell.press.oil.temp");
    }
}
