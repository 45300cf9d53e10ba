//! What of a line repeats an earlier line, known from how lines are made instead of searched for.
//!
//! A line repeats the line just before it up to the tag, but for the last digits of `seq`; from the tag on it repeats the
//! last line of its own tag, but for the last digits of the value; and behind the value the last line with the same unit,
//! on into the next line. So a line becomes three matches and some ten digits. Whatever a match is proposed from, bytes are
//! compared before it is made: a wrong proposal costs size, never truth.

use super::block::{FARTHEST, LONGEST_MATCH, SHORTEST_MATCH, Tokens};
use super::format::{Line, Written};

#[derive(Default)]
pub struct Shape {
    /// Up to where the lines have become tokens.
    done: usize,
    previous: Option<Line>,
    /// What stands behind the value of the line before is proposed to repeat what begins here.
    unit_like: usize,
    /// Where the last line of each tag has what stands behind the time, and behind the value.
    of_tag: Last<(usize, usize)>,
    /// The former, in the last line of whichever tag has such a beginning,
    of_beginning: Last<usize>,
    /// the value, in the last line of whichever tag has such an ending,
    of_ending: Last<usize>,
    /// and what stands behind the value, in the last line with such a unit.
    of_unit: Last<usize>,
    /// Bytes written out that a line of ordinary shape would have repeated.
    unmatched: usize,
}

/// The last of each number.
#[derive(Default)]
struct Last<T>(Vec<Option<T>>);

impl<T> Last<T> {
    #[inline]
    fn replace(&mut self, number: usize, by: T) -> Option<T> {
        if number >= self.0.len() {
            self.0.resize_with(number + 1, || None);
        }
        self.0[number].replace(by)
    }
}

impl Shape {
    /// For the next member, whose lines begin at 0 again.
    pub fn clear(&mut self) {
        self.of_tag.0.clear();
        for last in [&mut self.of_beginning, &mut self.of_ending, &mut self.of_unit] {
            last.0.clear();
        }
        (self.done, self.previous, self.unit_like, self.unmatched) = (0, None, 0, 0);
    }

    pub fn unmatched(&self) -> usize {
        self.unmatched
    }

    /// Makes tokens of the rest of the line before, and of this one up to its unit; that is left for the next, so that a
    /// match can reach into it.
    pub fn line(&mut self, lines: &[u8], written: &Written, tokens: &mut Tokens) {
        let Written { line, tag, alike, has_text } = *written;
        let of_tag = self.of_tag.replace(tag, (line.tag, line.unit));
        let begins_like = self.of_beginning.replace(alike.beginning, line.tag);
        let ends_like = self.of_ending.replace(alike.ending, line.value);
        let of_unit = self.of_unit.replace(alike.unit, line.unit);

        let mut writer = Writer { lines, done: self.done, tokens };
        if let Some(previous) = self.previous {
            self.unmatched += writer.rest_of(&previous, self.unit_like, line.time);
            writer.literals(line.time);
            writer.repeat(previous.time, line.value);
        }
        let within_reach = |at: &usize| line.value - at <= FARTHEST;
        let tag_like = of_tag.map(|(tag, _)| tag).filter(within_reach).or(begins_like.filter(within_reach));
        let name_like = ends_like.filter(within_reach).or(self.previous.map(|previous| previous.value));
        self.unmatched += writer.tag(&line, tag_like, name_like);
        writer.literals(line.unit);
        self.done = writer.done;

        let before = self.previous.map(|previous| previous.unit);
        let unit_like = if has_text { of_tag.map(|(_, unit)| unit) } else { of_unit };
        self.unit_like = unit_like.filter(within_reach).or(before).unwrap_or(line.unit);
        self.previous = Some(line);
    }

    /// Makes tokens of what is left of the last line.
    pub fn finish(&mut self, lines: &[u8], tokens: &mut Tokens) {
        let mut writer = Writer { lines, done: self.done, tokens };
        if let Some(previous) = self.previous {
            self.unmatched += writer.rest_of(&previous, self.unit_like, lines.len());
        }
        writer.literals(lines.len());
        self.done = writer.done;
    }
}

struct Writer<'a> {
    lines: &'a [u8],
    done: usize,
    tokens: &'a mut Tokens,
}

impl Writer<'_> {
    /// From the unit of the line before, which is proposed to be as at `like`, into this line's `seq`.
    #[inline]
    fn rest_of(&mut self, previous: &Line, like: usize, until: usize) -> usize {
        let mut unmatched = 0;
        if self.done < previous.end {
            self.repeat(like + (self.done - previous.unit), until);
        }
        // Another quality or another text: what closes the line and opens the next is still as it was before.
        const CLOSING: usize = 2;
        if self.done + CLOSING <= previous.end {
            unmatched = previous.end - CLOSING - self.done;
            self.literals(previous.end - CLOSING);
            if previous.start >= CLOSING {
                self.repeat(previous.start - CLOSING, until);
            }
        }
        if self.done == previous.end {
            self.repeat(previous.start, until);
        }
        unmatched
    }

    /// From wherever in time or tag the line before differs, through the value as far as it is as it was. Behind the
    /// time it is proposed to be as at `tag_like`, and up to the value as before `name_like`.
    #[inline]
    fn tag(&mut self, line: &Line, tag_like: Option<usize>, name_like: Option<usize>) -> usize {
        if let Some(like) = tag_like {
            // Another time than in the line before: its last digits may be as they were for this tag.
            self.literals(line.tag - self.common_before(line.tag, like));
            self.repeat(like + self.done - line.tag, line.end);
        }
        if self.done >= line.value {
            return 0;
        }
        // No line of this tag within reach.
        let common = name_like.map_or(0, |like| self.common_before(line.value, like));
        let unmatched = line.value - common - self.done;
        self.literals(line.value - common);
        if let Some(like) = name_like {
            self.repeat(like - common, line.unit);
        }
        unmatched
    }

    /// How many bytes before `end`, of those that are not done, are also before `then`.
    fn common_before(&self, end: usize, then: usize) -> usize {
        let now = self.lines[..end].get(self.done..).unwrap_or_default();
        now.iter().rev().zip(self.lines[..then].iter().rev()).take_while(|(now, then)| now == then).count()
    }

    /// Repeats what is at `from`, as far as it is the same as what comes next, and not beyond `until`.
    #[inline]
    fn repeat(&mut self, from: usize, until: usize) {
        let distance = self.done - from;
        if until <= self.done || distance > FARTHEST || distance == 0 {
            return;
        }
        let mut length = common(&self.lines[self.done..until], &self.lines[from..]);
        while length >= SHORTEST_MATCH {
            let taken = length.min(LONGEST_MATCH);
            self.tokens.repeat(taken, distance);
            self.done += taken;
            length -= taken;
        }
    }

    #[inline]
    fn literals(&mut self, until: usize) {
        if self.done < until {
            self.tokens.literals(&self.lines[self.done..until]);
            self.done = until;
        }
    }
}

/// How many bytes both begin with.
#[inline]
fn common(one: &[u8], other: &[u8]) -> usize {
    let words = |bytes| <[u8]>::as_chunks::<8>(bytes).0;
    let mut common = 0;
    for (one, other) in words(one).iter().zip(words(other)) {
        let differing = u64::from_le_bytes(*one) ^ u64::from_le_bytes(*other);
        if differing != 0 {
            return common + differing.trailing_zeros() as usize / 8;
        }
        common += 8;
    }
    common + one[common..].iter().zip(&other[common..]).take_while(|(one, other)| one == other).count()
}
