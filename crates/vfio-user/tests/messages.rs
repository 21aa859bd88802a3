//! Messages, right and wrong, from a raw client.
#![allow(clippy::unwrap_used)]

mod client;

use client::*;
use vioduct_pci_demo::PciDemo;
use vioduct_vfio_user::Device;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Workers;

fn pci_demo() -> Served {
    Served::new(Device::registers(PciDemo::new()).unwrap())
}

fn virtio_demo() -> Served {
    Served::new(Device::virtio(Workers::new(VirtioDemo::default())).unwrap())
}

/// The order of messages that QEMU 11.1 begins with.
#[test]
fn a_client_finds_the_device() {
    let served = pci_demo();
    let mut client = Client::connect(&served.path);
    let version = client.negotiate(QEMU_VERSION).unwrap();
    assert_eq!(version[..4], [0, 0, 0, 0]);
    assert_eq!(version.last(), Some(&0));
    let json: serde_json::Value = serde_json::from_slice(&version[4..version.len() - 1]).unwrap();
    assert_eq!(json["capabilities"]["max_data_xfer_size"], 1 << 20);
    assert_eq!(json["capabilities"]["write_multiple"], true);
    assert_eq!(json["capabilities"]["max_msg_fds"], 16, "QEMU takes no more");
    assert_eq!(client.request(GET_INFO, &words(&[16, 0, 0, 0])), Ok(words(&[16, 3, 9, 3])));
    for (region, flags, len) in [(0, 3, 1u64 << 20), (1, 0, 0), (6, 0, 0), (7, 3, 256), (8, 0, 0)] {
        let request = [words(&[32, 0, region, 0]), longs(&[0, 0])].concat();
        let info = [words(&[32, flags, region, 0]), longs(&[len, 0])].concat();
        assert_eq!(client.request(REGION_INFO, &request), Ok(info), "region {region}");
    }
    assert_eq!(client.request(IRQ_INFO, &words(&[16, 0, 2, 0])), Ok(words(&[16, 1, 2, 0])));
    let config = client.read(CONFIG, 0, 256).unwrap();
    assert_eq!(config[..4], [0x34, 0x12, 0x49, 0x56]);
    client.write(0, 0, &0x1333u32.to_le_bytes()).unwrap();
    assert_eq!(client.read_u32(0, 0), 0x1333);
    client.request(RESET, &[]).unwrap();
    assert_eq!(client.read_u32(0, 0), 0);
}

/// Wrong requests: each is refused with the reason, and the next message is understood.
#[test]
fn row69_wrong_requests_are_refused_and_the_stream_goes_on() {
    let served = virtio_demo();
    let mut client = Client::qemu(&served.path);
    let rows: &[(u16, Vec<u8>, u32)] = &[
        (0, vec![], EOPNOTSUPP),
        (DMA_READ, longs(&[0, 8]), EOPNOTSUPP),
        (14, vec![1; 40], EOPNOTSUPP),
        (19, words(&[8, 8]), EOPNOTSUPP),
        (0xffff, vec![0; 5000], EOPNOTSUPP),
        (VERSION, vec![0; 4], EINVAL),
        (GET_INFO, vec![], EINVAL),
        (GET_INFO, words(&[15, 0, 0, 0]), EINVAL),
        (GET_INFO, words(&[16, 0, 0]), EINVAL),
        (GET_INFO, words(&[16, 0, 0, 0, 0]), EINVAL),
        (REGION_INFO, [words(&[31, 0, 0, 0]), longs(&[0, 0])].concat(), EINVAL),
        (REGION_INFO, [words(&[32, 0, 9, 0]), longs(&[0, 0])].concat(), EINVAL),
        (IRQ_INFO, words(&[16, 0, 3, 0]), EINVAL),
        (IO_FDS, words(&[16, 0, 9, 0]), EINVAL),
        (RESET, vec![0], EINVAL),
        (REGION_WRITE, [access(0, 0, 4), vec![1; 3]].concat(), EINVAL),
        (REGION_WRITE, [access(0, 0, 4), vec![1; 5]].concat(), EINVAL),
        (REGION_READ, access(0, 0, 0xf000_0000), EINVAL),
        (WRITE_MULTI, longs(&[1]), EINVAL),
        (WRITE_MULTI, longs(&[u64::MAX]), EINVAL),
        (WRITE_MULTI, [longs(&[1]), access(0, 0, 9), vec![0; 8]].concat(), EINVAL),
        (WRITE_MULTI, [longs(&[1]), access(0, 0, 4), vec![0; 9]].concat(), EINVAL),
        (FEATURE, words(&[8, 1 << 18 | 1 << 16 | 3]), ENOTTY),
        (FEATURE, words(&[16, 1 << 16 | 9]), ENOTTY),
        (FEATURE, words(&[15, 1 << 16 | 1]), EINVAL),
        (FEATURE, words(&[15, 1 << 16 | 2]), EINVAL),
        (FEATURE, words(&[16, 1 << 17 | 1, 0, 0]), EINVAL),
        (FEATURE, words(&[16, 1 << 17 | 2, 1]), EINVAL),
        (FEATURE, words(&[16, 1 << 17 | 2, 1, 0, 0]), EINVAL),
        (MIG_READ, words(&[16]), EINVAL),
        (MIG_READ, words(&[16, 8]), EINVAL),
        (MIG_READ, words(&[16, 8, 0]), EINVAL),
        (MIG_READ, words(&[u32::MAX, u32::MAX]), EINVAL),
        (MIG_WRITE, words(&[16]), EINVAL),
        (MIG_WRITE, words(&[16, 8, 0, 0]), EINVAL),
        (MIG_WRITE, words(&[16, 8, 0]), EINVAL),
        (MIG_WRITE, words(&[u32::MAX, u32::MAX, 0]), EINVAL),
        (FEATURE, words(&[8, 3 << 16 | 6]), EINVAL),
        (FEATURE, words(&[8, 6]), EINVAL),
        (FEATURE, words(&[8, 1 << 17 | 7]), EINVAL),
    ];
    for (command, payload, error) in rows {
        assert_eq!(client.request(*command, payload), Err(*error), "{command} {payload:?}");
    }
    // A type that is neither command nor reply.
    let id = client.send(GET_INFO, 2, &words(&[16, 0, 0, 0]), &[]);
    assert_eq!(client.reply(id).unwrap_err(), EINVAL);
    // A reply that nobody waits for.
    client.send(DMA_READ, 1, &[0; 64], &[]);
    assert_eq!(client.request(GET_INFO, &words(&[16, 0, 0, 0])), Ok(words(&[16, 3, 9, 3])));
}

