//! Options, configuration space, save and restore.

use super::*;
use std::os::unix::fs::PermissionsExt;
use vioduct_virtio_device::OptionError;

fn refused(options: &str) -> String {
    let made: Result<Block, OptionError> = Block::from_options(&Options::parse(options).unwrap());
    made.err().expect("it is to be refused").to_string()
}

#[test]
fn files_that_cannot_be_used_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("empty"), b"").unwrap();
    std::fs::write(path("odd"), vec![0; 1000]).unwrap();
    std::fs::write(path("small"), vec![0; 512]).unwrap();
    std::fs::write(path("secret"), vec![0; 512]).unwrap();
    let table = [
        (path("missing"), "", "there is no such file: create it"),
        (folder.path().display().to_string(), "", "it is a directory"),
        (path("empty"), "", "it is empty"),
        (path("odd"), "", "its 1000 bytes are no multiple of the block size of 512: extend it to 1024 bytes"),
        (path("small"), ",block-size=4096", "of the block size of 4096: extend it to 4096 bytes"),
        ("/dev/null".to_owned(), "", "it is neither a file nor a block device"),
    ];
    for (path, more, expected) in table {
        let error = refused(&format!("block,path={path}{more}"));
        assert!(error.starts_with(&format!("block: `path={path}`: ")) && error.contains(expected), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
    std::fs::set_permissions(path("secret"), PermissionsExt::from_mode(0o000)).unwrap();
    // Nothing is forbidden to the superuser.
    if std::fs::File::open(path("secret")).is_err() {
        let error = refused(&format!("block,path={}", path("secret")));
        assert!(error.contains("change its permissions"), "{error}");
    }
}

#[test]
fn options_are_checked() {
    assert_eq!(refused("block"), "block: it needs `path=…`");
    assert!(refused("block,null=1M,format=raw").contains("there is no option `format`"));
    assert!(refused("block,null=1M,queues=0").contains("a number from 1 to 64"));
    assert!(refused("block,null=1M,block-size=1024").contains("write 512 or 4096"));
    assert!(refused("block,null=1M,io=aio").contains("write uring or threads or auto"));
    assert!(refused("block,null=100").contains("a multiple of the block size of 512"));
    assert!(refused("block,null=1M,path=x").contains("there is a path, too"));
    assert!(refused("block,null=1M,serial=123456789012345678901").contains("write 1 to 20 bytes"));
}

#[test]
fn s5_2_4_the_configuration_space_describes_the_disk() {
    let device = device("block,null=1M,queues=5,block-size=4096");
    let mut config = [0; blk::CONFIG_LEN];
    device.read_config(0, &mut config);
    let u32_at = |offset: usize| u32::from_le_bytes(config[offset..offset + 4].try_into().unwrap());
    assert_eq!(config[..8], 2048u64.to_le_bytes());
    assert_eq!((u32_at(blk::SEG_MAX_COUNT), u32_at(blk::BLOCK_SIZE)), (126, 4096));
    assert_eq!(config[blk::PHYSICAL_BLOCK_EXP], 0);
    assert_eq!(config[blk::NUM_QUEUES..][..2], [5, 0]);
    assert_eq!(u32_at(blk::DISCARD_SECTOR_ALIGNMENT), 8);
    assert_eq!(config[blk::WRITE_ZEROES_MAY_UNMAP], 1);
    assert_eq!(device.info().queue_sizes, [256; 5]);
    let read_only = super::device("block,null=1M,readonly=on");
    let info = read_only.info();
    assert!(info.features.contains(blk::RO));
    assert!((info.features & (blk::DISCARD | blk::WRITE_ZEROES | blk::CONFIG_WCE)).is_empty());
    read_only.read_config(0, &mut config);
    assert_eq!(config[blk::PHYSICAL_BLOCK_EXP], 3, "eight sectors in a physical block");
    assert_eq!(config[blk::MAX_DISCARD_SECTORS..blk::CONFIG_LEN], [0; 24]);
}

#[test]
fn a_saved_device_goes_on_with_its_cache_mode_on_the_same_disk_only() {
    let mut first = device("block,null=1M");
    first.write_config(blk::WRITEBACK, &[blk::WRITETHROUGH_CACHE]);
    let state = first.save();
    let mut second = device("block,null=1M");
    second.restore(&state).unwrap();
    assert_eq!(second.save(), state);
    second.reset();
    assert_ne!(second.save(), state, "after a reset the cache mode is the device's again");
    let error = device("block,null=2M").restore(&state).unwrap_err().to_string();
    assert!(error.contains("a disk of 2048 sectors, and this one has 4096"), "{error}");
    for wrong in [&state[..8], &[state.clone(), vec![0]].concat(), &[&state[..8], &[2]].concat(), &[]] {
        assert!(second.restore(wrong).is_err(), "{wrong:?}");
    }
}
