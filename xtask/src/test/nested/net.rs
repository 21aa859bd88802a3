//! Network cards: over interfaces of the host's, through our process and through the host's kernel.

use super::check::Check;
use super::vhost::is_the_kernels;

pub(super) const CHECKS: &[Check] = &[
    Check::guest_with_network(
        "a pair of queues: ours and the kernel's, behind both transports",
        "network,198.18.0,1",
    )
    .after(&[
        &["ip", "tuntap", "add", "one0", "mode", "tap"],
        &["ip", "tuntap", "add", "one1", "mode", "tap"],
        &["ip", "tuntap", "add", "one2", "mode", "tap"],
        &["ip", "tuntap", "add", "one3", "mode", "tap"],
        &["ip", "addr", "add", "198.18.0.1/24", "dev", "one0"],
        &["ip", "addr", "add", "198.18.1.1/24", "dev", "one1"],
        &["ip", "addr", "add", "198.18.2.1/24", "dev", "one2"],
        &["ip", "addr", "add", "198.18.3.1/24", "dev", "one3"],
        &["ip", "link", "set", "one0", "up"],
        &["ip", "link", "set", "one1", "up"],
        &["ip", "link", "set", "one2", "up"],
        &["ip", "link", "set", "one3", "up"],
    ])
    .beside_programs(&[(LISTENING, IPERF3)])
    .with(&[
        "--device",
        "net,tap=one0",
        "--device",
        "net,tap=one1,vhost=on",
        "--device",
        "net,tap=one2,transport=mmio",
        "--device",
        "net,tap=one3,transport=mmio,vhost=on",
    ])
    .saying(&["network card=eth0", "network card=eth1", "network card=eth2", "network card=eth3"])
    .judged(is_the_kernels),
    Check::guest_with_network("two pairs of queues, the same ways", "network,198.18.10,2")
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
            "net,tap=two1,queues=2,vhost=on",
            "--device",
            "net,tap=two2,queues=2,transport=mmio",
            "--device",
            "net,tap=two3,queues=2,transport=mmio,vhost=on",
        ])
        .saying(&[
            "eth0: all 2 pairs of queues have packets",
            "network card=eth0",
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

/// What an iperf3 says when clients may come.
const LISTENING: &str = "Server listening";
const IPERF3: &[&str] = &["iperf3", "-s", "--forceflush"];
const SECOND_IPERF3: &[&str] = &["iperf3", "-s", "-p", "5202", "--forceflush"];
const GONE: &str = "what the card was plugged into is gone";
