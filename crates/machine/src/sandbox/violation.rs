//! The end of a process that makes a system call which it may not: loud, with the terminal as it was.
//!
//! This module holds `unsafe` because what the kernel says of the call is in a signal handler's raw arguments.
#![allow(unsafe_code)]

use crate::terminal;
use libc::{REG_RDI, REG_RDX, REG_RSI, SIGSYS, c_int, c_void, siginfo_t, ucontext_t};
use signal_hook::low_level::emulate_default_handler;
use std::io::{self, Write};
use vmm_sys_util::signal::register_signal_handler;

/// What the kernel says of a call that it has not made: `siginfo_t` as SIGSYS fills it (`asm-generic/siginfo.h`).
#[repr(C)]
struct Refused {
    signal: c_int,
    error: c_int,
    code: c_int,
    at: *const c_void,
    call: c_int,
    architecture: u32,
}

/// Has a violation be reported, and then end the process as it would have without a report, by SIGSYS.
pub(super) fn report() -> io::Result<()> {
    register_signal_handler(SIGSYS, end).map_err(|error| io::Error::from_raw_os_error(error.errno()))
}

/// Neither allocates nor takes a lock: it may have come at any point of the program.
extern "C" fn end(_: c_int, info: *mut siginfo_t, context: *mut c_void) {
    terminal::restore();
    // SAFETY: the kernel hands the handler a record that it has filled for this signal. If something else sent the signal the fields
    // are zeroes or the sender's numbers, which are shown and not believed.
    let call = unsafe { (*info.cast::<Refused>()).call };
    // SAFETY: the kernel hands the handler the interrupted thread's registers; the signal is delivered to the thread that made the call.
    let registers = unsafe { (*context.cast::<ucontext_t>()).uc_mcontext.gregs };
    let argument = |register: c_int| registers.get(register as usize).copied().unwrap_or_default();
    let mut thread = [0_u8; 16];
    // SAFETY: the kernel writes a thread's name of at most 16 bytes, its end included.
    unsafe { libc::prctl(libc::PR_GET_NAME, thread.as_mut_ptr()) };
    let len = thread.iter().position(|byte| *byte == 0).unwrap_or(thread.len());
    let thread = thread.get(..len).and_then(|name| str::from_utf8(name).ok()).unwrap_or("?");
    let mut line = [0; 256];
    let mut rest = &mut line[..];
    // Longer than it can be.
    let _ = writeln!(
        rest,
        "vioduct: seccomp: system call {call} is not allowed (thread {thread}, arguments {:#x} {:#x} {:#x}); \
         run with --sandbox off and report it",
        argument(REG_RDI),
        argument(REG_RSI),
        argument(REG_RDX),
    );
    let written = 256 - rest.len();
    // SAFETY: the line's first bytes are there to be read. Not by `stderr`, which the interrupted code may hold.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), written) };
    let _ = emulate_default_handler(SIGSYS);
}
