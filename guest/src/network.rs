//! A network as its users have it: each card is given an address, is pinged over, and carries iperf3 both ways; or its interface is
//! deleted under that.
//!
//! Card number N has the address A.B.(C+N).2, and the host's end A.B.(C+N).1, where an iperf3 serves.

mod counters;
mod programs;

use std::time::Instant;

use vioduct_spec::Features;

use crate::Failure;
use crate::lab::End;
use counters::{Counters, has_link, sent_by};
use programs::{Iperf, Program, run, run_on};

/// Where the addresses begin, and how the cards are to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    first: [u8; 3],
    part: Part,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// With so many pairs of queues.
    Traffic { pairs: u8 },
    /// The same with one, after packets of one length, in both directions, that somebody counts.
    Counted,
    /// The host deletes the interfaces once they are under load.
    Unplugged,
}

/// The first card's iperf3 serves there. The interfaces that are deleted have one each, for one that lost its client hangs a while.
const PORT: u16 = 5201;
/// Pings that are measured, and their distance in seconds.
const PINGS: u32 = 50;
const DISTANCE: &str = "0.01";
/// Packets that are a load.
const LOAD: u64 = 100;

impl Network {
    /// Reads `A.B.C PAIRS`, after which the guest may `restart`, or `A.B.C counted`, or `A.B.C unplugged`.
    pub(crate) fn parse(words: &[&str]) -> Option<Self> {
        let (first, part, end) = match words {
            [first, part] => (first, part, End::PowerOff),
            [first, part, "restart"] => (first, part, End::Restart),
            _ => return None,
        };
        let mut numbers = first.split('.').map(|number| number.parse().ok());
        let first = [numbers.next()??, numbers.next()??, numbers.next()??];
        let part = match *part {
            "counted" => Part::Counted,
            "unplugged" => Part::Unplugged,
            pairs => Part::Traffic { pairs: pairs.parse().ok().filter(|pairs| *pairs > 0)? },
        };
        numbers.next().is_none().then_some(Self { first, part, end })
    }

    pub(crate) fn run(self) -> Result<End, Failure> {
        let cards: Vec<Card> = (0..).map_while(|number| self.card(number)).collect();
        if cards.is_empty() {
            return Err(Failure::Lab("there is no network card".into()));
        }
        for card in &cards {
            card.set_up()?;
            match self.part {
                Part::Traffic { pairs } => {
                    card.spread(pairs)?;
                    card.traffic(pairs, &Counters::read(&card.name)?)?;
                }
                Part::Counted => {
                    let before = Counters::read(&card.name)?;
                    card.packets(&before)?;
                    card.traffic(1, &before)?;
                }
                Part::Unplugged => card.be_unplugged()?,
            }
        }
        Ok(self.end)
    }

    fn card(self, number: u8) -> Option<Card> {
        let name = format!("eth{number}");
        let [a, b, c] = self.first;
        let network = format!("{a}.{b}.{}", c.checked_add(number)?);
        let port = match self.part {
            Part::Traffic { .. } | Part::Counted => PORT,
            Part::Unplugged => PORT + u16::from(number),
        };
        counters::exists(&name).then(|| Card { host: format!("{network}.1"), name, network, port })
    }
}

struct Card {
    name: String,
    network: String,
    host: String,
    port: u16,
}

impl Card {
    fn set_up(&self) -> Result<(), Failure> {
        run(&Program::of("ip").with(&["addr", "add", &format!("{}.2/24", self.network), "dev", &self.name]))?;
        run(&Program::of("ip").with(&["link", "set", &self.name, "up"]))?;
        if counters::features(&self.name)?.contains(Features::ACCESS_PLATFORM) {
            println!("{} has addresses of its platform's", self.name);
        }
        // The host may be at it still.
        programs::wait("an answer", || Ok(run(&self.ping(1)).is_ok()))
    }

    fn spread(&self, pairs: u8) -> Result<(), Failure> {
        if pairs > 1 {
            run(&Program::of("ethtool").with(&["-L", &self.name, "combined", &pairs.to_string()]))?;
            self.use_every_pair(pairs)?;
        }
        Ok(())
    }

    /// Prints what it came to since `before`, in a line that programs read, too.
    fn traffic(&self, pairs: u8, before: &Counters) -> Result<(), Failure> {
        let start = Instant::now();
        let ping_ns = programs::average_ns(&run(&self.ping(PINGS))?)?;
        let to_host = self.iperf(pairs).run()?;
        let from_host = self.iperf(pairs).with("-R").run()?;
        let took = start.elapsed();
        let Counters { packets, bytes, kicks, interrupts } = Counters::read(&self.name)?.since(before);
        println!(
            "network card={} packets={packets} bytes={bytes} kicks={kicks} interrupts={interrupts} ping_ns={ping_ns} \
             to_host_kbits={to_host} from_host_kbits={from_host} elapsed_ms={}",
            self.name,
            took.as_millis(),
        );
        Ok(())
    }

    /// As many packets each way as go; those that the host's interface has no room for are not counted.
    fn packets(&self, before: &Counters) -> Result<(), Failure> {
        println!("network load card={}", self.name);
        self.iperf(1).packets()?;
        self.iperf(1).with("-R").packets()?;
        let packets = Counters::read(&self.name)?.since(before).packets;
        println!("network loaded card={} operations={packets}", self.name);
        Ok(())
    }

    fn ping(&self, count: u32) -> Program {
        Program::of("ping").with(&["-q", "-c", &count.to_string(), "-i", DISTANCE, "-W", "2", &self.host])
    }

    fn iperf(&self, pairs: u8) -> Iperf {
        Iperf::to(&self.host, self.port, pairs)
    }

    /// Linux sends by the pair of the processor that sends, and answers come by the same.
    fn use_every_pair(&self, pairs: u8) -> Result<(), Failure> {
        for pair in 0..pairs {
            let before = sent_by(&self.name, pair)?;
            run_on(pair, &self.ping(5))?;
            if sent_by(&self.name, pair)? == before {
                return Err(Failure::Lab(format!("{}: pair {pair} of its queues has no packets", self.name)));
            }
        }
        println!("{}: all {pairs} pairs of queues have packets", self.name);
        Ok(())
    }

    /// Waits until the host has deleted the interface, and the card's link is down.
    fn be_unplugged(&self) -> Result<(), Failure> {
        let before = Counters::read(&self.name)?.packets;
        let load = self.iperf(1).with("--bidir").without_end()?;
        programs::wait("load", || Ok(Counters::read(&self.name)?.packets >= before + LOAD))?;
        println!("{} is under load", self.name);
        programs::wait("the end of the link", || Ok(!has_link(&self.name)))?;
        println!("{} has no link any more", self.name);
        load.end()
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Network, Part};

    #[test]
    fn a_network_is_where_it_begins_and_what_it_is_for() {
        let network = |part| Some(Network { first: [198, 18, 0], part, end: End::PowerOff });
        assert_eq!(Network::parse(&["198.18.0", "2"]), network(Part::Traffic { pairs: 2 }));
        assert_eq!(Network::parse(&["198.18.0", "unplugged"]), network(Part::Unplugged));
        assert_eq!(Network::parse(&["198.18.0", "counted"]), network(Part::Counted));
        let again = Network::parse(&["198.18.0", "1", "restart"]).map(|network| network.end);
        assert_eq!(again, Some(End::Restart));
        for wrong in [&["198.18.0"][..], &["198.18", "1"], &["198.18.0.1", "1"], &["198.18.0", "0"], &[]] {
            assert_eq!(Network::parse(wrong), None, "{wrong:?}");
        }
    }
}
