use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use rand::RngCore as _;
use rand::rngs::OsRng;
use sha2::Sha256;

/// Nonces carry their own proof: an HMAC over time and random bytes under a secret made at start. Only used ones are
/// remembered, and only whoever holds an HQ key can use one.
pub struct Nonces {
    secret: [u8; 32],
    started: Instant,
    used: Mutex<HashMap<[u8; RANDOM], Instant>>,
}

/// A nonce that is ours, of whatever age.
pub struct Nonce {
    age: Duration,
    random: [u8; RANDOM],
}

#[derive(Debug, PartialEq, Eq)]
pub enum NonceState {
    Good,
    Old,
    Used,
}

const GOOD_FOR: Duration = Duration::from_secs(60);
const TIME: usize = 8;
const RANDOM: usize = 16;
const PROOF: usize = 32;

impl Nonces {
    pub fn new() -> Self {
        let mut secret = [0; 32];
        OsRng.fill_bytes(&mut secret);
        Self { secret, started: Instant::now(), used: Mutex::default() }
    }

    pub fn make(&self) -> String {
        let mut bytes = [0; TIME + RANDOM + PROOF];
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        bytes[..TIME].copy_from_slice(&millis.to_be_bytes());
        OsRng.fill_bytes(&mut bytes[TIME..TIME + RANDOM]);
        let proof = self.mac(&bytes[..TIME + RANDOM]).finalize().into_bytes();
        bytes[TIME + RANDOM..].copy_from_slice(&proof);
        STANDARD.encode(bytes)
    }

    /// `None` unless this process made it.
    pub fn parse(&self, text: &str) -> Option<Nonce> {
        let bytes = STANDARD.decode(text).ok().filter(|bytes| bytes.len() == TIME + RANDOM + PROOF)?;
        let (content, proof) = bytes.split_at(TIME + RANDOM);
        self.mac(content).verify_slice(proof).ok()?;
        let (millis, random) = content.split_at(TIME);
        let made = Duration::from_millis(u64::from_be_bytes(millis.try_into().ok()?));
        Some(Nonce { age: self.started.elapsed().saturating_sub(made), random: random.try_into().ok()? })
    }

    /// Good once.
    pub fn use_up(&self, nonce: Nonce) -> NonceState {
        if nonce.age > GOOD_FOR {
            return NonceState::Old;
        }
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.retain(|_, since| now.duration_since(*since) <= GOOD_FOR);
        match used.insert(nonce.random, now) {
            None => NonceState::Good,
            Some(_) => NonceState::Used,
        }
    }

    fn mac(&self, content: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(content);
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_good_once_and_only_where_it_was_made() {
        let (nonces, others) = (Nonces::new(), Nonces::new());
        let text = nonces.make();
        assert!(others.parse(&text).is_none());
        assert_eq!(nonces.use_up(nonces.parse(&text).unwrap()), NonceState::Good);
        assert_eq!(nonces.use_up(nonces.parse(&text).unwrap()), NonceState::Used);
        let old = Nonce { age: GOOD_FOR + Duration::from_millis(1), random: [7; RANDOM] };
        assert_eq!(nonces.use_up(old), NonceState::Old);
        for forged in ["", "AAAA", &STANDARD.encode([0; TIME + RANDOM + PROOF]), &text[..text.len() - 4]] {
            assert!(nonces.parse(forged).is_none(), "{forged}");
        }
    }
}
