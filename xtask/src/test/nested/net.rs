//! Network cards: over interfaces of the host's, through our process and through the host's kernel.

use std::ops::Range;

use anyhow::{Context, Result, bail};

use super::check::Check;
use super::labs::labs;
use super::vhost::is_the_kernels;
use crate::rig::{Finished, Signal};

pub(super) const CHECKS: &[Check] = &[
    Check::guest_with_network(
        "a pair of queues, ours and the kernel's, and again when the guest has started again",
        "network,192.168.77,1,restart",
    )
    .after(&[
        &["ip", "tuntap", "add", "vm0", "mode", "tap", "multi_queue", "user", "1000"],
        &["ip", "tuntap", "add", "again1", "mode", "tap"],
        &["ip", "addr", "add", "192.168.77.1/24", "dev", "vm0"],
        &["ip", "addr", "add", "192.168.78.1/24", "dev", "again1"],
        &["ip", "link", "set", "vm0", "up"],
        &["ip", "link", "set", "again1", "up"],
    ])
    .beside_programs(&[(LISTENING, IPERF3)])
    .with(&["--device", "net,tap=vm0", "--device", "net,tap=again1,transport=mmio,vhost=on,platform=on"])
    .when(&[(ENDED, &["ip", "link", "show", "again1"])])
    .signalled(Signal::Terminate, ENDED)
    .saying(&[
        "network card=eth0",
        "eth1 has addresses of its platform's",
        "network card=eth1",
        ENDED,
        "network card=eth0",
        "eth1 has addresses of its platform's",
        "network card=eth1",
    ])
    .complaining(&["vioduct: the guest starts again", "vioduct: the guest was stopped"])
    .judged(is_the_kernels),
    Check::guest_with_network(
        "two pairs of queues, ours and the kernel's, behind both transports",
        "network,198.18.10,2",
    )
    .after(&[
        &["ip", "tuntap", "add", "two0", "mode", "tap", "multi_queue"],
        &["ip", "tuntap", "add", "two1", "mode", "tap", "multi_queue"],
        &["ip", "tuntap", "add", "two2", "mode", "tap", "multi_queue"],
        &["ip", "tuntap", "add", "two3", "mode", "tap", "multi_queue"],
        &["ip", "addr", "add", "198.18.10.1/24", "dev", "two0"],
        &["ip", "addr", "add", "198.18.11.1/24", "dev", "two1"],
        &["ip", "addr", "add", "198.18.12.1/24", "dev", "two2"],
        &["ip", "addr", "add", "198.18.13.1/24", "dev", "two3"],
        &["ip", "link", "set", "two0", "up"],
        &["ip", "link", "set", "two1", "up"],
        &["ip", "link", "set", "two2", "up"],
        &["ip", "link", "set", "two3", "up"],
    ])
    .beside_programs(&[(LISTENING, IPERF3)])
    .with(&[
        "--cpus",
        "2",
        "--device",
        "net,tap=two0,queues=2",
        "--device",
        "net,tap=two1,queues=2,vhost=on,platform=on",
        "--device",
        "net,tap=two2,queues=2,transport=mmio",
        "--device",
        "net,tap=two3,queues=2,transport=mmio,vhost=on",
    ])
    .saying(&[
        "eth0: all 2 pairs of queues have packets",
        "network card=eth0",
        "eth1 has addresses of its platform's",
        "eth1: all 2 pairs of queues have packets",
        "network card=eth1",
        "eth2: all 2 pairs of queues have packets",
        "network card=eth2",
        "eth3: all 2 pairs of queues have packets",
        "network card=eth3",
    ])
    .judged(is_the_kernels),
    Check::guest_with_network(
        "an interface that is deleted under load is a link that is down",
        "network,198.18.20,unplugged",
    )
    .after(&[
        &["ip", "tuntap", "add", "gone0", "mode", "tap"],
        &["ip", "tuntap", "add", "gone1", "mode", "tap"],
        &["ip", "addr", "add", "198.18.20.1/24", "dev", "gone0"],
        &["ip", "addr", "add", "198.18.21.1/24", "dev", "gone1"],
        &["ip", "link", "set", "gone0", "up"],
        &["ip", "link", "set", "gone1", "up"],
    ])
    .beside_programs(&[(LISTENING, IPERF3), (LISTENING, SECOND_IPERF3)])
    .with(&["--device", "net,tap=gone0", "--device", "net,tap=gone1,vhost=on"])
    .when(&[
        ("eth0 is under load", &["ip", "link", "del", "gone0"]),
        ("eth1 is under load", &["ip", "link", "del", "gone1"]),
    ])
    .saying(&["eth0 has no link any more", "eth1 has no link any more"])
    .complaining(&[GONE, GONE])
    .judged(is_the_kernels),
];

