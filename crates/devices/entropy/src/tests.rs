use super::{Entropy, MAX_REQUEST_BYTES};
use vioduct_virtio_device::rig::Rig;
use vioduct_virtio_device::{Features, Inline, Options};

fn rig(features: Features) -> Rig<Inline<Entropy>> {
    let options = Options::parse("entropy").unwrap();
    Rig::new(Inline::new(Entropy::from_options(&options).unwrap()), features).unwrap()
}

/// All bytes of a buffer in pieces are random: none of the pieces is still zero.
#[test]
fn s5_4_6_2_a_buffer_is_filled_with_random_bytes() {
    for features in [Features::NONE, Features::RING_PACKED] {
        let mut rig = rig(features);
        let reply = rig.request_in_pieces(0, &[], &[64, 4096, 33]).unwrap();
        assert_eq!(reply.written, 64 + 4096 + 33);
        assert!(reply.bytes.chunks(32).filter(|chunk| chunk.len() == 32).all(|chunk| chunk != [0; 32]));
        let again = rig.request(0, &[], 64).unwrap();
        assert_ne!(again.bytes[..64], reply.bytes[..64]);
    }
}

#[test]
fn row39_a_request_gets_64_kib_at_most() {
    let mut rig = rig(Features::NONE);
    let reply = rig.request(0, &[], MAX_REQUEST_BYTES as u32 + 1).unwrap();
    assert_eq!(reply.written as usize, MAX_REQUEST_BYTES);
    assert_eq!(reply.bytes.last(), Some(&0), "the byte beyond is untouched");
}

/// Nothing to write to: used at once, with nothing written.
#[test]
fn a_buffer_that_is_only_readable_is_returned() {
    assert_eq!(rig(Features::NONE).request(0, &[1, 2, 3], 0).unwrap().written, 0);
}

#[test]
fn an_option_is_refused() {
    let error = Entropy::from_options(&Options::parse("entropy,rate=1").unwrap()).unwrap_err();
    assert_eq!(error.to_string(), "entropy: there is no option `rate`; it has none");
}
