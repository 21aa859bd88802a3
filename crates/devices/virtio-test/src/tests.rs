use super::{Request, VirtioTest};
use crate::request::factorial;
use std::sync::mpsc::{Receiver, channel};
use vioduct_spec::test::{F_CAN_PRINT, TEXT_LEN};
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{DeviceModel, Features, Inline, Options};

fn device(options: &str) -> VirtioTest {
    VirtioTest::from_options(&Options::parse(options).unwrap()).unwrap()
}

fn rig(options: &str, features: Features) -> (Rig<Inline<VirtioTest>>, Receiver<Request>) {
    let (sender, received) = channel();
    let model = device(options).on_request(move |request| sender.send(*request).unwrap());
    (Rig::new(Inline::new(model), features | F_CAN_PRINT).unwrap(), received)
}

fn request(numbers: &[u32], text: &[u8]) -> Vec<u8> {
    let mut bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    bytes.extend(text);
    bytes.resize(numbers.len() * 4 + TEXT_LEN, 0);
    bytes
}

fn numbers(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn factorials_wrap_and_end_at_zero() {
    let expected =
        [(0, 1), (1, 1), (12, 479_001_600), (13, 1_932_053_504), (33, 1 << 31), (34, 0), (u32::MAX, 0)];
    assert_eq!(expected.map(|(number, _)| (number, factorial(number))), expected);
    let (mut rig, received) = rig("virtio-test", Features::NONE);
    let reply = rig.request(0, &request(&[12], b"twelve"), 4).unwrap();
    assert_eq!((reply.written, numbers(&reply.bytes)), (4, vec![479_001_600]));
    assert_eq!(received.try_recv().unwrap().to_string(), "12 \"twelve\"");
}

#[test]
fn the_lab_sees_ten_to_thirteen_and_gets_111_to_113() {
    let (mut rig, received) = rig("virtio-test,format=echo", Features::RING_PACKED);
    let reply = rig.request(0, &request(&[10, 11, 12, 13], b"hello back end!"), 12).unwrap();
    assert_eq!((reply.written, numbers(&reply.bytes)), (12, vec![111, 112, 113]));
    let request_seen = received.try_recv().unwrap();
    assert_eq!(request_seen.numbers(), [10, 11, 12, 13]);
    assert_eq!(request_seen.text(), b"hello back end!");
    let wrapped = rig.request(0, &request(&[0, u32::MAX, u32::MAX - 100, 0], b""), 12).unwrap();
    assert_eq!(numbers(&wrapped.bytes), [99, u32::MAX, 100]);
}

#[test]
fn row8_a_short_request_is_returned_with_nothing_written() {
    let (mut rig, received) = rig("virtio-test,format=echo", Features::NONE);
    let full = request(&[1, 2, 3, 4], b"text");
    for (readable, writable) in [(47, 12), (48, 11), (0, 12), (48, 0)] {
        let reply = rig.request(0, &full[..readable], writable).unwrap();
        assert_eq!((reply.written, reply.bytes), (0, vec![0; writable as usize]), "{readable} {writable}");
    }
    let seen: Vec<Request> = received.try_iter().collect();
    assert_eq!(seen.len(), 2, "only those of full length were requests");
}

/// Text is the driver's: it ends at its first NUL or at its full length, and is escaped where it is shown.
#[test]
fn text_is_bounded_and_escaped() {
    let (mut rig, received) = rig("virtio-test", Features::NONE);
    rig.request(0, &request(&[1], b"\x1b[2J\n\"\xff\0hidden"), 4).unwrap();
    rig.request(0, &request(&[1], &[b'x'; TEXT_LEN]), 4).unwrap();
    let shown: Vec<String> = received.try_iter().map(|request| request.to_string()).collect();
    assert_eq!(shown, [r#"1 "\x1b[2J\n\"\xff""#.to_string(), format!("1 \"{}\"", "x".repeat(TEXT_LEN))]);
}

#[test]
fn the_driver_may_write_the_configuration_space() {
    let (mut rig, _) = rig("virtio-test", Features::NONE);
    rig.endpoint.write_config(4, &7u32.to_le_bytes());
    rig.endpoint.write_config(9, &[1]);
    let mut config = [0; 12];
    rig.endpoint.read_config(0, &mut config);
    assert_eq!(numbers(&config), [0, 7, 0x100]);
}

/// A queue that the driver enables without the feature is not served.
#[test]
fn without_can_print_the_queue_is_not_used() {
    let result = Rig::new(Inline::new(device("virtio-test")), Features::NONE);
    let rig = result.unwrap();
    assert!(rig.endpoint.status().contains(vioduct_spec::Status::NEEDS_RESET));
}

#[test]
fn options_choose_format_and_device_type() {
    assert_eq!(device("virtio-test,id=62").info().device_type, 62);
    assert_eq!(device("virtio-test").info().device_type, 45);
    let message = |text| VirtioTest::from_options(&Options::parse(text).unwrap()).err().unwrap().to_string();
    assert_eq!(message("virtio-test,format=sum"), "virtio-test: `format=sum`: write factorial or echo");
    assert_eq!(
        message("virtio-test,id=64"),
        "virtio-test: `id=64`: write a number from 1 to 63, decimal or 0x…"
    );
    assert!(message("virtio-test,formt=echo").contains("did you mean `format`?"));
}

#[test]
fn another_device_goes_on_with_the_saved_configuration() {
    let mut first = device("virtio-test");
    first.write_config(4, &7u32.to_le_bytes());
    let mut second = device("virtio-test");
    second.restore(&first.save()).unwrap();
    let mut config = [0; 12];
    second.read_config(0, &mut config);
    assert_eq!(numbers(&config), [0, 7, 0]);
    assert!(second.restore(&[0; 11]).is_err());
    second.read_config(0, &mut config);
    assert_eq!(numbers(&config), [0, 7, 0], "a state of another device changes nothing");
}
