//! Joining rows into a batch and splitting them again, beside a plain copy of the same bytes.

use divan::{Bencher, black_box, counter::BytesCount};
use tensorgate::tensor::{Shape, Tensor, concat_rows, split_rows};

fn main() {
    divan::main();
}

const BATCHES: [usize; 3] = [2, 16, 64];
const WIDTH: usize = 512;

fn rows(count: usize) -> Vec<Tensor> {
    let row = |_| Tensor::from_elements(Shape::from([1, WIDTH]), &[0.5_f32; WIDTH]).expect("one row");
    (0..count).map(row).collect()
}

#[divan::bench(args = BATCHES)]
fn join(bencher: Bencher<'_, '_>, count: usize) {
    let rows = rows(count);
    let parts: Vec<&Tensor> = rows.iter().collect();
    bencher.counter(BytesCount::new(count * WIDTH * 4)).bench(|| concat_rows(&parts));
}

#[divan::bench(args = BATCHES)]
fn copy(bencher: Bencher<'_, '_>, count: usize) {
    let source = vec![1_u8; count * WIDTH * 4];
    bencher.counter(BytesCount::new(source.len())).bench(|| black_box(&source).clone());
}

#[divan::bench(args = BATCHES)]
fn split(bencher: Bencher<'_, '_>, count: usize) {
    let rows = rows(count);
    let whole = concat_rows(&rows.iter().collect::<Vec<_>>()).expect("rows alike");
    bencher.bench(|| split_rows(&whole, std::iter::repeat_n(1, count)));
}
