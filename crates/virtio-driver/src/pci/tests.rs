use super::{
    Aperture, Bar, BarAccess, BarKind, CapabilityFault, ConfigWindows, Function, FunctionAddress, ListFault,
    MsixMessage, PciError, PciTransport, Structure, functions,
};
use crate::fakes::{Access, Log, Registers};
use crate::pci_demo::{self, PciDemo};
use crate::register_window::RegisterWindow;
use crate::transport::{Interrupts, Transport, TransportError};
use std::string::ToString;
use std::vec::Vec;
use vioduct_spec::pci::{cap, common_config};
use vioduct_spec::{Features, device_type};
use vioduct_virtqueue::{IoAddr, RingLayout};

const BAR4_LEN: u32 = 0x4000;
const COMMON: u64 = 0x0;
const ISR: u64 = 0x1000;
const DEVICE: u64 = 0x2000;
const NOTIFY: u64 = 0x3000;
const TABLE: u64 = 0x1800;
const MSIX_AT: u64 = 0x98;
const LAYOUT: RingLayout = RingLayout {
    size: 8,
    descriptor_area: IoAddr(0x1_0000_1000),
    driver_area: IoAddr(0x2_0000_2000),
    device_area: IoAddr(0x3_0000_3000),
};

fn at() -> FunctionAddress {
    FunctionAddress::new(0, 3, 0).unwrap()
}

/// Configuration space of an entropy device, with a 64-bit BAR 4 and its capabilities one after the other from 0x40; and that BAR.
struct Fake {
    config: Registers,
    bar: Registers,
    log: Log,
}

/// A capability by its fields: place, type, BAR, offset, length.
fn put_capability(config: &Registers, at: u64, next: u8, kind: u8, (bar, offset, len): (u8, u64, u32)) {
    let size = if kind == cap::TYPE_NOTIFY { cap::NOTIFY_SIZE } else { cap::SIZE };
    config.put(at, &[9, next, size, kind, bar]);
    config.put_u32(at + cap::OFFSET as u64, offset as u32);
    config.put_u32(at + cap::LENGTH as u64, len);
}

fn fake() -> Fake {
    let log = Log::default();
    let config = Registers::new("config", 256, &log);
    config.put_u32(0, 0x1044_1af4);
    config.put_u32(8, 0xff00_0001);
    config.put(6, &[0x10]);
    config.put(0x34, &[0x40]);
    for bar in [0x10, 0x14, 0x18, 0x1c] {
        config.mask(bar, 0);
    }
    config.put_u32(0x20, 0xc);
    config.mask(0x20, !(BAR4_LEN - 1));
    put_capability(&config, 0x40, 0x50, cap::TYPE_COMMON, (4, COMMON, 0x40));
    put_capability(&config, 0x50, 0x60, cap::TYPE_ISR, (4, ISR, 1));
    put_capability(&config, 0x60, 0x70, cap::TYPE_DEVICE, (4, DEVICE, 8));
    put_capability(&config, 0x70, MSIX_AT as u8, cap::TYPE_NOTIFY, (4, NOTIFY, 0x10));
    config.put_u32(0x70 + cap::NOTIFY_OFF_MULTIPLIER as u64, 4);
    config.put(MSIX_AT, &[0x11, 0, 2, 0]);
    config.put_u32(MSIX_AT + 4, TABLE as u32 | 4);
    config.put_u32(MSIX_AT + 8, (TABLE as u32 + 0x100) | 4);
    let bar = Registers::new("bar", BAR4_LEN as usize, &log);
    bar.put(COMMON + common_config::NUM_QUEUES, &[3]);
    bar.put(COMMON + common_config::QUEUE_SIZE, &[64]);
    Fake { config, bar, log }
}

/// A part of the BAR.
#[derive(Debug)]
struct Part<'a> {
    bar: &'a Registers,
    start: u64,
    len: u64,
}

