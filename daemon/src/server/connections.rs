use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// All connections there are. Whoever has proved who he is stays; of the others the oldest make room for the newest, so
/// that somebody who only opens connections cannot keep HQ out, whether from its own address or from many.
pub struct Connections {
    table: Arc<Mutex<Table>>,
    prove_within: Option<Duration>,
}

/// In all.
const MOST: usize = 512;
/// From one address, of those that have proved nothing.
const MOST_UNPROVEN_FROM_ADDRESS: usize = 64;
/// Of those that have proved nothing, from all addresses.
const MOST_UNPROVEN: usize = 256;

#[derive(Default)]
struct Table {
    next: u64,
    /// In the order of arrival.
    entries: BTreeMap<u64, Entry>,
}

struct Entry {
    address: IpAddr,
    since: Instant,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    proven: AtomicBool,
    dropped: Notify,
}

/// One connection's place in the table, given back when it is dropped.
pub struct Connection {
    number: u64,
    state: Arc<State>,
    table: Weak<Mutex<Table>>,
}

impl Connections {
    /// Who has proved nothing by then is dropped; `None`: nobody has to.
    pub fn new(prove_within: Option<Duration>) -> Self {
        Self { table: Arc::default(), prove_within }
    }

    /// `None` when there is no room and nobody to make it.
    pub fn admit(&self, address: IpAddr) -> Option<Connection> {
        let (address, here) = (network(address), address.to_canonical().is_loopback());
        let mut table = lock(&self.table);
        let from_address = |entry: &Entry| entry.address == address;
        // Nobody elsewhere takes the place of somebody at this machine, who has places of his own.
        let from_elsewhere = |entry: &Entry| !entry.address.is_loopback();
        if table.unproven(from_address) >= MOST_UNPROVEN_FROM_ADDRESS {
            table.drop_oldest_unproven(from_address);
        } else if !here && (table.unproven(from_elsewhere) >= MOST_UNPROVEN || table.entries.len() >= MOST) {
            table.drop_oldest_unproven(from_elsewhere);
        }
        if table.entries.len() >= MOST && !here {
            return None;
        }
        let number = table.next;
        table.next += 1;
        let state = Arc::new(State::default());
        table.entries.insert(number, Entry { address, since: Instant::now(), state: state.clone() });
        Some(Connection { number, state, table: Arc::downgrade(&self.table) })
    }

    pub fn drop_overdue(&self) {
        let Some(prove_within) = self.prove_within else { return };
        let mut table = lock(&self.table);
        let overdue = |entry: &Entry| entry.since.elapsed() > prove_within;
        while table.drop_oldest_unproven(overdue) {}
    }
}

/// Whoever has one address of IPv6 has the whole network of it, as a rule.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Table {
    fn unproven(&self, which: impl Fn(&Entry) -> bool) -> usize {
        self.entries.values().filter(|entry| entry.is_unproven() && which(entry)).count()
    }

    fn drop_oldest_unproven(&mut self, which: impl Fn(&Entry) -> bool) -> bool {
        let oldest =
            self.entries.iter().find(|(_, entry)| entry.is_unproven() && which(entry)).map(|(number, _)| *number);
        let entry = oldest.and_then(|number| self.entries.remove(&number));
        if let Some(entry) = &entry {
            entry.state.dropped.notify_one();
        }
        entry.is_some()
    }
}

impl Entry {
    fn is_unproven(&self) -> bool {
        !self.state.proven.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Whoever is at the other end holds a session.
    pub fn prove(&self) {
        self.state.proven.store(true, Ordering::Relaxed);
    }

    /// For waiting until this connection has to make room, by somebody who does not hold it.
    pub fn on_drop(&self) -> Dropped {
        Dropped(self.state.clone())
    }
}

pub struct Dropped(Arc<State>);

impl Dropped {
    pub async fn wait(&self) {
        self.0.dropped.notified().await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(table) = self.table.upgrade() {
            lock(&table).entries.remove(&self.number);
        }
    }
}

fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn whoever_only_opens_connections_loses_his_oldest_and_nobody_elses() {
        let connections = Connections::new(None);
        let other = connections.admit(address(1)).unwrap();
        let proven = connections.admit(address(2)).unwrap();
        proven.prove();
        let attackers: Vec<_> = (0..1000).map(|_| connections.admit(address(2)).unwrap()).collect();
        attackers[0].on_drop().wait().await;
        assert_eq!(lock(&connections.table).entries.len(), 2 + MOST_UNPROVEN_FROM_ADDRESS);
        for kept in [&other, &proven, &attackers[999]] {
            assert!(lock(&connections.table).entries.contains_key(&kept.number));
        }
        drop((attackers, other, proven));
        assert!(lock(&connections.table).entries.is_empty());
    }

    #[tokio::test]
    async fn many_addresses_together_are_bounded_and_proven_ones_stay() {
        let connections = Connections::new(None);
        let proven: Vec<_> =
            (0..100).map(|_| connections.admit(address(1)).unwrap()).inspect(Connection::prove).collect();
        let others: Vec<_> = (0..2000_u32).filter_map(|at| connections.admit(IpAddr::from(at.to_be_bytes()))).collect();
        assert_eq!(others.len(), 2000);
        let table = lock(&connections.table);
        assert_eq!(table.entries.len(), 100 + MOST_UNPROVEN);
        assert!(proven.iter().all(|connection| table.entries.contains_key(&connection.number)));
    }

    #[tokio::test]
    async fn nobody_elsewhere_takes_the_place_of_somebody_at_this_machine() {
        let connections = Connections::new(None);
        let here = connections.admit(IpAddr::from([127, 0, 0, 1])).unwrap();
        let networks: Vec<_> =
            (0..2000_u16).filter_map(|at| connections.admit(IpAddr::from([0x2001, at, 0, 0, 0, 0, 0, at]))).collect();
        let one_network: Vec<_> =
            (0..2000_u16).filter_map(|at| connections.admit(IpAddr::from([0x2002, 0, 0, 0, at, at, 0, at]))).collect();
        assert_eq!((networks.len(), one_network.len()), (2000, 2000));
        let table = lock(&connections.table);
        assert!(table.entries.contains_key(&here.number));
        assert_eq!(table.entries.len(), 1 + MOST_UNPROVEN);
        let of_one = one_network.iter().filter(|connection| table.entries.contains_key(&connection.number)).count();
        assert_eq!(of_one, MOST_UNPROVEN_FROM_ADDRESS);
    }

    #[test]
    fn who_has_proved_nothing_in_time_is_dropped_where_that_is_asked() {
        for (within, left) in [(None, 2), (Some(Duration::ZERO), 1)] {
            let connections = Connections::new(within);
            let (proven, _other) = (connections.admit(address(1)).unwrap(), connections.admit(address(2)).unwrap());
            proven.prove();
            std::thread::yield_now();
            connections.drop_overdue();
            assert_eq!(lock(&connections.table).entries.len(), left);
        }
    }
}
