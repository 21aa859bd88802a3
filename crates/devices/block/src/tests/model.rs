//! Requests at random, many in flight on several queues, against a disk in memory.

use super::*;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const DISK_SECTORS: usize = 1024;
/// Requests in flight at once: each has a part of the disk to itself, for what overlaps has no order.
const PARTS: usize = 16;
const PART_SECTORS: usize = DISK_SECTORS / PARTS;
const QUEUES: u16 = 3;
const ROUNDS: usize = 60;

/// A linear congruential generator: the same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    /// Lengths of random pieces that `len` bytes fall into: up to four.
    fn cut(&mut self, len: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> = (0..self.below(4)).map(|_| self.below(len + 1)).chain([0, len]).collect();
        cuts.sort_unstable();
        cuts.windows(2).map(|pair| pair[1] - pair[0]).filter(|len| *len > 0).collect()
    }
}

/// What a request is to bring.
enum Expected {
    Data(Vec<u8>),
    Nothing,
}

struct Game {
    rig: Rig<Inline<Block>>,
    model: Vec<u8>,
    dice: Dice,
    expected: Vec<VecDeque<Expected>>,
}

impl Game {
    /// One request within part number `part`; the model does it at once.
    fn play(&mut self, part: usize) {
        let first = self.dice.below(PART_SECTORS);
        let count = 1 + self.dice.below(PART_SECTORS - first);
        let sector = part * PART_SECTORS + first;
        let bytes = sector * SECTOR..(sector + count) * SECTOR;
        let queue = self.dice.below(usize::from(QUEUES)) as u16;
        let (request, expected) = match self.dice.below(6) {
            0 | 1 => (header(blk::T_IN, sector as u64), Expected::Data(self.model[bytes].to_vec())),
            2 | 3 => {
                let data = pattern(self.dice.below(251), count * SECTOR);
                self.model[bytes].copy_from_slice(&data);
                ([header(blk::T_OUT, sector as u64), data].concat(), Expected::Nothing)
            }
            4 => {
                self.model[bytes].fill(0);
                let flags = self.dice.below(2) as u32;
                let range = range(sector as u64, count as u32, flags);
                ([header(blk::T_WRITE_ZEROES, 0), range].concat(), Expected::Nothing)
            }
            _ => {
                // What was discarded may read as anything; over a file it reads as zeroes.
                let range = range(sector as u64, count as u32, 0);
                let request = [header(blk::T_DISCARD, 0), range].concat();
                self.model[bytes].fill(0);
                (request, Expected::Nothing)
            }
        };
        self.submit(queue, &request, expected);
    }

    fn submit(&mut self, queue: u16, request: &[u8], expected: Expected) {
        let answer_len = match &expected {
            Expected::Data(data) => data.len(),
            Expected::Nothing => 0,
        };
        let mut rest = request;
        let mut readable = Vec::new();
        for len in self.dice.cut(request.len()) {
            let (piece, after) = rest.split_at(len);
            readable.push(piece);
            rest = after;
        }
        let writable: Vec<u32> = self.dice.cut(answer_len + 1).into_iter().map(|len| len as u32).collect();
        self.rig.submit(queue, &readable, &writable).unwrap();
        self.expected[usize::from(queue)].push_back(expected);
    }

    /// Lets the device work until all has come back.
    fn collect(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        for queue in 0..QUEUES {
            let _ = self.rig.kick(queue).unwrap();
        }
        for queue in 0..QUEUES {
            let mut replies = Vec::new();
            while replies.len() < self.expected[usize::from(queue)].len() {
                self.rig.endpoint.backend_mut().run(1000);
                match self.rig.take(queue).unwrap() {
                    Some(reply) => replies.push(reply),
                    None => std::thread::yield_now(),
                }
                assert!(Instant::now() < deadline, "a request is not answered");
            }
            self.check(queue, replies);
        }
    }

    /// Each reply is one that was expected, in whatever order they have come.
    fn check(&mut self, queue: u16, replies: Vec<Reply>) {
        let mut expected: Vec<Expected> = self.expected[usize::from(queue)].drain(..).collect();
        for Reply { written, bytes } in replies {
            let (status, data) = bytes.split_last().unwrap();
            assert_eq!((*status, written as usize), (blk::S_OK, bytes.len()));
            let place = expected.iter().position(|one| match one {
                Expected::Data(expected) => expected == data,
                Expected::Nothing => data.is_empty(),
            });
            expected.swap_remove(place.expect("what was read is what the model has"));
        }
    }
}

fn play(method: &str, features: Features, seed: u64) {
    let image = NamedTempFile::new().unwrap();
    image.as_file().set_len((DISK_SECTORS * SECTOR) as u64).unwrap();
    let path = image.path().display();
    let device = device(&format!("block,path={path},io={method},queues={QUEUES}"));
    let rig = Rig::new(Inline::new(device), everything() | features).unwrap();
    let expected = (0..QUEUES).map(|_| VecDeque::new()).collect();
    let mut game = Game { rig, model: vec![0; DISK_SECTORS * SECTOR], dice: Dice(seed), expected };
    for _ in 0..ROUNDS {
        (0..PARTS).for_each(|part| game.play(part));
        game.collect();
        assert!(
            contents(&image) == game.model,
            "{method}, {features}, seed {seed}: the file is not the model"
        );
    }
}

#[test]
fn s5_2_6_random_requests_in_any_order_are_those_of_a_disk() {
    for method in methods() {
        for features in [
            Features::NONE,
            Features::RING_PACKED,
            Features::EVENT_IDX | Features::INDIRECT_DESC,
            Features::RING_PACKED | Features::IN_ORDER | Features::EVENT_IDX,
        ] {
            (0..2).for_each(|seed| play(method, features, seed));
        }
    }
}
