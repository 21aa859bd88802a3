//! Tests of the runners: what a handler sees, over split and packed rings, stepped and threaded.

mod stepped;
mod threaded;

use crate::backend::EventFd;
use crate::handler::{Fault, Interest, Io, QueueHandler, SourceId, Wake};
use crate::model::{DeviceInfo, DeviceModel, Handlers};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use vioduct_spec::Features;
use vioduct_virtqueue::{BufferError, Chain};

/// A device made of functions.
struct Scripted {
    queues: Vec<u16>,
    make: Box<dyn FnMut() -> Handlers + Send>,
}

impl DeviceModel for Scripted {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(63, "scripted", self.queues.clone())
    }
    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        (self.make)()
    }
}

impl Scripted {
    /// Has every wake go to `wake`.
    fn new<F>(queues: Vec<u16>, wake: F) -> Self
    where
        F: FnMut(Wake, &mut Io<'_>) -> Result<(), Fault> + Clone + Send + 'static,
    {
        let all = 0..queues.len() as u16;
        Self::in_lanes(queues, vec![all], wake)
    }

    /// Has the wakes of each range of queues go to a copy of `wake`.
    fn in_lanes<F>(queues: Vec<u16>, lanes: Vec<Range<u16>>, wake: F) -> Self
    where
        F: FnMut(Wake, &mut Io<'_>) -> Result<(), Fault> + Clone + Send + 'static,
    {
        let make = move || {
            let handler =
                |range: &Range<u16>| (range.clone(), Box::new(Script(wake.clone())) as Box<dyn QueueHandler>);
            lanes.iter().map(handler).collect()
        };
        Self { queues, make: Box::new(make) }
    }
}

struct Script<F>(F);

impl<F: FnMut(Wake, &mut Io<'_>) -> Result<(), Fault> + Send> QueueHandler for Script<F> {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        (self.0)(why, io)
    }
}

/// Answers a byte with the next.
fn increment(chain: &Chain) -> Result<u32, BufferError> {
    let [byte] = chain.reader().read_array::<1>()?;
    chain.writer().write_all(&[byte.wrapping_add(1)])?;
    Ok(1)
}

/// A device of one queue that answers at once.
fn incrementer() -> Scripted {
    Scripted::new(vec![64], |why, io| match why {
        Wake::Kick(q) => io.serve(q, increment),
        _ => Ok(()),
    })
}

/// As [`incrementer`], reporting why it was woken.
fn reporting(queues: Vec<u16>) -> (Scripted, Receiver<Wake>) {
    let (sender, wakes) = channel();
    let model = Scripted::new(queues, move |why, io| {
        sender.send(why).unwrap();
        match why {
            Wake::Kick(q) => io.serve(q, increment),
            _ => Ok(()),
        }
    });
    (model, wakes)
}

/// A device that holds what it pops until `finish` is signalled, as one whose I/O takes time.
fn holding(finish: Arc<EventFd>) -> (Scripted, Receiver<Wake>) {
    let (sender, wakes): (Sender<Wake>, _) = channel();
    let make = move || -> Handlers {
        let (mut held, sender, finish) = (Vec::new(), sender.clone(), finish.clone());
        let script = Script(move |why, io: &mut Io<'_>| {
            sender.send(why).unwrap();
            match why {
                Wake::Started(_) => io.watch(&*finish, SourceId(7), Interest::Readable).unwrap(),
                Wake::Kick(q) => {
                    while let Some(chain) = io.pop(q)? {
                        held.push(chain);
                    }
                }
                Wake::Source(id) => {
                    assert_eq!((id, finish.take() > 0), (SourceId(7), true));
                    for chain in held.drain(..) {
                        let written = increment(&chain).unwrap();
                        io.complete(0, chain, written)?;
                    }
                }
                Wake::Stopping(_) => {}
            }
            Ok(())
        });
        vec![(0..1, Box::new(script))]
    };
    (Scripted { queues: vec![16], make: Box::new(make) }, wakes)
}
