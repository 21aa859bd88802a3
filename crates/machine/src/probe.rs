//! Tells usable KVM from one that merely opens.
//!
//! On some hosts `/dev/kvm` opens and creates machines, but runs the guest's kernel code by instruction emulation: hundreds of times
//! slower, and a stock kernel dies on its first wide atomic. So a guest of a few dozen bytes runs a `cmpxchg16b`, an SSE instruction
//! and rounds of a loop in 64-bit mode, as a kernel does, and the probe looks at the result and at the clock.
//!
//! The best round counts, and none before the guest has touched all of its memory: where the host itself is emulated (QEMU's TCG
//! emulates AMD's virtualization), the first faults and exits take milliseconds, and a busy machine stops any one round for as long.
//! The guest's code is translated there: some 5 ns for an iteration in the best round, which is of use. What interprets it takes
//! 450 ns in every round.
//!
//! This module holds `unsafe` because a guest needs memory that is mapped here and registered with the kernel by address.
#![allow(unsafe_code)]

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_segment, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use std::ffi::c_void;
use std::fmt;
use std::io;
use std::ptr::{self, NonNull};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the probe found.
#[derive(Debug)]
pub enum Verdict {
    /// Guests run, at the speed of the processor; with the time that the whole probe took.
    Usable(Duration),
    /// `/dev/kvm` opens, but guests do not run, or by emulation.
    OnlyOpens(Reason),
    /// `/dev/kvm` is not there, or not for this user.
    Unavailable(io::Error),
}

/// Why KVM that opens is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A KVM call failed.
    #[error("cannot {action}: {source}")]
    Call {
        /// What was tried, as a verb phrase.
        action: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The guest stopped otherwise than it should.
    #[error(
        "the probe's guest stopped by {0}, where it should have reported success: this KVM emulates what it cannot run"
    )]
    Exit(String),
    /// The guest reported success, with a wrong result.
    #[error("the probe's guest computed {found:#x} instead of {expected:#x}")]
    Result {
        /// What it left in memory.
        found: u64,
        /// What it should have left.
        expected: u64,
    },
    /// The guest runs by emulation.
    #[error("{nanoseconds} ns for a loop iteration: this KVM interprets guest code")]
    Slow {
        /// Nanoseconds for one iteration of two instructions, in the best round.
        nanoseconds: u128,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usable(took) => {
                write!(f, "usable (a probe guest ran in {:.1} ms)", took.as_secs_f64() * 1e3)
            }
            Self::OnlyOpens(reason) => write!(f, "opens, but is not usable: {reason}"),
            Self::Unavailable(error) => write!(f, "not available: {error}"),
        }
    }
}

const MEMORY_LEN: usize = 64 << 10;
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const DIRECTORY: usize = 0x3000;
const CODE: usize = 0x8000;
const RESULT: usize = 0x9000;
const ITERATIONS: u32 = 20_000;
/// Two instructions take well under a nanosecond each, and a few where the host is emulated; interpreting them takes hundreds.
const SLOWEST: Duration = Duration::from_nanos(50 * ITERATIONS as u64);
/// How long rounds go on until one is quick enough.
const PATIENCE: Duration = Duration::from_millis(100);
const PORT: u16 = 0xf1;
/// What the guest writes to the port: once after the result, and then after each round of the loop.
const COMPUTED: u8 = b'V';
const ROUND: u8 = b'R';
/// What `cmpxchg16b` stores (1 in the low half), doubled by `paddq`.
const EXPECTED: u64 = 2;

/// The guest: `mov edi, RESULT; xor eax, eax; xor edx, edx; mov ebx, 1; xor ecx, ecx; lock cmpxchg16b [rdi]; movdqa xmm0, [rdi];
/// paddq xmm0, xmm0; movdqa [rdi+16], xmm0; mov al, 'V'; out PORT, al`, and then for ever
/// `1: mov ecx, ITERATIONS; 2: dec ecx; jnz 2b; mov al, 'R'; out PORT, al; jmp 1b`.
fn program() -> Vec<u8> {
    let mut code = vec![0xbf];
    code.extend((RESULT as u32).to_le_bytes());
    code.extend([0x31, 0xc0, 0x31, 0xd2, 0xbb, 1, 0, 0, 0, 0x31, 0xc9]);
    code.extend([0xf0, 0x48, 0x0f, 0xc7, 0x0f]);
    code.extend([0x66, 0x0f, 0x6f, 0x07, 0x66, 0x0f, 0xd4, 0xc0, 0x66, 0x0f, 0x7f, 0x47, 0x10]);
    code.extend([0xb0, COMPUTED, 0xe6, PORT as u8]);
    code.push(0xb9);
    code.extend(ITERATIONS.to_le_bytes());
    code.extend([0xff, 0xc9, 0x75, 0xfc, 0xb0, ROUND, 0xe6, PORT as u8, 0xeb, 0xf1]);
    code
}

