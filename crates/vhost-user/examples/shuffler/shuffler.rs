//! A device that answers a number with its complement, late and in any order.

use std::io;
use std::sync::Arc;
use vioduct_virtio_device::{
    BufferError, Chain, DeviceInfo, DeviceModel, EventFd, Fault, Features, Handlers, Interest, Io,
    QueueHandler, Signal, SourceId, Wake,
};

pub(crate) struct Shuffler {
    again: Arc<EventFd>,
}

impl Shuffler {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { again: Arc::new(EventFd::new()?) })
    }
}

impl DeviceModel for Shuffler {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(63, "shuffler", vec![64])
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        let shuffle = Shuffle { held: Vec::new(), again: self.again.clone(), random: 0x2545_f491_4f6c_dd1d };
        vec![(0..1, Box::new(shuffle))]
    }
}

/// What is held is held on purpose: it is answered in a later wake, which the handler causes by itself.
struct Shuffle {
    held: Vec<Chain>,
    again: Arc<EventFd>,
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
            let written = complement(&chain).unwrap_or(0);
            io.complete(0, chain, written)?;
        }
        Ok(())
    }
}

/// How many bytes were written.
fn complement(chain: &Chain) -> Result<u32, BufferError> {
    let number = chain.reader().read_u64()?;
    chain.writer().write_u64(!number)?;
    Ok(8)
}

impl QueueHandler for Shuffle {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        match why {
            Wake::Started(_) => io
                .watch(&*self.again, SourceId(0), Interest::Readable)
                .map_err(|_| Fault::Device("it cannot wake itself".into()))?,
            Wake::Kick(queue) => {
                while let Some(chain) = io.pop(queue)? {
                    self.held.push(chain);
                }
            }
            Wake::Source(_) => {
                let _ = self.again.take();
                let some = self.below(self.held.len() + 1);
                self.answer(some, io)?;
            }
            Wake::Stopping(_) => self.answer(self.held.len(), io)?,
        }
        if !self.held.is_empty() {
            self.again.signal();
        }
        Ok(())
    }
}

impl Drop for Shuffle {
    fn drop(&mut self) {
        self.held.drain(..).for_each(Chain::discard);
    }
}
