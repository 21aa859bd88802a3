use super::{Events, Options, Taken};
use crate::demo::{Demo, Request};
use crate::device::Device;
use crate::entropy::Entropy;
use crate::error::RequestError;
use crate::fakes::{Call, FakeTransport, TestMemory};
use crate::segmentation::Segmentation;
use crate::test::{Echo, Test, TestConfig};
use crate::transport::Interrupts;
use core::cell::RefCell;
use core::num::NonZeroU32;
use core::ops::ControlFlow;
use core::task::Waker;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Wake;
use std::vec;
use std::vec::Vec;
use vioduct_spec::ring::split;
use vioduct_spec::{Features, Status, demo, device_type, test};
use vioduct_virtqueue::{IoAddr, Memory, Notify, Queue, QueueError, QueuePosition, RingLayout};

type Shared = Arc<TestMemory>;

fn options(segmentation: Segmentation) -> Options {
    Options { segmentation, queue_size: 32, ..Options::default() }
}

fn device_end(memory: &Shared, layout: Option<RingLayout>, negotiated: Features) -> Queue {
    Queue::new(memory.clone(), layout.unwrap(), negotiated, QueuePosition::START).unwrap()
}

fn demo_over(features: Features, options: &Options) -> (Demo<FakeTransport, Shared>, Queue, Shared) {
    let memory = TestMemory::new();
    let transport = FakeTransport::new(features | Features::VERSION_1);
    let mut demo = Demo::new(transport, memory.clone(), options).unwrap();
    let layout = demo.device().transport().layout;
    let queue = device_end(&memory, layout, demo.device().negotiated());
    (demo, queue, memory)
}

