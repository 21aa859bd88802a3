//! What happens at the instructions that matter.
//!
//! This module holds `unsafe` because QEMU calls it, and is called, through a C interface with pointers of QEMU's.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::mem::size_of;
use std::slice;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::account::Account;
use crate::place::{Instruction, Place};
use crate::qemu::{self, Array, Block, Condition, Id, Number, Operation, Register, Registers, Scoreboard};

/// The register with the answer, by GDB's name.
const ANSWER: &CStr = c"rax";

/// QEMU loads no plugin that was made for another version of its interface.
// SAFETY: it is the one symbol of that name, and of the type that QEMU reads.
#[unsafe(no_mangle)]
pub(crate) static qemu_plugin_version: c_int = qemu::VERSION;

/// QEMU has loaded the plugin. There are no options.
///
/// # Safety
///
/// QEMU calls it, once, before anything is translated.
// SAFETY: it is the one symbol of that name, and of the type that QEMU calls.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn qemu_plugin_install(
    id: Id,
    _about: *const c_void,
    _count: c_int,
    _options: *const *const c_char,
) -> c_int {
    // SAFETY: QEMU is there, and an account is zeros at first.
    let accounts = unsafe { qemu::qemu_plugin_scoreboard_new(size_of::<Account>()) };
    let counter = Box::new(Counter { accounts, resumes: Mutex::default(), answer: OnceLock::new() });
    // SAFETY: the counter is never freed.
    unsafe {
        qemu::qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation, Box::into_raw(counter).cast());
    }
    0
}

/// What every callback is given.
struct Counter {
    /// An [`Account`] for each processor.
    accounts: *mut Scoreboard,
    /// Where hosts go on after their guests.
    resumes: Mutex<Vec<Place>>,
    answer: OnceLock<Handle>,
}

/// The register with the answer; null if there is none.
struct Handle(*mut Register);

// SAFETY: a handle is a name, which QEMU takes from any processor's thread.
unsafe impl Send for Handle {}
// SAFETY: the same.
unsafe impl Sync for Handle {}

impl Counter {
    /// # Safety
    ///
    /// `data` is what [`qemu_plugin_install`] has given to QEMU.
    unsafe fn of<'a>(data: *mut c_void) -> &'a Self {
        // SAFETY: by the caller's promise it is a counter, which is never freed, and all of which threads may share.
        unsafe { &*data.cast() }
    }

    /// A number of the accounts.
    fn number(&self, offset: usize) -> Number {
        Number { scoreboard: self.accounts, offset }
    }

    fn account(&self, processor: c_uint) -> &Account {
        // SAFETY: it is one of the processors that there are, so QEMU has a value for it, of this type.
        unsafe { &*qemu::qemu_plugin_scoreboard_find(self.accounts, processor).cast() }
    }

    /// What the host has executed, on all of its processors.
    fn hosts(&self) -> u64 {
        // SAFETY: QEMU is there.
        let processors = unsafe { qemu::qemu_plugin_num_vcpus() };
        (0..processors).map(|processor| self.account(processor.cast_unsigned()).hosts()).sum()
    }

    fn is_resume(&self, address: u64, physical: usize) -> bool {
        let resumes = self.resumes.lock().unwrap_or_else(PoisonError::into_inner);
        resumes.iter().any(|place| place.is(address, physical))
    }

    fn add_resume(&self, place: Place) {
        let mut resumes = self.resumes.lock().unwrap_or_else(PoisonError::into_inner);
        if !resumes.contains(&place) {
            resumes.push(place);
        }
    }
}

/// Translated code counts what it executes, and calls where the processor changes hands or somebody asks.
///
/// # Safety
///
/// QEMU calls it with the block that it translates, and with what [`qemu_plugin_install`] has given it.
unsafe extern "C" fn on_translation(block: *mut Block, data: *mut c_void) {
    // SAFETY: QEMU hands back what it was given, and the block and its instructions are there until this returns.
    unsafe {
        let counter = Counter::of(data);
        let count = qemu::qemu_plugin_tb_n_insns(block);
        let first = qemu::qemu_plugin_tb_get_insn(block, 0);
        let (address, physical) = place_of(first);
        // Before the block is counted, which is done in this order.
        if counter.is_resume(address, physical) {
            qemu::qemu_plugin_register_vcpu_tb_exec_cb(block, on_resume, Registers::Untouched, data);
        }
        qemu::qemu_plugin_register_vcpu_tb_exec_cond_cb(
            block,
            on_first_block,
            Registers::ReadAndWritten,
            Condition::NotEqual,
            counter.number(Account::FRESH),
            0,
            data,
        );
        let executed = counter.number(Account::EXECUTED);
        qemu::qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
            block,
            Operation::Add,
            executed,
            count as u64,
        );
        for index in 0..count {
            let instruction = qemu::qemu_plugin_tb_get_insn(block, index);
            match kind_of(instruction) {
                Instruction::EntersGuest => {
                    let (address, physical) = place_of(instruction);
                    counter.add_resume(Place::behind_entry(address, physical));
                    qemu::qemu_plugin_register_vcpu_insn_exec_cb(
                        instruction,
                        on_entry,
                        Registers::Untouched,
                        data,
                    );
                }
                Instruction::Asks => {
                    qemu::qemu_plugin_register_vcpu_insn_exec_cb(
                        instruction,
                        on_question,
                        Registers::ReadAndWritten,
                        data,
                    );
                }
                Instruction::Other => {}
            }
        }
    }
}

