//! Keys, and a terminal that is put back whichever way its process ends.

use super::*;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};

fn filter(pieces: &[&[u8]]) -> (Vec<u8>, Option<Leave>) {
    let (mut filter, mut guest) = (EscapeFilter::new(), Vec::new());
    let leave = pieces.iter().find_map(|piece| filter.filter(piece, &mut guest));
    (guest, leave)
}

#[test]
fn keys_are_the_guests() {
    let all: Vec<u8> = (0..=255).filter(|key| *key != 1).collect();
    assert_eq!(filter(&[&all]), (all, None));
    assert_eq!(filter(&[b"xX", b"\x03\x04"]), (b"xX\x03\x04".to_vec(), None), "Ctrl-C and Ctrl-D too");
}

#[test]
fn ctrl_a_x_leaves() {
    for keys in [&[&b"ls\x01x"[..]][..], &[b"ls\x01", b"Xrest"], &[b"l", b"s", b"\x01", b"x"]] {
        assert_eq!(filter(keys), (b"ls".to_vec(), Some(Leave)));
    }
}

#[test]
fn ctrl_a_twice_is_one_for_the_guest() {
    assert_eq!(filter(&[b"\x01\x01x"]), (b"\x01x".to_vec(), None));
    assert_eq!(filter(&[b"\x01\x01\x01x"]), (b"\x01".to_vec(), Some(Leave)));
}

#[test]
fn ctrl_a_and_another_key_are_both_the_guests() {
    assert_eq!(filter(&[b"\x01", b"a\x01\x00b"]), (b"\x01a\x01\x00b".to_vec(), None));
    assert_eq!(filter(&[b"ab\x01"]), (b"ab".to_vec(), None), "it waits for the next key");
}

/// A terminal: its two ends.
fn terminal() -> (OwnedFd, File) {
    let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&controller).unwrap();
    unlockpt(&controller).unwrap();
    let name = ptsname(&controller, Vec::new()).unwrap().into_string().unwrap();
    let user = File::options().read(true).write(true).open(name).unwrap();
    (controller, user)
}

/// Whether lines are edited and keys make signals, as a shell leaves it.
fn is_cooked(terminal: &File) -> bool {
    let modes = tcgetattr(terminal).unwrap().local_modes;
    modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
}

#[test]
fn raw_mode_ends_with_its_guard() {
    let (_controller, user) = terminal();
    assert!(is_cooked(&user));
    let raw = RawMode::enter(&user, &[]).unwrap().expect("it is a terminal");
    let modes = tcgetattr(&user).unwrap().local_modes;
    assert!(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG));
    drop(raw);
    assert!(is_cooked(&user));
}

#[test]
fn what_is_no_terminal_is_left_alone() {
    let file = tempfile::tempfile().unwrap();
    assert!(RawMode::enter(&file, &FATAL_SIGNALS).unwrap().is_none());
}

/// How the child below ends.
const ENDING: &str = "VIODUCT_TEST_TERMINAL_ENDING";

/// Not a test of its own: the process that the tests below start, with a terminal for its input.
#[test]
fn child() {
    let Ok(ending) = std::env::var(ENDING) else { return };
    let stdin = std::io::stdin();
    let raw = RawMode::enter(&stdin, &FATAL_SIGNALS).unwrap().unwrap();
    match ending.as_str() {
        "return" => return,
        "panic" => panic!("as told"),
        "thread" => {
            // The guard stays alive: only the panic itself can put the terminal back.
            let _ = std::thread::spawn(|| panic!("as told")).join();
            std::mem::forget(raw);
            std::process::exit(3);
        }
        "violation" => {
            crate::sandbox::Sandbox::default().enter().unwrap();
            let _ = std::net::TcpListener::bind("127.0.0.1:0");
            panic!("the sandbox lets sockets be made");
        }
        _ => println!("waiting"),
    }
    loop {
        std::thread::park();
    }
}

fn start(user: &File, ending: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--nocapture", "--test-threads=1", "terminal::tests::child"]);
    command.env(ENDING, ending).stdin(user.try_clone().unwrap());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

fn end(ending: &str) -> (ExitStatus, bool) {
    let (_controller, user) = terminal();
    let status = start(&user, ending).wait().unwrap();
    (status, is_cooked(&user))
}

#[test]
fn a_process_that_returns_or_panics_puts_the_terminal_back() {
    for (ending, code) in [("return", 0), ("panic", 101), ("thread", 3)] {
        let (status, cooked) = end(ending);
        assert_eq!(status.code(), Some(code), "{ending}");
        assert!(cooked, "{ending}");
    }
}

#[test]
fn a_process_that_leaves_its_sandbox_puts_the_terminal_back() {
    /// What the kernel kills it by.
    const SIGSYS: i32 = 31;
    let (status, cooked) = end("violation");
    assert_eq!(status.signal(), Some(SIGSYS));
    assert!(cooked);
}

#[test]
fn a_process_that_is_killed_by_a_signal_puts_the_terminal_back() {
    use std::io::{BufRead, BufReader};
    for (signal, number) in [(Signal::TERM, 15), (Signal::HUP, 1), (Signal::INT, 2), (Signal::QUIT, 3)] {
        let (_controller, user) = terminal();
        let mut child = start(&user, "signal");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("waiting")), "the child is in raw mode");
        assert!(!is_cooked(&user));
        kill_process(Pid::from_child(&child), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(number), "it ends as it would have");
        assert!(is_cooked(&user), "signal {number}");
    }
}
