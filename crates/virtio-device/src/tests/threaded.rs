use super::*;
use crate::backend::{Backend, Signal};
use crate::handler::Budget;
use crate::rig::{Reply, Rig};
use crate::workers::{BusyPoll, WorkerPolicy, Workers};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};
use vioduct_spec::Status;
use vioduct_virtqueue::{IoAddr, Memory, MoreWork};

const PATIENCE: Duration = Duration::from_secs(20);

type Threaded = Rig<Workers<Scripted>>;

/// A device of one queue whose used-buffer notifications come by eventfd.
fn rig(model: Scripted, policy: WorkerPolicy, features: Features) -> (Threaded, Arc<EventFd>) {
    let mut rig = Rig::in_reset(Workers::with_policy(model, policy)).unwrap();
    let call = Arc::new(EventFd::new().unwrap());
    rig.endpoint.set_queue_call(0, call.clone());
    rig.negotiate(features).unwrap();
    rig.enable_queue(0).unwrap();
    rig.write_status(Status::DRIVER_OK).unwrap();
    (rig, call)
}

fn policies() -> [WorkerPolicy; 3] {
    let policy = |busy_poll| WorkerPolicy { busy_poll, ..WorkerPolicy::default() };
    [
        policy(BusyPoll::Off),
        policy(BusyPoll::Adaptive(Duration::from_micros(50))),
        policy(BusyPoll::Fixed(Duration::from_micros(20))),
    ]
}

/// Sleeps until the eventfd is signalled; a lost notification fails the test.
fn wait(fd: &EventFd) {
    let limit = Timespec { tv_sec: 20, tv_nsec: 0 };
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    assert_eq!(poll(&mut fds, Some(&limit)).unwrap(), 1, "a notification was lost");
    assert!(fd.take() > 0);
}

/// The next reply, sleeping as a driver does: it asks for a notification, and looks again.
fn reply(rig: &mut Threaded, call: &EventFd) -> Reply {
    loop {
        if let Some(reply) = rig.take(0).unwrap() {
            return reply;
        }
        if rig.queue(0).unwrap().enable_callback() == MoreWork::None {
            wait(call);
        }
    }
}

/// Both sides sleep whenever they find nothing, so that a notification lost on either ends the test.
#[test]
fn row23_no_notification_is_lost_between_threads() {
    const REQUESTS: u64 = 2000;
    for policy in policies() {
        for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED | Features::EVENT_IDX] {
            let (mut rig, call) = rig(incrementer(), policy.clone(), features);
            let (mut sent, mut got) = (0u64, 0u64);
            while got < REQUESTS {
                let batch = 1 + sent % 7;
                while sent < REQUESTS && sent - got < batch {
                    rig.submit(0, &[&[sent as u8]], &[1]).unwrap();
                    sent += 1;
                }
                let _ = rig.kick(0).unwrap();
                while got < sent {
                    assert_eq!(reply(&mut rig, &call).bytes, [(got as u8).wrapping_add(1)]);
                    got += 1;
                }
            }
            rig.endpoint.pause();
            let stats = rig.endpoint.backend().stats(0).unwrap();
            assert_eq!(stats.chains, REQUESTS);
            assert!(stats.signals <= REQUESTS && stats.kicks <= REQUESTS && stats.signals > 0, "{stats:?}");
        }
    }
}

/// The device sleeps before each request, so each needs its kick: once by a trap, once by eventfd.
#[test]
fn kicks_arrive_by_trap_and_by_eventfd() {
    let mut rig = Rig::in_reset(Workers::new(incrementer())).unwrap();
    let (kick, call) = (Arc::new(EventFd::new().unwrap()), Arc::new(EventFd::new().unwrap()));
    rig.endpoint.set_queue_kick(0, Some(kick.clone()));
    rig.endpoint.set_queue_call(0, call.clone());
    rig.negotiate(Features::NONE).unwrap();
    rig.enable_queue(0).unwrap();
    rig.write_status(Status::DRIVER_OK).unwrap();
    for byte in 0..20 {
        rig.submit(0, &[&[byte]], &[1]).unwrap();
        let _ = rig.queue(0).unwrap().kick_prepare();
        if byte % 2 == 0 {
            kick.signal()
        } else {
            rig.endpoint.notify(0)
        }
        assert_eq!(reply(&mut rig, &call).bytes, [byte + 1]);
    }
}

#[test]
fn a_budget_of_one_chain_still_serves_all() {
    let policy = WorkerPolicy { budget: Budget { chains: 1, bytes: 1 }, ..WorkerPolicy::default() };
    let (mut rig, call) = rig(incrementer(), policy, Features::NONE);
    for byte in 0..16 {
        rig.submit(0, &[&[byte]], &[1]).unwrap();
    }
    let _ = rig.kick(0).unwrap();
    for byte in 0..16 {
        assert_eq!(reply(&mut rig, &call).bytes, [byte + 1]);
    }
    rig.endpoint.pause();
    assert!(rig.endpoint.backend().stats(0).unwrap().exhausted >= 15);
}

