//! System calls, by seccomp: what is not in these tables ends the process.
//!
//! There is one filter for the whole process, which a guest that starts again needs in full, for then the machine is made anew. Threads
//! that face the guest have a second one on top: what serves a guest that runs. Threads of devices are among them, because they are
//! started while the guest runs.

use super::Need;
use kvm_bindings as kvm;
use libc::{
    SYS_accept4, SYS_bind, SYS_brk, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_clone3, SYS_close,
    SYS_connect, SYS_dup, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait, SYS_epoll_pwait2,
    SYS_epoll_wait, SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_fallocate, SYS_fcntl, SYS_fdatasync,
    SYS_fstat, SYS_fstatfs, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_getpid, SYS_getrandom, SYS_getsockopt,
    SYS_gettid, SYS_gettimeofday, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_ioctl,
    SYS_listen, SYS_lseek, SYS_madvise, SYS_memfd_create, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_munmap,
    SYS_nanosleep, SYS_newfstatat, SYS_openat, SYS_poll, SYS_ppoll, SYS_prctl, SYS_pread64, SYS_preadv,
    SYS_preadv2, SYS_pwrite64, SYS_pwritev, SYS_pwritev2, SYS_read, SYS_readv, SYS_recvfrom, SYS_recvmsg,
    SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_sched_yield, SYS_seccomp, SYS_sendmsg, SYS_sendto,
    SYS_set_robust_list, SYS_setsockopt, SYS_shutdown, SYS_sigaltstack, SYS_socket, SYS_socketpair,
    SYS_statx, SYS_tgkill, SYS_unlink, SYS_write, SYS_writev,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::mem::size_of;
use vioduct_vhost_kernel::ioctl as vhost;
use vmm_sys_util::ioctl::{_IOC_NONE, _IOC_READ, _IOC_WRITE, ioctl_expr};

/// What every thread does, whatever the arguments.
const EVERYWHERE: &[&[i64]] = &[
    // Files and sockets that are open.
    &[SYS_read, SYS_readv, SYS_pread64, SYS_preadv, SYS_preadv2],
    &[SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev, SYS_pwritev2],
    &[SYS_lseek, SYS_fallocate, SYS_fdatasync, SYS_fsync, SYS_fstat, SYS_dup, SYS_close],
    &[SYS_sendmsg, SYS_sendto, SYS_recvmsg, SYS_recvfrom, SYS_getsockopt, SYS_setsockopt, SYS_shutdown],
    // Events.
    &[SYS_eventfd2, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2],
    &[SYS_poll, SYS_ppoll],
    // Memory; see also `mmap` and `mprotect`.
    &[SYS_brk, SYS_munmap, SYS_mremap, SYS_madvise],
    // Threads of this process; see also `clone` and `tgkill`.
    &[SYS_clone3, SYS_futex, SYS_set_robust_list, SYS_rseq, SYS_sigaltstack, SYS_gettid, SYS_getpid],
    &[SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_setaffinity, SYS_exit, SYS_exit_group],
    &[SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_restart_syscall],
    // Time and chance.
    &[SYS_clock_gettime, SYS_gettimeofday, SYS_clock_nanosleep, SYS_nanosleep, SYS_getrandom],
];

/// What makes a machine: not while the guest runs, but to start again.
const SET_UP: &[i64] = &[SYS_openat, SYS_statx, SYS_newfstatat, SYS_memfd_create, SYS_ftruncate, SYS_fstatfs];

/// What connects with programs of this host; see also `socket`.
const HOST_PROGRAMS: &[i64] = &[SYS_accept4, SYS_connect];

/// What makes the socket at which they do, in the place of one that nobody has.
const HOST_PROGRAMS_SET_UP: &[i64] = &[SYS_bind, SYS_listen, SYS_unlink];

const IO_URING: &[i64] = &[SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register];

/// Commands of `fcntl`.
const DESCRIPTORS: &[i32] = &[
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_GET_SEALS,
    libc::F_ADD_SEALS,
];

/// Options of `prctl`: a thread's name, and that of memory.
const NAMES: &[i32] = &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Requests to TAP interfaces while the guest runs, whose driver says what it takes (`linux/if_tun.h`).
const INTERFACES_RUNNING: &[u64] = &[libc::TUNSETOFFLOAD, libc::TUNSETQUEUE];

/// Requests that make or find an interface.
const INTERFACES_SET_UP: &[u64] = &[
    libc::TUNSETIFF,
    libc::TUNSETVNETHDRSZ,
    libc::SIOCGIFINDEX,
    libc::SIOCGIFFLAGS,
    libc::SIOCSIFFLAGS,
    libc::SIOCSIFMTU,
];

/// Requests to terminals, which are put back even by a thread that panics, and the one that makes sockets and pipes not block.
const TERMINALS: &[u64] = &[
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSW,
    libc::TCSETSF,
    libc::TCGETS2,
    libc::TCSETS2,
    libc::TCSETSW2,
    libc::TCSETSF2,
    libc::TIOCGWINSZ,
    libc::FIONBIO,
];

const fn request(direction: u32, number: u32, len: usize) -> u64 {
    ioctl_expr(direction, kvm::KVMIO, number, len as u32)
}

/// Requests to KVM while the guest runs (`linux/kvm.h`).
const KVM_RUNNING: &[u64] = &[
    request(_IOC_NONE, 0x80, 0),                                  // KVM_RUN
    request(_IOC_WRITE, 0x61, size_of::<kvm::kvm_irq_level>()),   // KVM_IRQ_LINE
    request(_IOC_WRITE, 0x6a, size_of::<kvm::kvm_irq_routing>()), // KVM_SET_GSI_ROUTING
    request(_IOC_WRITE, 0x76, size_of::<kvm::kvm_irqfd>()),       // KVM_IRQFD
    request(_IOC_WRITE, 0x79, size_of::<kvm::kvm_ioeventfd>()),   // KVM_IOEVENTFD
    request(_IOC_READ, 0x81, size_of::<kvm::kvm_regs>()),         // KVM_GET_REGS
];

/// Requests to KVM that make a machine.
const KVM_SET_UP: &[u64] = &[
    request(_IOC_NONE, 0x01, 0), // KVM_CREATE_VM
    request(_IOC_NONE, 0x03, 0), // KVM_CHECK_EXTENSION
    request(_IOC_NONE, 0x04, 0), // KVM_GET_VCPU_MMAP_SIZE
    request(_IOC_READ | _IOC_WRITE, 0x05, size_of::<kvm::kvm_cpuid2>()), // KVM_GET_SUPPORTED_CPUID
    request(_IOC_NONE, 0x41, 0), // KVM_CREATE_VCPU
    request(_IOC_WRITE, 0x46, size_of::<kvm::kvm_userspace_memory_region>()), // KVM_SET_USER_MEMORY_REGION
    request(_IOC_NONE, 0x47, 0), // KVM_SET_TSS_ADDR
    request(_IOC_NONE, 0x60, 0), // KVM_CREATE_IRQCHIP
    request(_IOC_WRITE, 0x77, size_of::<kvm::kvm_pit_config>()), // KVM_CREATE_PIT2
    request(_IOC_WRITE, 0x82, size_of::<kvm::kvm_regs>()), // KVM_SET_REGS
    request(_IOC_READ, 0x83, size_of::<kvm::kvm_sregs>()), // KVM_GET_SREGS
    request(_IOC_WRITE, 0x84, size_of::<kvm::kvm_sregs>()), // KVM_SET_SREGS
    request(_IOC_WRITE, 0x89, size_of::<kvm::kvm_msrs>()), // KVM_SET_MSRS
    request(_IOC_WRITE, 0x8d, size_of::<kvm::kvm_fpu>()), // KVM_SET_FPU
    request(_IOC_WRITE, 0x90, size_of::<kvm::kvm_cpuid2>()), // KVM_SET_CPUID2
];

/// System calls that are allowed, and with which arguments.
#[derive(Default)]
struct Rules(BTreeMap<i64, Vec<SeccompRule>>);

impl Rules {
    /// With any arguments.
    fn any(mut self, calls: &[i64]) -> Self {
        self.0.extend(calls.iter().map(|call| (*call, Vec::new())));
        self
    }

    /// If `argument`, of which the lower 32 bits count, is one of `values`.
    fn only(
        self,
        call: i64,
        argument: u8,
        values: impl IntoIterator<Item = u64>,
    ) -> Result<Self, BackendError> {
        values.into_iter().try_fold(self, |rules, value| rules.rule(call, argument, SeccompCmpOp::Eq, value))
    }

    /// If both arguments have their values, of which the lower 32 bits count.
    fn both(mut self, call: i64, arguments: [(u8, i32); 2]) -> Result<Self, BackendError> {
        let equals = |(argument, value): (u8, i32)| {
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value as u64)
        };
        let conditions = arguments.into_iter().map(equals).collect::<Result<_, _>>()?;
        self.0.entry(call).or_default().push(SeccompRule::new(conditions)?);
        Ok(self)
    }

    fn rule(mut self, call: i64, argument: u8, is: SeccompCmpOp, value: u64) -> Result<Self, BackendError> {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, is, value)?;
        self.0.entry(call).or_default().push(SeccompRule::new(vec![condition])?);
        Ok(self)
    }

    fn compile(self) -> Result<BpfProgram, BackendError> {
        SeccompFilter::new(self.0, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
    }
}

