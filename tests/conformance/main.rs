//! warm
fn main(){}