impl RegisterWindow for Part<'_> {
    fn window_len(&self) -> u64 {
        self.len
    }
    fn read(&self, offset: u64, width: crate::Width) -> u64 {
        assert!(offset + width.bytes() as u64 <= self.len, "read beyond the structure");
        RegisterWindow::read(self.bar, self.start + offset, width)
    }
    fn write(&self, offset: u64, width: crate::Width, value: u64) {
        assert!(offset + width.bytes() as u64 <= self.len, "write beyond the structure");
        RegisterWindow::write(self.bar, self.start + offset, width, value);
    }
}

impl Fake {
    fn access(&self) -> impl BarAccess<Window = Part<'_>> {
        |bar: &Bar, start, len| (bar.index == 4).then_some(Part { bar: &self.bar, start, len })
    }

    fn function(&self) -> Result<Function<'_, Registers>, PciError> {
        let mut function = Function::open(&self.config, at())?;
        function.assign_bars(&mut Aperture::new(0x8000_1000, 0x9000_0000))?;
        Ok(function)
    }

    fn transport(&self, messages: &[MsixMessage]) -> Result<PciTransport<Part<'_>>, PciError> {
        PciTransport::new(&self.function()?, &mut self.access(), messages)
    }

    fn error(&self) -> PciError {
        self.transport(&[]).unwrap_err()
    }

    /// Offset, width and value of the writes to a part of the BAR.
    fn written(&self, start: u64) -> Vec<(u64, usize, u64)> {
        let log = self.log.take();
        let bar = log.iter().filter(|Access(name, offset, ..)| *name == "bar" && *offset >= start);
        bar.map(|Access(_, offset, width, value)| (offset - start, *width, *value)).collect()
    }
}

fn messages(count: u32) -> Vec<MsixMessage> {
    (0..count).map(|data| MsixMessage { address: 0x1_fee0_0000, data }).collect()
}

#[test]
fn a_bus_is_enumerated_by_present_functions() {
    let fake = fake();
    let found: Vec<_> = functions(&fake.config, 0).collect();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].at, found[0].vendor, found[0].device), (at(), 0x1af4, 0x1044));
    assert_eq!((found[0].class, found[0].revision), (0xff_0000, 1));
    assert_eq!(functions(&fake.config, 1).count(), 0);
    assert_eq!(
        Function::open(&fake.config, FunctionAddress::new(0, 4, 0).unwrap()).unwrap_err().to_string(),
        "no function at 00:04.0"
    );
    assert!(FunctionAddress::new(0, 32, 0).is_none() && FunctionAddress::new(0, 0, 8).is_none());
}

#[test]
fn a_bar_is_sized_with_decoding_off_and_given_an_address() {
    let fake = fake();
    fake.config.put(4, &[7]);
    let function = fake.function().unwrap();
    let bar = Bar { index: 4, kind: BarKind::Memory64, address: 0x8000_4000, len: u64::from(BAR4_LEN) };
    assert_eq!((function.bar(4), function.bar(0), function.bar(9)), (Some(&bar), None, None));
    let log = fake.log.take();
    assert_eq!(log[0], Access("config", 4, 2, 0), "decoding and DMA are turned off first");
    assert!(log[1..].iter().all(|Access(_, offset, ..)| (0x10..0x28).contains(offset)));
    assert_eq!(fake.config.read_u32(0x20), 0x8000_400c);
    function.enable_memory();
    function.enable_bus_master();
    assert_eq!(fake.config.read_u16(4), 6);
}

