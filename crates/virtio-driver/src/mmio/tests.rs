use super::{MmioError, MmioTransport};
use crate::fakes::{Access, Log, Registers};
use crate::transport::{Interrupts, Transport, TransportError};
use std::vec;
use std::vec::Vec;
use vioduct_spec::mmio::*;
use vioduct_spec::{Features, Status, device_type};
use vioduct_virtqueue::{IoAddr, RingLayout};

const LAYOUT: RingLayout = RingLayout {
    size: 8,
    descriptor_area: IoAddr(0x1_0000_1000),
    driver_area: IoAddr(0x2_0000_2000),
    device_area: IoAddr(0x3_0000_3000),
};

fn registers() -> Registers {
    let registers = Registers::new("mmio", 0x110, &Log::default());
    registers.put_u32(MAGIC_VALUE, MAGIC);
    registers.put_u32(DEVICE_VERSION, VERSION);
    registers.put_u32(DEVICE_ID, device_type::ENTROPY);
    registers.put_u32(QUEUE_SIZE_MAX, 256);
    registers
}

/// The offsets and values of the writes, which are all of 32 bits.
fn written(registers: &Registers) -> Vec<(u64, u64)> {
    let writes = registers.log.take();
    writes
        .iter()
        .map(|Access(_, offset, width, value)| {
            assert_eq!(*width, 4, "virtio 1.3 §4.2.2.2: control registers are accessed by 32 bits");
            (*offset, *value)
        })
        .collect()
}

#[test]
fn s4_2_3_1_1_magic_version_and_device_id_are_checked_in_this_order() {
    let registers = registers();
    registers.put_u32(DEVICE_ID, 0);
    assert_eq!(MmioTransport::new(&registers).unwrap_err(), MmioError::NoDevice);
    registers.put_u32(DEVICE_VERSION, 1);
    assert_eq!(MmioTransport::new(&registers).unwrap_err(), MmioError::Version(1));
    registers.put_u32(MAGIC_VALUE, 0xffff_ffff);
    assert_eq!(MmioTransport::new(&registers).unwrap_err(), MmioError::Magic(0xffff_ffff));
    let short = Registers::new("short", 0xff, &Log::default());
    assert_eq!(MmioTransport::new(&short).unwrap_err(), MmioError::TooShort(0xff));
    assert_eq!(registers.log.borrow().len(), 0, "a device that is not driven is not written to");
}

#[test]
fn s4_2_2_features_are_read_and_written_by_halves() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    registers.script(DEVICE_FEATURES, &[0x2000_0001, 0x81]);
    let offered = transport.device_features();
    assert_eq!(
        offered,
        Features::bit(0) | Features::EVENT_IDX | Features::VERSION_1,
        "but NOTIF_CONFIG_DATA"
    );
    transport.set_driver_features(offered).unwrap();
    assert_eq!(
        written(&registers),
        [
            (DEVICE_FEATURES_SEL, 0),
            (DEVICE_FEATURES_SEL, 1),
            (DRIVER_FEATURES_SEL, 0),
            (DRIVER_FEATURES, 0x2000_0001),
            (DRIVER_FEATURES_SEL, 1),
            (DRIVER_FEATURES, 1)
        ]
    );
    let refused = transport.set_driver_features(Features::NOTIF_CONFIG_DATA);
    assert_eq!(refused, Err(TransportError::Unsupported(Features::NOTIF_CONFIG_DATA)));
}

#[test]
fn s4_2_3_2_a_queue_is_set_up_in_order() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    transport.enable_queue(3, LAYOUT).unwrap();
    let mut wanted = vec![(QUEUE_SEL, 3), (QUEUE_SEL, 3), (QUEUE_SIZE, 8)];
    wanted.extend([(QUEUE_DESC_LOW, 0x1000), (QUEUE_DESC_HIGH, 1)]);
    wanted.extend([(QUEUE_DRIVER_LOW, 0x2000), (QUEUE_DRIVER_HIGH, 2)]);
    wanted.extend([(QUEUE_DEVICE_LOW, 0x3000), (QUEUE_DEVICE_HIGH, 3), (QUEUE_READY, 1)]);
    assert_eq!(written(&registers), wanted);
    assert_eq!(transport.enable_queue(3, LAYOUT), Err(TransportError::QueueInUse(3)));
}

#[test]
fn s4_2_3_2_queues_that_the_device_refuses_are_errors() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    registers.script(QUEUE_READY, &[0, 0]);
    assert_eq!(transport.enable_queue(0, LAYOUT), Err(TransportError::QueueRefused(0)));
    registers.put_u32(QUEUE_READY, 0);
    registers.put_u32(QUEUE_SIZE_MAX, 4);
    let error = TransportError::QueueSize { queue: 0, wanted: 8, max: 4 };
    assert_eq!(transport.enable_queue(0, LAYOUT), Err(error));
    registers.put_u32(QUEUE_SIZE_MAX, 0);
    assert_eq!(transport.enable_queue(0, LAYOUT), Err(TransportError::NoQueue(0)));
}

