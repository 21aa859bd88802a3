//! A device with several queues and handlers: each queue is served by its own, and interrupts by its own vector.
#![allow(clippy::unwrap_used)]

use vioduct_loopback::failure::same;
use vioduct_loopback::{Crossing, Depth, InterruptKind, Outcome, Rig, Setup, conformance};
use vioduct_spec::Features;
use vioduct_virtio_device::{DeviceInfo, DeviceModel, Fault, Handlers, Io, QueueHandler, Wake};

/// Answers with the number of the queue and of the handler.
struct Switchboard;

const QUEUES: u16 = 3;

struct Operator(u8);

impl DeviceModel for Switchboard {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::new(63, "switchboard", vec![16, 64, 8])
    }

    fn handlers(&mut self, _negotiated: Features) -> Handlers {
        vec![(0..1, Box::new(Operator(0))), (1..QUEUES, Box::new(Operator(1)))]
    }
}

impl QueueHandler for Operator {
    fn wake(&mut self, why: Wake, io: &mut Io<'_>) -> Result<(), Fault> {
        let Wake::Kick(q) = why else { return Ok(()) };
        io.serve(q, |chain| chain.writer().write_all(&[q as u8, self.0]).map(|()| 2))
    }
}

fn call_every_queue(rig: &mut Rig) -> Outcome {
    for (queue, operator) in [(2, 1), (0, 0), (1, 1), (2, 1)] {
        let reply = rig.request(queue, &[b"hello"], &[1, 1])?;
        same(format!("the answer of queue {queue}"), reply.bytes, vec![queue as u8, operator])?;
    }
    Ok(())
}

conformance!(switchboard, || Box::new(Switchboard), call_every_queue);

/// virtio 1.3 §4.1.5.1.2: vector 0 is the configuration's, and each queue has the next.
#[test]
fn each_queue_has_a_vector() {
    let setup = Setup { depth: Depth::Pci, features: Features::NONE, queue_size: 8 };
    let mut rig = Rig::new(Box::new(Switchboard), setup).unwrap();
    rig.bring_up().unwrap();
    for queue in 0..QUEUES {
        rig.machine().start_trace();
        rig.request(queue, &[], &[2]).unwrap();
        let trace = rig.machine().take_trace();
        let expected = Crossing::Interrupt(InterruptKind::Message { vector: queue + 1 });
        assert_eq!(trace.last(), Some(&expected), "{trace:?}");
        let doorbells = trace.iter().filter(|crossing| **crossing == Crossing::Doorbell { queue });
        assert_eq!(doorbells.count(), 1, "{trace:?}");
    }
}
