//! Which requests bring a group's tags: as few as the protocol allows.

use config::{MOST_REGISTERS, ModbusTable, ModbusTag};

/// One request, and the tags (by their places in the group) that its answer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub unit_id: u8,
    pub table: ModbusTable,
    pub first: u16,
    pub count: u16,
    pub tags: Vec<usize>,
}

const MOST_BITS: u16 = 2000;

/// Neighbours are read together, with up to `most_between` registers between them that nobody asked for.
pub fn plan(tags: &[ModbusTag], most_between: u16) -> Vec<Request> {
    let mut order: Vec<usize> = (0..tags.len()).collect();
    order.sort_by_key(|at| (tags[*at].unit_id, tags[*at].table, tags[*at].address));
    let mut requests: Vec<Request> = Vec::new();
    for at in order {
        let tag = &tags[at];
        // Of both one past the last; checked with the configuration to stay within 65,536.
        let end = u32::from(tag.address) + u32::from(tag.kind.width());
        let most = u32::from(if tag.table.is_of_bits() { MOST_BITS } else { MOST_REGISTERS });
        if let Some(last) = requests.last_mut()
            && (last.unit_id, last.table) == (tag.unit_id, tag.table)
        {
            let last_end = u32::from(last.first) + u32::from(last.count);
            let whole_end = last_end.max(end);
            let is_near = u32::from(tag.address) <= last_end + u32::from(most_between);
            if is_near && whole_end - u32::from(last.first) <= most {
                last.count = (whole_end - u32::from(last.first)) as u16;
                last.tags.push(at);
                continue;
            }
        }
        requests.push(alone(tags, at));
    }
    requests
}

/// A request for one tag.
pub fn alone(tags: &[ModbusTag], at: usize) -> Request {
    let ModbusTag { unit_id, table, address, kind, .. } = tags[at];
    Request { unit_id, table, first: address, count: kind.width(), tags: vec![at] }
}

#[cfg(test)]
mod tests {
    use config::{ByteOrder, ModbusKind, TagSettings};

    use super::*;

    fn tag(unit_id: u8, table: ModbusTable, address: u16, kind: ModbusKind) -> ModbusTag {
        let settings = TagSettings { name: format!("t{address}"), ..TagSettings::default() };
        ModbusTag { settings, unit_id, table, address, kind, byte_order: ByteOrder::Big }
    }

    fn ranges(tags: &[ModbusTag], most_between: u16) -> Vec<(u16, u16, Vec<usize>)> {
        plan(tags, most_between).into_iter().map(|request| (request.first, request.count, request.tags)).collect()
    }

    #[test]
    fn neighbours_are_read_together_within_what_a_request_may_ask_for() {
        use ModbusTable::{Coil, Holding, Input};
        let tags = [
            tag(1, Holding, 10, ModbusKind::Float32),
            tag(1, Holding, 0, ModbusKind::UInt16),
            tag(1, Holding, 20, ModbusKind::Int64),
            tag(1, Holding, 11, ModbusKind::UInt16),
        ];
        assert_eq!(ranges(&tags, 9), [(0, 24, vec![1, 0, 3, 2])]);
        assert_eq!(ranges(&tags, 8), [(0, 1, vec![1]), (10, 14, vec![0, 3, 2])]);
        let apart = [tag(1, Holding, 0, ModbusKind::UInt16), tag(2, Holding, 1, ModbusKind::UInt16)];
        assert_eq!(plan(&apart, 100).len(), 2, "of two units");
        let apart = [tag(1, Holding, 0, ModbusKind::UInt16), tag(1, Input, 1, ModbusKind::UInt16)];
        assert_eq!(plan(&apart, 100).len(), 2, "of two tables");
        let many: Vec<ModbusTag> = (0..200).map(|at| tag(1, Holding, at * 2, ModbusKind::Float32)).collect();
        assert!(plan(&many, 8).iter().all(|request| request.count <= 125));
        assert_eq!(plan(&many, 8).len(), 4);
        let bits: Vec<ModbusTag> = (0..3000).map(|at| tag(1, Coil, at, ModbusKind::Bool { bit: 0 })).collect();
        assert_eq!(
            ranges(&bits, 0).iter().map(|(first, count, _)| (*first, *count)).collect::<Vec<_>>(),
            [(0, 2000), (2000, 1000)]
        );
        let last = [tag(1, Holding, 65_535, ModbusKind::UInt16), tag(1, Holding, 65_530, ModbusKind::UInt16)];
        assert_eq!(ranges(&last, 8), [(65_530, 6, vec![1, 0])]);
    }
}