#[test]
fn row77_bars_of_impossible_sizes_are_errors() {
    let hole = fake();
    hole.config.put_u32(0x10, 0);
    hole.config.mask(0x10, 0xffff_0f00);
    assert_eq!(hole.error(), PciError::BarSize { bar: 0, mask: 0xffff_ffff_ffff_0f00 });
    let pair = fake();
    pair.config.mask(0x20, 0);
    pair.config.put_u32(0x20, 0);
    pair.config.put_u32(0x24, 4);
    pair.config.mask(0x24, 0xffff_f000);
    assert_eq!(pair.error(), PciError::BarPair(5));
    let huge = fake();
    huge.config.mask(0x20, 0xc000_0000);
    assert_eq!(huge.error(), PciError::NoAddresses { bar: 4, len: 0x4000_0000 });
    let bridge = fake();
    bridge.config.put(0xe, &[0x81]);
    assert_eq!(bridge.error(), PciError::HeaderType(1));
}

#[test]
fn s4_1_2_device_ids_tell_modern_transitional_and_foreign_functions_apart() {
    let fake = fake();
    assert_eq!(fake.transport(&[]).unwrap().device_type(), device_type::ENTROPY);
    let with_ids = |ids| {
        fake.config.put_u32(0, ids);
        fake.transport(&[]).map(|transport| transport.device_type())
    };
    assert_eq!(with_ids(0x107f_1af4), Ok(63));
    for device in [0x1000, 0x1005, 0x103f] {
        assert_eq!(with_ids(u32::from(device) << 16 | 0x1af4), Err(PciError::Transitional(device)));
    }
    assert!(PciError::Transitional(0x1005).to_string().starts_with("transitional virtio device (id 0x1005)"));
    assert_eq!(with_ids(0x1080_1af4), Err(PciError::Foreign { vendor: 0x1af4, device: 0x1080 }));
    assert_eq!(with_ids(0x1044_1234), Err(PciError::Foreign { vendor: 0x1234, device: 0x1044 }));
}

#[test]
fn hostile_capability_lists_end_with_an_error() {
    let list = |at: u16, fault| PciError::List { at, fault };
    let looping = fake();
    looping.config.put(0x61, &[0x50]);
    assert_eq!(looping.error(), list(0x50, ListFault::Loop));
    let itself = fake();
    itself.config.put(0x41, &[0x40]);
    assert_eq!(itself.error(), list(0x40, ListFault::Loop));
    let header = fake();
    header.config.put(0x51, &[0x10]);
    assert_eq!(header.error(), list(0x10, ListFault::IntoHeader));
    let gone = fake();
    gone.config.put(0x40, &[0xff; 0xc0]);
    assert_eq!(gone.error(), list(0xfc, ListFault::Loop));
    let none = fake();
    none.config.put(6, &[0]);
    assert_eq!(none.error(), PciError::Missing(Structure::Notify));
    let cut = fake();
    cut.config.put(0x41, &[0]);
    assert_eq!(cut.error(), PciError::Missing(Structure::Notify));
}

#[test]
fn hostile_capabilities_are_named_in_the_error() {
    let error = |at: u64, bytes: &[u8]| {
        let fake = fake();
        fake.config.put(at, bytes);
        fake.error()
    };
    let capability = |structure, at, fault| PciError::Capability { structure, at, fault };
    let common = |fault| capability(Structure::CommonConfig, 0x40, fault);
    let notify = |fault| capability(Structure::Notify, 0x70, fault);
    let beyond = |offset, len| CapabilityFault::BeyondBar { offset, len, bar_len: 0x4000 };
    assert_eq!(error(0x44, &[7]), common(CapabilityFault::ReservedBar(7)));
    assert_eq!(error(0x44, &[6]), common(CapabilityFault::ReservedBar(6)));
    assert_eq!(error(0x44, &[5]), common(CapabilityFault::NoMemoryBar(5)));
    assert_eq!(error(0x42, &[15]), common(CapabilityFault::Truncated(15)));
    assert_eq!(error(0x42, &[0xff]), common(CapabilityFault::Truncated(0xff)));
    assert_eq!(error(0x72, &[16]), notify(CapabilityFault::Truncated(16)));
    assert_eq!(error(0x48, &[0xc4, 0x3f]), common(beyond(0x3fc4, 0x40)));
    assert_eq!(error(0x48, &[0xff; 8]), common(beyond(u32::MAX, u32::MAX)));
    assert_eq!(error(0x48, &[0xfc, 0xff, 0xff, 0xff]), common(beyond(0xffff_fffc, 0x40)));
    assert_eq!(error(0x48, &[2]), common(CapabilityFault::Misaligned(2)));
    assert_eq!(error(0x4c, &[0x37]), common(CapabilityFault::TooShort(0x37)));
    assert_eq!(error(0x5c, &[0]), capability(Structure::Isr, 0x50, CapabilityFault::TooShort(0)));
    assert_eq!(error(0x80, &[3]), notify(CapabilityFault::Multiplier(3)));
    assert_eq!(error(0x80, &[1]), notify(CapabilityFault::Multiplier(1)));
    let text = "common configuration capability at offset 0x40: names the reserved BAR 7";
    assert_eq!(error(0x44, &[7]).to_string(), text);
}