/// Answers everything that is available with what `answer` makes of it, and returns how many descriptors each request took.
fn serve(queue: &mut Queue, mut answer: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<usize> {
    let mut descriptors = Vec::new();
    while let Some(chain) = queue.pop().unwrap() {
        descriptors.push(chain.readable().len() + chain.writable().len());
        let mut request = vec![0; chain.readable_len() as usize];
        chain.reader().read_exact(&mut request).unwrap();
        let reply = answer(&request);
        let room = chain.writable_len() as usize;
        let reply = &reply[..reply.len().min(room)];
        chain.writer().write_all(reply).unwrap();
        queue.complete(chain, reply.len() as u32).unwrap();
    }
    _ = queue.publish().unwrap();
    descriptors
}

/// Repeats opcode and operand, as the device does for a write.
fn repeat(request: &[u8]) -> Vec<u8> {
    request.to_vec()
}

/// Waits by serving the queue.
fn serving(queue: &mut Queue) -> impl FnMut() -> ControlFlow<()> {
    move || {
        serve(queue, repeat);
        ControlFlow::Continue(())
    }
}

/// Puts an entry into a split used ring by hand, as a device that lies does.
fn lie(memory: &Shared, layout: RingLayout, index: u16, (id, len): (u32, u32)) {
    let at = |offset: usize| IoAddr(layout.device_area.0 + offset as u64);
    let entry = split::USED_RING + split::USED_ELEMENT_SIZE * usize::from(index % layout.size);
    memory.write(at(entry), &[id.to_le_bytes(), len.to_le_bytes()].concat()).unwrap();
    memory.write(at(split::USED_IDX), &(index + 1).to_le_bytes()).unwrap();
}

#[test]
fn s2_7_4_requests_may_be_cut_at_any_byte() {
    let cuts = (1..8).flat_map(|readable| (1..8).map(move |writable| (vec![readable], vec![writable])));
    let at = cuts.map(|(readable, writable)| (Segmentation::At { readable, writable }, 4));
    let every = NonZeroU32::new(1).map(|bytes| (Segmentation::Every(bytes), 16));
    let cases = at.chain(every).chain([(Segmentation::Whole, 2)]);
    for (segmentation, descriptors) in cases {
        for features in [Features::NONE, Features::RING_PACKED, Features::INDIRECT_DESC] {
            let (mut demo, mut queue, _memory) = demo_over(features, &options(segmentation.clone()));
            let mut taken = Vec::new();
            let mut wait = || {
                taken.extend(serve(&mut queue, repeat));
                ControlFlow::Continue(())
            };
            assert_eq!(demo.write(0xaabb_ccdd, &mut wait), Ok(0xaabb_ccdd), "{segmentation:?}");
            assert_eq!(taken, [descriptors], "{segmentation:?} with {features}");
        }
    }
}

#[test]
fn a_batch_is_submitted_notified_once_and_taken_in_any_order() {
    let (mut demo, mut queue, _memory) = demo_over(Features::NONE, &Options::default());
    let mut tickets: Vec<_> = (0..10).map(|value| demo.submit(Request::Write(value)).unwrap()).collect();
    demo.kick().unwrap();
    let notified = demo.device().transport().calls.iter().filter(|call| **call == Call::Notify(0)).count();
    assert_eq!(notified, 1);
    let last = tickets.pop().unwrap();
    let Taken::Pending(last) = demo.take(last).unwrap() else { panic!("not served yet") };
    serve(&mut queue, repeat);
    assert_eq!(demo.poll(), Ok(10));
    assert_eq!(demo.take(last), Ok(Taken::Done(9)));
    for (value, ticket) in (0..9).zip(tickets) {
        assert_eq!(demo.take(ticket), Ok(Taken::Done(value)));
    }
}

#[test]
fn a_full_queue_says_so_and_goes_on() {
    let (mut demo, mut queue, _memory) = demo_over(Features::NONE, &options(Segmentation::Whole));
    let tickets: Vec<_> = (0..16).map(|value| demo.submit(Request::Write(value)).unwrap()).collect();
    assert_eq!(demo.submit(Request::Read), Err(RequestError::Full));
    demo.kick().unwrap();
    serve(&mut queue, repeat);
    demo.poll().unwrap();
    assert_eq!(demo.write(77, &mut serving(&mut queue)), Ok(77));
    assert_eq!(tickets.into_iter().map(|ticket| demo.take(ticket).unwrap()).next(), Some(Taken::Done(0)));
}

#[test]
fn row76_a_short_reply_is_an_error_and_not_what_the_buffer_held() {
    let (mut demo, mut queue, _memory) = demo_over(Features::NONE, &Options::default());
    assert_eq!(demo.write(5, &mut serving(&mut queue)), Ok(5));
    for short in 0..8 {
        let mut wait = || {
            serve(&mut queue, |request| request[..short].to_vec());
            ControlFlow::Continue(())
        };
        let error = RequestError::ShortReply { written: short as u32, wanted: 8 };
        assert_eq!(demo.write(6, &mut wait), Err(error));
        let ticket = demo.submit(Request::Write(7)).unwrap();
        demo.kick().unwrap();
        serve(&mut queue, |request| request[..short].to_vec());
        demo.poll().unwrap();
        assert_eq!(demo.take(ticket), Err(error));
    }
}

#[test]
fn row76_a_length_beyond_the_buffer_is_limited_to_it() {
    let memory = TestMemory::new();
    let mut transport = FakeTransport::new(Features::VERSION_1);
    transport.device_type = device_type::ENTROPY;
    let mut entropy = Entropy::new(transport, memory.clone(), &Options::default()).unwrap();
    let layout = entropy.device().transport().layout.unwrap();
    let mut wait = || {
        lie(&memory, layout, 0, (0, u32::MAX));
        ControlFlow::Continue(())
    };
    let mut out = [0xff; 16];
    assert_eq!(entropy.fill(&mut out, &mut wait), Ok(()));
    assert_eq!(out, [0; 16], "the posted 16 bytes, which the device left as they were");
}

#[test]
fn s5_4_6_a_partly_filled_buffer_is_asked_for_again_and_an_empty_one_is_an_error() {
    let memory = TestMemory::new();
    let mut transport = FakeTransport::new(Features::VERSION_1);
    transport.device_type = device_type::ENTROPY;
    let mut entropy = Entropy::new(transport, memory.clone(), &Options::default()).unwrap();
    let layout = entropy.device().transport().layout;
    let mut queue = device_end(&memory, layout, Features::VERSION_1);
    let mut out = [0; 20];
    let mut round = 0;
    let filled = entropy.fill(&mut out, &mut || {
        round += 1;
        serve(&mut queue, |_| vec![round; 9]);
        ControlFlow::Continue(())
    });
    assert_eq!((filled, out[8], out[9], out[18], out[19]), (Ok(()), 1, 2, 3, 3));
    let empty = entropy.fill(&mut out, &mut || {
        serve(&mut queue, |_| Vec::new());
        ControlFlow::Continue(())
    });
    assert_eq!(empty, Err(RequestError::ShortReply { written: 0, wanted: 1 }));
}

#[test]
fn row78_an_invented_id_breaks_the_queue_and_nothing_else() {
    for id in [1, 31, 32, 0xffff, 0x1_0000, u32::MAX] {
        let (mut demo, _queue, memory) = demo_over(Features::NONE, &options(Segmentation::Whole));
        let layout = demo.device().transport().layout.unwrap();
        let ticket = demo.submit(Request::Read).unwrap();
        demo.kick().unwrap();
        lie(&memory, layout, 0, (id, 8));
        assert_eq!(demo.poll(), Err(RequestError::Queue(QueueError::BufferId(id.min(0xffff) as u16))));
        assert_eq!(demo.submit(Request::Read), Err(RequestError::Queue(QueueError::Broken)));
        assert_eq!(demo.take(ticket).map(|taken| matches!(taken, Taken::Pending(_))), Ok(true));
        let mut demo = demo.restart(&Options::default()).unwrap();
        let layout = demo.device().transport().layout;
        let mut queue = device_end(&memory, layout, Features::VERSION_1);
        assert_eq!(demo.write(3, &mut serving(&mut queue)), Ok(3));
    }
}

#[test]
fn row78_a_second_completion_of_one_buffer_breaks_the_queue() {
    let (mut demo, _queue, memory) = demo_over(Features::NONE, &Options::default());
    let layout = demo.device().transport().layout.unwrap();
    let first = demo.submit(Request::Read).unwrap();
    let second = demo.submit(Request::Read).unwrap();
    demo.kick().unwrap();
    lie(&memory, layout, 0, (0, 8));
    assert_eq!(demo.poll(), Ok(1));
    lie(&memory, layout, 1, (0, 8));
    assert_eq!(demo.poll(), Err(RequestError::Queue(QueueError::BufferId(0))));
    assert_eq!(demo.take(first).map(|taken| matches!(taken, Taken::Done(_))), Ok(true));
    assert_eq!(demo.take(second).map(|taken| matches!(taken, Taken::Pending(_))), Ok(true));
}

#[test]
fn giving_up_leaves_the_memory_with_the_device_and_drops_the_answer() {
    let (mut demo, mut queue, _memory) = demo_over(Features::NONE, &Options::default());
    assert_eq!(demo.write(1, &mut || ControlFlow::Break(())), Err(RequestError::GaveUp));
    assert_eq!(demo.write(2, &mut serving(&mut queue)), Ok(2));
    let slots = demo.queue().virtqueue().ring().size();
    for value in 0..u32::from(slots) * 2 {
        assert_eq!(demo.write(value, &mut serving(&mut queue)), Ok(value));
    }
}

#[test]
fn s2_1_1_a_wait_ends_when_the_device_needs_a_reset() {
    let (mut demo, _queue, _memory) = demo_over(Features::NONE, &Options::default());
    let ticket = demo.submit(Request::Read).unwrap();
    demo.device().transport().status = Status(1 | 2 | 4 | 8 | 64);
    assert_eq!(demo.write(1, &mut || ControlFlow::Continue(())), Err(RequestError::NeedsReset));
    demo.device().transport().interrupts = Interrupts { queue: false, config: true };
    assert_eq!(demo.service(), Err(RequestError::NeedsReset));
    let mut demo = demo.restart(&Options::default()).unwrap();
    let same_slot = demo.submit(Request::Read).unwrap();
    assert_eq!(demo.take(ticket), Err(RequestError::StaleTicket));
    assert_eq!(demo.take(same_slot).map(|taken| matches!(taken, Taken::Pending(_))), Ok(true));
}

#[test]
fn s2_6_1_a_queue_reset_loses_what_was_in_flight_and_starts_empty() {
    let (mut demo, _queue, memory) = demo_over(Features::RING_RESET, &Options::default());
    let ticket = demo.submit(Request::Read).unwrap();
    demo.kick().unwrap();
    demo.restart_queue().unwrap();
    assert_eq!(demo.device().transport().calls[9..], [Call::ResetQueue(0), Call::Enable(0)]);
    assert_eq!(demo.take(ticket), Err(RequestError::StaleTicket));
    let layout = demo.device().transport().layout;
    let mut queue = device_end(&memory, layout, Features::VERSION_1);
    assert_eq!(demo.write(4, &mut serving(&mut queue)), Ok(4));
}

#[test]
fn an_unknown_opcode_is_refused() {
    let (mut demo, mut queue, _memory) = demo_over(Features::NONE, &Options::default());
    let mut wait = || {
        serve(&mut queue, |_| demo::OP_INVALID.to_le_bytes().repeat(2));
        ControlFlow::Continue(())
    };
    let request = Request::Raw { opcode: 9, operand: 1 };
    assert_eq!(demo.call(request, &mut wait), Err(RequestError::Refused));
}

struct Count(AtomicU32);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn s2_7_7_2_an_interrupt_is_serviced_with_callbacks_off_and_on_again() {
    for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED] {
        let (mut demo, mut queue, _memory) = demo_over(features, &Options::default());
        let woken = Arc::new(Count(AtomicU32::new(0)));
        demo.queue().set_waker(Some(Waker::from(woken.clone())));
        for round in 1..4 {
            let tickets = [(); 3].map(|()| demo.submit(Request::Write(round)).unwrap());
            demo.kick().unwrap();
            let chain = queue.pop().unwrap().unwrap();
            chain.writer().write_all(&[0; 8]).unwrap();
            queue.complete(chain, 8).unwrap();
            assert_eq!(queue.publish(), Ok(Notify::Needed), "callbacks are on with {features}");
            serve(&mut queue, repeat);
            demo.device().transport().interrupts = Interrupts { queue: true, config: false };
            assert_eq!(demo.service(), Ok(Events { completed: 3, config_changed: false }));
            assert_eq!(woken.0.load(Ordering::Relaxed), round);
            for ticket in tickets {
                assert!(matches!(demo.take(ticket), Ok(Taken::Done(_))));
            }
        }
        assert_eq!(demo.service(), Ok(Events::default()));
    }
}

