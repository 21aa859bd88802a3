//! The tour's stops, each a thing that rings do, with the ring as it stands after it.

use super::device::{QUEUE_SIZE, TourDevice};
use super::{Link, Ring};
use crate::Failure;
use crate::labs::stage::failed;
use crate::report::{Check, Transcript, percentiles};
use std::time::{Duration, Instant};
use vioduct_loopback::{GuestDma, Stepped, Traffic};
use vioduct_spec::Features;
use vioduct_virtio_driver::device::Running;
use vioduct_virtio_driver::{Device, DmaBuffer, Transport};
use vioduct_virtqueue::{Buffer, MoreWork, RingView};

/// Length of each piece of a buffer.
const PIECE_LEN: u32 = 16;
/// Pieces that the tour has memory for: two of each kind for every descriptor.
const PIECES: u32 = 4 * QUEUE_SIZE as u32;

/// Buffers that came back, and how long each took.
pub(super) struct Operations {
    latencies: Vec<Duration>,
    bytes: u64,
}

impl Operations {
    pub(super) fn count(&self) -> u64 {
        self.latencies.len() as u64
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn median_ns(&self) -> u64 {
        percentiles(&mut self.latencies.clone()).0
    }

    pub(super) fn p99_ns(&self) -> u64 {
        percentiles(&mut self.latencies.clone()).1
    }
}

/// Both ends and where they are.
pub(super) struct Tour<'o> {
    device: Stepped<TourDevice>,
    driver: Device<Link, Running>,
    ring: Ring,
    memory: DmaBuffer<GuestDma>,
    next_piece: u32,
    added: Vec<(&'static str, Instant)>,
    done: Operations,
    out: &'o mut Transcript,
}

impl<'o> Tour<'o> {
    pub(super) fn new(
        device: Stepped<TourDevice>,
        driver: Device<Link, Running>,
        ring: Ring,
        out: &'o mut Transcript,
    ) -> Result<Self, Failure> {
        let memory = DmaBuffer::new(device.machine().dma(), (PIECES * PIECE_LEN) as usize)
            .map_err(failed("allocate buffers"))?;
        device.run();
        let done = Operations { latencies: Vec::new(), bytes: 0 };
        let tour = Self { device, driver, ring, memory, next_piece: 0, added: Vec::new(), done, out };
        Ok(tour)
    }

    /// The ring's memory, as lines.
    fn view(&self) -> Result<Vec<String>, Failure> {
        let layout = self.ring.ring().layout();
        let memory = self.device.machine().memory();
        let view = RingView::read(&*memory, layout, self.ring.ring().format())
            .map_err(failed("look at the ring"))?;
        Ok(view.lines().map(str::to_owned).collect())
    }

    /// Says what changed, and shows the ring.
    fn show(&mut self, sentence: impl Into<String>) -> Result<(), Failure> {
        let state = self.view()?;
        self.out.show(sentence, state);
        Ok(())
    }

    fn piece(&mut self) -> Result<Buffer, Failure> {
        let offset = (self.next_piece % PIECES) * PIECE_LEN;
        self.next_piece += 1;
        self.memory.piece(offset as usize, PIECE_LEN).map_err(failed("take a buffer"))
    }

    /// Adds a buffer of so many device-readable and device-writable pieces, without showing it to the device.
    fn add(&mut self, name: &'static str, readable: usize, writable: usize) -> Result<(), Failure> {
        let mut pieces = Vec::new();
        for _ in 0..readable + writable {
            pieces.push(self.piece()?);
        }
        let (readable, writable) = pieces.split_at(readable);
        self.added.push((name, Instant::now()));
        self.ring
            .add(readable, writable, name)
            .map_err(|(error, name)| Failure::Failed(format!("add buffer {name}: {error}")))
    }

    /// Shows the device what was added, and lets it run. How many doorbells that took.
    fn kick(&mut self) -> Result<u64, Failure> {
        let before = self.traffic();
        self.ring.kick(self.driver.transport()).map_err(failed("kick"))?;
        self.device.run();
        Ok((self.traffic() - before).doorbells)
    }

