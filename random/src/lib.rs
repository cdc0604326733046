//! Seeded random numbers: the same courses, rows, weights and arrivals on every machine and with every version of every crate.
//!
//! For simulators, tests and the load generator. Nothing that has to be unpredictable comes from here.

/// A small random generator (Vigna's splitmix64; Steele, Lea and Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A sequence of its own for each `part` of what a seed makes.
    pub fn part(seed: u64, part: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ part.wrapping_mul(0x9e6c_63d0_876a_68ee)).begun()
    }

    /// The same by other constants, with which the scheduler's worlds were made before there was [`Self::part`].
    pub fn stream(seed: u64, stream: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03)).begun()
    }

    fn begun(mut self) -> Self {
        self.next();
        self
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is above 0 and at most 2^32; the bias is below one in 2^32 for small bounds.
    pub fn below(&mut self, bound: usize) -> usize {
        (((self.next() >> 32) * bound as u64) >> 32) as usize
    }

    /// Uniform in the open interval from 0 to 1, so that its logarithm is finite.
    pub fn unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Uniform in `from..to`.
    pub fn between(&mut self, from: f64, to: f64) -> f64 {
        from + self.unit() * (to - from)
    }

    /// Whether something of this probability happens.
    pub fn happens(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Exponential with mean 1.
    pub fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }

    /// Standard normal (Box and Muller, 1958).
    pub fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Log-normal with median 1.
    pub fn log_normal(&mut self, deviation: f64) -> f64 {
        (deviation * self.normal()).exp()
    }

    /// Gamma with this shape and scale 1 (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; shapes
    /// below 1 by the power of a uniform given there).
    pub fn gamma(&mut self, shape: f64) -> f64 {
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
        let (mean, variance) = moments(200_000, || random.below(11) as f64);
        assert!(near(mean, 5.0) && near(variance, 10.0), "below: {mean} {variance}");
        let (mean, variance) = moments(200_000, || random.exponential());
        assert!(near(mean, 1.0) && near(variance, 1.0), "exponential: {mean} {variance}");
        let (mean, variance) = moments(200_000, || random.normal() + 1.0);
        assert!(near(mean, 1.0) && near(variance, 1.0), "normal: {mean} {variance}");
        for shape in [0.0625, 0.5, 1.0, 4.0] {
            let (mean, variance) = moments(400_000, || random.gamma(shape));
            assert!(near(mean, shape) && near(variance, shape), "gamma {shape}: {mean} {variance}");
        }
    }

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_or_part_others() {
        let draw = |mut random: Random| [random.unit(), random.gamma(0.3), random.below(1000) as f64];
        assert_eq!(draw(Random::new(1)), draw(Random::new(1)));
        let all = [Random::new(1), Random::new(2), Random::part(1, 1), Random::part(1, 2), Random::stream(1, 2)];
        let drawn: Vec<_> = all.into_iter().map(draw).collect();
        for (index, one) in drawn.iter().enumerate() {
            assert!(drawn[index + 1..].iter().all(|other| other != one), "{drawn:?}");
        }
    }

    #[test]
    fn a_sequence_never_changes_since_the_models_and_courses_of_tests_are_made_from_it() {
        let mut random = Random::new(42);
        assert_eq!([(); 3].map(|()| random.below(20_001)), [14832, 3198, 5572]);
    }
}