#[test]
fn s4_1_4_1_the_first_usable_structure_of_a_type_is_taken() {
    let fake = fake();
    fake.config.put(MSIX_AT + 1, &[0xb0]);
    put_capability(&fake.config, 0xb0, 0xc0, 0x55, (9, u64::MAX, 1));
    put_capability(&fake.config, 0xc0, 0, cap::TYPE_COMMON, (4, 0x800, 0x40));
    fake.bar.put(0x800 + common_config::NUM_QUEUES, &[9]);
    assert_eq!(
        fake.transport(&[]).unwrap().queue_count(),
        3,
        "the first of two, and unknown types passed over"
    );
    fake.config.put(0x44, &[7]);
    assert_eq!(fake.transport(&[]).unwrap().queue_count(), 9, "the second if the first is reserved");
    fake.config.put(0xc2, &[0x20]);
    assert_eq!(fake.transport(&[]).unwrap().queue_count(), 9, "a capability may be longer than known");
}

#[test]
fn s4_1_5_1_3_a_queue_is_set_up_in_order_and_by_natural_widths() {
    let fake = fake();
    let mut transport = fake.transport(&messages(2)).unwrap();
    fake.config.put(MSIX_AT + 2, &[1]);
    fake.log.take();
    transport.enable_queue(1, LAYOUT).unwrap();
    let wanted = [
        (common_config::QUEUE_SELECT, 2, 1),
        (common_config::QUEUE_SIZE, 2, 8),
        (common_config::QUEUE_MSIX_VECTOR, 2, 1),
        (common_config::QUEUE_DESC, 4, 0x1000),
        (common_config::QUEUE_DESC + 4, 4, 1),
        (common_config::QUEUE_DRIVER, 4, 0x2000),
        (common_config::QUEUE_DRIVER + 4, 4, 2),
        (common_config::QUEUE_DEVICE, 4, 0x3000),
        (common_config::QUEUE_DEVICE + 4, 4, 3),
        (common_config::QUEUE_ENABLE, 2, 1),
    ];
    assert_eq!(fake.written(COMMON), wanted);
    assert_eq!(transport.enable_queue(1, LAYOUT), Err(TransportError::QueueInUse(1)));
    assert_eq!(transport.enable_queue(3, LAYOUT), Err(TransportError::NoQueue(3)));
}

#[test]
fn s4_1_5_1_2_a_vector_that_reads_back_as_none_is_an_error() {
    let fake = fake();
    let mut transport = fake.transport(&messages(3)).unwrap();
    fake.bar.script(common_config::QUEUE_MSIX_VECTOR, &[0xffff]);
    assert_eq!(transport.enable_queue(0, LAYOUT), Err(TransportError::NoVector(Some(0))));
    fake.bar.script(common_config::CONFIG_MSIX_VECTOR, &[0xffff]);
    assert_eq!(transport.enable_config_interrupt(), Err(TransportError::NoVector(None)));
    assert_eq!(transport.enable_config_interrupt(), Ok(()));
}

