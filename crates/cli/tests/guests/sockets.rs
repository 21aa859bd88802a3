//! Linux's own driver of socket devices, with a device that is served: a hundred connections that either side makes, both ways at a time,
//! and every byte of them compared.

use std::path::Path;

use super::rig::{Running, assert_says};

/// Starts the server and the host's program, and then the guest: each side must say this of what it has heard.
fn talk(serve: &str, amount_mib: &str, guest: &str, right: &str) {
    let folder = tempfile::tempdir().unwrap();
    let _server = Running::serve(folder.path(), serve);
    let mut host = program_of_the_host(folder.path(), amount_mib);
    host.wait_for("ready for the guest");
    let said = Running::start(folder.path(), guest).finish();
    println!("{said}");
    let heard = host.finish();
    println!("{heard}");
    assert_begins(&said, right);
    assert_says(&said, "vioduct-guest: exit status 0");
    assert_begins(&heard, right);
}

fn program_of_the_host(folder: &Path, amount_mib: &str) -> Running {
    Running::start(folder, &format!(r#"exec "$G/vioduct-guest" sockets host-unix {amount_mib} ./vsock"#))
}

/// How long it has taken follows.
fn assert_begins(transcript: &str, words: &str) {
    assert!(transcript.lines().any(|line| line.starts_with(words)), "`{words}` is not in:\n{transcript}");
}

/// At the speed of this host.
#[test]
fn a_gibibyte_comes_right_from_and_to_user_mode_linux() {
    talk(
        "exec vioduct serve vsock,cid=3,path=vsock --vhost-user device.sock --memory-files any",
        "1024",
        "uml vioduct.lab=sockets,guest,1024 virtio_uml.device=device.sock:19",
        "200 connections at a time: 536871000 bytes have come, and are right, in ",
    );
}

/// Behind QEMU's virtio-pci; the kernel is emulated, so it is less.
#[test]
fn all_comes_right_from_and_to_the_stock_kernel() {
    talk(
        "exec vioduct serve vsock,cid=3,path=vsock --vhost-user device.sock",
        "64",
        r#"qemu vioduct.lab=sockets,guest,64 -initrd "$G/initramfs-tools.cpio" \
            -chardev socket,id=vsock,path=device.sock -device vhost-user-vsock-pci,chardev=vsock"#,
        "200 connections at a time: 33554600 bytes have come, and are right, in ",
    );
}
