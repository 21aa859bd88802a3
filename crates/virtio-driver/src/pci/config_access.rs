//! Access to the configuration space of the functions of a bus.

use crate::register_window::Width;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use core::fmt;

/// Where a function is: bus, device (0 to 31) and function (0 to 7) number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FunctionAddress {
    bus: u8,
    device: u8,
    function: u8,
}

impl FunctionAddress {
    /// The address, or `None` if the device is above 31 or the function above 7.
    #[must_use]
    pub const fn new(bus: u8, device: u8, function: u8) -> Option<Self> {
        if device > 31 || function > 7 {
            return None;
        }
        Some(Self { bus, device, function })
    }

    /// Bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.bus
    }

    /// Device number on the bus.
    #[must_use]
    pub const fn device(self) -> u8 {
        self.device
    }

    /// Function number in the device.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.function
    }
}

impl fmt::Display for FunctionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus, self.device, self.function)
    }
}

impl fmt::Debug for FunctionAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Configuration space, by function. Where there is none, a read gives all ones and a write does nothing, as on the bus.
pub trait ConfigAccess {
    /// Reads 1, 2 or 4 bytes at `offset`, which is aligned to the width. [`Width::U64`] is not used.
    fn read(&self, at: FunctionAddress, offset: u16, width: Width) -> u32;

    /// Writes the low bytes of `value` at `offset`, which is aligned to the width. [`Width::U64`] is not used.
    fn write(&self, at: FunctionAddress, offset: u16, width: Width, value: u32);

    /// Reads one byte.
    fn read_u8(&self, at: FunctionAddress, offset: u16) -> u8 {
        self.read(at, offset, Width::U8) as u8
    }

    /// Reads two bytes.
    fn read_u16(&self, at: FunctionAddress, offset: u16) -> u16 {
        self.read(at, offset, Width::U16) as u16
    }

    /// Reads four bytes.
    fn read_u32(&self, at: FunctionAddress, offset: u16) -> u32 {
        self.read(at, offset, Width::U32)
    }

    /// Writes two bytes.
    fn write_u16(&self, at: FunctionAddress, offset: u16, value: u16) {
        self.write(at, offset, Width::U16, u32::from(value));
    }

    /// Writes four bytes.
    fn write_u32(&self, at: FunctionAddress, offset: u16, value: u32) {
        self.write(at, offset, Width::U32, value);
    }
}

macro_rules! forward_config_access {
    ($($pointer:ty),*) => {$(
        impl<C: ConfigAccess + ?Sized> ConfigAccess for $pointer {
            fn read(&self, at: FunctionAddress, offset: u16, width: Width) -> u32 {
                (**self).read(at, offset, width)
            }
            fn write(&self, at: FunctionAddress, offset: u16, width: Width, value: u32) {
                (**self).write(at, offset, width, value);
            }
        }
    )*};
}

forward_config_access!(&C, Box<C>, Rc<C>, Arc<C>);
