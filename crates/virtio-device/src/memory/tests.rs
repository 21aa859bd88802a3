use super::*;

fn setup(at: u64, len: u64) -> RegionSetup {
    RegionSetup { at: IoAddr(at), len, access: Access::ReadWrite, backing: Backing::Anonymous }
}

fn error(regions: Vec<RegionSetup>) -> String {
    MemoryMap::new(regions).err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn accesses_cross_from_one_region_into_the_next() {
    let map = MemoryMap::new(vec![setup(0x2000, 0x1000), setup(0x1000, 0x1000)]).unwrap();
    map.write(IoAddr(0x1ffe), &[1, 2, 3, 4]).unwrap();
    let mut out = [0; 6];
    map.read(IoAddr(0x1ffd), &mut out).unwrap();
    assert_eq!(out, [0, 1, 2, 3, 4, 0]);
    assert_eq!(map.region(IoAddr(0x1fff)).unwrap().at, IoAddr(0x1000));
    assert_eq!(map.region(IoAddr(0x2000)).unwrap().at, IoAddr(0x2000));
}

/// An access past the end of a region, with nothing or a hole behind it, and one whose end wraps.
#[test]
fn row10_an_access_beyond_a_region_is_a_fault() {
    let map = MemoryMap::new(vec![setup(0, 0x1000), setup(0x2000, 0x1000)]).unwrap();
    for at in [0xfff, 0x1000, 0x1fff, 0x2fff, 0x3000, u64::MAX] {
        let fault = MemoryFault { at: IoAddr(at), len: 2 };
        assert_eq!(map.read(IoAddr(at), &mut [0; 2]), Err(fault));
        assert_eq!(map.write(IoAddr(at), &[0; 2]), Err(fault));
    }
    assert!(map.region(IoAddr(0x1000)).is_none() && map.region(IoAddr(u64::MAX)).is_none());
}

#[test]
fn access_is_what_the_region_allows() {
    let read = RegionSetup { access: Access::Read, ..setup(0, 0x1000) };
    let map = MemoryMap::new(vec![read, setup(0x1000, 0x1000)]).unwrap();
    assert!(map.read(IoAddr(0xfff), &mut [0; 2]).is_ok());
    assert!(map.write(IoAddr(0xffe), &[0; 4]).is_err());
}

#[test]
fn creation_errors_say_what_to_do() {
    assert_eq!(
        error(vec![setup(0x800, 0x1000), setup(0, 0x1000)]),
        "the regions at 0x0 and 0x800 overlap: move one"
    );
    assert_eq!(
        error(vec![setup(8, 0x1000)]),
        "the region at 0x8 is not aligned: choose an address and an offset that are multiples of 16"
    );
    for (at, len) in [(0, 0), (0, u64::MAX), (u64::MAX - 15, 0x1000)] {
        assert!(error(vec![setup(at, len)]).contains("correct its length"), "{at:#x} {len:#x}");
    }
}

/// Reading a mapping beyond the end of its file kills the process, so the file's length is checked first.
#[test]
fn row62_a_file_shorter_than_its_region_is_refused() {
    let file = Arc::new(shared_file(0x1000).unwrap());
    let region = |offset, len| RegionSetup {
        backing: Backing::File { file: file.clone(), offset },
        ..setup(0x1000, len)
    };
    assert_eq!(
        error(vec![region(0x1000, 0x1000)]),
        "the region at 0x1000 needs a file of 0x2000 bytes, it has 0x1000: enlarge it first"
    );
    assert!(error(vec![region(u64::MAX, 0x1000)]).contains("enlarge it"));
    assert_eq!(error(vec![region(0, 0x1000)]), "");
    assert!(ftruncate(&*file, 0).is_err(), "shared memory is sealed against shrinking");
}

/// A file system of large pages maps at multiples of them only; a region may begin anywhere in a page.
#[test]
fn a_region_may_begin_within_a_page_of_its_file() {
    let file = Arc::new(shared_file(0x3000).unwrap());
    let region = |at, offset| RegionSetup {
        backing: Backing::File { file: file.clone(), offset },
        ..setup(at, 0x1000)
    };
    let map = MemoryMap::new(vec![region(0, 0), region(0x10_0000, 0x810)]).unwrap();
    map.write(IoAddr(0x810), &[1, 2, 3]).unwrap();
    let mut out = [0; 3];
    map.read(IoAddr(0x10_0000), &mut out).unwrap();
    assert_eq!(out, [1, 2, 3]);
    assert!(error(vec![region(0, 8)]).contains("multiples of 16"));
}

/// A client can name a region of any length for the price of a sparse file; the log of it would be memory of this process.
#[test]
fn row62_a_huge_region_costs_nothing_before_it_is_used() {
    let file = Arc::new(shared_file(1 << 44).unwrap());
    let region = RegionSetup { backing: Backing::File { file, offset: 0 }, ..setup(0, 1 << 44) };
    let map = MemoryMap::new(vec![region]).unwrap();
    map.write(IoAddr((1 << 44) - 1), &[1]).unwrap();
    assert!(map.take_dirty().is_empty());
}

#[test]
fn shared_memory_is_the_same_through_its_descriptor() {
    let map = MemoryMap::shared(0x2000).unwrap();
    let (region, file) = map.regions().next().unwrap();
    let (file, offset) = file.unwrap();
    let other = MemoryMap::new(vec![RegionSetup {
        backing: Backing::File { file: Arc::new(file.try_clone_to_owned().unwrap()), offset },
        ..setup(0x10_0000, region.len)
    }])
    .unwrap();
    map.write(IoAddr(0x1ffe), &[7, 8]).unwrap();
    let mut out = [0; 2];
    other.read(IoAddr(0x10_1ffe), &mut out).unwrap();
    assert_eq!(out, [7, 8]);
}

#[test]
fn the_log_names_each_page_written_once() {
    let map = MemoryMap::new(vec![setup(0x1000, 0x4000), setup(0x100_0000, 0x10_0000)]).unwrap();
    map.written(IoAddr(0x1000), 0);
    map.write(IoAddr(0x1000), &[1]).unwrap();
    assert_eq!(map.take_dirty(), [], "nothing is logged before the log begins");
    map.start_log();
    map.write(IoAddr(0x1fff), &[1, 2]).unwrap();
    map.written(IoAddr(0x104_5000), 0x1001);
    assert_eq!(map.take_dirty(), [0x1000, 0x2000, 0x104_5000, 0x104_6000].map(IoAddr));
    assert_eq!(map.take_dirty(), []);
    map.written(IoAddr(u64::MAX), u64::MAX);
    assert_eq!(map.take_dirty(), []);
}
