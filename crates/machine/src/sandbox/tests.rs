//! What can be done in the sandbox, and how a process ends that tries something else: by processes that enter it.
//!
//! This module holds `unsafe` because system calls that no library makes are made by number.
#![allow(unsafe_code)]

use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Barrier, mpsc};
use std::thread;
use vioduct_virtio_device::{EventFd, Signal};

/// What the child below tries, in which thread, with which needs; and a file that it is allowed.
const DEED: &str = "VIODUCT_TEST_SANDBOX_DEED";
const PLACE: &str = "VIODUCT_TEST_SANDBOX_PLACE";
const NEED: &str = "VIODUCT_TEST_SANDBOX_NEED";
const ALLOWED: &str = "VIODUCT_TEST_SANDBOX_FILE";

const KVM_CREATE_VM: i64 = 0xae01;
const KVM_RUN: i64 = 0xae80;
const KVM_SET_USER_MEMORY_REGION: i64 = 0x4020_ae46;
const VHOST_SET_OWNER: i64 = 0xaf01;
const VHOST_SET_VRING_NUM: i64 = 0x4008_af10;
const UNIX: i64 = libc::AF_UNIX as i64;
const STREAM: i64 = libc::SOCK_STREAM as i64;
const NETLINK: i64 = libc::AF_NETLINK as i64;
const RAW: i64 = libc::SOCK_RAW as i64;
/// Everything may be done with that memory.
const ANYTHING: i64 = (libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as i64;
const ANONYMOUS: i64 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64;

/// System calls by name. Those with a null pointer or no descriptor do nothing where they are allowed.
const CALLS: &[(&str, i64, [i64; 4])] = &[
    ("execve", libc::SYS_execve, [0; 4]),
    ("fork", libc::SYS_clone, [libc::SIGCHLD as i64, 0, 0, 0]),
    ("ptrace", libc::SYS_ptrace, [libc::PTRACE_TRACEME as i64, 0, 0, 0]),
    ("read another process", libc::SYS_process_vm_readv, [1, 0, 0, 0]),
    ("signal another process", libc::SYS_tgkill, [1, 1, 0, 0]),
    ("inet socket", libc::SYS_socket, [libc::AF_INET as i64, STREAM, 0, 0]),
    ("unix socket", libc::SYS_socket, [UNIX, STREAM, 0, 0]),
    ("socket of news", libc::SYS_socket, [NETLINK, RAW, libc::NETLINK_KOBJECT_UEVENT as i64, 0]),
    ("socket of routes", libc::SYS_socket, [NETLINK, RAW, libc::NETLINK_ROUTE as i64, 0]),
    ("unix socketpair", libc::SYS_socketpair, [UNIX, STREAM, 0, 0]),
    ("connect", libc::SYS_connect, [-1, 0, 0, 0]),
    ("accept", libc::SYS_accept4, [-1, 0, 0, 0]),
    ("bind", libc::SYS_bind, [-1, 0, 0, 0]),
    ("listen", libc::SYS_listen, [-1, 0, 0, 0]),
    ("unlink", libc::SYS_unlink, [0; 4]),
    ("io_uring", libc::SYS_io_uring_setup, [1, 0, 0, 0]),
    ("type a key", libc::SYS_ioctl, [-1, libc::TIOCSTI as i64, 0, 0]),
    ("make an interface", libc::SYS_ioctl, [-1, libc::TUNSETIFF as i64, 0, 0]),
    ("take offloads", libc::SYS_ioctl, [-1, libc::TUNSETOFFLOAD as i64, 0, 0]),
    ("make a machine", libc::SYS_ioctl, [-1, KVM_CREATE_VM, 0, 0]),
    ("map memory", libc::SYS_ioctl, [-1, KVM_SET_USER_MEMORY_REGION, 0, 0]),
    ("run a guest", libc::SYS_ioctl, [-1, KVM_RUN, 0, 0]),
    ("own a vhost device", libc::SYS_ioctl, [-1, VHOST_SET_OWNER, 0, 0]),
    ("give vhost a queue", libc::SYS_ioctl, [-1, VHOST_SET_VRING_NUM, 0, 0]),
    ("code", libc::SYS_mmap, [0, 4096, ANYTHING, ANONYMOUS]),
    ("data to code", libc::SYS_mprotect, [0, 4096, ANYTHING, 0]),
    ("another filter", libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as i64, 0, 0, 0]),
    ("clone3", libc::SYS_clone3, [0, 0, 0, 0]),
];

