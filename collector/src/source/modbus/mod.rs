//! Modbus TCP. One connection a device, one request at a time, each answered within the device's timeout or not at all: a
//! connection on which anything but the right answer came is dropped, so that a late answer is never taken for the next.

mod decode;
mod plan;

use std::io;
use std::time::Duration;

use config::{ModbusSource, ModbusTable};
use protocol::Timestamp;
use tokio::net::TcpStream;
use tokio_modbus::client::{Client as _, Context, tcp};
use tokio_modbus::slave::{Slave, SlaveContext as _};
use tokio_modbus::{self as modbus, Error, ExceptionCode, Response};

use self::decode::Raw;
use self::plan::{Request, alone, plan};
use super::{Device, Gathered, Outcome};
use crate::tag::Sample;

pub struct Modbus {
    source: ModbusSource,
    /// Of each group; a request that a device refuses is broken up into its tags.
    plans: Vec<Vec<Request>>,
    connection: Option<Context>,
}

/// What came of a request.
enum Answer {
    Bits(Vec<bool>),
    Words(Vec<u16>),
    Refused(ExceptionCode),
    /// Of another function.
    Other,
}

impl Modbus {
    pub fn new(source: &ModbusSource) -> Self {
        let plans = source.groups.iter().map(|group| plan(&group.tags, source.most_between)).collect();
        Self { source: source.clone(), plans, connection: None }
    }

    async fn connect(&mut self) -> Result<&mut Context, String> {
        if self.connection.is_none() {
            let address = &self.source.address;
            let connecting = tokio::time::timeout(self.source.timeout, TcpStream::connect(address)).await;
            let connected = connecting.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)));
            let stream = connected.map_err(|error| format!("could not connect to {address}: {error}"))?;
            stream.set_nodelay(true).map_err(|error| format!("{address}: {error}"))?;
            self.connection = Some(tcp::attach(stream));
            // A device may be another after a new start: what it refused then it may know now.
            let groups = self.source.groups.iter();
            self.plans = groups.map(|group| plan(&group.tags, self.source.most_between)).collect();
        }
        self.connection.as_mut().ok_or_else(|| "no connection".to_owned())
    }

    async fn ask(&mut self, request: &Request) -> Result<Answer, String> {
        let timeout = self.source.timeout;
        let context = self.connect().await?;
        let answered = tokio::time::timeout(timeout, exchange(context, request)).await;
        let answered = match answered {
            Ok(Ok(answer)) if answer.fits(request) => return Ok(answer),
            Ok(Ok(_)) => "it sent another number of values than was asked for".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:.1} s", timeout.as_secs_f64()),
        };
        self.connection = None;
        Err(format!("{}: {answered}", self.source.address))
    }

    /// Reads a request's tags; a refused one is asked for tag by tag from then on.
    async fn read(&mut self, group: usize, at: usize, gathered: &mut Gathered) -> Result<bool, String> {
        let request = self.plans[group][at].clone();
        let answer = self.ask(&request).await?;
        let time = Timestamp::now();
        if let Answer::Refused(code) = answer {
            let is_of_content = matches!(code, ExceptionCode::IllegalDataAddress | ExceptionCode::IllegalDataValue);
            if request.tags.len() > 1 && is_of_content {
                let tags = &self.source.groups[group].tags;
                let singles = request.tags.iter().map(|tag| alone(tags, *tag));
                self.plans[group].splice(at..=at, singles.collect::<Vec<_>>());
                return Ok(false);
            }
            let refused = |tag| Outcome::bad(tag, time, format!("the device says: {code}"));
            gathered.extend(request.tags.into_iter().map(refused));
            return Ok(true);
        }
        for tag in request.tags {
            let settings = &self.source.groups[group].tags[tag];
            let from = usize::from(settings.address - request.first);
            let raw = match &answer {
                Answer::Bits(bits) => bits.get(from).map(|on| decode::bit(*on)),
                Answer::Words(words) => {
                    words.get(from..).and_then(|words| decode::registers(settings.kind, settings.byte_order, words))
                }
                Answer::Refused(_) | Answer::Other => None,
            };
            gathered.push(match raw {
                Some(raw) => Outcome { tag, sample: sample(raw, time), error: None },
                None => Outcome::bad(tag, time, "the answer is too short".to_owned()),
            });
        }
        Ok(true)
    }
}

impl Answer {
    fn fits(&self, request: &Request) -> bool {
        match self {
            // They come by the byte.
            Self::Bits(bits) => request.table.is_of_bits() && bits.len() >= usize::from(request.count),
            Self::Words(words) => !request.table.is_of_bits() && words.len() == usize::from(request.count),
            Self::Refused(_) => true,
            Self::Other => false,
        }
    }
}

fn sample(raw: Raw, time: Timestamp) -> Sample {
    match raw {
        Raw::Value(value) => Sample::of_value(time, value),
        Raw::Text(text) => Sample::of_text(time, text),
    }
}

/// Not by the library's own readers: these assert that an answer has as many values as were asked for.
async fn exchange(context: &mut Context, request: &Request) -> Result<Answer, Error> {
    let Request { unit_id, table, first, count, .. } = *request;
    context.set_slave(Slave(unit_id));
    let call = match table {
        ModbusTable::Coil => modbus::Request::ReadCoils(first, count),
        ModbusTable::Discrete => modbus::Request::ReadDiscreteInputs(first, count),
        ModbusTable::Input => modbus::Request::ReadInputRegisters(first, count),
        ModbusTable::Holding => modbus::Request::ReadHoldingRegisters(first, count),
    };
    Ok(match context.call(call).await? {
        Ok(Response::ReadCoils(bits) | Response::ReadDiscreteInputs(bits)) => Answer::Bits(bits),
        Ok(Response::ReadInputRegisters(words) | Response::ReadHoldingRegisters(words)) => Answer::Words(words),
        Ok(_) => Answer::Other,
        Err(code) => Answer::Refused(code),
    })
}

impl Device for Modbus {
    fn name(&self) -> &str {
        &self.source.name
    }

    fn groups(&self) -> Vec<(Duration, Vec<&config::TagSettings>)> {
        let groups = self.source.groups.iter();
        groups.map(|group| (group.period, group.tags.iter().map(|tag| &tag.settings).collect())).collect()
    }

    async fn gather(&mut self, group: usize) -> Result<Gathered, String> {
        let mut gathered = Gathered::new();
        let mut at = 0;
        while at < self.plans[group].len() {
            if self.read(group, at, &mut gathered).await? {
                at += 1;
            }
        }
        Ok(gathered)
    }
}