#[test]
fn msix_is_programmed_masked_and_unmasked_at_the_end() {
    let fake = fake();
    let function = fake.function().unwrap();
    fake.log.take();
    let transport = PciTransport::new(&function, &mut fake.access(), &messages(2)).unwrap();
    assert_eq!(transport.vectors(), 2);
    let control = MSIX_AT + 2;
    let entry = |number: u64| {
        let at = TABLE + 16 * number;
        let words = [(at + 12, 1), (at, 0xfee0_0000), (at + 4, 1), (at + 8, number), (at + 12, 0)];
        words.map(|(offset, value)| Access("bar", offset, 4, value))
    };
    let mut wanted = Vec::from([Access("config", 4, 2, 2), Access("config", control, 2, 0xc002)]);
    wanted.extend(entry(0));
    wanted.extend(entry(1));
    wanted.extend([Access("config", control, 2, 0x8002), Access("config", 4, 2, 6)]);
    assert_eq!(fake.log.take(), wanted);
}

#[test]
fn msix_vectors_are_shared_when_there_are_few() {
    let fake = fake();
    let vector_of = |messages: &[MsixMessage], queue| {
        let mut transport = fake.transport(messages).unwrap();
        fake.bar.put(common_config::QUEUE_ENABLE, &[0]);
        transport.enable_queue(queue, LAYOUT).unwrap();
        fake.bar.read_u16(common_config::QUEUE_MSIX_VECTOR)
    };
    assert_eq!((vector_of(&messages(1), 0), vector_of(&messages(1), 2)), (0, 0));
    assert_eq!((vector_of(&messages(2), 0), vector_of(&messages(2), 2)), (1, 1));
    assert_eq!((vector_of(&messages(9), 0), vector_of(&messages(9), 2)), (1, 2), "the table has 3 entries");
    let mut transport = fake.transport(&messages(2)).unwrap();
    transport.vector_fired(0);
    transport.vector_fired(7);
    assert_eq!(transport.take_interrupts(), Interrupts { queue: false, config: true });
    transport.vector_fired(1);
    assert_eq!(transport.take_interrupts(), Interrupts { queue: true, config: false });
    assert_eq!(transport.take_interrupts(), Interrupts::default());
    let mut transport = fake.transport(&messages(1)).unwrap();
    transport.vector_fired(0);
    assert_eq!(transport.take_interrupts(), Interrupts { queue: true, config: true });
}

#[test]
fn row77_an_msix_table_outside_of_its_bar_is_an_error() {
    let error = |at: u64, bytes: &[u8]| {
        let fake = fake();
        fake.config.put(at, bytes);
        fake.transport(&messages(1)).unwrap_err()
    };
    let capability = |structure, fault| PciError::Capability { structure, at: MSIX_AT as u16, fault };
    let beyond = |offset, len| CapabilityFault::BeyondBar { offset, len, bar_len: 0x4000 };
    assert_eq!(error(MSIX_AT + 2, &[0xff, 0x07]), capability(Structure::MsixTable, beyond(0x1800, 0x8000)));
    assert_eq!(error(MSIX_AT + 4, &[7]), capability(Structure::MsixTable, CapabilityFault::ReservedBar(7)));
    assert_eq!(error(MSIX_AT + 8, &[4, 0x40]), capability(Structure::MsixPending, beyond(0x4000, 8)));
    assert_eq!(error(MSIX_AT, &[0]), PciError::Missing(Structure::MsixTable));
}

