//! What a guest's console says: lines of the kernel, of the lab's program, and of neither.

/// A line of the console, by who says it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'l> {
    /// The first process has begun: what it says before the kernel's release.
    Begins(&'l str),
    /// The lab's program has ended, with this status.
    Ends(u8),
    /// What operations cost, as the program has measured it.
    Cost(GuestCost),
    /// What a network card has carried, as the program has measured it.
    Network(NetworkCost),
    /// Operations begin that are counted.
    Load,
    /// They have ended.
    Loaded(Load),
    /// The features that driver and device agreed on.
    Negotiated(u64),
    /// The kernel says that something in it is broken.
    Broken(&'l str),
    /// Anything else that the kernel says.
    Kernel,
    /// The program's own words.
    Program(&'l str),
}

/// What a program in the guest has measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuestCost {
    /// All that the program has done with the device, and the interrupts and doorbells of its driver.
    pub(super) operations: u64,
    pub(super) interrupts: Option<u64>,
    pub(super) doorbells: Option<u64>,
    pub(super) median_ns: u64,
    pub(super) p99_ns: u64,
    pub(super) per_operation_ns: u64,
}

/// Operations of one kind, during which nothing else was done: writes, or packets of one length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    /// The guest's name for the network card that has had them.
    pub(super) card: Option<String>,
    pub(super) operations: u64,
}

/// What one network card has carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NetworkCost {
    /// The guest's name for it.
    pub(super) card: String,
    /// Received and sent, as the driver counts them.
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) kicks: u64,
    pub(super) interrupts: u64,
    pub(super) ping_ns: u64,
    pub(super) to_host_kbits: u64,
    pub(super) from_host_kbits: u64,
}

/// How the kernel begins to say that it is broken.
const BREAKAGES: [&str; 7] = [
    "BUG:",
    "WARNING:",
    "Oops",
    "Kernel panic",
    "general protection fault",
    "INFO: task",
    "Unable to handle",
];

impl<'l> Line<'l> {
    pub(super) fn parse(text: &'l str) -> Self {
        if let Some(message) = kernel_message(text) {
            let broken = BREAKAGES.iter().any(|breakage| message.contains(breakage));
            return if broken { Self::Broken(message) } else { Self::Kernel };
        }
        let own = text.strip_prefix("vioduct-guest: ");
        if let Some(system) = own.filter(|words| words.starts_with("Linux ")) {
            return Self::Begins(system);
        }
        let status = own.and_then(|words| words.strip_prefix("exit status ")?.parse().ok());
        let negotiated = text.strip_prefix("negotiated 0x").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        if let Some(words) = text.strip_prefix("network ") {
            return Self::of_network(words).unwrap_or(Self::Program(text));
        }
        match (status, negotiated, GuestCost::parse(text).map(Self::Cost).or_else(|| Self::of_load(text))) {
            (Some(status), ..) => Self::Ends(status),
            (_, Some(features), _) => Self::Negotiated(features),
            (.., Some(line)) => line,
            _ => Self::Program(text),
        }
    }

    /// Reads `load`, and `loaded operations=N`; or both with `card=eth0`.
    fn of_load(words: &str) -> Option<Self> {
        let (verb, of) = words.split_once(' ').unwrap_or((words, ""));
        match verb {
            "load" => Some(Self::Load),
            "loaded" => {
                let card = value(of, "card").map(str::to_owned);
                Some(Self::Loaded(Load { card, operations: value(of, "operations")?.parse().ok()? }))
            }
            _ => None,
        }
    }

    /// The same, or what [`NetworkCost`] reads.
    fn of_network(words: &str) -> Option<Self> {
        Self::of_load(words).or_else(|| NetworkCost::parse(words).map(Self::Network))
    }
}

/// What follows the time in `[    0.123456] message`.
fn kernel_message(text: &str) -> Option<&str> {
    let (time, message) = text.strip_prefix('[')?.split_once("] ")?;
    let (seconds, micros) = time.trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(seconds) && digits(micros)).then_some(message)
}

/// What `name=…` has.
fn value<'w>(words: &'w str, name: &str) -> Option<&'w str> {
    words.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

impl NetworkCost {
    /// Reads `card=eth0 packets=N bytes=N kicks=N interrupts=N ping_ns=N to_host_kbits=N from_host_kbits=N`.
    fn parse(words: &str) -> Option<Self> {
        let number = |name| value(words, name)?.parse().ok();
        Some(Self {
            card: value(words, "card")?.to_owned(),
            packets: number("packets")?,
            bytes: number("bytes")?,
            kicks: number("kicks")?,
            interrupts: number("interrupts")?,
            ping_ns: number("ping_ns")?,
            to_host_kbits: number("to_host_kbits")?,
            from_host_kbits: number("from_host_kbits")?,
        })
    }
}

impl GuestCost {
    /// Reads `cost operations=N median_ns=N p99_ns=N per_operation_ns=N`, and `interrupts=N` and `doorbells=N`.
    fn parse(text: &str) -> Option<Self> {
        let words = text.strip_prefix("cost ")?;
        let number = |name| value(words, name)?.parse().ok();
        Some(Self {
            operations: number("operations")?,
            interrupts: number("interrupts"),
            doorbells: number("doorbells"),
            median_ns: number("median_ns")?,
            p99_ns: number("p99_ns")?,
            per_operation_ns: number("per_operation_ns")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{GuestCost, Line, Load, NetworkCost};

    #[test]
    fn lines_are_told_apart() {
        for (text, line) in [
            ("vioduct-guest: Linux 7.2.13", Line::Begins("Linux 7.2.13")),
            ("vioduct-guest: exit status 2", Line::Ends(2)),
            ("vioduct-guest: no /dev/demo", Line::Program("vioduct-guest: no /dev/demo")),
            ("negotiated 0x100000001", Line::Negotiated(0x1_0000_0001)),
            ("[    0.210000] virtio_uml: registering", Line::Kernel),
            ("[   12.5] ------------[ cut here ]", Line::Kernel),
            ("[    0.5] BUG: unable to handle page fault", Line::Broken("BUG: unable to handle page fault")),
            ("[x] y", Line::Program("[x] y")),
            ("wrote 0x1333, read 0x1333", Line::Program("wrote 0x1333, read 0x1333")),
            (
                "cost operations=1000 median_ns=12 p99_ns=34 per_operation_ns=15 interrupts=7",
                Line::Cost(GuestCost {
                    operations: 1000,
                    interrupts: Some(7),
                    doorbells: None,
                    median_ns: 12,
                    p99_ns: 34,
                    per_operation_ns: 15,
                }),
            ),
            ("cost operations=1000", Line::Program("cost operations=1000")),
            ("load", Line::Load),
            ("loaded operations=12", Line::Loaded(Load { card: None, operations: 12 })),
            ("network load card=eth1", Line::Load),
            (
                "network loaded card=eth1 operations=12",
                Line::Loaded(Load { card: Some("eth1".to_owned()), operations: 12 }),
            ),
            ("network loaded card=eth1", Line::Program("network loaded card=eth1")),
            (
                "network card=eth0 packets=1 bytes=2 kicks=3 interrupts=4 ping_ns=5 to_host_kbits=6 from_host_kbits=7",
                Line::Network(NetworkCost {
                    card: "eth0".to_owned(),
                    packets: 1,
                    bytes: 2,
                    kicks: 3,
                    interrupts: 4,
                    ping_ns: 5,
                    to_host_kbits: 6,
                    from_host_kbits: 7,
                }),
            ),
        ] {
            assert_eq!(Line::parse(text), line);
        }
    }
}