/// What threads that face the guest can do.
pub(super) fn facing_the_guest(needs: &[Need]) -> Result<[BpfProgram; 2], BackendError> {
    // In this order: the second does not let filters be added.
    Ok([no_files()?, running(needs)?.any(&[SYS_openat]).compile()?])
}

fn running(needs: &[Need]) -> Result<Rules, BackendError> {
    let number = |value: &i32| *value as u64;
    let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    let thread = libc::CLONE_THREAD as u64;
    let rules = Rules::default()
        .any(&EVERYWHERE.concat())
        .only(SYS_ioctl, 1, KVM_RUNNING.iter().chain(TERMINALS).copied())?
        .only(SYS_fcntl, 1, DESCRIPTORS.iter().map(number))?
        .only(SYS_prctl, 0, NAMES.iter().map(number))?
        .only(SYS_tgkill, 0, [std::process::id().into()])?
        .rule(SYS_mmap, 2, executable.clone(), 0)?
        .rule(SYS_mprotect, 2, executable, 0)?
        .rule(SYS_clone, 0, SeccompCmpOp::MaskedEq(thread), thread)?;
    let rules = if needs.contains(&Need::IoUring) { rules.any(IO_URING) } else { rules };
    let rules = match needs.contains(&Need::Interfaces) {
        true => rules.only(SYS_ioctl, 1, INTERFACES_RUNNING.iter().copied())?,
        false => rules,
    };
    let rules = match needs.contains(&Need::HostPrograms) {
        true => rules.any(HOST_PROGRAMS).only(SYS_socket, 0, [libc::AF_UNIX as u64])?,
        false => rules,
    };
    requests_to_vhost(rules, needs, vhost::RUNNING)
}