/// What a device lacks of address space: sums that wrap, and the last byte too many.
#[test]
fn row66_region_accesses_beyond_the_end_are_refused() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    let rows = [
        (0, 1 << 20, 1),
        (0, (1 << 20) - 3, 4),
        (0, u64::MAX, 1),
        (0, u64::MAX - 3, 4),
        (0, 0, (1 << 20) + 1),
        (1, 0, 1),
        (6, 0, 4),
        (CONFIG, 253, 4),
        (CONFIG, 256, 1),
        (8, 0, 1),
        (9, 0, 1),
        (u32::MAX, 0, 1),
    ];
    for (region, offset, count) in rows {
        assert_eq!(client.read(region, offset, count), Err(EINVAL), "{region} {offset:#x} {count}");
        if count <= 4 {
            let refused = client.write(region, offset, &vec![0; count as usize]);
            assert_eq!(refused, Err(EINVAL), "{region} {offset:#x} {count}");
        }
    }
    assert_eq!(client.read(0, 0, 1 << 20).map(|data| data.len()), Ok(1 << 20));
    assert_eq!(client.read(0, 1 << 20, 0), Ok(vec![]));
    assert_eq!(client.read(0, (1 << 20) - 4, 4), Ok(vec![0xff; 4]));
}

/// Lengths after which nobody knows where the next message begins.
#[test]
fn row69_impossible_lengths_end_the_connection_only() {
    let served = pci_demo();
    for len in [0, 1, 15, (1 << 20) + 33, 0xf000_0000, u32::MAX] {
        let mut client = Client::qemu(&served.path);
        client.send_raw(&header(1, GET_INFO, len, 0, 0), &[]);
        assert!(client.receive().is_none(), "{len}");
    }
    // The longest message that there is.
    let mut client = Client::qemu(&served.path);
    assert_eq!(client.write(0, 0, &vec![0; 1 << 20]), Ok(()));
    assert_eq!(client.request(GET_INFO, &vec![0; 16 + (1 << 20)]), Err(EINVAL));
}

/// NO_REPLY is honoured for errors too: QEMU loses the link over a reply that it does not expect.
#[test]
fn row69_no_reply_is_honoured_even_on_error() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    client.send(REGION_WRITE, NO_REPLY, &[access(0, 0, 4), vec![1, 2, 3, 4]].concat(), &[]);
    client.send(REGION_WRITE, NO_REPLY, &[access(0, 5, 4), vec![9; 4]].concat(), &[]);
    client.send(REGION_READ, NO_REPLY, &access(u64::MAX, 0, 4), &[]);
    client.send(99, NO_REPLY, &[], &[]);
    assert_eq!(client.read(0, 0, 4), Ok(vec![1, 2, 3, 4]));
}

/// Ids belong to whoever chose them: the same one many times, replies in order.
#[test]
fn row69_message_ids_may_repeat() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    let request = [header(7, REGION_READ, 32, 0, 0), access(0, CONFIG, 2)].concat();
    client.send_raw(&request.repeat(1000), &[]);
    for _ in 0..1000 {
        assert_eq!(client.reply(7).unwrap().payload[16..], [0x34, 0x12]);
    }
}

