use super::VirtioDemo;
use vioduct_spec::demo::{INITIAL_VALUE, LAB_VALUES, OP_INVALID, OP_READ, OP_WRITE};
use vioduct_virtio_device::rig::{Reply, Rig};
use vioduct_virtio_device::{DeviceModel, Features, Inline, Options};

type DemoRig = Rig<Inline<VirtioDemo>>;

fn rig(features: Features) -> DemoRig {
    let options = Options::parse("virtio-demo").unwrap();
    Rig::new(Inline::new(VirtioDemo::from_options(&options).unwrap()), features).unwrap()
}

fn words(opcode: u32, operand: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&opcode.to_le_bytes());
    bytes[4..].copy_from_slice(&operand.to_le_bytes());
    bytes
}

fn ask(rig: &mut DemoRig, opcode: u32, operand: u32) -> Reply {
    rig.request(0, &words(opcode, operand), 8).unwrap()
}

fn reply(opcode: u32, operand: u32) -> Reply {
    Reply { written: 8, bytes: words(opcode, operand).to_vec() }
}

#[test]
fn the_lab_reads_the_initial_value_and_what_it_writes() {
    for features in [Features::NONE, Features::EVENT_IDX, Features::RING_PACKED | Features::IN_ORDER] {
        let mut rig = rig(features);
        assert_eq!(ask(&mut rig, OP_READ, 7), reply(OP_READ, INITIAL_VALUE));
        for value in LAB_VALUES {
            assert_eq!(ask(&mut rig, OP_WRITE, value), reply(OP_WRITE, value));
            assert_eq!(ask(&mut rig, OP_READ, 0), reply(OP_READ, value));
        }
    }
}

#[test]
fn an_unknown_opcode_is_answered_and_stores_nothing() {
    let mut rig = rig(Features::NONE);
    let answer = ask(&mut rig, 2, 0xabcd);
    assert_eq!((answer.written, &answer.bytes[..4]), (8, &OP_INVALID.to_le_bytes()[..]));
    assert_eq!(ask(&mut rig, OP_READ, 0), reply(OP_READ, INITIAL_VALUE));
}

#[test]
fn row8_a_request_may_be_split_at_every_byte() {
    let mut rig = rig(Features::NONE);
    let request = words(OP_WRITE, 0x0403_0201);
    let pieces: Vec<&[u8]> = request.chunks(1).collect();
    assert_eq!(rig.request_in_pieces(0, &pieces, &[1; 8]).unwrap(), reply(OP_WRITE, 0x0403_0201));
    let (head, tail) = request.split_at(3);
    assert_eq!(rig.request_in_pieces(0, &[head, tail], &[5, 3]).unwrap(), reply(OP_WRITE, 0x0403_0201));
}

#[test]
fn row8_a_short_request_is_returned_with_nothing_written_or_stored() {
    let mut rig = rig(Features::NONE);
    let request = words(OP_WRITE, 99);
    for (readable, writable) in [(7, 8), (8, 7), (0, 8), (8, 0), (4, 4)] {
        let answer = rig.request(0, &request[..readable], writable).unwrap();
        assert_eq!(answer, Reply { written: 0, bytes: vec![0; writable as usize] }, "{readable} {writable}");
    }
    assert_eq!(ask(&mut rig, OP_READ, 0), reply(OP_READ, INITIAL_VALUE));
}

/// The configuration space shows the value, a change of it is notified, and an equal write is not one.
#[test]
fn s2_5_the_configuration_space_follows_the_value() {
    let mut rig = rig(Features::NONE);
    let config = |rig: &mut DemoRig| {
        let mut bytes = [0; 4];
        rig.endpoint.read_config(0, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    assert_eq!(config(&mut rig), INITIAL_VALUE);
    let generation = rig.endpoint.generation();
    ask(&mut rig, OP_WRITE, 5);
    assert_eq!((config(&mut rig), rig.notifications.config()), (5, 1));
    assert_ne!(rig.endpoint.generation(), generation);
    ask(&mut rig, OP_WRITE, 5);
    assert_eq!(rig.notifications.config(), 1);
    rig.endpoint.write_status(0);
    assert_eq!(config(&mut rig), INITIAL_VALUE, "reset restores the value");
}

#[test]
fn another_device_goes_on_with_the_saved_value() {
    let mut first = rig(Features::NONE);
    ask(&mut first, OP_WRITE, 0x2333);
    let state = first.endpoint.backend_mut().model().save();
    let mut second = VirtioDemo::default();
    second.restore(&state).unwrap();
    assert_eq!(second.value(), 0x2333);
    for wrong in [&[][..], &[1, 2, 3], &[1, 2, 3, 4, 5]] {
        assert!(second.restore(wrong).is_err());
        assert_eq!(second.value(), 0x2333, "a state of another device changes nothing");
    }
}
