//! `vioduct run`: a guest in a machine of our own, on KVM.

mod confined;
mod console;
mod devices;
mod kernel_vhost;

use crate::Failure;
use crate::args::{MachineOptions, SandboxSwitch};
use crate::host::usable_kvm;
use crate::labs::failed;
use console::Console;
use vioduct_machine::sandbox::Confinement;
use vioduct_machine::{BootSources, Builder, Outcome, Pages, Parts};

/// Boots a guest and runs it until it is switched off or stopped; one that wants to start again does.
pub(crate) fn run(options: &MachineOptions) -> Result<(), Failure> {
    usable_kvm()?;
    // Before there is another thread, which would not be confined; the probe's does nothing but end the probe's guest.
    let confinement = match options.sandbox {
        SandboxSwitch::On => Some(confined::enter(options)?),
        SandboxSwitch::Off => None,
    };
    let console = Console::open()?;
    loop {
        match boot_once(options, &console, confinement.as_ref())? {
            Outcome::PowerOff => return Ok(()),
            Outcome::Stopped => {
                eprintln!("vioduct: the guest was stopped");
                return Ok(());
            }
            Outcome::Reset => eprintln!("vioduct: the guest starts again"),
            Outcome::Crashed(how) => return Err(Failure::Failed(format!("the guest has crashed: {how}"))),
        }
    }
}

fn boot_once(
    options: &MachineOptions,
    console: &Console,
    confinement: Option<&Confinement>,
) -> Result<Outcome, Failure> {
    let pages = match options.huge_pages {
        true => Pages::Huge,
        false if options.device.iter().any(|device| devices::has_server(device)) => Pages::Small,
        false => Pages::Private,
    };
    let parts = Parts { processors: options.cpus, ram_bytes: options.memory, pages };
    let mut builder = Builder::new(parts).map_err(failed("set up the machine"))?;
    for device in &options.device {
        devices::attach(&mut builder, device)?;
    }
    let sources = BootSources {
        kernel: options.kernel.clone(),
        initrd: options.initrd.clone(),
        command_line: options.cmdline.clone(),
    };
    let mut machine =
        builder.boot(&sources, console.output()).map_err(|error| Failure::Failed(error.to_string()))?;
    if let Some(confinement) = confinement {
        machine.confine(confinement);
    }
    let _connected = console.connect(machine.keyboard(), machine.stopper());
    machine.run().map_err(|error| Failure::Failed(error.to_string()))
}
