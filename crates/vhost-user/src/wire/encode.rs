//! A [`Command`] as a message: what a front-end sends.

use super::command::{Command, ConfigSpan, Direction, InflightArea, RingFd, RingState};
use super::{Record, Request};
use crate::table::FrontRegion;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A request's payload and descriptors.
type Parts<'c> = (Request, Vec<u8>, Vec<BorrowedFd<'c>>);

impl Command {
    /// The request, its payload and its descriptors.
    pub(crate) fn encode(&self) -> Parts<'_> {
        use Request as R;
        match self {
            Self::GetFeatures => plain(R::GetFeatures),
            Self::SetFeatures(bits) => number(R::SetFeatures, *bits),
            Self::SetOwner => plain(R::SetOwner),
            Self::ResetOwner => plain(R::ResetOwner),
            Self::SetMemTable(regions) => table(regions),
            Self::SetLogBase { len, offset, file } => {
                (R::SetLogBase, Record::new().u64(*len).u64(*offset).done(), vec![file.as_fd()])
            }
            Self::SetLogFd(file) => (R::SetLogFd, Vec::new(), vec![file.as_fd()]),
            Self::SetVringNum(state) => ring_state(R::SetVringNum, *state),
            Self::SetVringAddr(address) => (R::SetVringAddr, address.encode(), Vec::new()),
            Self::SetVringBase(state) => ring_state(R::SetVringBase, *state),
            Self::GetVringBase(ring) => ring_state(R::GetVringBase, RingState { ring: *ring, value: 0 }),
            Self::SetVringKick(kick) => ring_fd(R::SetVringKick, kick),
            Self::SetVringCall(call) => ring_fd(R::SetVringCall, call),
            Self::SetVringErr(error) => ring_fd(R::SetVringErr, error),
            Self::GetProtocolFeatures => plain(R::GetProtocolFeatures),
            Self::SetProtocolFeatures(bits) => number(R::SetProtocolFeatures, *bits),
            Self::GetQueueNum => plain(R::GetQueueNum),
            Self::SetVringEnable(state) => ring_state(R::SetVringEnable, *state),
            Self::SetBackendReqFd(socket) => (R::SetBackendReqFd, Vec::new(), vec![socket.as_fd()]),
            // Some servers want room for the bytes that they are to answer.
            Self::GetConfig(span) => (R::GetConfig, config(span, &vec![0; span.len as usize]), Vec::new()),
            Self::SetConfig(write) => (R::SetConfig, config(&write.span, &write.data), Vec::new()),
            Self::GetInflightFd(area) => (R::GetInflightFd, area.encode(), Vec::new()),
            Self::SetInflightFd(area, file) => (R::SetInflightFd, area.encode(), vec![file.as_fd()]),
            Self::ResetDevice => plain(R::ResetDevice),
            Self::VringKick(ring) => ring_state(R::VringKick, RingState { ring: *ring, value: 0 }),
            Self::GetMaxMemSlots => plain(R::GetMaxMemSlots),
            Self::AddMemReg(region, file) => (R::AddMemReg, slot(region), vec![file.as_fd()]),
            Self::RemMemReg(region) => (R::RemMemReg, slot(region), Vec::new()),
            Self::SetStatus(status) => number(R::SetStatus, *status),
            Self::GetStatus => plain(R::GetStatus),
            Self::SetDeviceStateFd { direction, phase, file } => {
                (R::SetDeviceStateFd, transfer(*direction, *phase), vec![file.as_fd()])
            }
            Self::CheckDeviceState => plain(R::CheckDeviceState),
        }
    }
}

fn plain<'c>(request: Request) -> Parts<'c> {
    (request, Vec::new(), Vec::new())
}

fn number<'c>(request: Request, value: u64) -> Parts<'c> {
    (request, value.to_ne_bytes().to_vec(), Vec::new())
}

fn ring_state<'c>(request: Request, state: RingState) -> Parts<'c> {
    (request, Record::new().u32(state.ring).u32(state.value).done(), Vec::new())
}

fn ring_fd(request: Request, RingFd { ring, fd }: &RingFd) -> Parts<'_> {
    let none = if fd.is_none() { RingFd::NO_FD } else { 0 };
    (request, (u64::from(*ring) | none).to_ne_bytes().to_vec(), fd.iter().map(AsFd::as_fd).collect())
}

fn region(record: Record, FrontRegion { guest, len, user, offset }: &FrontRegion) -> Record {
    record.u64(*guest).u64(*len).u64(*user).u64(*offset)
}

fn slot(slot: &FrontRegion) -> Vec<u8> {
    region(Record::new().u64(0), slot).done()
}

fn table(regions: &[(FrontRegion, OwnedFd)]) -> Parts<'_> {
    let header = Record::new().u32(regions.len() as u32).u32(0);
    let payload = regions.iter().fold(header, |record, (one, _)| region(record, one)).done();
    (Request::SetMemTable, payload, regions.iter().map(|(_, file)| file.as_fd()).collect())
}

fn config(span: &ConfigSpan, data: &[u8]) -> Vec<u8> {
    Record::new().u32(span.offset).u32(span.len).u32(span.flags).bytes(data).done()
}

fn transfer(direction: Direction, phase: u32) -> Vec<u8> {
    let direction = match direction {
        Direction::Save => 0,
        Direction::Load => 1,
    };
    Record::new().u32(direction).u32(phase).done()
}

impl super::RingAddress {
    fn encode(&self) -> Vec<u8> {
        let Self { ring, flags, descriptor, driver, device, log } = *self;
        Record::new().u32(ring).u32(flags).u64(descriptor).u64(device).u64(driver).u64(log).done()
    }
}

impl InflightArea {
    /// As long as the structure is to be.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { len, offset, rings, ring_size, structure_len } = *self;
        let mut bytes = Record::new().u64(len).u64(offset).u16(rings).u16(ring_size).done();
        bytes.resize(structure_len, 0);
        bytes
    }
}
