// SPDX-License-Identifier: GPL-2.0

//! `vhost-demo`: virtio-demo's data path in the host's kernel, behind `/dev/vhost-demo`.
//!
//! Every open file is a device with a value of its own. The program that opens it keeps the registers, tells the module
//! of memory and ring by the ioctls that every vhost device has, and starts it; requests are then between the guest and
//! this module. What a request is, [`demo`] says.

mod node;
mod spec;
mod vhost;

use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, ordering::Relaxed};
use kernel::uaccess::{UserPtr, UserSlice};
use node::Node;
use spec::{Features, demo, vhost_demo};
use vhost::{Backend, Chain, Files, Owned, Queue};

module! {
    type: Module,
    name: "vioduct_vhost_demo",
    authors: ["The Vioduct project"],
    description: "vhost-demo: virtio-demo's data path in the host's kernel",
    license: "GPL",
}

#[pin_data]
struct Module {
    #[pin]
    _node: Node<Files<Demo>>,
}

impl kernel::InPlaceModule for Module {
    fn init(_module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self { _node <- Node::register(()) })
    }
}

struct Demo {
    value: Atomic<u32>,
}

/// The ioctls that no other vhost device has.
enum Command {
    SetRunning,
    GetValue,
    SetValue,
}

impl Backend for Demo {
    type Command = Command;

    const NAME: &'static CStr = c"vhost-demo";
    const QUEUES: usize = 1;
    const FEATURES: u64 = Features::NONE.0;

    fn new() -> Self {
        Self { value: Atomic::new(demo::INITIAL_VALUE) }
    }

    fn kicked(&self, queue: &mut Queue<'_>) {
        queue.drain(|chain| self.answer(chain));
    }

    fn command(number: u32) -> Option<Command> {
        match number {
            vhost_demo::SET_RUNNING => Some(Command::SetRunning),
            vhost_demo::GET_VALUE => Some(Command::GetValue),
            vhost_demo::SET_VALUE => Some(Command::SetValue),
            _ => None,
        }
    }

    fn run(&self, command: Command, device: &mut Owned<'_, Self>, argument: UserPtr) -> Result {
        let argument = UserSlice::new(argument, size_of::<u32>());
        match command {
            Command::SetRunning => set_running(device, argument.reader().read()?),
            Command::GetValue => argument.writer().write(&self.value.load(Relaxed)),
            Command::SetValue => Ok(self.value.store(argument.reader().read()?, Relaxed)),
        }
    }

    fn reset(&self) {
        self.value.store(demo::INITIAL_VALUE, Relaxed);
    }
}

fn set_running(device: &mut Owned<'_, Demo>, running: u32) -> Result {
    match running {
        0 => Ok(device.stop()),
        1 => device.start(),
        _ => Err(EINVAL),
    }
}

impl Demo {
    /// One request; one that is too short for itself or its reply gets none.
    fn answer(&self, chain: &mut Chain<'_>) -> Result {
        if chain.readable().len() < demo::HALF_LEN || chain.writable().len() < demo::HALF_LEN {
            return Ok(());
        }
        let (mut opcode, mut operand) = ([0; 4], [0; 4]);
        whole(chain.readable().copy_from_iter(&mut opcode))?;
        whole(chain.readable().copy_from_iter(&mut operand))?;
        let (opcode, operand) = self.reply(u32::from_le_bytes(opcode), u32::from_le_bytes(operand));
        whole(chain.writable().copy_to_iter(&opcode.to_le_bytes()))?;
        whole(chain.writable().copy_to_iter(&operand.to_le_bytes()))
    }

    /// The reply's opcode and operand.
    fn reply(&self, opcode: u32, operand: u32) -> (u32, u32) {
        match opcode {
            demo::OP_READ => (opcode, self.value.load(Relaxed)),
            demo::OP_WRITE => {
                self.value.store(operand, Relaxed);
                (opcode, operand)
            }
            _ => (demo::OP_INVALID, operand),
        }
    }
}

/// Copying stops early where the owner's memory does.
fn whole(copied: usize) -> Result {
    if copied == size_of::<u32>() { Ok(()) } else { Err(EFAULT) }
}
