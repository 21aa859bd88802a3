//! QEMU's interface for plugins, version 7 (`include/plugins/qemu-plugin.h` of QEMU 11.1), as far as it is needed here.
//!
//! This module holds `unsafe` because the functions are QEMU's own, which the dynamic linker finds when QEMU loads the plugin.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_void};

/// The version of the interface that is declared here. QEMU loads no plugin of one that it does not have.
pub(crate) const VERSION: c_int = 7;

/// A plugin's number.
pub(crate) type Id = u64;

/// Handles of QEMU's, of which only the addresses are known.
macro_rules! handles {
    ($($(#[$documentation:meta])* $name:ident)*) => {
        $(
            $(#[$documentation])*
            #[repr(C)]
            pub(crate) struct $name {
                _private: [u8; 0],
            }
        )*
    };
}

handles! {
    /// A translated block, while it is being translated.
    Block
    /// One instruction of it.
    Instruction
    /// A value for each processor.
    Scoreboard
    /// A register of the processor that runs.
    Register
    /// A processor.
    Processor
}

/// A number in a scoreboard's values.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Number {
    pub(crate) scoreboard: *mut Scoreboard,
    pub(crate) offset: usize,
}

/// What is done in translated code, without a call.
#[repr(C)]
pub(crate) enum Operation {
    Add,
}

/// When there is a call.
#[repr(C)]
#[expect(dead_code, reason = "others have their places among them")]
pub(crate) enum Condition {
    Never,
    Always,
    Equal,
    NotEqual,
}

/// What a callback does with registers.
#[repr(C)]
pub(crate) enum Registers {
    Untouched,
    #[expect(dead_code, reason = "it has its place among the others")]
    Read,
    ReadAndWritten,
}

/// GLib's array.
#[repr(C)]
pub(crate) struct Array<T> {
    pub(crate) data: *mut T,
    pub(crate) len: c_uint,
}

/// What QEMU says of a register.
#[repr(C)]
pub(crate) struct Description {
    pub(crate) handle: *mut Register,
    pub(crate) name: *const c_char,
    pub(crate) feature: *const c_char,
}

/// Of a block that is translated.
pub(crate) type OnTranslation = unsafe extern "C" fn(*mut Block, *mut c_void);
/// Of what a processor executes.
pub(crate) type OnExecution = unsafe extern "C" fn(c_uint, *mut c_void);

// SAFETY: the declarations are those of QEMU's header for this version, and QEMU checks the version before it calls the plugin.
unsafe extern "C" {
    pub(crate) fn qemu_plugin_register_vcpu_tb_trans_cb(id: Id, on: OnTranslation, data: *mut c_void);
    pub(crate) fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    pub(crate) fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    pub(crate) fn qemu_plugin_insn_data(
        instruction: *const Instruction,
        to: *mut c_void,
        len: usize,
    ) -> usize;
    pub(crate) fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    pub(crate) fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    pub(crate) fn qemu_plugin_insn_haddr(instruction: *const Instruction) -> *mut c_void;
    pub(crate) fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut Block,
        on: OnExecution,
        registers: Registers,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_tb_exec_cond_cb(
        block: *mut Block,
        on: OnExecution,
        registers: Registers,
        condition: Condition,
        number: Number,
        operand: u64,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(
        block: *mut Block,
        operation: Operation,
        number: Number,
        operand: u64,
    );
    pub(crate) fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        on: OnExecution,
        registers: Registers,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_scoreboard_new(len: usize) -> *mut Scoreboard;
    pub(crate) fn qemu_plugin_scoreboard_find(scoreboard: *mut Scoreboard, processor: c_uint) -> *mut c_void;
    pub(crate) fn qemu_plugin_num_vcpus() -> c_int;
    pub(crate) fn qemu_plugin_get_registers() -> *mut Array<Description>;
    pub(crate) fn qemu_plugin_write_register(register: *mut Register, value: *mut Array<u8>) -> bool;
}

// Not for plugins: QEMU has these for itself, and shows them to modules of its own.
// SAFETY: the declarations are those of QEMU's headers, which were so before it had plugins and are in 11.1.
unsafe extern "C" {
    /// A processor by its number, null if there is none.
    pub(crate) fn qemu_get_cpu(number: c_int) -> *mut Processor;
    /// Leaves translated code, to go on where the processor is, with no exception to deliver.
    pub(crate) fn cpu_loop_exit_noexc(processor: *mut Processor) -> !;
}
