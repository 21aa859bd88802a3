//! Payloads, as the specification lays them out, and a file to share.

use crate::rig::peer::{longs, words};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::os::fd::OwnedFd;

pub(crate) fn sealed_file(len: u64) -> OwnedFd {
    let file = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, len).unwrap();
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    file
}

/// Guest address, length, the front-end's address, offset.
pub(crate) type Region = [u64; 4];

pub(crate) fn table(regions: &[Region]) -> Vec<u8> {
    let header = words(&[regions.len() as u32, 0]);
    [header, regions.iter().flat_map(|region| longs(region)).collect()].concat()
}

pub(crate) fn slot(region: Region) -> Vec<u8> {
    [longs(&[0]), longs(&region)].concat()
}

pub(crate) fn span(offset: u32, len: u32, flags: u32, data: &[u8]) -> Vec<u8> {
    [words(&[offset, len, flags]), data.to_vec()].concat()
}

/// Length, offset, rings, and their size.
pub(crate) fn inflight(len: u64, offset: u64, rings: u16, size: u16) -> Vec<u8> {
    [longs(&[len, offset]), rings.to_ne_bytes().to_vec(), size.to_ne_bytes().to_vec()].concat()
}