#[test]
fn s4_1_4_4_notifications_go_to_the_queues_place_which_is_within_the_structure() {
    let fake = fake();
    let mut transport = fake.transport(&[]).unwrap();
    assert_eq!(transport.notify(0, 0), Err(TransportError::NoQueue(0)));
    fake.bar.put(common_config::QUEUE_NOTIFY_OFF, &[3]);
    transport.enable_queue(2, LAYOUT).unwrap();
    fake.log.take();
    transport.notify(2, 0x8005).unwrap();
    assert_eq!(fake.written(NOTIFY), [(12, 2, 2)]);
    fake.bar.put(common_config::QUEUE_ENABLE, &[0]);
    for offset in [4u16, 0xffff] {
        fake.bar.put(common_config::QUEUE_NOTIFY_OFF, &offset.to_le_bytes());
        assert_eq!(transport.enable_queue(1, LAYOUT), Err(TransportError::NotifyOffset(1)));
    }
    assert_eq!(fake.bar.read_u16(common_config::QUEUE_ENABLE), 0);
}

#[test]
fn s4_1_5_2_a_notification_carries_position_and_identifier_when_negotiated() {
    let fake = fake();
    fake.bar.put(common_config::QUEUE_NOTIF_CONFIG_DATA, &[0x77]);
    let notify = |features: Features| {
        let mut transport = fake.transport(&[]).unwrap();
        fake.bar.put(common_config::QUEUE_ENABLE, &[0]);
        transport.set_driver_features(features).unwrap();
        transport.enable_queue(1, LAYOUT).unwrap();
        fake.log.take();
        transport.notify(1, 0x8005).unwrap();
        fake.written(NOTIFY)
    };
    assert_eq!(notify(Features::NOTIFICATION_DATA), [(0, 4, 0x8005_0001)]);
    assert_eq!(notify(Features::NOTIF_CONFIG_DATA), [(0, 2, 0x77)]);
    assert_eq!(notify(Features::NOTIF_CONFIG_DATA | Features::NOTIFICATION_DATA), [(0, 4, 0x8005_0077)]);
    fake.config.put_u32(0x70 + cap::NOTIFY_OFF_MULTIPLIER as u64, 2);
    fake.bar.put(common_config::QUEUE_NOTIFY_OFF, &[1]);
    assert_eq!(notify(Features::NONE), [(2, 2, 1)]);
    let mut transport = fake.transport(&[]).unwrap();
    fake.bar.put(common_config::QUEUE_ENABLE, &[0]);
    transport.set_driver_features(Features::NOTIFICATION_DATA).unwrap();
    assert_eq!(
        transport.enable_queue(1, LAYOUT),
        Err(TransportError::NotifyOffset(1)),
        "not aligned to 4 bytes"
    );
}

#[test]
fn s4_1_4_3_features_whose_registers_are_missing_are_not_taken() {
    let fake = fake();
    let offered = |len: u32| {
        fake.config.put_u32(0x4c, len);
        fake.bar.script(common_config::DEVICE_FEATURE, &[0, 0x181]);
        fake.transport(&[]).unwrap().device_features()
    };
    let all = Features::VERSION_1 | Features::NOTIF_CONFIG_DATA | Features::RING_RESET;
    assert_eq!(offered(0x40), all);
    assert_eq!(offered(0x3a), all.without(Features::RING_RESET));
    assert_eq!(offered(0x38), Features::VERSION_1);
}

#[test]
fn s4_1_4_3_2_a_queue_reset_is_complete_when_it_reads_zero() {
    let fake = fake();
    let mut transport = fake.transport(&[]).unwrap();
    assert_eq!(transport.reset_queue(0), Err(TransportError::NotNegotiated(Features::RING_RESET)));
    transport.set_driver_features(Features::RING_RESET).unwrap();
    fake.bar.script(common_config::QUEUE_RESET, &[1, 0]);
    assert_eq!(transport.reset_queue(0), Ok(()));
    assert_eq!(transport.reset_queue(0), Err(TransportError::QueueResetTimeout(0)));
}

