//! The layout of BYTES elements.

use bytes::Bytes;
use tensorgate::tensor::{DataType, Tensor, concat_rows, split_rows};

/// One byte tells the number of elements, the rest is their data.
pub fn strings(data: &[u8]) {
    let Some((&count, data)) = data.split_first() else { return };
    let count = usize::from(count);
    let data = Bytes::copy_from_slice(data);
    let Ok(tensor) = Tensor::new(DataType::Bytes, [count].into(), data.clone()) else { return };
    let elements: Vec<&[u8]> = tensor.byte_strings().expect("BYTES").collect();
    assert_eq!(elements.len(), count);
    assert_eq!(elements.iter().map(|element| element.len() + 4).sum::<usize>(), data.len());
    let again = Tensor::from_byte_strings([count].into(), &elements).expect("as many as before");
    assert_eq!(again.data(), &data);
    let rows = split_rows(&tensor, std::iter::repeat_n(1, count)).expect("as many rows as elements");
    for (row, element) in rows.iter().zip(&elements) {
        assert_eq!(row.byte_strings().expect("BYTES").next(), Some(*element));
    }
    if count > 0 {
        let joined = concat_rows(&rows.iter().collect::<Vec<_>>()).expect("rows alike");
        assert_eq!(joined.data(), &data);
    }
}