/// Cards that others serve, too.
pub(super) const COMPARED: &[Check] = &[
    Check::guest_with_network("a server's card, and one that makes its own interface", "network,198.18.30,1")
        .after(&[
            &["ip", "tuntap", "add", "served0", "mode", "tap"],
            &["ip", "addr", "add", "198.18.30.1/24", "dev", "served0"],
            &["ip", "link", "set", "served0", "up"],
        ])
        .beside(&[&["serve", "net,tap=served0", "--vhost-user", "/run/net.sock"]])
        .beside_programs(&[(LISTENING, IPERF3)])
        .with(&[
            "--device",
            "net,port=reflect,vhost-user=/run/net.sock",
            "--device",
            "net,tap=auto,mac=52:54:00:12:34:56",
        ])
        .when(&[("network card=eth0", &["ip", "addr", "add", "198.18.31.1/24", "dev", "vioduct0"])])
        .saying(&["network card=eth0", "network card=eth1"])
        .complaining(&["the network card's interface is vioduct0"]),
    Check::command(
        "the lab, behind virtio-mmio",
        &["lab", "run", "vhost-net", "--on", "kvm", "--transport", "mmio", "--json"],
    )
    .judged(is_compared),
    // The last one: the host has no vhost from then on.
    Check::guest_with_network(
        "where the kernel has no vhost, our process serves the card, and says so once",
        "network,198.18.40,1",
    )
    .after(&[
        &["/init", "no-vhost-net"],
        &["ip", "tuntap", "add", "alone0", "mode", "tap"],
        &["ip", "addr", "add", "198.18.40.1/24", "dev", "alone0"],
        &["ip", "link", "set", "alone0", "up"],
    ])
    .beside_programs(&[(LISTENING, IPERF3)])
    .with(&["--device", "net,tap=alone0,vhost=on,platform=on"])
    .saying(&["eth0 has addresses of its platform's", "network card=eth0"])
    .judged(is_said_once),
];

/// What an iperf3 says when clients may come.
const LISTENING: &str = "Server listening";
const IPERF3: &[&str] = &["iperf3", "-s", "--forceflush"];
const SECOND_IPERF3: &[&str] = &["iperf3", "-s", "-p", "5202", "--forceflush"];
/// What the guest says before it starts again.
const ENDED: &str = "vioduct-guest: exit status 0";
const GONE: &str = "what the card was plugged into is gone";

/// The data paths of the lab, and how often a packet that comes is copied by our processes.
const PATHS: [(&str, u64); 3] = [
    ("virtio-net in the machine's process", 1),
    ("virtio-net in another process, over vhost-user", 1),
    ("virtio-net in the host's kernel, by vhost", 0),
];
/// Register accesses of a driver that sets a card up and gives it back, at most.
const SET_UP: u64 = 300;
/// What the host executes for one packet, its sender or receiver there included: some 10,000 instructions.
const OF_ONE_PACKET: Range<u64> = 1000..100_000;
/// An interrupt of virtio-mmio is asked about, and acknowledged (virtio 1.3 §4.2.2, `InterruptStatus`).
const ACCESSES_PER_INTERRUPT: u64 = 2;

