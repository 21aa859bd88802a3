//! What a buffer costs at each end, split and packed. Comparisons with other queues: `cargo xtask bench ring`.
// As in tests, of which this shares the rig: what fails is a bug of the benchmark.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/rig/mod.rs"]
mod rig;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rig::Pair;
use std::hint::black_box;
use std::time::{Duration, Instant};
use vioduct_spec::Features;
use vioduct_virtqueue::{Buffer, Kick, Notify};

const QUEUE_SIZE: u16 = 256;
const PIECE_LEN: u32 = 64;

/// The layouts, by name.
const LAYOUTS: [(&str, Features); 2] = [("split", Features::NONE), ("packed", Features::RING_PACKED)];

/// Buffers per batch, and device-readable and device-writable pieces of each.
struct Shape {
    name: &'static str,
    chains: u16,
    readable: usize,
    writable: usize,
    features: Features,
}

const SHAPES: [Shape; 6] = [
    Shape { name: "1x128 direct", chains: 1, readable: 128, writable: 0, features: Features::NONE },
    Shape { name: "128x1 direct", chains: 128, readable: 1, writable: 0, features: Features::NONE },
    Shape {
        name: "1x128 indirect",
        chains: 1,
        readable: 128,
        writable: 0,
        features: Features::INDIRECT_DESC,
    },
    Shape {
        name: "128x1 indirect",
        chains: 128,
        readable: 1,
        writable: 0,
        features: Features::INDIRECT_DESC,
    },
    Shape { name: "32x2 direct", chains: 32, readable: 1, writable: 1, features: Features::NONE },
    Shape { name: "32x2 indirect", chains: 32, readable: 1, writable: 1, features: Features::INDIRECT_DESC },
];

/// A pair of ends that sends the same batch again and again.
struct Batches {
    pair: Pair,
    pieces: Vec<Buffer>,
    shape: &'static Shape,
}

impl Batches {
    fn new(shape: &'static Shape, layout: Features) -> Self {
        let mut pair = Pair::with_tables(QUEUE_SIZE, shape.features | layout, 128);
        pair.driver.use_tables_from(1);
        let pieces = (0..shape.readable + shape.writable).map(|_| pair.alloc(PIECE_LEN)).collect();
        Self { pair, pieces, shape }
    }

    fn add(&mut self) {
        let (readable, writable) = self.pieces.split_at(self.shape.readable);
        for token in 0..u64::from(self.shape.chains) {
            self.pair.driver.add(readable, writable, token).unwrap();
        }
        black_box(self.pair.driver.kick_prepare() == Kick::Needed);
    }

    fn serve(&mut self) {
        let mut sum = 0;
        while let Some(chain) = self.pair.device.pop().unwrap() {
            for segment in chain.readable().iter().chain(chain.writable()) {
                sum += segment.addr().0 + u64::from(segment.len());
            }
            self.pair.device.complete(chain, 0).unwrap();
        }
        black_box(self.pair.device.publish().unwrap() == Notify::Needed);
        black_box(sum);
    }

    fn get(&mut self) {
        let mut count = 0;
        while let Some(completion) = self.pair.driver.get().unwrap() {
            black_box(completion);
            count += 1;
        }
        assert_eq!(count, self.shape.chains);
    }
}

/// Which end the clock runs for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Device,
    Driver,
}

fn measure(batches: &mut Batches, end: End, rounds: u64) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let start = Instant::now();
        batches.add();
        let added = Instant::now();
        batches.serve();
        let served = Instant::now();
        batches.get();
        spent += match end {
            End::Device => served - added,
            End::Driver => added - start + served.elapsed(),
        };
    }
    spent
}

fn ends(criterion: &mut Criterion) {
    for (end, title) in [(End::Device, "device: pop, walk, complete"), (End::Driver, "driver: add, get")] {
        let mut group = criterion.benchmark_group(title);
        for shape in &SHAPES {
            for (layout, features) in LAYOUTS {
                group.throughput(Throughput::Elements(u64::from(shape.chains)));
                group.bench_function(BenchmarkId::new(layout, shape.name), |bencher| {
                    let mut batches = Batches::new(shape, features);
                    bencher.iter_custom(|rounds| measure(&mut batches, end, rounds));
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, ends);
criterion_main!(benches);