    /// Has the device give buffers back: by their place among those that it holds. How many interrupts that took.
    fn give_back(&mut self, places: &[usize]) -> u64 {
        let before = self.traffic();
        self.device.with_model(|model| {
            let held = model.held();
            let ids: Vec<u16> = places.iter().filter_map(|place| held.get(*place).copied()).collect();
            model.order(&ids);
        });
        self.device.run();
        let interrupts = (self.traffic() - before).interrupts;
        let _ = self.driver.transport().take_interrupts();
        interrupts
    }

    /// The names of the buffers that have come back, in the order in which the device says so.
    fn get_all(&mut self) -> Result<Vec<&'static str>, Failure> {
        let mut names = Vec::new();
        while let Some(completion) = self.ring.get().map_err(failed("get"))? {
            if let Some(place) = self.added.iter().position(|(name, _)| *name == completion.token) {
                let (_, since) = self.added.remove(place);
                self.done.latencies.push(since.elapsed());
            }
            self.done.bytes += u64::from(PIECE_LEN + completion.written);
            names.push(completion.token);
        }
        Ok(names)
    }

    fn traffic(&self) -> Traffic {
        self.device.machine().traffic()
    }

    fn check_names(&mut self, names: &[&str], expected: &[&str], sentence: &str) {
        let text = format!("get: {} ({sentence})", names.join(", "));
        self.out.check(text, Check::equal(&names, &expected));
    }

    pub(super) fn add_kick_and_get(&mut self) -> Result<(), Failure> {
        self.add("A", 1, 1)?;
        self.show("add: buffer A takes two descriptors, one the device may read and one it may write; it cannot see them yet")?;
        let doorbells = self.kick()?;
        self.out.check(
            format!("kick: {doorbells} doorbell, for the device had asked for one"),
            Check::equal(&doorbells, &1),
        );
        let held = self.device.with_model(|model| model.held().len());
        self.show(format!("the driver published A, the device has taken it: it holds {held} buffer"))?;
        let _ = self.ring.enable_callback();
        let interrupts = self.give_back(&[0]);
        self.show(format!(
            "the device used A: it wrote {PIECE_LEN} bytes and said so, with {interrupts} interrupt"
        ))?;
        let names = self.get_all()?;
        self.check_names(&names, &["A"], "its descriptors are free again");
        Ok(())
    }

    pub(super) fn complete_out_of_order(&mut self) -> Result<(), Failure> {
        for name in ["B", "C", "D"] {
            self.add(name, 1, 1)?;
        }
        let doorbells = self.kick()?;
        self.out.check(
            format!("B, C and D were added and published together: {doorbells} doorbell for three buffers"),
            Check::equal(&doorbells, &1),
        );
        let _ = self.give_back(&[2, 0]);
        self.show("the device used D, then B, and keeps C: completion has an order of its own")?;
        let names = self.get_all()?;
        self.check_names(&names, &["D", "B"], "as the device said, not as they were added");
        let _ = self.give_back(&[0]);
        let names = self.get_all()?;
        self.check_names(&names, &["C"], "the last one");
        Ok(())
    }

    pub(super) fn use_a_table(&mut self) -> Result<(), Failure> {
        let before = self.ring.ring().free_descriptors();
        self.add("E", 2, 2)?;
        let taken = before - self.ring.ring().free_descriptors();
        self.show(
            "indirect: the four pieces of E are in a table of their own, to which one descriptor refers",
        )?;
        self.out.check(format!("E took {taken} descriptor of the ring"), Check::equal(&taken, &1));
        self.kick()?;
        let _ = self.give_back(&[0]);
        let names = self.get_all()?;
        self.check_names(&names, &["E"], "through its table");
        Ok(())
    }

