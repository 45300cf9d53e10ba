//! Huffman codes made for what they are to write (RFC 1951, 3.2.1 and 3.2.2).

/// One symbol's code, its bits already in the order in which they are written; of length 0 if the symbol does not occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Code {
    pub bits: u16,
    pub length: u8,
}

/// The codes for symbols that occur so often, none longer than `longest` bits.
///
/// At least two symbols get a code, as every decoder takes that; a lone one would make an incomplete code, which the RFC
/// allows for distances only.
pub fn codes<const N: usize>(occurrences: &[u32; N], longest: u8) -> [Code; N] {
    let mut used: Vec<(u32, u16)> =
        (0_u16..).zip(occurrences).filter(|(_, count)| **count > 0).map(|(symbol, count)| (*count, symbol)).collect();
    for symbol in 0..2 {
        if used.len() < 2 && used.iter().all(|(_, other)| *other != symbol) {
            used.push((1, symbol));
        }
    }
    used.sort_unstable();
    let mut lengths = [0; N];
    let counts = limited(&counts_by_length(&used), longest);
    // The rarest symbols get the longest codes.
    let longest_first = (0..=longest).rev().flat_map(|length| std::iter::repeat_n(length, counts[usize::from(length)]));
    for ((_, symbol), length) in used.iter().zip(longest_first) {
        lengths[usize::from(*symbol)] = length;
    }
    canonical(&lengths)
}

const LONGEST: usize = 15;
/// No tree over 2^32 occurrences is deeper: Fibonacci's numbers grow faster than that.
const DEEPEST: usize = 48;

/// How many codes of each length an optimal code has; `used` is sorted, the rarest first.
fn counts_by_length(used: &[(u32, u16)]) -> [usize; DEEPEST] {
    // Two queues, each in order by construction: the leaves, and the nodes as they are made.
    let mut nodes: Vec<u64> = Vec::with_capacity(used.len());
    let mut parents = vec![0_usize; 2 * used.len()];
    let (mut next_leaf, mut next_node) = (0, 0);
    for made in 0..used.len() - 1 {
        let mut weight = 0;
        for _ in 0..2 {
            let leaf = used.get(next_leaf).map(|(count, _)| u64::from(*count));
            match (leaf, nodes.get(next_node)) {
                (Some(leaf), node) if node.is_none_or(|node| leaf <= *node) => {
                    weight += leaf;
                    parents[next_leaf] = made;
                    next_leaf += 1;
                }
                (_, node) => {
                    weight += node.expect("two are left, or the loop would have ended");
                    parents[used.len() + next_node] = made;
                    next_node += 1;
                }
            }
        }
        nodes.push(weight);
    }
    // The root was made last; every node's parent was made after it.
    let mut depths = vec![0_usize; nodes.len()];
    for node in (0..nodes.len() - 1).rev() {
        depths[node] = depths[parents[used.len() + node]] + 1;
    }
    let mut counts = [0; DEEPEST];
    for leaf in 0..used.len() {
        counts[depths[parents[leaf]] + 1] += 1;
    }
    counts
}

/// The same number of codes, none longer than `longest`.
///
/// Not quite optimal, as package-merge would be, but what codes beyond the limit stand for is rare by their nature.
fn limited(counts: &[usize; DEEPEST], longest: u8) -> [usize; LONGEST + 1] {
    let longest = usize::from(longest);
    let mut limited = [0; LONGEST + 1];
    limited[..=longest].copy_from_slice(&counts[..=longest]);
    limited[longest] += counts[longest + 1..].iter().sum::<usize>();
    // In units of the longest code's share; all together fill 2^longest exactly.
    let mut filled: usize = (1..=longest).map(|length| limited[length] << (longest - length)).sum();
    while filled > 1 << longest {
        // One of the longest becomes sister to the longest of the shorter ones, which moves one level down.
        let shorter = (1..longest).rev().find(|length| limited[*length] > 0).expect("there are fewer than 2^longest");
        limited[longest] -= 1;
        limited[shorter] -= 1;
        limited[shorter + 1] += 2;
        filled -= 1;
    }
    limited
}

/// The codes that these lengths determine (RFC 1951, 3.2.2).
fn canonical<const N: usize>(lengths: &[u8; N]) -> [Code; N] {
    let mut counts = [0_u16; LONGEST + 1];
    for length in lengths.iter().filter(|length| **length > 0) {
        counts[usize::from(*length)] += 1;
    }
    let mut next = [0_u16; LONGEST + 1];
    for length in 1..=LONGEST {
        next[length] = (next[length - 1] + counts[length - 1]) << 1;
    }
    lengths.map(|length| {
        if length == 0 {
            return Code::default();
        }
        let bits = next[usize::from(length)];
        next[usize::from(length)] += 1;
        // Huffman codes go from their highest bit on (3.1.1).
        Code { bits: bits.reverse_bits() >> (16 - length), length }
    })
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    /// What all codes together fill, as a part of 2^15; whether none begins another.
    fn check<const N: usize>(codes: &[Code; N]) {
        let used: Vec<&Code> = codes.iter().filter(|code| code.length > 0).collect();
        assert_eq!(used.iter().map(|code| 1 << (15 - code.length)).sum::<u32>(), 1 << 15, "{used:?}");
        for (at, one) in used.iter().enumerate() {
            for other in used[at + 1..].iter() {
                let common = one.length.min(other.length);
                assert_ne!(one.bits & ((1 << common) - 1), other.bits & ((1 << common) - 1), "{one:?} {other:?}");
            }
        }
    }

    #[test]
    fn codes_are_complete_and_none_begins_another() {
        let mut random = SmallRng::seed_from_u64(1);
        for round in 0..300 {
            let mut occurrences = [0_u32; 286];
            for _ in 0..random.gen_range(0..286) {
                occurrences[random.gen_range(0..286)] = 1 << random.gen_range(0..=round % 24);
            }
            for longest in [15, 9] {
                let codes = codes(&occurrences, longest);
                check(&codes);
                assert!(codes.iter().all(|code| code.length <= longest));
                assert!(occurrences.iter().zip(&codes).all(|(count, code)| *count == 0 || code.length > 0));
            }
        }
    }

    #[test]
    fn however_lopsided_the_counts_no_code_is_too_long() {
        let mut fibonacci = [1_u32; 19];
        for at in 2..19 {
            fibonacci[at] = fibonacci[at - 1] + fibonacci[at - 2];
        }
        for longest in [5, 7, 15] {
            let codes = codes(&fibonacci, longest);
            check(&codes);
            assert!(codes.iter().all(|code| code.length <= longest));
        }
        check(&codes(&[u32::MAX; 286], 15));
    }

    #[test]
    fn where_no_limit_binds_the_code_is_optimal() {
        // Worked by hand: 8 + 2·4 + 3·2 + 4·(1 + 1) bits.
        let codes = codes(&[8, 1, 4, 2, 1], 15);
        assert_eq!(codes.map(|code| code.length), [1, 4, 2, 3, 4]);
    }

    #[test]
    fn two_symbols_at_least_have_codes() {
        for occurrences in [[0, 0, 0], [7, 0, 0], [0, 7, 0], [0, 0, 7]] {
            let codes = codes(&occurrences, 15);
            check(&codes);
            assert!(occurrences.iter().zip(&codes).all(|(count, code)| *count == 0 || code.length > 0));
        }
    }
}
