//! What it costs to write and to read the image of a store: 100,000 keys of 1 KiB.
//!
//!     cargo bench -p lictor-core --bench snapshot

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use lictor_core::id::Index;
use lictor_core::store::Store;
use lictor_core::store::image::{Decoder, Encoder};
use lictor_core::store::kv::{Command, Mode};

const KEYS: u64 = 100_000;
const VALUE_BYTES: usize = 1024;
const PIECE_BYTES: usize = 256 << 10;

fn store() -> Store {
    let mut store = Store::default();
    for n in 0..KEYS {
        // An odd multiplier walks all of them in a scattered order, as a log does.
        let key = Bytes::from(format!("some/where/{:08}", n * 7_919 % KEYS));
        let value = Bytes::from(vec![n as u8; VALUE_BYTES]);
        store.apply(Index(n + 1), Command::Put { key, value, flags: n, mode: Mode::Set }.into());
    }
    store
}

fn snapshot(criterion: &mut Criterion) {
    let store = store();
    let encoder = || Encoder::new(Bytes::new(), store.clone(), PIECE_BYTES);
    let pieces: Vec<Bytes> = encoder().collect();
    let mut group = criterion.benchmark_group("snapshot");
    group.sampling_mode(SamplingMode::Flat).sample_size(10);
    group.throughput(Throughput::Bytes(pieces.iter().map(|piece| piece.len() as u64).sum()));
    group.bench_function("encode", |bencher| bencher.iter(|| encoder().for_each(|piece| drop(black_box(piece)))));
    let decode = || {
        let mut decoder = Decoder::new();
        pieces.iter().for_each(|piece| decoder.feed(piece).expect("a sound piece"));
        decoder.finish().expect("a whole image")
    };
    // What was read is dropped outside of the measurement.
    group.bench_function("decode", |bencher| bencher.iter_with_large_drop(decode));
    group.bench_function("one piece from the middle", |bencher| {
        let mut middle = encoder();
        (0..pieces.len() / 2).for_each(|_| drop(middle.next_piece()));
        bencher.iter(|| middle.clone().next_piece());
    });
    group.finish();
}

criterion_group!(benches, snapshot);
criterion_main!(benches);