#[test]
fn row77_a_queue_size_beyond_any_ring_is_limited() {
    let registers = registers();
    registers.put_u32(QUEUE_SIZE_MAX, 0xffff_ffff);
    assert_eq!(MmioTransport::new(&registers).unwrap().queue_size_max(0), 32768);
}

#[test]
fn s4_2_3_3_a_notification_carries_the_position_when_negotiated() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    transport.notify(2, 0x8007).unwrap();
    transport.set_driver_features(Features::VERSION_1 | Features::NOTIFICATION_DATA).unwrap();
    registers.log.take();
    transport.notify(2, 0x8007).unwrap();
    assert_eq!(written(&registers), [(QUEUE_NOTIFY, 0x8007_0002)]);
}

#[test]
fn s4_2_3_3_a_notification_is_the_queue_index_otherwise() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    transport.notify(2, 0x8007).unwrap();
    assert_eq!(written(&registers), [(QUEUE_NOTIFY, 2)]);
}

#[test]
fn s4_2_3_4_interrupts_are_acknowledged_as_read() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    assert_eq!(transport.take_interrupts(), Interrupts::default());
    registers.script(INTERRUPT_STATUS, &[2, 0xffff_ffff]);
    assert_eq!(transport.take_interrupts(), Interrupts { queue: false, config: true });
    assert_eq!(transport.take_interrupts(), Interrupts { queue: true, config: true });
    assert_eq!(written(&registers), [(INTERRUPT_ACK, 2), (INTERRUPT_ACK, 3)]);
}

#[test]
fn s4_2_2_1_a_queue_reset_is_complete_when_both_registers_read_zero() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    assert_eq!(transport.reset_queue(1), Err(TransportError::NotNegotiated(Features::RING_RESET)));
    transport.set_driver_features(Features::VERSION_1 | Features::RING_RESET).unwrap();
    registers.log.take();
    registers.script(QUEUE_RESET, &[1, 1, 0, 0]);
    registers.script(QUEUE_READY, &[1, 0]);
    assert_eq!(transport.reset_queue(1), Ok(()));
    assert_eq!(written(&registers), [(QUEUE_SEL, 1), (QUEUE_RESET, 1)]);
    registers.put_u32(QUEUE_RESET, 1);
    assert_eq!(transport.reset_queue(1), Err(TransportError::QueueResetTimeout(1)));
}

#[test]
fn s4_2_2_2_configuration_fields_are_accessed_in_their_own_width() {
    let registers = registers();
    registers.put(CONFIG, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    let mut transport = MmioTransport::new(&registers).unwrap();
    registers.reads.take();
    let mut read = |offset, len| {
        let mut bytes = vec![0; len];
        transport.read_config_field(offset, &mut bytes).unwrap();
        (bytes, registers.reads.take().iter().map(|(_, width)| *width).collect::<Vec<_>>())
    };
    assert_eq!(read(1, 1), (vec![2], vec![1]));
    assert_eq!(read(2, 2), (vec![3, 4], vec![2]));
    assert_eq!(read(4, 4), (vec![5, 6, 7, 8], vec![4]));
    assert_eq!(read(8, 8), (vec![9, 10, 11, 12, 13, 14, 15, 16], vec![4, 4]));
    assert_eq!(read(0, 6), (vec![1, 2, 3, 4, 5, 6], vec![1; 6]), "an array of bytes");
    assert_eq!(read(3, 4), (vec![4, 5, 6, 7], vec![1; 4]), "no access that is not aligned");
}

#[test]
fn row77_configuration_ends_with_its_window() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    let range = |offset, len| Err(TransportError::ConfigRange { offset, len, space: 16 });
    assert_eq!(transport.read_config_field(13, &mut [0; 4]), range(13, 4));
    assert_eq!(transport.read_config_field(u64::MAX, &mut [0; 4]), range(u64::MAX, 4));
    assert_eq!(transport.write_config_field(16, &[0]), range(16, 1));
}

#[test]
fn s4_2_3_1_the_status_is_read_and_written_whole() {
    let registers = registers();
    let mut transport = MmioTransport::new(&registers).unwrap();
    transport.set_status(Status::ACKNOWLEDGE);
    assert_eq!(transport.status(), Status::ACKNOWLEDGE);
    assert_eq!(written(&registers), [(STATUS, 1)]);
}