#[test]
fn s4_1_4_5_the_isr_says_why_the_line_was_raised() {
    let fake = fake();
    fake.bar.script(ISR, &[2, 1, 0]);
    let mut transport = fake.transport(&[]).unwrap();
    let taken = [(); 3].map(|()| transport.take_interrupts());
    assert_eq!(
        taken.map(|taken| (taken.queue, taken.config)),
        [(false, true), (true, false), (false, false)]
    );
}

#[test]
fn row77_configuration_ends_with_its_structure() {
    let fake = fake();
    let mut transport = fake.transport(&[]).unwrap();
    assert_eq!(transport.read_config_field(4, &mut [0; 4]), Ok(()));
    let error = |offset, len, space| Err(TransportError::ConfigRange { offset, len, space });
    assert_eq!(transport.read_config_field(6, &mut [0; 4]), error(6, 4, 8));
    fake.config.put(0x63, &[0x55]);
    let mut transport = fake.transport(&[]).unwrap();
    assert_eq!(transport.write_config_field(0, &[0; 4]), error(0, 4, 0));
}

#[test]
fn s4_1_4_9_bars_are_reached_through_configuration_space() {
    let fake = fake();
    let function = fake.function().unwrap();
    assert_eq!(ConfigWindows::new(&function).unwrap_err(), PciError::Missing(Structure::PciConfig));
    fake.config.put(MSIX_AT + 1, &[0xb0]);
    fake.config.put(0xb0, &[9, 0, cap::PCI_CFG_SIZE, cap::TYPE_PCI_CFG]);
    let mut windows = ConfigWindows::new(&function).unwrap();
    let window = windows.map(function.bar(4).unwrap(), 0x2000, 0x10).unwrap();
    fake.log.take();
    window.write_u16(6, 0xbeef);
    let aimed = |len, offset, width, value| {
        [
            ("config", 0xb4, 1, 4),
            ("config", 0xbc, 4, len),
            ("config", 0xb8, 4, offset),
            ("config", 0xc0, width, value),
        ]
        .map(|(name, at, width, value)| Access(name, at, width, value))
    };
    assert_eq!(fake.log.take(), aimed(2, 0x2006, 2, 0xbeef));
    fake.config.script(0xc0, &[0x1111_1111, 0x2222_2222]);
    assert_eq!(window.read_u64(8), 0x2222_2222_1111_1111);
    assert_eq!(fake.log.take()[3..], aimed(4, 0x200c, 4, 0)[..3]);
    assert_eq!((window.read_u32(0x10), window.read_u32(2)), (!0, !0), "beyond the window, or not aligned");
    assert_eq!(fake.log.take(), []);
}

#[test]
fn pci_demo_is_found_and_its_register_stored_and_loaded() {
    let log = Log::default();
    let config = Registers::new("config", 256, &log);
    config.put_u32(0, 0x5649_1234);
    for bar in [0x14, 0x18, 0x1c, 0x20, 0x24] {
        config.mask(bar, 0);
    }
    config.mask(0x10, 0xfff0_0000);
    let register = Registers::new("register", 1 << 20, &log);
    assert_eq!(pci_demo::find(&config, 0), Some(at()));
    let mut function = Function::open(&config, at()).unwrap();
    function.assign_bars(&mut Aperture::new(0xc000_0000, 0xd000_0000)).unwrap();
    let mut access = |bar: &Bar, _offset, _len| (bar.address == 0xc000_0000).then_some(&register);
    let demo = PciDemo::new(&function, &mut access).unwrap();
    assert_eq!(config.read_u16(4), 2);
    demo.store(0x1333);
    assert_eq!((demo.load(), register.read_u32(0)), (0x1333, 0x1333));
    let fake = fake();
    assert_eq!(pci_demo::find(&fake.config, 0), None);
    let foreign = PciDemo::new(&fake.function().unwrap(), &mut fake.access()).unwrap_err();
    assert_eq!(foreign, PciError::Foreign { vendor: 0x1af4, device: 0x1044 });
}
