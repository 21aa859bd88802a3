//! Device features: the log of pages that the device writes. Migration is not among them: device models have no state to save
//! yet, and a client that is told so keeps its machine where it is.

use crate::dma::PAGE_LEN;
use crate::wire::{Feature, FeatureAction, Fields, MAX_DATA_LEN, Refusal};
use std::collections::BTreeSet;

const DMA_LOGGING_START: u16 = 6;
const DMA_LOGGING_STOP: u16 = 7;
const DMA_LOGGING_REPORT: u16 = 8;

/// What a client wants of a feature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DeviceFeature {
    /// To know that it is there.
    Probe,
    /// Everything is logged, whatever ranges are named: they are a hint.
    StartLog,
    StopLog,
    ReportLog(Report),
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
    pub(crate) fn decode(feature: &Feature) -> Result<Self, Refusal> {
        use FeatureAction::{Get, Probe, Set};
        match (feature.number, feature.action) {
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
