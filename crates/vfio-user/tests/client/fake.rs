//! A server in a test's hands: a function of one BAR, until a row of a table spoils one of its replies.

use super::*;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

/// A reply, before it is sent.
pub(crate) struct Reply {
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: u32,
    pub(crate) payload: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
    /// What the header says beyond the truth, in bytes.
    pub(crate) excess: u32,
}

/// What a row of a table does to replies.
pub(crate) type Spoil = fn(&Received, &mut Reply);

/// One BAR of 4 KiB, a pin, and MSI-X vectors as configuration space says.
pub(crate) struct Fake {
    pub(crate) config: Vec<u8>,
    pub(crate) bar: Vec<u8>,
    pub(crate) vectors: u32,
    pub(crate) spoil: Spoil,
    /// A socket for commands of the server's, which is offered.
    pub(crate) twin: Option<OwnedFd>,
    /// Where replies go that come here.
    pub(crate) answers: Option<Sender<Received>>,
    /// Whether replies are spoilt.
    pub(crate) armed: Arc<AtomicBool>,
}

impl Fake {
    pub(crate) fn new(spoil: Spoil) -> Self {
        let mut config = vec![0; 256];
        config[..4].copy_from_slice(&[0x34, 0x12, 0x78, 0x56]);
        config[6] = 0x10;
        config[11] = 0xff;
        config[0x34] = 0x40;
        // MSI-X: 4 vectors, table at 0x800 and pending bits at 0xc00 of BAR0; then 5 bytes of a vendor's.
        config[0x40..0x4c].copy_from_slice(&[0x11, 0x50, 3, 0, 0, 8, 0, 0, 0, 0xc, 0, 0]);
        config[0x50..0x55].copy_from_slice(&[9, 0, 5, 0xaa, 0xbb]);
        config[0x3d] = 1;
        let armed = Arc::new(AtomicBool::new(true));
        Self { config, bar: vec![0; 4096], vectors: 4, spoil, twin: None, answers: None, armed }
    }

    fn region(&mut self, region: u32) -> &mut Vec<u8> {
        if region == CONFIG { &mut self.config } else { &mut self.bar }
    }

    fn obey(&mut self, request: &Received) -> Reply {
        let word = |at: usize| u32::from_ne_bytes(request.payload[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_ne_bytes(request.payload[at..at + 8].try_into().unwrap());
        let payload = match request.command {
            VERSION => {
                let json = match &self.twin {
                    Some(_) => r#"{"capabilities":{"twin_socket":{"supported":true,"fd_index":0}}}"#,
                    None => r#"{"capabilities":{}}"#,
                };
                [&[0, 0, 0, 0], json.as_bytes(), &[0]].concat()
            }
            GET_INFO => words(&[16, 3, 9, 3]),
            REGION_INFO => {
                let len = match word(8) {
                    0 => 4096,
                    CONFIG => 256,
                    _ => 0,
                };
                [words(&[32, 3, word(8), 0]), longs(&[len, 0])].concat()
            }
            IRQ_INFO => words(&[16, 1, word(8), [1, 0, self.vectors][word(8) as usize]]),
            IO_FDS => words(&[16, 0, word(8), 0]),
            REGION_READ => {
                let (start, count) = (long(0) as usize, word(12) as usize);
                [&request.payload[..], &self.region(word(8))[start..start + count]].concat()
            }
            REGION_WRITE => {
                let (start, data) = (long(0) as usize, &request.payload[16..]);
                self.region(word(8))[start..start + data.len()].copy_from_slice(data);
                request.payload[..16].to_vec()
            }
            DMA_UNMAP => request.payload.clone(),
            _ => Vec::new(),
        };
        let fds = if request.command == VERSION { self.twin.take() } else { None };
        let fds = fds.into_iter().collect();
        Reply { command: request.command, flags: 1, error: 0, payload, fds, excess: 0 }
    }

    /// Serves until the client goes, or a reply says not to be given at all by having no flags.
    pub(crate) fn serve(mut self, socket: UnixStream) -> JoinHandle<Self> {
        std::thread::spawn(move || {
            let mut peer = Client::over(socket);
            while let Some(request) = peer.receive() {
                if request.flags & 0xf == 1 {
                    self.answers.as_ref().unwrap().send(request).unwrap();
                    continue;
                }
                let mut reply = self.obey(&request);
                if request.flags & NO_REPLY != 0 {
                    continue;
                }
                if self.armed.load(Ordering::SeqCst) {
                    (self.spoil)(&request, &mut reply);
                }
                if reply.flags == 0 {
                    continue;
                }
                let len = 16 + reply.payload.len() as u32 + reply.excess;
                let header = header(request.id, reply.command, len, reply.flags, reply.error);
                let fds: Vec<_> = reply.fds.iter().map(AsFd::as_fd).collect();
                peer.send_to_the_end(&[header, reply.payload].concat(), &fds);
            }
            self
        })
    }
}

impl Client {
    /// Sends, or finds the other end gone.
    fn send_to_the_end(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let _ = sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    }
}