fn is_said_once(said: &Finished) -> Result<()> {
    const REFUSAL: &str =
        "vhost in the kernel does not serve it, this process does: cannot open /dev/vhost-net";
    match said.errors.matches(REFUSAL).count() {
        1 => Ok(()),
        count => bail!("it is said {count} times that the kernel does not serve"),
    }
}

/// Every path has carried traffic, and no packet has trapped.
pub(super) fn is_compared(said: &Finished) -> Result<()> {
    let labs = labs(said)?;
    let lab = labs.iter().find(|lab| lab["lab"] == "vhost-net").context("there is no vhost-net")?;
    if lab["ok"] != true {
        bail!("the lab did not go as it should: {lab:#}");
    }
    let per_interrupt = if lab["transport"] == "mmio" { ACCESSES_PER_INTERRUPT } else { 0 };
    let ways = lab["cost"]["ways"].as_array().context("the lab has no costs")?;
    for (path, copies) in PATHS {
        let way =
            ways.iter().find(|way| way["way"] == path).with_context(|| format!("there is no {path}"))?;
        let traps: u64 =
            ["register_reads", "register_writes"].iter().filter_map(|name| way[name].as_u64()).sum();
        let expected = SET_UP + per_interrupt * way["interrupts"].as_u64().unwrap_or_default();
        if !(1..expected).contains(&traps) {
            bail!("{path}: {traps} traps are not those of a set-up: {way:#}");
        }
        let carried = &way["carried"];
        for measured in [
            &carried["to_host_kbits"],
            &carried["from_host_kbits"],
            &carried["server_ns_per_packet"],
            &way["interrupts"],
            &way["doorbells"],
        ] {
            if measured.as_u64().is_none_or(|number| number == 0) {
                bail!("{path}: something was not measured: {way:#}");
            }
        }
        let executed = &way["host_instructions_per_operation"];
        if !executed.as_u64().is_some_and(|each| OF_ONE_PACKET.contains(&each)) {
            bail!("{path}: {executed} are not the host's instructions for a packet: {way:#}");
        }
        let copied = &way["copies"]["received"];
        if copied.as_u64() != Some(copies) {
            bail!("{path}: it is copied {copied} times: {way:#}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(transport: &str, paths: usize, traps: u64, kbits: u64, instructions: Option<u64>) -> Finished {
        let way = |(path, copies): &(&str, u64)| {
            json!({
                "way": path, "register_reads": 0, "register_writes": traps, "interrupts": 100, "doorbells": 1,
                "host_instructions_per_operation": instructions, "copies": {"sent": 0, "received": copies},
                "carried": {"to_host_kbits": kbits, "from_host_kbits": kbits, "server_ns_per_packet": 1},
            })
        };
        let ways: Vec<Value> = PATHS[..paths].iter().map(way).collect();
        let output =
            json!([{"lab": "vhost-net", "transport": transport, "ok": true, "cost": {"ways": ways}}])
                .to_string();
        Finished { status: 0, output, errors: String::new() }
    }

    #[test]
    fn every_path_carries_something_and_does_not_trap() {
        is_compared(&said("pci", 3, 100, 1, Some(9000))).unwrap();
        is_compared(&said("mmio", 3, 400, 1, Some(9000))).unwrap();
        for (paths, traps, kbits, instructions, why) in [
            (2, 100, 1, Some(9000), "there is no virtio-net in the host's kernel"),
            (3, 400, 1, Some(9000), "not those of a set-up"),
            (3, 100, 0, Some(9000), "was not measured"),
            (3, 100, 1, None, "null are not the host's instructions"),
            (3, 100, 1, Some(0), "0 are not the host's instructions"),
        ] {
            let error = is_compared(&said("pci", paths, traps, kbits, instructions)).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
