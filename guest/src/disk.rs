//! Linux's own driver on our block device: what is written is there, past every cache of the guest's, and after a restart.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};

use rustix::fs::{Advice, fadvise};

use crate::Failure;
use crate::lab::End;

const DISK: &str = "/dev/vda";
/// Bytes that are written and read, from the disk's start.
const LEN: usize = 1 << 20;
/// What the first bytes are once a disk has been written.
const MARK: &[u8; 16] = b"vioduct was here";

/// Writes a disk, and wants the guest to end like this; or checks one that was written.
pub(crate) fn run(end: End) -> Result<End, Failure> {
    let mut disk = open()?;
    if read(&mut disk)? == contents() {
        println!("the disk has what was written before: {LEN} bytes are right");
        return Ok(End::PowerOff);
    }
    disk.write_all(&contents()).and_then(|()| disk.sync_all()).map_err(failed("write"))?;
    println!("wrote {LEN} bytes");
    // Of this kernel's copies none must answer for the disk.
    fadvise(&disk, 0, None, Advice::DontNeed).map_err(|error| failed("forget")(error.into()))?;
    match read(&mut disk)? == contents() {
        true => {
            println!("read {LEN} bytes, and they are right");
            Ok(end)
        }
        false => Err(Failure::Lab("other bytes were read than were written".into())),
    }
}

fn failed(action: &str) -> impl FnOnce(std::io::Error) -> Failure + '_ {
    move |error| Failure::Lab(format!("cannot {action} {DISK}: {error}"))
}

fn open() -> Result<File, Failure> {
    OpenOptions::new().read(true).write(true).open(DISK).map_err(failed("open"))
}

fn read(disk: &mut File) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![0; LEN];
    disk.seek(SeekFrom::Start(0)).and_then(|_| disk.read_exact(&mut bytes)).map_err(failed("read"))?;
    disk.seek(SeekFrom::Start(0)).map_err(failed("read"))?;
    Ok(bytes)
}

/// Bytes of which no two neighbours of 8 are the same.
fn contents() -> Vec<u8> {
    let words = (0u64..).map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15)).flat_map(u64::to_le_bytes);
    MARK.iter().copied().chain(words).take(LEN).collect()
}

#[cfg(test)]
mod tests {
    use super::{LEN, MARK, contents};

    #[test]
    fn the_contents_are_not_what_an_empty_disk_has() {
        let contents = contents();
        assert_eq!((contents.len(), &contents[..16]), (LEN, &MARK[..]));
        assert!(contents.chunks_exact(4096).all(|block| block.iter().any(|byte| *byte != 0)));
    }
}
