use super::{GENERATION_TRIES, read_u32, read_u32_fields, read_u64, stable};
use crate::fakes::FakeTransport;
use crate::transport::{Transport, TransportError};
use vioduct_spec::Features;

#[test]
fn s2_5_1_a_field_is_read_again_when_the_generation_changed() {
    let mut transport = FakeTransport::new(Features::VERSION_1);
    transport.generations = [4, 5, 5].into();
    let mut reads = 0u8;
    let value = stable(&mut transport, |transport| {
        reads += 1;
        transport.config[0] = reads;
        let mut bytes = [0; 8];
        transport.read_config_field(0, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    });
    assert_eq!((value, reads), (Ok(2), 2));
}

#[test]
fn s2_5_1_a_configuration_that_never_rests_is_an_error() {
    let mut transport = FakeTransport::new(Features::VERSION_1);
    transport.generations.clear();
    let mut reads = 0;
    let outcome = stable(&mut transport, |_| {
        reads += 1;
        Ok(())
    });
    assert_eq!((outcome, reads), (Err(TransportError::ConfigUnstable), GENERATION_TRIES));
    assert_eq!(read_u32(&mut transport, 0), Err(TransportError::ConfigUnstable));
}

#[test]
fn s2_5_1_a_read_that_fails_halfway_is_not_taken() {
    let mut transport = FakeTransport::new(Features::VERSION_1);
    transport.config = (0..10).collect();
    assert_eq!(read_u32_fields(&mut transport, 0), Ok([0x0302_0100, 0x0706_0504]));
    let error = TransportError::ConfigRange { offset: 8, len: 4, space: 10 };
    assert_eq!(read_u32_fields::<3, _>(&mut transport, 0), Err(error));
}

#[test]
fn row77_fields_beyond_the_configuration_are_errors() {
    let mut transport = FakeTransport::new(Features::VERSION_1);
    let error = TransportError::ConfigRange { offset: 12, len: 8, space: 16 };
    assert_eq!(read_u64(&mut transport, 12), Err(error));
}
