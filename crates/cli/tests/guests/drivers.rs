//! Our drivers in Linux, under programs with faults and devices that go away.

use rustix::process::Signal;

use super::rig::{Running, assert_says};

const ALL_CHECKS: &str = "\
ok: less than a word is EINVAL, more is one word
ok: a bad pointer is EFAULT
ok: programs side by side each get answers of their own
ok: a module in use is not unloaded, and one that is not is
ok: a device that goes under load ends every call with ENODEV
ok: a device that comes back works
vioduct-guest: exit status 0";

fn checks(serve: &str, guest: &str) {
    let folder = tempfile::tempdir().unwrap();
    let _server = Running::serve(folder.path(), serve);
    assert_says(&Running::start(folder.path(), guest).finish(), ALL_CHECKS);
}

#[test]
fn virtio_demo_in_user_mode_linux() {
    checks(
        "exec vioduct serve virtio-demo --vhost-user demo.sock --memory-files any",
        "uml vioduct.lab=driver-checks,virtio-demo virtio_uml.device=demo.sock:63",
    );
}

#[test]
fn pci_demo_in_user_mode_linux() {
    checks(
        "exec vioduct serve pci-demo --vhost-user pci.sock --memory-files any",
        "uml vioduct.lab=driver-checks,pci-demo virtio_uml.device=pci.sock:62 virtio_pcidev.max_delay_us=2000000",
    );
}

#[test]
fn virtio_demo_in_the_stock_kernel() {
    checks(
        "exec vioduct serve virtio-demo --vfio-user demo.sock",
        r#"qemu vioduct.lab=driver-checks,virtio-demo -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"demo.sock"}}'"#,
    );
}

#[test]
fn pci_demo_in_the_stock_kernel() {
    checks(
        "exec vioduct serve pci-demo --vfio-user pci.sock",
        r#"qemu vioduct.lab=driver-checks,pci-demo -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"pci.sock"}}'"#,
    );
}

/// The request's memory stays the queue's when its program is interrupted: the device, when it goes on, answers into it.
#[test]
fn a_signal_ends_a_wait_and_the_request_is_answered_later() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::serve(folder.path(), "exec vioduct serve virtio-demo,id=6 --vhost-user demo.sock");
    // Not in User-Mode Linux, which stands still while a server of its devices does.
    let mut guest = Running::start(
        folder.path(),
        "qemu 'vioduct.lab=interrupted-wait vioduct_virtio_demo.device_type=6' \
             -chardev socket,id=demo,path=demo.sock \
             -device vhost-user-test-device-pci,chardev=demo,virtio-id=6,num_vqs=1,config_size=4",
    );
    guest.wait_for("stop the device");
    server.signal(Signal::STOP);
    guest.wait_for("let the device go on");
    server.signal(Signal::CONT);
    let expected = "\
ok: a signal ends a wait with EINTR
ok: the next request gets its own answer
vioduct-guest: exit status 0";
    assert_says(&guest.finish(), expected);
}
