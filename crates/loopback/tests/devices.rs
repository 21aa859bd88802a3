//! Every device of ours through the conformance tests.
#![allow(clippy::unwrap_used)]

use vioduct_entropy::Entropy;
use vioduct_loopback::failure::same;
use vioduct_loopback::{Outcome, Rig, conformance};
use vioduct_spec::{demo, test};
use vioduct_virtio_demo::VirtioDemo;
use vioduct_virtio_device::Options;
use vioduct_virtio_test::VirtioTest;

fn le(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn ask_entropy(rig: &mut Rig) -> Outcome {
    let one = rig.request(0, &[], &[64])?;
    let two = rig.request(0, &[], &[1, 31, 32])?;
    same("bytes written", (one.written, two.written), (64, 64))?;
    same("the same bytes twice", one.bytes == two.bytes, false)
}

fn ask_demo(rig: &mut Rig) -> Outcome {
    for value in demo::LAB_VALUES {
        let stored = rig.request(0, &[&le(&[demo::OP_WRITE, value])], &[8])?;
        same("the reply to a write", stored.bytes, le(&[demo::OP_WRITE, value]))?;
        let read = rig.request(0, &[&le(&[demo::OP_READ])[..3], &le(&[0, 0])[..5]], &[1, 7])?;
        same("the reply to a read", read.bytes, le(&[demo::OP_READ, value]))?;
    }
    Ok(())
}

fn ask_factorial(rig: &mut Rig) -> Outcome {
    for (argument, factorial) in
        [(0, 1), (5, 120), (12, 479_001_600), (13, 1_932_053_504), (34, 0), (u32::MAX, 0)]
    {
        let reply = rig.request(0, &[&le(&[argument]), &[b'x'; test::TEXT_LEN]], &[4])?;
        same(format!("{argument}!"), (reply.written, reply.bytes), (4, le(&[factorial])))?;
    }
    Ok(())
}

fn ask_echo(rig: &mut Rig) -> Outcome {
    let reply = rig.request(0, &[&le(&[10, 11, 12, 13]), &[0; test::TEXT_LEN]], &[4, 8])?;
    same("the echo of 10", (reply.written, reply.bytes), (12, le(&[111, 112, 113])))
}

fn test_device(options: &str) -> Box<VirtioTest> {
    Box::new(VirtioTest::from_options(&Options::parse(options).unwrap()).unwrap())
}

conformance!(entropy, || Box::new(Entropy), ask_entropy);
conformance!(virtio_demo, || Box::new(VirtioDemo::default()), ask_demo);
conformance!(virtio_test_factorial, || test_device("virtio-test"), ask_factorial);
conformance!(virtio_test_echo, || test_device("virtio-test,format=echo"), ask_echo);