fn number(name: &str) -> i64 {
    CALLS.iter().find(|(known, ..)| *known == name).unwrap().1
}

/// The folder in which sockets may be made.
fn sockets_beside(path: &str) -> PathBuf {
    Path::new(path).with_file_name("sockets")
}

/// What was tried came to this end.
fn attempt(deed: &str, allowed: &File, path: &str) -> io::Result<()> {
    if let Some((_, number, [a, b, c, d])) = CALLS.iter().find(|(name, ..)| *name == deed) {
        // SAFETY: the calls of the table have no pointer but null, and none of them changes memory that is in use.
        let result = unsafe { libc::syscall(*number, *a, *b, *c, *d, -1, 0) };
        return if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    }
    match deed {
        "read a file" => allowed.read_exact_at(&mut [0; 4], 1),
        "open the file" => File::open(path).map(drop),
        "write the file" => File::options().write(true).open(path).map(drop),
        "open another file" => File::open("/etc/passwd").map(drop),
        "make a socket" => {
            let socket = sockets_beside(path).join("new");
            UnixListener::bind(&socket)?;
            std::fs::remove_file(&socket)
        }
        "make a file among sockets" => File::create_new(sockets_beside(path).join("new")).map(drop),
        "make a file" => File::create_new(format!("{path}.new")).map(drop),
        "events" => {
            let event = EventFd::new()?;
            event.signal();
            assert_eq!(event.take(), 1);
            Ok(())
        }
        "threads" => threads(),
        "panic" => {
            assert!(thread::spawn(|| panic!("as told")).join().is_err());
            Ok(())
        }
        "abort" => std::process::abort(),
        other => panic!("no deed is called {other}"),
    }
}

/// More threads at a time than the C library has memory for without a look at how many processors there are.
const THREADS: usize = 20;

/// Threads that allocate, wait for each other, and end.
fn threads() -> io::Result<()> {
    let (sender, receiver) = mpsc::channel();
    let all = Arc::new(Barrier::new(THREADS));
    let started = (0..THREADS).map(|number| {
        let (sender, all) = (sender.clone(), all.clone());
        let body = move || {
            let memory = vec![number; 1 << 10];
            all.wait();
            sender.send(memory.len()).unwrap();
        };
        thread::Builder::new().name(format!("worker-{number}")).spawn(body)
    });
    let started = started.collect::<io::Result<Vec<_>>>()?;
    assert_eq!(receiver.iter().take(THREADS).sum::<usize>(), THREADS << 10);
    started.into_iter().for_each(|thread| thread.join().unwrap());
    Ok(())
}

/// Not a test of its own: the process that the tests below start.
#[test]
fn child() {
    let Ok(deed) = std::env::var(DEED) else { return };
    let path = std::env::var(ALLOWED).unwrap();
    let needs = match std::env::var(NEED).unwrap().as_str() {
        "sockets" => vec![Need::UnixSockets],
        "programs" => vec![Need::HostPrograms],
        "io_uring" => vec![Need::IoUring],
        "interfaces" => vec![Need::Interfaces],
        "vhost" => vec![Need::Vhost],
        _ => Vec::new(),
    };
    let allowed = File::open(&path).unwrap();
    let mut files = vec![(path.clone().into(), Access::ReadOnly)];
    if needs == [Need::HostPrograms] {
        files.push((sockets_beside(&path), Access::Sockets));
    }
    let confinement = Sandbox { files, needs }.enter().unwrap();
    eprintln!("files: {:?}", confinement.files());
    let in_place = std::env::var(PLACE).unwrap();
    let body = move || {
        if in_place == "facing" {
            confinement.face_the_guest().unwrap();
        }
        match attempt(&deed, &allowed, &path) {
            Ok(()) => eprintln!("outcome: done"),
            Err(error) => eprintln!("outcome: errno {}", error.raw_os_error().unwrap()),
        }
    };
    thread::Builder::new().name("cpu7".to_owned()).spawn(body).unwrap().join().unwrap();
    std::process::exit(0);
}

