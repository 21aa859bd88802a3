//! Registers that hold what is written, give what they are scripted to, and log every write.

use crate::pci::{ConfigAccess, FunctionAddress};
use crate::register_window::{RegisterWindow, Width};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::vec;
use std::vec::Vec;

/// One write: which registers, where, how wide in bytes, what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Access(pub(crate) &'static str, pub(crate) u64, pub(crate) usize, pub(crate) u64);

/// Writes in their order, of all registers that share the log.
pub(crate) type Log = Rc<RefCell<Vec<Access>>>;

#[derive(Debug)]
pub(crate) struct Registers {
    name: &'static str,
    bytes: RefCell<Vec<u8>>,
    /// What the next reads of an offset give, before it gives what it holds.
    script: RefCell<BTreeMap<u64, VecDeque<u64>>>,
    /// Bits that can be written, where not all can, by offset of a 32-bit register.
    masks: RefCell<BTreeMap<u64, u32>>,
    /// Width in bytes of each read.
    pub(crate) reads: RefCell<Vec<(u64, usize)>>,
    pub(crate) log: Log,
}

impl Registers {
    pub(crate) fn new(name: &'static str, len: usize, log: &Log) -> Self {
        Self {
            name,
            bytes: RefCell::new(vec![0; len]),
            script: RefCell::default(),
            masks: RefCell::default(),
            reads: RefCell::default(),
            log: Rc::clone(log),
        }
    }

    /// Puts bytes in place, unlogged.
    pub(crate) fn put(&self, offset: u64, bytes: &[u8]) {
        self.bytes.borrow_mut()[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
    }

    pub(crate) fn put_u32(&self, offset: u64, value: u32) {
        self.put(offset, &value.to_le_bytes());
    }

    /// The next reads of `offset` give these.
    pub(crate) fn script(&self, offset: u64, values: &[u64]) {
        self.script.borrow_mut().entry(offset).or_default().extend(values);
    }

    /// Makes a 32-bit register of which `mask` alone can be written.
    pub(crate) fn mask(&self, offset: u64, mask: u32) {
        self.masks.borrow_mut().insert(offset, mask);
    }

    fn load(&self, offset: u64, width: Width) -> u64 {
        self.reads.borrow_mut().push((offset, width.bytes()));
        if let Some(value) = self.script.borrow_mut().get_mut(&offset).and_then(VecDeque::pop_front) {
            return value;
        }
        let bytes = self.bytes.borrow();
        let Some(held) = bytes.get(offset as usize..offset as usize + width.bytes()) else {
            return width.ones();
        };
        held.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    }

    fn store(&self, offset: u64, width: Width, value: u64) {
        self.log.borrow_mut().push(Access(self.name, offset, width.bytes(), value));
        let held = {
            let bytes = self.bytes.borrow();
            let held = bytes.get(offset as usize..offset as usize + 4);
            held.map_or(0, |held| u32::from_le_bytes(held.try_into().unwrap()))
        };
        let mask = self.masks.borrow().get(&offset).copied().unwrap_or(!0);
        let value = if mask == !0 { value } else { u64::from(held & !mask | value as u32 & mask) };
        self.put(offset, &value.to_le_bytes()[..width.bytes()]);
    }
}

impl RegisterWindow for Registers {
    fn window_len(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }
    fn read(&self, offset: u64, width: Width) -> u64 {
        self.load(offset, width)
    }
    fn write(&self, offset: u64, width: Width, value: u64) {
        self.store(offset, width, value);
    }
}

/// A bus with one function, 00:03.0.
impl ConfigAccess for Registers {
    fn read(&self, at: FunctionAddress, offset: u16, width: Width) -> u32 {
        if at != FunctionAddress::new(0, 3, 0).unwrap() {
            return width.ones() as u32;
        }
        self.load(u64::from(offset), width) as u32
    }
    fn write(&self, at: FunctionAddress, offset: u16, width: Width, value: u32) {
        assert_eq!(at, FunctionAddress::new(0, 3, 0).unwrap(), "a write to a function that is not there");
        self.store(u64::from(offset), width, u64::from(value));
    }
}