    pub(super) fn turn_callbacks_off_and_on(&mut self) -> Result<(), Failure> {
        self.ring.disable_callback();
        self.show("callbacks off: the driver asks for no interrupts while it works")?;
        for name in ["F", "G", "H"] {
            self.add(name, 1, 0)?;
        }
        self.kick()?;
        let interrupts = self.give_back(&[0]);
        self.out.check(format!("the device used F: {interrupts} interrupts"), Check::equal(&interrupts, &0));
        let names = self.get_all()?;
        self.check_names(&names, &["F"], "and the driver, finding no more, is about to sleep");
        let interrupts = self.give_back(&[0]);
        self.out.check(
            format!("the race: just now the device uses G, still without an interrupt ({interrupts})"),
            Check::equal(&interrupts, &0),
        );
        let more = self.ring.enable_callback();
        self.show("callbacks on: the driver asks for an interrupt and looks once more, in this order")?;
        self.out.check(
            format!("the second look finds G ({more:?}): without it the driver would sleep for ever"),
            Check::equal(&more, &MoreWork::Pending),
        );
        let names = self.get_all()?;
        self.check_names(&names, &["G"], "found by the second look");
        let more = self.ring.enable_callback();
        let interrupts = self.give_back(&[0]);
        self.out.check(
            format!("asked again and nothing there ({more:?}), so the driver sleeps; H wakes it with {interrupts} interrupt"),
            Check::equal(&(more, interrupts), &(MoreWork::None, 1)),
        );
        let names = self.get_all()?;
        self.check_names(&names, &["H"], "after the interrupt");
        Ok(())
    }

    pub(super) fn wrap_around(&mut self) -> Result<(), Failure> {
        let start = self.ring.ring().next_available();
        let packed = self.driver.negotiated().contains(Features::RING_PACKED);
        // Once round: a packed ring advances by descriptors, of which each buffer takes two, a split one by buffers.
        let buffers = if packed { QUEUE_SIZE / 2 } else { QUEUE_SIZE };
        for _ in 0..buffers {
            self.add("round", 1, 1)?;
            self.kick()?;
            let _ = self.give_back(&[0]);
            if self.get_all()? != ["round"] {
                return Err(Failure::Failed("a buffer got lost where the ring wraps".to_owned()));
            }
        }
        let end = self.ring.ring().next_available();
        let sentence = if packed {
            format!(
                "wrap-around: from descriptor {} to {}; the wrap counter was {} and is {}, so a descriptor's bits say of which round it is",
                start.index,
                end.index,
                start.wrap.bit(),
                end.wrap.bit()
            )
        } else {
            format!(
                "wrap-around: the index went from {} to {} and never wraps at the queue size; entry {} of the ring is next",
                start.index,
                end.index,
                end.index % QUEUE_SIZE
            )
        };
        self.show(sentence)
    }

    pub(super) fn reset_the_queue(&mut self) -> Result<(), Failure> {
        self.add("X", 1, 1)?;
        self.add("Y", 1, 1)?;
        self.kick()?;
        let mut unused = self.ring.restart(self.driver.transport()).map_err(failed("reset the queue"))?;
        unused.sort_unstable();
        self.added.clear();
        self.show("queue reset with X and Y in flight: the ring starts anew, the device keeps running")?;
        self.out.check(
            format!("the driver has {} back, unused", unused.join(" and ")),
            Check::equal(&unused, &vec!["X", "Y"]),
        );
        self.device.run();
        self.add("Z", 1, 1)?;
        self.kick()?;
        let _ = self.give_back(&[0]);
        let names = self.get_all()?;
        self.check_names(&names, &["Z"], "on the new ring");
        Ok(())
    }

    /// Ends the tour; what it did.
    pub(super) fn reset_the_device(self) -> Result<Operations, Failure> {
        let Self { device, driver, ring, memory, done, out, .. } = self;
        let reset = driver.reset().map_err(failed("reset the device"))?;
        let status = device.with_endpoint(|endpoint| endpoint.status());
        out.check(
            format!("device reset: status is {status}, and all memory is the driver's again"),
            Check::equal(&status, &vioduct_spec::Status::RESET),
        );
        drop((reset, ring, memory));
        Ok(done)
    }
}
