//! What registers mean.

use config::{ByteOrder, ModbusKind};

/// A value, or a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    Value(f64),
    Text(String),
}

/// Registers of one tag, as they came; `None` where there are fewer than it takes.
pub fn registers(kind: ModbusKind, order: ByteOrder, words: &[u16]) -> Option<Raw> {
    let words = words.get(..usize::from(kind.width()))?;
    if let ModbusKind::Text { .. } = kind {
        return Some(Raw::Text(text(order, words)));
    }
    // From the highest byte to the lowest.
    let bytes: Vec<u8> = match order {
        ByteOrder::Big => words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        ByteOrder::WordsSwapped => words.iter().rev().flat_map(|word| word.to_be_bytes()).collect(),
        ByteOrder::BytesSwapped => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        ByteOrder::Little => words.iter().rev().flat_map(|word| word.to_le_bytes()).collect(),
    };
    let whole = bytes.iter().fold(0_u64, |whole, byte| whole << 8 | u64::from(*byte));
    // Whole numbers of 64 bits beyond 2^53 lose their last digits: a reading's value is an f64.
    Some(Raw::Value(match kind {
        ModbusKind::Bool { bit } => f64::from(u8::from(whole >> bit & 1 == 1)),
        ModbusKind::Int16 => f64::from((whole as u16).cast_signed()),
        ModbusKind::UInt16 | ModbusKind::UInt32 => whole as f64,
        ModbusKind::Int32 => f64::from((whole as u32).cast_signed()),
        ModbusKind::Int64 => whole.cast_signed() as f64,
        ModbusKind::UInt64 => whole as f64,
        ModbusKind::Float32 => f64::from(f32::from_bits(whole as u32)),
        ModbusKind::Float64 => f64::from_bits(whole),
        ModbusKind::Text { .. } => return None,
    }))
}

/// A coil or discrete input.
pub fn bit(on: bool) -> Raw {
    Raw::Value(f64::from(u8::from(on)))
}

fn text(order: ByteOrder, words: &[u16]) -> String {
    let bytes: Vec<u8> = match order {
        ByteOrder::Big | ByteOrder::WordsSwapped => words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        ByteOrder::BytesSwapped | ByteOrder::Little => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
    };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: ModbusKind, order: ByteOrder, words: &[u16]) -> f64 {
        match registers(kind, order, words) {
            Some(Raw::Value(value)) => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_kind_is_read_in_every_order() {
        let orders = [ByteOrder::Big, ByteOrder::WordsSwapped, ByteOrder::BytesSwapped, ByteOrder::Little];
        // How a device of this order would send the bytes A B C D …
        let sent = |bytes: &[u8], order: ByteOrder| -> Vec<u16> {
            let mut words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            if matches!(order, ByteOrder::WordsSwapped | ByteOrder::Little) {
                words.reverse();
            }
            if matches!(order, ByteOrder::BytesSwapped | ByteOrder::Little) {
                words.iter_mut().for_each(|word| *word = word.swap_bytes());
            }
            words
        };
        for order in orders {
            let is = |kind, bytes: &[u8], expected: f64| {
                assert_eq!(value(kind, order, &sent(bytes, order)), expected, "{kind:?} {order:?}");
            };
            is(ModbusKind::Int16, &(-2_i16).to_be_bytes(), -2.0);
            is(ModbusKind::UInt16, &65_534_u16.to_be_bytes(), 65_534.0);
            is(ModbusKind::Int32, &(-70_000_i32).to_be_bytes(), -70_000.0);
            is(ModbusKind::UInt32, &4_000_000_000_u32.to_be_bytes(), 4e9);
            is(ModbusKind::Int64, &(-5_000_000_000_i64).to_be_bytes(), -5e9);
            is(ModbusKind::UInt64, &(1_u64 << 60).to_be_bytes(), (1_u64 << 60) as f64);
            is(ModbusKind::Float32, &21.5_f32.to_be_bytes(), 21.5);
            is(ModbusKind::Float64, &(-1e-300_f64).to_be_bytes(), -1e-300);
            is(ModbusKind::Bool { bit: 9 }, &0x0200_u16.to_be_bytes(), 1.0);
            is(ModbusKind::Bool { bit: 8 }, &0x0200_u16.to_be_bytes(), 0.0);
        }
        assert!(value(ModbusKind::Float32, ByteOrder::Big, &[0x7fc0, 0]).is_nan());
        assert_eq!(registers(ModbusKind::Float64, ByteOrder::Big, &[1, 2, 3]), None);
        let text = |order, words: &[u16]| registers(ModbusKind::Text { registers: words.len() as u16 }, order, words);
        assert_eq!(text(ByteOrder::Big, &[0x5072, 0x6573, 0x7300]), Some(Raw::Text("Press".to_owned())));
        assert_eq!(text(ByteOrder::BytesSwapped, &[0x7250, 0x2020]), Some(Raw::Text("Pr".to_owned())));
    }
}
