//! Row 37: memory whose driver changes it behind every read of the device's.
//!
//! This module holds `unsafe` because it implements [`Memory`]: it hands out no region at all.
#![allow(unsafe_code)]

use super::*;
use std::sync::Arc;
use vioduct_virtio_device::MemoryMap;
use vioduct_virtqueue::{Access, IoAddr, Memory, MemoryFault, Region};

/// Where the driver's buffers begin, behind the rings.
const BUFFERS: u64 = 1 << 20;

struct Changing(Arc<MemoryMap>);

// SAFETY: no region is handed out, so that nothing depends on its being there.
unsafe impl Memory for Changing {
    fn read(&self, at: IoAddr, out: &mut [u8]) -> Result<(), MemoryFault> {
        self.0.read(at, out)?;
        if at.0 >= BUFFERS { self.0.write(at, &vec![0xff; out.len()]) } else { Ok(()) }
    }

    fn write(&self, at: IoAddr, data: &[u8]) -> Result<(), MemoryFault> {
        self.0.write(at, data)
    }

    fn region(&self, _at: IoAddr) -> Option<Region> {
        None
    }

    fn reaches(&self, at: IoAddr, len: u64, access: Access) -> bool {
        let mapped = |region: Region| region.access.allows(access) && region.translate(at, len).is_some();
        self.0.region(at).is_some_and(mapped)
    }
}

#[test]
fn row37_a_packet_that_changes_behind_each_read_is_used_as_it_was_judged() {
    for format in FORMATS {
        let mut guest = Guest::with(format);
        let mut program = guest.connect();
        let memory = guest.machine.memory.clone();
        guest.machine.endpoint.replace_memory(Arc::new(Changing(memory)));
        let header = Header { len: 3, ..from(7000, 52, OP_RW) };
        guest.send_raw(&header.to_bytes(), b"abcdef");
        assert_eq!(read(&mut program), b"abc");
        guest.send(from(7000, 52, OP_CREDIT_REQUEST), &[]);
        assert_eq!(guest.expect(OP_CREDIT_UPDATE).0.fwd_cnt, 3);
        assert_eq!(guest.dropped(), 0);
        guest.healthy();
    }
}
