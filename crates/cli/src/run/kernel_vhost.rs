//! `vhost=…`: devices whose queues the kernel serves.

use crate::Failure;
use crate::nearest::unknown;
use crate::registry;
use vioduct_spec::vhost_demo;
use vioduct_vhost_kernel::{Framing, Kind};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::{DeviceModel, OptionError, Options};
use vioduct_vsock::Vsock;

/// A device that the kernel can serve.
pub(super) struct Vhost {
    /// What it is called.
    device: &'static str,
    /// What `vhost=` must say.
    word: &'static str,
    /// Where the kernel is asked.
    pub(super) node: &'static str,
    /// The device as this process has it, and what the kernel is to serve of it.
    pub(super) make: fn(&Options) -> Made,
    /// Who serves it where the kernel does not.
    pub(super) otherwise: Otherwise,
}

/// Who serves what the kernel does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Otherwise {
    /// This process serves it.
    Process,
    /// There is none; this is what can be done.
    Nobody(&'static str),
}

type Made = Result<(Box<dyn DeviceModel>, Kind), OptionError>;

const KNOWN: &[Vhost] = &[
    Vhost {
        device: "net",
        word: "on",
        node: "/dev/vhost-net",
        make: network_card,
        otherwise: Otherwise::Process,
    },
    Vhost {
        device: "virtio-demo",
        word: "kernel",
        node: vhost_demo::NODE,
        make: |options| Ok((Box::new(VirtioDemo::from_options(options)?), Kind::Demo)),
        otherwise: Otherwise::Process,
    },
    Vhost {
        device: "vsock",
        word: "on",
        node: "/dev/vhost-vsock",
        make: vsock,
        otherwise: Otherwise::Nobody("`path=PATH` instead of `vhost=on` does without it"),
    },
];

/// The host's programs have AF_VSOCK sockets of the kernel's: none is made here, and so nothing here could take its place.
fn vsock(options: &Options) -> Made {
    if options.text("path").is_some() {
        return Err(options.unusable("path", "with `vhost=on` the host's sockets are AF_VSOCK: leave it out"));
    }
    let vsock = Vsock::from_options(options)?;
    let kind = Kind::Vsock { cid: vsock.cid().into() };
    Ok((Box::new(vsock), kind))
}

/// The queues of packets are the kernel's, and those of the interface, too.
fn network_card(options: &Options) -> Made {
    let (net, tap) = registry::network_card(options)?;
    let tap = tap.ok_or_else(|| options.unusable("port", "vhost=on is for interfaces: write tap=NAME"))?;
    let taps = tap.lend().map_err(|error| options.unusable("tap", error))?;
    Ok((Box::new(net), Kind::Net { taps, framing: Framing::Header }))
}

/// What the options of a device say of the kernel, if anything.
pub(super) fn wanted(options: &Options) -> Result<Option<&'static Vhost>, Failure> {
    let Some(word) = options.text("vhost") else { return Ok(None) };
    let name = options.name();
    let Some(vhost) = KNOWN.iter().find(|vhost| vhost.device == name) else {
        return Err(Failure::Usage(format!(
            "{name}: the kernel has no vhost for it: leave `vhost={word}` out"
        )));
    };
    match vhost.word == word {
        true => Ok(Some(vhost)),
        false => Err(Failure::Usage(unknown("vhost", word, [vhost.word]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_serves_what_it_knows_and_says_so_of_the_rest() {
        let wanted = |text: &str| wanted(&Options::parse(text).unwrap());
        assert!(wanted("virtio-demo").is_ok_and(|vhost| vhost.is_none()));
        for known in ["virtio-demo,vhost=kernel", "net,tap=vm0,vhost=on"] {
            assert!(wanted(known).is_ok_and(|vhost| vhost.is_some()), "{known}");
        }
        for (text, why) in [("entropy,vhost=kernel", "no vhost for it"), ("virtio-demo,vhost=on", "kernel")] {
            let Err(Failure::Usage(message)) = wanted(text) else { panic!("{text} is understood") };
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn the_kernel_has_the_guests_identifier_and_sockets_of_its_own() {
        let make = |text: &str| {
            let mut options = Options::parse(text).unwrap();
            let vhost = wanted(&options).unwrap().unwrap();
            options.take("vhost");
            (vhost.make)(&options)
        };
        assert!(matches!(make("vsock,cid=7,vhost=on").unwrap().1, Kind::Vsock { cid: 7 }));
        for (text, why) in [("vsock,cid=7,vhost=on,path=/x", "AF_VSOCK"), ("vsock,vhost=on", "cid")] {
            let Err(error) = make(text) else { panic!("{text} is understood") };
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn the_kernel_serves_no_mirror() {
        let made = network_card(&Options::parse("net,port=reflect").unwrap());
        assert!(made.is_err_and(|error| error.to_string().contains("tap=NAME")));
    }
}