#[test]
fn stopping_waits_for_what_the_handler_holds() {
    for features in [Features::NONE, Features::RING_PACKED] {
        let finish = Arc::new(EventFd::new().unwrap());
        let (model, woken) = holding(finish.clone());
        let mut rig = Rig::in_reset(Workers::new(model)).unwrap();
        rig.negotiate(features).unwrap();
        rig.enable_queue(0).unwrap();
        // Available before the queue runs, so that the first wake takes it.
        rig.submit(0, &[&[8]], &[1]).unwrap();
        let _ = rig.kick(0).unwrap();
        rig.write_status(Status::DRIVER_OK).unwrap();
        let limit = Duration::from_secs(20);
        // The I/O ends only once the queue is stopping.
        let ender = finish.clone();
        while woken.recv_timeout(limit).unwrap() != Wake::Kick(0) {}
        let ending = std::thread::spawn(move || {
            while woken.recv_timeout(limit).unwrap() != Wake::Stopping(0) {}
            ender.signal();
            woken
        });
        let state = rig.endpoint.save();
        ending.join().unwrap();
        let index = if features.contains(Features::RING_PACKED) { 2 } else { 1 };
        assert_eq!(state.queues[0].position.unwrap().used.index, index);
        assert_eq!(rig.take(0).unwrap().unwrap().bytes, [9]);
    }
}

#[test]
fn a_paused_device_resumes_where_it_stood() {
    for features in [Features::NONE, Features::RING_PACKED, Features::IN_ORDER] {
        let (mut rig, call) = rig(incrementer(), WorkerPolicy::default(), features);
        for byte in 0..100 {
            rig.endpoint.pause();
            rig.submit(0, &[&[byte]], &[1]).unwrap();
            let _ = rig.kick(0).unwrap();
            rig.endpoint.resume();
            assert_eq!(reply(&mut rig, &call).bytes, [byte + 1]);
        }
    }
}

#[test]
fn row1_a_queue_fault_between_threads_is_reported_exactly_once() {
    let model = Scripted::in_lanes(vec![16, 16], vec![0..1, 1..2], |why, io| match why {
        Wake::Kick(q) => io.serve(q, increment),
        _ => Ok(()),
    });
    let mut rig = Rig::new(Workers::new(model), Features::NONE).unwrap();
    for q in [0, 1] {
        let driver_area = rig.endpoint.queue_address(q, crate::Area::Driver);
        rig.memory.write(IoAddr(driver_area + 2), &0x7000u16.to_le_bytes()).unwrap();
        rig.endpoint.notify(q.into());
    }
    // The handler meets the fault, or the thread does that looks once more before it sleeps: only the report is certain.
    let began = Instant::now();
    while !rig.endpoint.status().contains(Status::NEEDS_RESET) {
        assert!(began.elapsed() < Duration::from_secs(20), "the fault is not reported");
        std::thread::yield_now();
    }
    // A thread stops its queue after the wake, and so after the report.
    rig.endpoint.pause();
    assert_eq!(rig.notifications.config(), 1);
    rig.endpoint.write_status(0);
    assert_eq!(rig.endpoint.status(), Status::RESET);
}

/// A bug of a device ends neither the process nor the wait of its driver.
#[test]
fn a_handler_that_panics_needs_a_reset() {
    let (alive, handler) = channel::<()>();
    let mut alive = Some(alive);
    let make = move || -> Handlers {
        let alive = alive.take();
        let script = Script(move |why, _: &mut Io<'_>| match why {
            Wake::Kick(_) => panic!("a bug, for the test ({alive:?})"),
            _ => Ok(()),
        });
        vec![(0..1, Box::new(script))]
    };
    let model = Scripted { queues: vec![16], make: Box::new(make) };
    let mut rig = Rig::new(Workers::new(model), Features::NONE).unwrap();
    // The thread reports before it drops the handler.
    assert_eq!(handler.recv_timeout(Duration::from_secs(20)), Err(RecvTimeoutError::Disconnected));
    assert!(rig.endpoint.status().contains(Status::NEEDS_RESET));
    let error = rig.endpoint.backend_mut().stop_queue(0).unwrap_err().to_string();
    assert!(error.contains("its handler panicked"), "{error}");
}

#[test]
fn a_processor_that_is_not_there_is_a_set_up_error() {
    for cpu in [1023, 100_000] {
        let policy = WorkerPolicy { cpus: vec![cpu], ..WorkerPolicy::default() };
        let mut rig = Rig::in_reset(Workers::with_policy(incrementer(), policy)).unwrap();
        assert!(rig.negotiate(Features::NONE).is_err(), "{cpu}");
        assert_eq!(rig.endpoint.status().0, 3);
    }
    let policy = WorkerPolicy { cpus: vec![0], ..WorkerPolicy::default() };
    let (mut rig, call) = rig(incrementer(), policy, Features::NONE);
    rig.submit(0, &[&[1]], &[1]).unwrap();
    let _ = rig.kick(0).unwrap();
    assert_eq!(reply(&mut rig, &call).bytes, [2]);
}

/// Both sides share that an eventfd is non-blocking, and the other side may undo it.
#[test]
fn a_count_is_not_waited_for_whatever_the_other_side_does() {
    let (done, until_done) = channel();
    std::thread::spawn(move || {
        let event = EventFd::new().unwrap();
        let other = event.as_fd().try_clone_to_owned().unwrap();
        rustix::io::ioctl_fionbio(&other, false).unwrap();
        let none = event.take();
        event.signal();
        done.send((none, event.take(), event.take())).unwrap();
    });
    assert_eq!(until_done.recv_timeout(PATIENCE).expect("it waits for a count"), (0, 1, 0));
}

/// A peer may send anything for an eventfd.
#[test]
fn what_is_no_eventfd_has_no_count() {
    let (done, until_done) = channel();
    std::thread::spawn(move || {
        let (reader, writer) = std::io::pipe().unwrap();
        let terminal = std::fs::File::open("/dev/ptmx").unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let fds: [OwnedFd; 4] = [reader.into(), writer.into(), terminal.into(), null.into()];
        let counts = fds.map(|fd| EventFd::from(fd).take());
        done.send(counts).unwrap();
    });
    assert_eq!(until_done.recv_timeout(PATIENCE).expect("it waits"), [0; 4]);
}
