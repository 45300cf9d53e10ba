use std::fmt;
use std::str::FromStr;

use protocol::Timestamp;

/// A place in the order of readings: behind reading `seq` of `epoch`. Opaque to everybody but the agent.
///
/// Written `1.<epoch>.<seq>.<microseconds>`; the last part is the period end where the place is a cut, else `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub epoch: String,
    pub seq: u64,
    /// The cut's period end, if the place is one.
    pub cut: Option<Timestamp>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "1.{}.{}.", self.epoch, self.seq)?;
        match self.cut {
            Some(cut) => write!(formatter, "{}", cut.as_micros()),
            None => formatter.write_str("-"),
        }
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let parts: Vec<&str> = text.split('.').collect();
        let [version, epoch, seq, cut] = parts.as_slice() else { return Err(()) };
        let hexadecimal = epoch.len() == 32 && epoch.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if *version != "1" || !hexadecimal {
            return Err(());
        }
        let cut = match *cut {
            "-" => None,
            micros => Some(Timestamp::from_micros(micros.parse().map_err(|_| ())?).ok_or(())?),
        };
        let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        let seq = digits.then(|| seq.parse().ok()).flatten().ok_or(())?;
        Ok(Self { epoch: (*epoch).to_owned(), seq, cut })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_back_and_nonsense_is_refused() {
        let epoch = "0123456789abcdef0123456789abcdef".to_owned();
        for cut in [None, Timestamp::from_micros(1_771_754_400_000_001)] {
            let cursor = Cursor { epoch: epoch.clone(), seq: 17, cut };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in [
            "",
            "1",
            "1.x.1.-",
            "2.0123456789abcdef0123456789abcdef.1.-",
            "1.0123456789abcdef0123456789abcdef.-1.-",
            "1.0123456789abcdef0123456789abcdef.+5.-",
        ] {
            assert_eq!(text.parse::<Cursor>(), Err(()), "{text}");
        }
    }
}
