//! The device that `net,…` describes.

use crate::device::{MAX_QUEUE_PAIRS, Net, Setup};
use crate::filter::Address;
use crate::port::Port;
use crate::reflector::Reflect;
use crate::tap::Tap;
use rustix::rand::{GetRandomFlags, getrandom};
use std::sync::Arc;
use vioduct_spec::net::MTU_MIN;
use vioduct_virtio_device::{OptionError, Options};

const KEYS: &[&str] = &["tap", "port", "mac", "queues", "mtu"];

impl Net {
    /// The device that `net,tap=NAME` describes, or `net,port=reflect`, with further options:
    ///
    /// | option | meaning |
    /// |---|---|
    /// | `tap=NAME` | a TAP interface that is there |
    /// | `tap=auto` | a TAP interface of its own, `vioduct0` and so on, up, which goes when the device does |
    /// | `port=reflect` | instead of an interface: packets come back with their addresses exchanged; for benchmarks |
    /// | `mac=ADDRESS` | its Ethernet address (one of its own making) |
    /// | `queues=PAIRS` | how many pairs of queues there are, each served by its own thread (1) |
    /// | `mtu=BYTES` | length of packets that the driver is to keep to, and the MTU of `tap=auto` |
    ///
    /// # Errors
    /// If there is another option, a value is not one of these, or the interface cannot be used.
    pub fn from_options(options: &Options) -> Result<Self, OptionError> {
        Self::with_tap(options).map(|(net, _)| net)
    }

    /// The same, and its interface, if it has one: for kernels that serve its queues in our place.
    ///
    /// # Errors
    /// As for [`from_options`](Self::from_options).
    pub fn with_tap(options: &Options) -> Result<(Self, Option<Arc<Tap>>), OptionError> {
        options.accept(KEYS)?;
        let pairs = options.number_in("queues", 1..=MAX_QUEUE_PAIRS.into())?.unwrap_or(1) as u16;
        let mtu_bytes = options.number_in("mtu", MTU_MIN.into()..=u16::MAX.into())?.map(|mtu| mtu as u16);
        let address = address(options)?;
        let reflect = options.choice("port", &[("reflect", ())])?.is_some();
        let tap = match (options.text("tap"), reflect) {
            (None, true) => None,
            (None, false) => {
                return Err(options.required("tap").err().unwrap_or_else(|| options.unusable("tap", "")));
            }
            (Some(_), true) => return Err(options.unusable("tap", "there is a port, too: keep one")),
            (Some("auto"), false) => Some(Tap::create(pairs, mtu_bytes)),
            (Some(name), false) => Some(Tap::open(name, pairs)),
        };
        let tap = tap.transpose().map_err(|error| options.unusable("tap", error))?.map(Arc::new);
        let port: Arc<dyn Port> = match &tap {
            Some(tap) => tap.clone(),
            None => Arc::new(Reflect),
        };
        let net = Self::new(port, Setup { address, pairs, mtu_bytes });
        net.map(|net| (net, tap)).map_err(|error| options.unusable("tap", error))
    }
}

fn address(options: &Options) -> Result<Address, OptionError> {
    let Some(text) = options.text("mac") else { return Ok(made_up()) };
    match text.parse::<Address>() {
        Ok(address) if !address.is_multicast() && address != Address([0; 6]) => Ok(address),
        _ => Err(options.unusable("mac", "write an address such as 52:54:00:12:34:56, its first byte even")),
    }
}

/// One of those that anybody may use, and hardly anybody else does.
fn made_up() -> Address {
    let mut random = [0; 4];
    // An address is no secret: without random bytes it is one of few.
    let _ = getrandom(&mut random, GetRandomFlags::NONBLOCK);
    let [a, b, c, d] = random;
    Address([0x02, 0x76, a, b, c, d])
}