fn requests_to_vhost(rules: Rules, needs: &[Need], requests: &[u32]) -> Result<Rules, BackendError> {
    match needs.contains(&Need::Vhost) {
        true => rules.only(SYS_ioctl, 1, requests.iter().map(|request| u64::from(*request))),
        false => Ok(rules),
    }
}

/// What all threads can do: the same, and what makes a machine.
pub(super) fn whole_process(needs: &[Need]) -> Result<[BpfProgram; 2], BackendError> {
    let unix = || [libc::AF_UNIX as u64];
    let rules = running(needs)?
        .any(SET_UP)
        .only(SYS_ioctl, 1, KVM_SET_UP.iter().copied())?
        .only(SYS_prctl, 0, [libc::PR_SET_NO_NEW_PRIVS as u64])?
        .only(SYS_seccomp, 0, [libc::SECCOMP_SET_MODE_FILTER.into()])?
        .only(SYS_socketpair, 0, unix())?;
    let rules = requests_to_vhost(rules, needs, vhost::SET_UP)?;
    let rules = match needs.contains(&Need::UnixSockets) {
        true => rules.any(&[SYS_connect]).only(SYS_socket, 0, unix())?,
        false => rules,
    };
    // Interfaces are described by way of any socket, and announced by one that nothing can be asked for.
    let rules = match needs.contains(&Need::Interfaces) {
        true => rules
            .only(SYS_ioctl, 1, INTERFACES_SET_UP.iter().copied())?
            .only(SYS_socket, 0, unix())?
            .both(SYS_socket, [(0, libc::AF_NETLINK), (2, libc::NETLINK_KOBJECT_UEVENT)])?
            .any(&[SYS_bind]),
        false => rules,
    };
    let rules = if needs.contains(&Need::HostPrograms) { rules.any(HOST_PROGRAMS_SET_UP) } else { rules };
    Ok([threads_by_clone()?, rules.compile()?])
}

/// Has `clone3` not be there: its flags are in memory, where filters do not see them. C libraries then use `clone`.
fn threads_by_clone() -> Result<BpfProgram, BackendError> {
    refusing(SYS_clone3, libc::ENOSYS)
}

/// Has files out of reach, as Landlock does: C libraries look into files of the system's for numbers that they can do without, when
/// there are many threads, and panics for the program's symbols.
fn no_files() -> Result<BpfProgram, BackendError> {
    refusing(SYS_openat, libc::EACCES)
}

/// Has a call fail, which another filter allows: of the filters' verdicts the strictest counts.
fn refusing(call: i64, error: i32) -> Result<BpfProgram, BackendError> {
    let rules = Rules::default().any(&[call]).0;
    let refused = SeccompAction::Errno(error as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refused, TargetArch::x86_64)?.try_into()
}