/// Notes whether the driver wants notifications at the moment when it is woken.
struct Look {
    memory: Shared,
    flags_at: IoAddr,
    wanted: AtomicU32,
}

impl Wake for Look {
    fn wake(self: Arc<Self>) {
        let mut flags = [0xff; 2];
        self.memory.read(self.flags_at, &mut flags).unwrap();
        self.wanted.store(u32::from(u16::from_le_bytes(flags)), Ordering::Relaxed);
    }
}

#[test]
fn s2_7_7_2_callbacks_are_off_while_the_queue_is_drained() {
    let (mut demo, mut queue, memory) = demo_over(Features::NONE, &Options::default());
    let layout = demo.device().transport().layout.unwrap();
    let look = Arc::new(Look { memory, flags_at: layout.driver_area, wanted: AtomicU32::new(0xff) });
    demo.queue().set_waker(Some(Waker::from(look.clone())));
    let ticket = demo.submit(Request::Write(1)).unwrap();
    demo.kick().unwrap();
    serve(&mut queue, repeat);
    demo.device().transport().interrupts = Interrupts { queue: true, config: false };
    assert_eq!(demo.service().map(|events| events.completed), Ok(1));
    assert_eq!(look.wanted.load(Ordering::Relaxed), u32::from(split::AVAIL_F_NO_INTERRUPT));
    assert_eq!(demo.take(ticket), Ok(Taken::Done(1)));
    Wake::wake_by_ref(&look);
    assert_eq!(look.wanted.load(Ordering::Relaxed), 0, "on again");
}

