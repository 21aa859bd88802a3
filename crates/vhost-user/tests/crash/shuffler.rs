//! A device that answers a number with its complement, late and in any order.

use vioduct_virtio_device::{
    Chain, DeviceInfo, DeviceModel, EventFd, Fault, Features, Handlers, Interest, Io, QueueHandler, Signal,
    SourceId, Wake,
};

pub(crate) struct Shuffler;

impl DeviceModel for Shuffler {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(63, "shuffler", vec![64])
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        let event = EventFd::new().unwrap();
        vec![(0..1, Box::new(Shuffle { held: Vec::new(), event, random: 0x2545_f491_4f6c_dd1d }))]
    }
}

struct Shuffle {
    held: Vec<Chain>,
    event: EventFd,
    random: u64,
}

impl Shuffle {
    fn below(&mut self, limit: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % limit as u64) as usize
    }

    fn answer(&mut self, count: usize, io: &mut Io<'_>) -> Result<(), Fault> {
        for _ in 0..count {
            let any = self.below(self.held.len());
            let chain = self.held.swap_remove(any);
            let number = chain.reader().read_u64().unwrap();
            chain.writer().write_u64(!number).unwrap();
            io.complete(0, chain, 8)?;
        }
        Ok(())
    }
}

impl QueueHandler for Shuffle {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(_) => io.watch(&self.event, SourceId(0), Interest::Readable).unwrap(),
            Wake::Kick(queue) => {
                while let Some(chain) = io.pop(queue)? {
                    self.held.push(chain);
                }
            }
            Wake::Source(_) => {
                let _ = self.event.take();
                let some = self.below(self.held.len() + 1);
                self.answer(some, io)?;
            }
            Wake::Stopping(_) => self.answer(self.held.len(), io)?,
        }
        if !self.held.is_empty() {
            self.event.signal();
        }
        Ok(())
    }
}

impl Drop for Shuffle {
    fn drop(&mut self) {
        self.held.drain(..).for_each(Chain::discard);
    }
}