/// Guest memory, unmapped when it goes.
struct GuestMemory(NonNull<c_void>);

// SAFETY: the mapping is this object's alone, and any thread may unmap it.
unsafe impl Send for GuestMemory {}

impl GuestMemory {
    fn new() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE;
        // SAFETY: a new anonymous mapping, placed by the kernel.
        let at = unsafe {
            mmap_anonymous(ptr::null_mut(), MEMORY_LEN, ProtFlags::READ | ProtFlags::WRITE, flags)
        }?;
        NonNull::new(at).map(Self).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// Copies `data` to guest address `at`; both are this module's constants and lie within the memory.
    fn put(&self, at: usize, data: &[u8]) {
        assert!(at + data.len() <= MEMORY_LEN);
        // SAFETY: within the mapping (checked above); the guest is not running.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.0.cast::<u8>().as_ptr().add(at), data.len()) };
    }

    fn u64(&self, at: usize) -> u64 {
        assert!(at + 8 <= MEMORY_LEN);
        // SAFETY: within the mapping (checked above); the guest is not running.
        unsafe { ptr::read_unaligned(self.0.cast::<u8>().as_ptr().add(at).cast()) }
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and the machine that used it is gone before (it is declared after it).
        let _ = unsafe { munmap(self.0.as_ptr(), MEMORY_LEN) };
    }
}

/// Runs the probe: some milliseconds on a host whose KVM is usable, and some more than a hundred on one that emulates. A guest that
/// has run ends in a thread of its own, because KVM takes several times as long to end it as it took to run it.
#[must_use]
pub fn probe() -> Verdict {
    probe_and_end().0
}

/// The verdict, and the guest's end if there was a guest.
fn probe_and_end() -> (Verdict, Option<JoinHandle<()>>) {
    let start = Instant::now();
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => return (Verdict::Unavailable(io::Error::from_raw_os_error(error.errno())), None),
    };
    match run_guest(&kvm) {
        Ok(guest) => {
            let took = start.elapsed();
            // Without a thread it ends here.
            (Verdict::Usable(took), thread::Builder::new().spawn(move || drop(guest)).ok())
        }
        Err(reason) => (Verdict::OnlyOpens(reason), None),
    }
}

fn call<T>(action: &'static str, result: Result<T, kvm_ioctls::Error>) -> Result<T, Reason> {
    result.map_err(|error| Reason::Call { action, source: io::Error::from_raw_os_error(error.errno()) })
}

/// What makes a guest, in the order in which it goes.
struct Guest {
    _cpu: VcpuFd,
    _vm: VmFd,
    _memory: GuestMemory,
}

fn run_guest(kvm: &Kvm) -> Result<Guest, Reason> {
    let memory = GuestMemory::new().map_err(|source| Reason::Call { action: "map guest memory", source })?;
    memory.put(PML4, &(PDPT as u64 | 3).to_le_bytes());
    memory.put(PDPT, &(DIRECTORY as u64 | 3).to_le_bytes());
    // One page of 2 MiB, present and writable.
    memory.put(DIRECTORY, &0x83u64.to_le_bytes());
    memory.put(CODE, &program());
    let vm = call("create a machine", kvm.create_vm())?;
    give_memory(&vm, &memory)?;
    let mut cpu = call("create a virtual CPU", vm.create_vcpu(0))?;
    prepare(kvm, &cpu)?;
    run_to(&mut cpu, COMPUTED)?;
    let found = memory.u64(RESULT + 16);
    if found != EXPECTED {
        return Err(Reason::Result { found, expected: EXPECTED });
    }
    let best = best_round(&mut cpu)?;
    if best > SLOWEST {
        return Err(Reason::Slow { nanoseconds: best.as_nanos() / u128::from(ITERATIONS) });
    }
    Ok(Guest { _cpu: cpu, _vm: vm, _memory: memory })
}