fn test_over(features: Features) -> (Test<FakeTransport, Shared>, Option<Queue>) {
    let memory = TestMemory::new();
    let mut transport = FakeTransport::new(features | Features::VERSION_1);
    transport.device_type = device_type::TEST;
    let driver = Test::new(transport, memory.clone(), device_type::TEST, &Options::default());
    let mut driver = driver.unwrap();
    let layout = driver.device().transport().layout;
    let queue = layout.map(|layout| device_end(&memory, Some(layout), Features::VERSION_1));
    (driver, queue)
}

#[test]
fn virtio_test_requests_are_laid_out_as_the_lab_says() {
    let (mut driver, queue) = test_over(test::F_CAN_PRINT);
    let mut queue = queue.unwrap();
    let seen = RefCell::new(Vec::new());
    let mut replies =
        vec![479_001_600u32.to_le_bytes().to_vec(), [111u32, 112, 113].map(u32::to_le_bytes).concat()];
    let mut wait = || {
        serve(&mut queue, |request| {
            seen.borrow_mut().push(request.to_vec());
            replies.remove(0)
        });
        ControlFlow::Continue(())
    };
    assert_eq!(driver.factorial(12, "hi", &mut wait), Ok(479_001_600));
    assert_eq!(driver.echo(10, &mut wait), Ok(Echo { ret: 111, arg1: 112, arg2: 113 }));
    let padded = |words: &[u32], text: &str| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend(text.as_bytes());
        bytes.resize(words.len() * 4 + 32, 0);
        bytes
    };
    assert_eq!(seen.into_inner(), [padded(&[12], "hi"), padded(&[10, 11, 12, 13], "hello back end!")]);
}

#[test]
fn virtio_test_without_can_print_uses_no_queue() {
    let (mut driver, queue) = test_over(Features::NONE);
    assert!(queue.is_none());
    let mut wait = || ControlFlow::Continue(());
    assert_eq!(driver.factorial(3, "", &mut wait), Err(RequestError::NoQueue));
    assert_eq!(driver.service(), Ok(Events::default()));
}

#[test]
fn virtio_test_configuration_is_read_and_written_back() {
    let (mut driver, _queue) = test_over(test::F_CAN_PRINT);
    let config = TestConfig { num_pages: 1, actual: 0x0203_0405, event: u32::MAX };
    driver.write_config(config).unwrap();
    assert_eq!(driver.read_config(), Ok(config));
    driver.device().transport().config.truncate(8);
    assert!(matches!(driver.read_config(), Err(RequestError::Transport(_))));
}

#[test]
fn a_driver_borrows_its_transport_too() {
    let mut transport = FakeTransport::new(Features::VERSION_1);
    let memory = TestMemory::new();
    let device = Device::new(&mut transport).unwrap();
    drop(Demo::start(device, memory.clone(), &Options::default()).unwrap());
    assert_eq!((transport.calls.last(), memory.live()), (Some(&Call::Status(0)), 0));
}
