//! Device features: migration, of functions that can be saved, and the log of pages that the device writes.

use crate::dma::PAGE_LEN;
use crate::wire::{Feature, FeatureAction, Fields, MAX_DATA_LEN, Refusal};
use std::collections::BTreeSet;

const MIGRATION: u16 = 1;
const MIG_DEVICE_STATE: u16 = 2;
const DMA_LOGGING_START: u16 = 6;
const DMA_LOGGING_STOP: u16 = 7;
const DMA_LOGGING_REPORT: u16 = 8;

/// What a client wants of a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeviceFeature {
    /// To know that it is there.
    Probe,
    /// To know what of migration there is.
    Migration,
    /// To know in which state of migration the device is.
    State,
    /// To have it in another, by its number.
    GoTo(u32),
    /// Everything is logged, whatever ranges are named: they are a hint.
    StartLog,
    StopLog,
    ReportLog(Report),
}

/// Whether the function can be saved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Migration {
    Offered,
    Absent,
}

/// Which pages are asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    start: u64,
    /// Wraps not, and is past `start`.
    end: u64,
    page_len: u64,
}

impl DeviceFeature {
    pub(crate) fn decode(feature: &Feature, migration: Migration) -> Result<Self, Refusal> {
        use FeatureAction::{Get, Probe, Set};
        match (feature.number, feature.action) {
            (MIGRATION | MIG_DEVICE_STATE, _) if migration == Migration::Absent => Err(Refusal::NoFeature),
            (MIGRATION, Probe(methods)) if !methods.set => Ok(Self::Probe),
            (MIG_DEVICE_STATE, Probe(_)) => Ok(Self::Probe),
            (MIGRATION, Get) if feature.argsz >= 16 => Ok(Self::Migration),
            (MIG_DEVICE_STATE, Get) if feature.argsz >= 16 => Ok(Self::State),
            (MIG_DEVICE_STATE, Set) => go_to(&feature.data).ok_or(Refusal::Invalid),
            (MIGRATION, Get | Set) | (MIG_DEVICE_STATE, Get) => Err(Refusal::Invalid),
            (DMA_LOGGING_START | DMA_LOGGING_STOP, Probe(methods)) if !methods.get => Ok(Self::Probe),
            (DMA_LOGGING_REPORT, Probe(methods)) if !methods.set => Ok(Self::Probe),
            (DMA_LOGGING_START, Set) => start(&feature.data).ok_or(Refusal::Invalid),
            (DMA_LOGGING_STOP, Set) if feature.data.is_empty() => Ok(Self::StopLog),
            (DMA_LOGGING_REPORT, Get) => Report::decode(&feature.data).map(Self::ReportLog),
            (DMA_LOGGING_START..=DMA_LOGGING_REPORT, Get | Set) => Err(Refusal::Invalid),
            _ => Err(Refusal::NoFeature),
        }
    }
}

/// The state, and a data_fd that nobody uses.
fn go_to(data: &[u8]) -> Option<DeviceFeature> {
    let mut fields = Fields::new(data);
    let (state, _data_fd) = (fields.u32()?, fields.u32()?);
    fields.rest().is_empty().then_some(DeviceFeature::GoTo(state))
}

fn start(data: &[u8]) -> Option<DeviceFeature> {
    const RANGE_LEN: usize = 16;
    let mut fields = Fields::new(data);
    let (_page_len, ranges, _reserved) = (fields.u64()?, fields.u32()?, fields.u32()?);
    let len = usize::try_from(ranges).ok()?.checked_mul(RANGE_LEN)?;
    (fields.rest().len() == len).then_some(DeviceFeature::StartLog)
}

impl Report {
    fn decode(data: &[u8]) -> Result<Self, Refusal> {
        let mut fields = Fields::new(data);
        let (Some(start), Some(len), Some(page_len), []) =
            (fields.u64(), fields.u64(), fields.u64(), fields.rest())
        else {
            return Err(Refusal::Invalid);
        };
        let end = start.checked_add(len).filter(|end| *end > start && page_len.is_power_of_two());
        let report = Self { start, end: end.ok_or(Refusal::Invalid)?, page_len };
        if report.bitmap_len() > MAX_DATA_LEN as u64 { Err(Refusal::TooMuch) } else { Ok(report) }
    }

    /// In bytes, a multiple of 8.
    pub(crate) fn bitmap_len(&self) -> u64 {
        (self.end - self.start).div_ceil(self.page_len).div_ceil(64) * 8
    }

    /// The bitmap, and removes from `dirty` what it tells.
    pub(crate) fn take(&self, dirty: &mut BTreeSet<u64>) -> Vec<u8> {
        let mut words = vec![0u64; (self.bitmap_len() / 8) as usize];
        let first = self.start / PAGE_LEN * PAGE_LEN;
        let told: Vec<_> = dirty.range(first..self.end).copied().collect();
        for page in told {
            dirty.remove(&page);
            let from = page.max(self.start) - self.start;
            let to = page.saturating_add(PAGE_LEN).min(self.end) - 1 - self.start;
            for bit in from / self.page_len..=to / self.page_len {
                if let Some(word) = words.get_mut((bit / 64) as usize) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
        words.into_iter().flat_map(u64::to_ne_bytes).collect()
    }
}
