use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

/// How often one address may try.
pub struct Attempts {
    limiter: DefaultKeyedRateLimiter<IpAddr>,
    clock: DefaultClock,
}

/// Come back later.
pub struct TooMany {
    pub retry_after_seconds: u64,
}

/// Addresses that are remembered. Beyond it those that have been quiet are forgotten; if none has, newcomers wait.
const MOST_ADDRESSES: usize = 10_000;

impl Attempts {
    pub fn new(per_minute: NonZeroU32) -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_minute(per_minute)), clock: DefaultClock::default() }
    }

    pub fn count(&self, address: IpAddr) -> Result<(), TooMany> {
        if self.limiter.len() >= MOST_ADDRESSES {
            self.limiter.retain_recent();
            if self.limiter.len() >= MOST_ADDRESSES {
                return Err(TooMany { retry_after_seconds: 60 });
            }
        }
        self.limiter.check_key(&network_of(address)).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.clock.now());
            TooMany { retry_after_seconds: wait.as_secs() + 1 }
        })
    }
}

/// One subscriber has a whole /64 of IPv6 addresses.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_attempts_and_a_neighbour_his_own() {
        let attempts = Attempts::new(NonZeroU32::new(3).unwrap());
        let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..3 {
            assert!(attempts.count(one).is_ok());
        }
        let refused = attempts.count(one).err().unwrap();
        assert!((1..=21).contains(&refused.retry_after_seconds), "{}", refused.retry_after_seconds);
        assert!(attempts.count(other).is_ok());
    }

    #[test]
    fn a_subscribers_whole_network_counts_as_one_and_the_table_is_bounded() {
        let attempts = Attempts::new(NonZeroU32::MIN);
        assert!(attempts.count("2001:db8::1".parse().unwrap()).is_ok());
        assert!(attempts.count("2001:db8::2".parse().unwrap()).is_err());
        for address in 0..20_000_u32 {
            let _ = attempts.count(IpAddr::from(address.to_be_bytes()));
        }
        assert!(attempts.limiter.len() <= MOST_ADDRESSES);
    }
}
