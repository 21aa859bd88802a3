//! The device in the smallest machine: requests, one by one and at random, and what a driver must not do.

mod hostile;
mod model;
mod operations;
mod requests;
mod setup;

use crate::{Block, Pace, io_uring_works};
use std::io::Write;
use tempfile::NamedTempFile;
use vioduct_spec::blk;
use vioduct_virtio_device::rig::{Reply, Rig};
use vioduct_virtio_device::{DeviceModel, Features, Inline, Options};

const SECTOR: usize = blk::SECTOR_LEN;
const SECTORS: u64 = 64;
/// What carries out operations, by the word for it.
const METHODS: [&str; 2] = ["uring", "threads"];

/// Those of [`METHODS`] that this system permits; it says so if one is left out.
fn methods() -> Vec<&'static str> {
    let permitted = io_uring_works();
    if let Err(error) = &permitted {
        eprintln!("NOT TESTED: io_uring, which this system does not permit ({error})");
    }
    METHODS.into_iter().filter(|method| *method != "uring" || permitted.is_ok()).collect()
}

fn device(options: &str) -> Block {
    Block::from_options(&Options::parse(options).unwrap()).unwrap()
}

/// Byte `n` of a disk is `n` modulo 251.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|byte| (byte % 251) as u8).collect()
}

fn image() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&pattern(0, SECTORS as usize * SECTOR)).unwrap();
    file
}

fn contents(image: &NamedTempFile) -> Vec<u8> {
    std::fs::read(image.path()).unwrap()
}

/// A device over `image`, brought up, which finishes in each step what it begins.
fn rig(image: &NamedTempFile, options: &str, features: Features) -> Rig<Inline<Block>> {
    let path = image.path().display();
    let device = device(&format!("block,path={path}{options}")).with_pace(Pace::Stepped);
    Rig::new(Inline::new(device), features).unwrap()
}

/// All that a writable device offers.
fn everything() -> Features {
    device("block,null=1M").info().features
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    let mut header = kind.to_le_bytes().to_vec();
    header.extend([0; 4]);
    header.extend(sector.to_le_bytes());
    header
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    let mut range = sector.to_le_bytes().to_vec();
    range.extend(sectors.to_le_bytes());
    range.extend(flags.to_le_bytes());
    range
}

/// A request with its header and data in a descriptor each, and its answer and status too.
fn ask(rig: &mut Rig<Inline<Block>>, kind: u32, sector: u64, data: &[u8], answer_len: usize) -> Reply {
    let header = header(kind, sector);
    let readable: Vec<&[u8]> = [&*header, data].into_iter().filter(|part| !part.is_empty()).collect();
    let writable: Vec<u32> = [answer_len as u32, 1].into_iter().filter(|len| *len > 0).collect();
    rig.request_in_pieces(0, &readable, &writable).unwrap()
}

/// The status of a request.
fn status(rig: &mut Rig<Inline<Block>>, kind: u32, sector: u64, data: &[u8], answer_len: usize) -> u8 {
    let reply = ask(rig, kind, sector, data, answer_len);
    assert_eq!(reply.written as usize, answer_len + 1, "the whole answer is the device's");
    *reply.bytes.last().unwrap()
}
