//! Our driver in DPDK's place: it sends back what it receives, with its own address in front, in a thread of its own.

use super::circuit::{PACKETS, Server, Shape};
use anyhow::{Result, anyhow, ensure};
use rustix::thread::CpuSet;
use std::path::Path;
use std::time::{Duration, Instant};
use vioduct_loopback::{Attached, Depth, GuestDma, Machine, Served};
use vioduct_spec::net::{ADDRESS_LEN, MRG_RXBUF};
use vioduct_spec::{Features, device_type};
use vioduct_vhost_user::{Frontend, Patience, SharedRegion};
use vioduct_virtio_device::DeviceInfo;
use vioduct_virtio_driver::net::{Header, Plan};
use vioduct_virtio_driver::{Net, Options, Transport};

use crate::cores::pin;

const QUEUE_SIZE: u16 = 256;
const MEMORY_BYTES: usize = 16 << 20;
/// Batches between two looks at the clock.
const TURNS: u32 = 64;
/// There, and here.
const ADDRESSES: [u8; 2 * ADDRESS_LEN] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

type Driver = Net<Box<dyn Transport + Send>, GuestDma>;

/// Our driver, and the server behind its card; held still unless a window runs.
pub struct Forwarder {
    // The driver goes first: it resets the card.
    driver: Driver,
    _attached: Attached<Served<Frontend>>,
    server: Server,
}

impl Forwarder {
    /// Connects our driver to the server at `socket`, and sends packets round.
    ///
    /// # Errors
    /// If that does not work.
    pub fn new(server: Server, socket: &Path, shape: Shape) -> Result<Self> {
        let machine = Machine::new(MEMORY_BYTES)?;
        let info = DeviceInfo {
            features: MRG_RXBUF,
            ..DeviceInfo::new(device_type::NET, "net", vec![QUEUE_SIZE; 2])
        };
        let regions = SharedRegion::all_of(&machine.memory())?;
        let frontend = Frontend::connect(socket, info, regions, Patience::default())?;
        let attached = machine.attach_backend(frontend, Depth::Verbs)?;
        let layout = if shape.packed { Features::RING_PACKED } else { Features::NONE };
        let features = Options::default().features.without(Features::RING_PACKED) | layout;
        let options = Options { features, queue_size: QUEUE_SIZE, ..Options::default() };
        // Nothing else: the server has packets alone, whatever it offers.
        let wanted = if shape.mergeable { MRG_RXBUF } else { Features::NONE };
        let without = Features(!0).without(wanted);
        let plan = Plan { without, buffer_len: 2048 + 128, ..Plan::default() };
        let driver = Driver::new(attached.transport()?, &machine.dma(), &options, &plan);
        let mut driver = driver.map_err(|error| anyhow!("{error}"))?;
        driver.disable_callbacks(0).map_err(|error| anyhow!("{error}"))?;
        let mut frame = vec![0; shape.frame_len as usize];
        frame.iter_mut().zip(ADDRESSES).for_each(|(to, from)| *to = from);
        for _ in 0..PACKETS {
            driver.send(0, &Header::default(), &frame).map_err(|error| anyhow!("{error}"))?;
        }
        driver.kick(0).map_err(|error| anyhow!("{error}"))?;
        server.pause();
        Ok(Self { driver, _attached: attached, server })
    }

    /// Lets packets go round for about `length`; nanoseconds per packet.
    ///
    /// # Errors
    /// If none do, or the device breaks the rules.
    pub fn window(&mut self, length: Duration, processor: Option<CpuSet>) -> Result<f64> {
        pin(processor);
        self.server.resume();
        let outcome = self.go_round(length).map_err(|error| anyhow!("{error}"));
        self.server.pause();
        let (count, nanos) = outcome?;
        ensure!(count > 0, "no packet comes back");
        Ok(nanos / count as f64)
    }

    fn go_round(&mut self, length: Duration) -> Result<(u64, f64), vioduct_virtio_driver::RequestError> {
        let (began, mut count) = (Instant::now(), 0);
        while began.elapsed() < length {
            // The clock is looked at seldom: it is no part of a driver.
            for _ in 0..TURNS {
                for _ in 0..self.driver.at_hand(0)? {
                    let Some(packet) = self.driver.receive(0)? else { break };
                    self.driver.overwrite(0, &packet, &ADDRESSES)?;
                    self.driver.forward(0, packet)?;
                    count += 1;
                }
                self.driver.kick(0)?;
            }
        }
        Ok((count, began.elapsed().as_nanos() as f64))
    }
}