/// A message in pieces of a byte each is a message.
#[test]
fn row69_messages_may_come_byte_by_byte() {
    let served = pci_demo();
    let mut client = Client::connect(&served.path);
    let payload = [&[0, 0, 0, 0], QEMU_VERSION.as_bytes(), &[0]].concat();
    let version = [header(1, VERSION, 16 + payload.len() as u32, 0, 0), payload].concat();
    let write = [header(2, REGION_WRITE, 36, 0, 0), access(0, 0, 4), vec![5, 6, 7, 8]].concat();
    for byte in version.into_iter().chain(write) {
        client.send_raw(&[byte], &[]);
    }
    client.reply(1).unwrap();
    client.reply(2).unwrap();
    assert_eq!(client.read(0, 0, 4), Ok(vec![5, 6, 7, 8]));
}

/// A client may go after any byte; the next one is served.
#[test]
fn row69_a_connection_may_end_at_any_byte() {
    let served = pci_demo();
    let request = [header(1, REGION_WRITE, 36, 0, 0), access(0, 0, 4), vec![1; 4]].concat();
    for len in 0..request.len() {
        let mut client = Client::qemu(&served.path);
        client.send_raw(&request[..len], &[]);
    }
    let payload = [&[0, 0, 0, 0], QEMU_VERSION.as_bytes(), &[0]].concat();
    let version = [header(1, VERSION, 16 + payload.len() as u32, 0, 0), payload].concat();
    for len in 0..version.len() {
        let mut client = Client::connect(&served.path);
        client.send_raw(&version[..len], &[]);
    }
    let mut client = Client::qemu(&served.path);
    assert_eq!(client.read(0, 0, 4), Ok(vec![0; 4]), "half a write is none");
}

/// VERSION: what is refused, and what is enough.
#[test]
fn row69_versions_are_checked() {
    let served = pci_demo();
    let rows: &[(&[u8], Result<(), u32>)] = &[
        (&[0, 0, 0, 0], Ok(())),
        (&[0, 0, 9, 0], Ok(())),
        (b"\0\0\0\0{}\0", Ok(())),
        (b"\0\0\0\0{\"capabilities\":{}}\0", Ok(())),
        (b"\0\0\0\0{\"capabilities\":{\"twin_socket\":{\"supported\":true}}}\0", Ok(())),
        (&[1, 0, 0, 0], Err(EINVAL)),
        (&[0, 0], Err(EINVAL)),
        (b"\0\0\0\0{}", Err(EINVAL)),
        (b"\0\0\0\0\0", Err(EINVAL)),
        (b"\0\0\0\0[[[[\0", Err(EINVAL)),
        (b"\0\0\0\0{\"capabilities\":7}\0", Err(EINVAL)),
        (b"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":-1}}\0", Err(EINVAL)),
        (b"\0\0\0\0{\"capabilities\":{\"max_data_xfer_size\":0}}\0", Err(EINVAL)),
        (b"\0\0\0\0\xff\xfe\0", Err(EINVAL)),
    ];
    for (payload, outcome) in rows {
        let mut client = Client::connect(&served.path);
        assert_eq!(client.request(GET_INFO, &words(&[16, 0, 0, 0])), Err(EINVAL), "before VERSION");
        let reply = client.request(VERSION, payload);
        assert_eq!(reply.map(drop), *outcome, "{}", String::from_utf8_lossy(payload));
        let info = client.request(GET_INFO, &words(&[16, 0, 0, 0])).map(drop);
        assert_eq!(info, outcome.map_err(|_| EINVAL));
    }
    let deep = [&[0; 4][..], "[".repeat(4000).as_bytes(), &[0]].concat();
    let mut client = Client::connect(&served.path);
    assert_eq!(client.request(VERSION, &deep), Err(EINVAL));
    assert_eq!(client.request(VERSION, &vec![0; 4097]), Err(EINVAL));
}

/// Many writes in one message, in order; the first that cannot be ends it.
#[test]
fn many_writes_in_one_message() {
    let served = pci_demo();
    let mut client = Client::qemu(&served.path);
    let write = |offset, value: u64| [access(offset, 0, 4), longs(&[value])].concat();
    let good = [longs(&[3]), write(0, 1), write(8, 2), write(0, 3)].concat();
    assert_eq!(client.request(WRITE_MULTI, &good), Ok(longs(&[3])));
    assert_eq!(client.read_u32(0, 0), 3);
    let bad = [longs(&[3]), write(0, 4), write(1 << 20, 5), write(0, 6)].concat();
    assert_eq!(client.request(WRITE_MULTI, &bad), Err(EINVAL));
    assert_eq!(client.read_u32(0, 0), 4);
}