/// How long the loop took in the first round that was quick enough, or in the quickest.
fn best_round(cpu: &mut VcpuFd) -> Result<Duration, Reason> {
    let begin = Instant::now();
    let mut best = Duration::MAX;
    while best > SLOWEST && begin.elapsed() < PATIENCE {
        let start = Instant::now();
        run_to(cpu, ROUND)?;
        best = best.min(start.elapsed());
    }
    Ok(best)
}

/// Runs the guest until it writes to the port, which must be this.
fn run_to(cpu: &mut VcpuFd, mark: u8) -> Result<(), Reason> {
    match call("run the guest", cpu.run())? {
        VcpuExit::IoOut(PORT, [found]) if *found == mark => Ok(()),
        other => Err(Reason::Exit(format!("{other:?}"))),
    }
}

fn give_memory(vm: &VmFd, memory: &GuestMemory) -> Result<(), Reason> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: MEMORY_LEN as u64,
        userspace_addr: memory.0.as_ptr() as u64,
    };
    // SAFETY: the mapping is as long as the region says, and outlives the machine.
    call("give the guest memory", unsafe { vm.set_user_memory_region(region) })
}

/// 64-bit mode with an identity map, as a kernel would have it.
fn prepare(kvm: &Kvm, cpu: &VcpuFd) -> Result<(), Reason> {
    let cpuid = call("read the supported CPUID", kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES))?;
    call("set CPUID", cpu.set_cpuid2(&cpuid))?;
    let mut special = call("read special registers", cpu.get_sregs())?;
    let flat = kvm_segment { limit: 0xffff_ffff, present: 1, s: 1, g: 1, ..Default::default() };
    special.cs = kvm_segment { selector: 8, type_: 0xb, l: 1, ..flat };
    let data = kvm_segment { selector: 16, type_: 3, db: 1, ..flat };
    (special.ds, special.es, special.ss, special.fs, special.gs) = (data, data, data, data, data);
    special.cr3 = PML4 as u64;
    // PAE and OSFXSR; PE, MP, ET, NE and PG; LME and LMA.
    special.cr4 = 1 << 5 | 1 << 9;
    special.cr0 = 1 | 1 << 1 | 1 << 4 | 1 << 5 | 1 << 31;
    special.efer = 1 << 8 | 1 << 10;
    call("set special registers", cpu.set_sregs(&special))?;
    let mut registers = call("read registers", cpu.get_regs())?;
    registers.rip = CODE as u64;
    registers.rsp = MEMORY_LEN as u64;
    registers.rflags = 2;
    call("set registers", cpu.set_regs(&registers))
}

#[cfg(test)]
mod tests {
    use super::{JoinHandle, Verdict, probe_and_end};

    #[test]
    fn the_probe_ends_with_a_verdict_and_leaves_nothing_behind() {
        // Those of KVM's alone: other tests of this process open files meanwhile.
        let is_kvm = |entry: std::io::Result<std::fs::DirEntry>| {
            let target = entry.and_then(|entry| std::fs::read_link(entry.path()));
            target.is_ok_and(|target| target.to_string_lossy().contains("kvm"))
        };
        let open =
            || std::fs::read_dir("/proc/self/fd").unwrap().map(is_kvm).filter(|is_kvm| *is_kvm).count();
        let before = open();
        for _ in 0..3 {
            let (verdict, end) = probe_and_end();
            end.map(JoinHandle::join).transpose().unwrap();
            let text = verdict.to_string();
            match verdict {
                Verdict::Usable(took) => assert!(took.as_secs() < 1, "{text}"),
                Verdict::OnlyOpens(_) => assert!(text.contains("not usable"), "{text}"),
                Verdict::Unavailable(_) => assert!(text.contains("not available"), "{text}"),
            }
            println!("{text}");
        }
        assert_eq!(open(), before, "file descriptors were left open");
    }
}
