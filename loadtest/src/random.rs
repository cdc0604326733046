//! Seeded random numbers: the same rows, weights and arrivals on every machine and in every version.

/// A small random generator (Vigna's splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// Starts the sequence that belongs to `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; the bias is below one in 2^32 for small bounds.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        (((self.next() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// Uniform in the open interval from 0 to 1, so that its logarithm is finite.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Standard normal (Box and Muller, 1958).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Gamma with this shape and scale 1 (Marsaglia and Tsang, "A simple method for generating gamma variables",
    /// 2000; shapes below 1 by the power of a uniform given there).
    pub(crate) fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.gamma(shape + 1.0) * self.unit().powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.unit().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of `count` draws.
    fn moments(count: usize, mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let values: Vec<f64> = (0..count).map(|_| draw()).collect();
        let mean = values.iter().sum::<f64>() / count as f64;
        (mean, values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64)
    }

    #[test]
    fn distributions_have_their_mean_and_variance() {
        let mut random = Random::new(7);
        let near = |got: f64, want: f64| (got - want).abs() < 0.03 * want;
        let (mean, variance) = moments(200_000, || random.unit());
        assert!(near(mean, 0.5) && near(variance, 1.0 / 12.0), "unit: {mean} {variance}");
        let (mean, variance) = moments(200_000, || random.exponential());
        assert!(near(mean, 1.0) && near(variance, 1.0), "exponential: {mean} {variance}");
        for shape in [0.0625, 0.5, 1.0, 4.0] {
            let (mean, variance) = moments(400_000, || random.gamma(shape));
            assert!(near(mean, shape) && near(variance, shape), "gamma {shape}: {mean} {variance}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_others() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            [random.unit(), random.gamma(0.3), f64::from(random.below(1000))]
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}
