//! Archives in cpio's `newc` format, which the kernel unpacks as its first root file system.

/// An archive in memory, in the order in which its entries are added.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// Permission bits, as in `chmod`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permissions(pub(crate) u32);

const FOLDER: u32 = 0o040_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const REGULAR_FILE: u32 = 0o100_000;
/// The entry after which the kernel stops reading.
const TRAILER: &str = "TRAILER!!!";
/// Names and contents end at a multiple of this many bytes.
const ALIGNMENT: usize = 4;

/// What a header says beside the name; owner and time are always zero, so that equal inputs give equal archives.
#[derive(Debug, Clone, Copy, Default)]
struct Header {
    mode: u32,
    links: u32,
    device: (u32, u32),
}

impl Archive {
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, Header { mode: FOLDER | 0o755, links: 2, ..Header::default() }, &[]);
    }

    pub(crate) fn file(&mut self, path: &str, permissions: Permissions, content: &[u8]) {
        self.entry(
            path,
            Header { mode: REGULAR_FILE | permissions.0, links: 1, ..Header::default() },
            content,
        );
    }

    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        let header = Header { mode: CHARACTER_DEVICE | 0o600, links: 1, device: (major, minor) };
        self.entry(path, header, &[]);
    }

    /// The archive's bytes.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry(TRAILER, Header { links: 1, ..Header::default() }, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, header: Header, content: &[u8]) {
        let inode = self.entries;
        self.entries += 1;
        let Header { mode, links, device: (major, minor) } = header;
        let (size, name_size) = (content.len() as u32, path.len() as u32 + 1);
        // Inode, mode, user, group, links, time, size, the file system's device, the node's device, name, checksum.
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER_LEN: usize = 110;

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_file_is_header_name_and_content_each_ending_at_a_multiple_of_four() {
        let mut archive = Archive::default();
        archive.file("init", Permissions(0o755), b"hello");
        let bytes = archive.finish();
        let expected = "070701\
            00000000000081ed00000000000000000000000100000000\
            000000050000000000000000000000000000000000000005\
            00000000";
        assert_eq!(text(&bytes[..HEADER_LEN]), expected);
        assert_eq!(text(&bytes[HEADER_LEN..HEADER_LEN + 6]), "init\0\0");
        assert_eq!(&bytes[116..124], b"hello\0\0\0");
        assert_eq!(text(&bytes[124..130]), "070701");
    }

    #[test]
    fn the_last_entry_is_the_trailer() {
        let bytes = Archive::default().finish();
        assert_eq!(text(&bytes[HEADER_LEN..HEADER_LEN + 11]), "TRAILER!!!\0");
        assert_eq!(bytes.len() % ALIGNMENT, 0);
    }

    #[test]
    fn a_device_node_carries_its_numbers() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.character_device("dev/console", 5, 1);
        let bytes = archive.finish();
        let second = &bytes[HEADER_LEN + 6..];
        assert_eq!(text(&second[6..22]), "0000000100002180");
        assert_eq!(text(&second[6 + 9 * 8..6 + 11 * 8]), "0000000500000001");
    }

    #[test]
    fn entries_follow_each_other_without_gaps() {
        let mut archive = Archive::default();
        archive.folder("lib");
        archive.file("lib/a", Permissions(0o644), &[7; 3]);
        let bytes = archive.finish();
        let magics = bytes.windows(6).filter(|window| window == b"070701").count();
        assert_eq!(magics, 3);
    }
}
