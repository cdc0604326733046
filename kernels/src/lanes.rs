//! Vectors of floats, as wide as the processor has them.

use std::sync::OnceLock;

/// Operations on vectors of [`Lanes::WIDTH`] floats. They are unsafe because they may only run on a processor that has them.
pub(crate) trait Lanes: Copy {
    type Vector: Copy;
    /// Floats of a vector; divides [`crate::panels::PANEL`].
    const WIDTH: usize;
    /// Rows of a tile whose sums, two vectors each, fit into registers beside what they are made from.
    const ROWS: usize;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, value: Self::Vector);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn mul(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn div(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a * b + c.
    unsafe fn fma(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn min(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// To the nearest whole number.
    unsafe fn round(a: Self::Vector) -> Self::Vector;
    /// a * 2^n for whole n from -126 to 127.
    unsafe fn scale(a: Self::Vector, n: Self::Vector) -> Self::Vector;

    /// Has a cache line brought nearer that will be read soon; any address will do.
    fn prefetch(from: *const f32);

    /// The elements, for sums across a vector.
    #[inline(always)]
    unsafe fn elements(a: Self::Vector) -> [f32; 16] {
        let mut elements = [0.0; 16];
        // SAFETY: no vector has more elements than that.
        unsafe { Self::store(elements.as_mut_ptr(), a) };
        elements
    }

    #[inline(always)]
    unsafe fn sum(a: Self::Vector) -> f32 {
        // SAFETY: the caller's promise.
        let mut elements = unsafe { Self::elements(a) };
        // Halves onto one another: the same order on every call.
        let mut width = Self::WIDTH;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                elements[i] += elements[i + width];
            }
        }
        elements[0]
    }

    #[inline(always)]
    unsafe fn largest(a: Self::Vector) -> f32 {
        // SAFETY: the caller's promise.
        let elements = unsafe { Self::elements(a) };
        elements[..Self::WIDTH].iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// Vectors of four floats in plain Rust, which the compiler maps onto what the target has (NEON, SSE2).
#[derive(Clone, Copy)]
pub(crate) struct Portable;

macro_rules! each {
    ($a:ident, $b:ident, $of:expr) => {
        std::array::from_fn(|i| {
            let ($a, $b) = ($a[i], $b[i]);
            $of
        })
    };
}

impl Lanes for Portable {
    type Vector = [f32; 4];
    const WIDTH: usize = 4;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's promise that four floats are there.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, value: [f32; 4]) {
        // SAFETY: the caller's promise that there is room for four floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(value) }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(a, b, a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(a, b, a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(a, b, a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(a, b, a / b)
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Fused only where that is one instruction: elsewhere it would be a call.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn max(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(a, b, if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        each!(a, b, if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn round(a: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i].round_ties_even())
    }
    #[inline(always)]
    unsafe fn scale(a: [f32; 4], n: [f32; 4]) -> [f32; 4] {
        std::array::from_fn(|i| a[i] * f32::from_bits(((n[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn prefetch(_: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Lanes;

    /// AVX-512F.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    #[inline(always)]
    fn prefetch(from: *const f32) {
        // SAFETY: a prefetch reads nothing that the program sees, and faults nowhere.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) };
    }

    /// One line for each operation that is one instruction.
    macro_rules! instructions {
        ($vector:ty: $($name:ident($($arg:ident: $type:ty),*) -> $out:ty = $intrinsic:expr;)*) => {
            $(
                #[inline(always)]
                unsafe fn $name($($arg: $type),*) -> $out {
                    // SAFETY: the caller promises the processor, and memory where there is a pointer.
                    unsafe { $intrinsic }
                }
            )*
        };
    }

    impl Lanes for Avx512 {
        type Vector = __m512;
        const WIDTH: usize = 16;
        const ROWS: usize = 12;

        instructions! { __m512:
            splat(value: f32) -> __m512 = _mm512_set1_ps(value);
            load(from: *const f32) -> __m512 = _mm512_loadu_ps(from);
            store(to: *mut f32, value: __m512) -> () = _mm512_storeu_ps(to, value);
            add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
            sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
            mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
            div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
            fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
            max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
            min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
            round(a: __m512) -> __m512 = _mm512_roundscale_ps::<0>(a);
            scale(a: __m512, n: __m512) -> __m512 = _mm512_scalef_ps(a, n);
        }

        #[inline(always)]
        fn prefetch(from: *const f32) {
            prefetch(from);
        }
    }

    impl Lanes for Avx2 {
        type Vector = __m256;
        const WIDTH: usize = 8;
        const ROWS: usize = 6;

        instructions! { __m256:
            splat(value: f32) -> __m256 = _mm256_set1_ps(value);
            load(from: *const f32) -> __m256 = _mm256_loadu_ps(from);
            store(to: *mut f32, value: __m256) -> () = _mm256_storeu_ps(to, value);
            add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
            sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
            mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
            div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
            fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
            max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
            min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
            round(a: __m256) -> __m256 = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a);
            scale(a: __m256, n: __m256) -> __m256 = {
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
                _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
            };
        }

        #[inline(always)]
        fn prefetch(from: *const f32) {
            prefetch(from);
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Which vectors are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

#[cfg(test)]
thread_local! {
    /// In place of the widest, for tests of the others.
    pub(crate) static FORCED: std::cell::Cell<Option<Level>> = const { std::cell::Cell::new(None) };
}

/// The widest vectors of this processor.
pub(crate) fn widest() -> Level {
    #[cfg(test)]
    if let Some(level) = FORCED.get() {
        return level;
    }
    static WIDEST: OnceLock<Level> = OnceLock::new();
    *WIDEST.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Level::Avx512;
            }
            if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                return Level::Avx2;
            }
        }
        Level::Portable
    })
}

/// The name of the vectors that are used on this processor: "avx512", "avx2" or "portable".
pub fn level() -> &'static str {
    match widest() {
        Level::Portable => "portable",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => "avx2",
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => "avx512",
    }
}

/// Calls a generic function with the widest vectors of this processor, compiled for exactly those.
macro_rules! on_widest {
    ($function:ident($($arg:ident: $type:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx512f")]
        unsafe fn avx512($($arg: $type),*) {
            // SAFETY: the caller's promise of the processor.
            unsafe { $function::<$crate::lanes::Avx512>($($arg),*) }
        }
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2($($arg: $type),*) {
            // SAFETY: the caller's promise of the processor.
            unsafe { $function::<$crate::lanes::Avx2>($($arg),*) }
        }
        match $crate::lanes::widest() {
            // SAFETY: the processor was asked; what else the function needs is its caller's to check.
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Level::Avx512 => unsafe { avx512($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            $crate::lanes::Level::Avx2 => unsafe { avx2($($arg),*) },
            // SAFETY: every processor has these.
            $crate::lanes::Level::Portable => unsafe { $function::<$crate::lanes::Portable>($($arg),*) },
        }
    }};
}
pub(crate) use on_widest;