/// # Safety
///
/// QEMU is translating the instruction.
unsafe fn place_of(instruction: *const qemu::Instruction) -> (u64, usize) {
    // SAFETY: by the caller's promise.
    unsafe { (qemu::qemu_plugin_insn_vaddr(instruction), qemu::qemu_plugin_insn_haddr(instruction).addr()) }
}

/// # Safety
///
/// QEMU is translating the instruction.
unsafe fn kind_of(instruction: *const qemu::Instruction) -> Instruction {
    let mut bytes = [0; 16];
    // SAFETY: by the caller's promise; QEMU writes no more than the length that it is given.
    let len = unsafe {
        let len = qemu::qemu_plugin_insn_size(instruction).min(bytes.len());
        qemu::qemu_plugin_insn_data(instruction, bytes.as_mut_ptr().cast(), len)
    };
    Instruction::of(&bytes[..len.min(bytes.len())])
}

/// The host enters a guest.
///
/// # Safety
///
/// QEMU calls it, with what [`qemu_plugin_install`] has given it.
unsafe extern "C" fn on_entry(processor: c_uint, data: *mut c_void) {
    // SAFETY: QEMU hands back what it was given.
    unsafe { Counter::of(data) }.account(processor).enter();
}

/// A guest begins, or goes on. QEMU (11.1) still has the vector of an interrupt that it has injected with `VMRUN` where vectors of
/// exceptions are that are to be delivered: if it left translated code for whatever reason before the guest's next exit, it would deliver it
/// again, even if the guest has interrupts off. It forgets the vector here.
///
/// # Safety
///
/// QEMU calls it at the beginning of a block, with what [`qemu_plugin_install`] has given it.
unsafe extern "C" fn on_first_block(processor: c_uint, data: *mut c_void) {
    // SAFETY: QEMU hands back what it was given.
    unsafe { Counter::of(data) }.account(processor).go_on();
    // SAFETY: the processor is the one that runs, at the beginning of a block to which it went from QEMU's loop around translated code, so
    // that its state is whole; what is left out of this function's end is nothing that must be done.
    unsafe { qemu::cpu_loop_exit_noexc(qemu::qemu_get_cpu(processor.cast_signed())) }
}

/// The host has the processor back.
///
/// # Safety
///
/// QEMU calls it, with what [`qemu_plugin_install`] has given it.
unsafe extern "C" fn on_resume(processor: c_uint, data: *mut c_void) {
    // SAFETY: QEMU hands back what it was given.
    unsafe { Counter::of(data) }.account(processor).leave();
}

/// Somebody asks.
///
/// # Safety
///
/// QEMU calls it, with what [`qemu_plugin_install`] has given it.
unsafe extern "C" fn on_question(_processor: c_uint, data: *mut c_void) {
    // SAFETY: QEMU hands back what it was given.
    let counter = unsafe { Counter::of(data) };
    let register = counter.answer.get_or_init(|| Handle(find(ANSWER)));
    if !register.0.is_null() {
        let mut bytes = counter.hosts().to_le_bytes();
        let mut value = Array { data: bytes.as_mut_ptr(), len: bytes.len() as c_uint };
        // SAFETY: the callback may write registers, and this one has 8 bytes.
        unsafe { qemu::qemu_plugin_write_register(register.0, &raw mut value) };
    }
}

/// A register by its name, null if there is none. QEMU's list of them is left to it: this is done once.
fn find(name: &CStr) -> *mut Register {
    // SAFETY: a processor runs, and the list is as long as it says, of names that stay.
    unsafe {
        let list = &*qemu::qemu_plugin_get_registers();
        let described = slice::from_raw_parts(list.data, list.len as usize);
        let found = described.iter().find(|register| CStr::from_ptr(register.name) == name);
        found.map_or(std::ptr::null_mut(), |register| register.handle)
    }
}
