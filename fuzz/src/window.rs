//! A virtio-mmio window over the entropy device or virtio-demo, and a driver that accesses it anyhow while it writes to memory.
//!
//! The bytes: a byte that chooses the device, a count of steps in two bytes, the steps, and then what lies in memory from its
//! start. A step is a code, modulo the number of codes, and its arguments.

use crate::input::Input;
use crate::memory::{FuzzMemory, MAPPED_START, PIECE_LEN};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vioduct_entropy::Entropy;
use vioduct_spec::mmio;
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{Backend, Inline};
use vioduct_virtio_mmio::{InterruptLine, Level, Mmio};
use vioduct_virtqueue::IoAddr;

/// Bytes of a step: code, and seven of arguments.
pub const STEP_LEN: usize = 8;

enum Step {
    /// A register is written, 32 bits.
    WriteRegister {
        register: u64,
        value: u32,
    },
    /// Anything is written.
    Write {
        offset: u64,
        len: usize,
        byte: u8,
    },
    Read {
        offset: u64,
        len: usize,
    },
    Poke {
        at: u16,
        value: u16,
    },
    Pause,
    Resume,
}

impl Step {
    fn decode(input: &mut Input<'_>) -> Self {
        let mut step = Input(input.bytes(STEP_LEN));
        match step.below(16) {
            0..=8 => Self::WriteRegister { register: u64::from(step.u8()) * 4, value: step.u32() },
            9 | 10 => Self::Write { len: step.access_len(), byte: step.u8(), offset: u64::from(step.u16()) },
            11 => Self::Read { len: step.access_len(), offset: u64::from(step.u16()) },
            12 => Self::Read { len: step.access_len(), offset: u64::from(step.u32()) << 32 },
            13 => Self::Poke { at: step.u16(), value: step.u16() },
            14 => Self::Pause,
            _ => Self::Resume,
        }
    }
}

/// Remembers the level of the line.
#[derive(Clone, Default)]
pub(crate) struct Line(Arc<AtomicBool>);

impl InterruptLine for Line {
    fn set(&self, level: Level) {
        let before = self.0.swap(level == Level::High, Ordering::Relaxed);
        assert_ne!(before, level == Level::High, "the line was told what it knew");
    }
}

/// One run.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    if input.u8() & 1 == 0 {
        drive(Inline::auto(Entropy), &mut input);
    } else {
        drive(Inline::auto(VirtioDemo::default()), &mut input);
    }
}

fn drive<B: Backend>(backend: B, input: &mut Input<'_>) {
    let steps = usize::from(input.u16());
    let mut steps = Input(input.bytes(steps * STEP_LEN));
    let memory = FuzzMemory::new(Box::default());
    memory.put(IoAddr(MAPPED_START), input.bytes(PIECE_LEN));
    let line = Line::default();
    let mut window = Mmio::new(backend, memory.clone(), Box::new(line.clone()));
    while !steps.is_empty() {
        match Step::decode(&mut steps) {
            Step::WriteRegister { register, value } => window.write(register, &value.to_le_bytes()),
            Step::Write { offset, len, byte } => window.write(offset, &vec![byte; len]),
            Step::Read { offset, len } => window.read(offset, &mut vec![0xa5; len]),
            Step::Poke { at, value } => {
                memory.put(IoAddr(MAPPED_START + u64::from(at)), &value.to_le_bytes());
            }
            Step::Pause => window.endpoint_mut().pause(),
            Step::Resume => window.endpoint_mut().resume(),
        }
        check(&mut window, &line);
    }
    window.write(mmio::STATUS, &[0; 4]);
    assert_eq!(register(&mut window, mmio::STATUS), 0, "a reset that did not take place");
    check(&mut window, &line);
}

fn register<B: Backend>(window: &mut Mmio<B>, offset: u64) -> u32 {
    let mut word = [0xa5; 4];
    window.read(offset, &mut word);
    u32::from_le_bytes(word)
}

fn check<B: Backend>(window: &mut Mmio<B>, line: &Line) {
    assert_eq!(register(window, mmio::MAGIC_VALUE), mmio::MAGIC);
    assert_eq!(register(window, mmio::DEVICE_VERSION), mmio::VERSION);
    let interrupt = register(window, mmio::INTERRUPT_STATUS);
    assert_eq!(interrupt & !u32::from(mmio::INTERRUPT_QUEUE | mmio::INTERRUPT_CONFIG), 0);
    assert_eq!(interrupt != 0, line.0.load(Ordering::Relaxed), "line and status differ");
    assert!(register(window, mmio::QUEUE_READY) <= 1);
    assert_eq!(register(window, mmio::STATUS) >> 8, 0);
}