/// How the child ended.
#[derive(PartialEq, Eq, Debug)]
enum End {
    Done,
    /// The call failed, with this error.
    Refused(i32),
    /// It was the process's last.
    Killed,
}

const PROCESS: &str = "process";
const FACING: &str = "facing";

struct Tried {
    status: ExitStatus,
    said: String,
}

fn try_with(need: &str, place: &str, deed: &str) -> Tried {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("allowed");
    std::fs::write(&file, "content").unwrap();
    std::fs::create_dir(folder.path().join("sockets")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--test-threads=1", "sandbox::tests::child"]);
    command.env(DEED, deed).env(PLACE, place).env(NEED, need).env(ALLOWED, &file).env("RUST_BACKTRACE", "0");
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    Tried { status: output.status, said: String::from_utf8(output.stderr).unwrap() }
}

fn end_with(need: &str, place: &str, deed: &str) -> End {
    let Tried { status, said } = try_with(need, place, deed);
    let outcome = said.lines().find_map(|line| line.strip_prefix("outcome: "));
    match outcome {
        Some("done") if status.success() => End::Done,
        Some(refused) if status.success() => {
            End::Refused(refused.strip_prefix("errno ").unwrap().parse().unwrap())
        }
        None if status.signal() == Some(libc::SIGSYS) => {
            let report = format!(
                "vioduct: seccomp: system call {} is not allowed (thread cpu7, arguments ",
                number(deed)
            );
            assert!(said.lines().any(|line| line.starts_with(&report)), "{deed}: {said}");
            assert!(said.contains("; run with --sandbox off and report it\n"), "{deed}: {said}");
            End::Killed
        }
        _ => panic!("{deed}: {status}: {said}"),
    }
}

fn end(place: &str, deed: &str) -> End {
    end_with("nothing", place, deed)
}

/// Whether this system has Landlock, by asking it and not the code under test.
fn landlock_is_there() -> bool {
    const VERSION: u32 = 1;
    // SAFETY: this asks for a number.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) > 0 }
}

#[test]
fn what_no_machine_does_ends_the_process() {
    let never = [
        "execve",
        "fork",
        "ptrace",
        "read another process",
        "signal another process",
        "inet socket",
        "unix socket",
        "connect",
        "accept",
        "bind",
        "unlink",
        "io_uring",
        "type a key",
        "make an interface",
        "take offloads",
        "give vhost a queue",
        "code",
        "data to code",
    ];
    for deed in never {
        for place in [PROCESS, FACING] {
            assert_eq!(end(place, deed), End::Killed, "{deed}, {place}");
        }
    }
}

#[test]
fn what_makes_a_machine_is_not_for_threads_that_face_the_guest() {
    let made = [
        ("unix socketpair", libc::EFAULT),
        ("make a machine", libc::EBADF),
        ("map memory", libc::EBADF),
        ("another filter", libc::EFAULT),
    ];
    for (deed, error) in made {
        assert_eq!(end(PROCESS, deed), End::Refused(error), "{deed}");
        assert_eq!(end(FACING, deed), End::Killed, "{deed}");
    }
    assert_eq!(end(PROCESS, "open the file"), End::Done);
    assert_eq!(end(FACING, "open the file"), End::Refused(libc::EACCES));
}

#[test]
fn what_devices_need_is_there_for_those_that_have_them() {
    assert_eq!(end_with("sockets", PROCESS, "unix socket"), End::Done);
    assert_eq!(end_with("sockets", PROCESS, "connect"), End::Refused(libc::EBADF));
    assert_eq!(end_with("sockets", PROCESS, "inet socket"), End::Killed);
    for deed in ["unix socket", "connect", "io_uring"] {
        assert_eq!(end_with("sockets", FACING, deed), End::Killed, "{deed}");
    }
    for deed in ["unix socket", "socket of news", "make an interface", "take offloads"] {
        let (process, facing) = (end_with("interfaces", PROCESS, deed), end_with("interfaces", FACING, deed));
        match deed {
            "unix socket" | "socket of news" => assert_eq!((process, facing), (End::Done, End::Killed)),
            "make an interface" => assert_eq!((process, facing), (End::Refused(libc::EBADF), End::Killed)),
            _ => assert_eq!((process, facing), (End::Refused(libc::EBADF), End::Refused(libc::EBADF))),
        }
    }
    for deed in ["connect", "inet socket", "socket of routes"] {
        assert_eq!(end_with("interfaces", PROCESS, deed), End::Killed, "{deed}");
    }
    let no_such_file = End::Refused(libc::EBADF);
    assert_eq!(end_with("vhost", PROCESS, "own a vhost device"), no_such_file);
    assert_eq!(end_with("vhost", FACING, "own a vhost device"), End::Killed);
    for place in [PROCESS, FACING] {
        assert_eq!(end_with("vhost", place, "give vhost a queue"), no_such_file);
        assert_eq!(end_with("programs", place, "unix socket"), End::Done);
        assert_eq!(end_with("programs", place, "connect"), End::Refused(libc::EBADF));
        assert_eq!(end_with("programs", place, "accept"), End::Refused(libc::EBADF));
        assert_eq!(end_with("programs", place, "inet socket"), End::Killed);
    }
    for (deed, error) in [("bind", libc::EBADF), ("listen", libc::EBADF), ("unlink", libc::EFAULT)] {
        assert_eq!(end_with("programs", PROCESS, deed), End::Refused(error), "{deed}");
        assert_eq!(end_with("programs", FACING, deed), End::Killed, "{deed}");
    }
    for place in [PROCESS, FACING] {
        let end = end_with("io_uring", place, "io_uring");
        // A null pointer, or a system that permits none.
        assert!(matches!(end, End::Refused(libc::EFAULT | libc::EPERM | libc::ENOSYS)), "{end:?}");
    }
}

#[test]
fn what_serves_a_guest_works() {
    for place in [PROCESS, FACING] {
        for deed in ["read a file", "events", "threads", "panic"] {
            assert_eq!(end(place, deed), End::Done, "{deed}, {place}");
        }
        assert_eq!(end(place, "run a guest"), End::Refused(libc::EBADF));
        assert_eq!(end(place, "clone3"), End::Refused(libc::ENOSYS), "threads are made by clone");
    }
}

#[test]
fn a_process_that_aborts_ends_by_its_own_signal() {
    for place in [PROCESS, FACING] {
        assert_eq!(try_with("nothing", place, "abort").status.signal(), Some(libc::SIGABRT));
    }
}

#[test]
fn only_files_that_were_named_are_opened_and_as_was_said() {
    let confined = landlock_is_there();
    let files = if confined { "files: Confined\n" } else { "files: Free\n" };
    assert!(try_with("nothing", PROCESS, "events").said.contains(files));
    let expected = if confined { End::Refused(libc::EACCES) } else { End::Done };
    for deed in ["write the file", "open another file", "make a file"] {
        assert_eq!(end(PROCESS, deed), expected, "{deed}");
    }
    assert_eq!(end_with("programs", PROCESS, "make a socket"), End::Done);
    assert_eq!(end_with("programs", PROCESS, "make a file among sockets"), expected);
}

#[test]
fn trying_it_out_confines_nothing_else() {
    let files = if landlock_is_there() { Files::Confined } else { Files::Free };
    assert_eq!(Sandbox::default().try_out().unwrap(), files);
    assert!(std::fs::read("/proc/version").is_ok());
}
