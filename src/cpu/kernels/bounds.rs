//! Bounds of some rows' logits from their sums of integers, for the screened head: `screen.rs` says what everything stands for, and
//! proves that the bounds hold. One loop, compiled for each set.

/// Most rows that are bounded together.
pub(crate) const GROUP: usize = 64;
/// Directions along which residuals are kept.
pub(crate) const DIRECTIONS: usize = 4;

/// The sums of the products of some rows and a hidden vector's integers.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    pub(crate) outliers: [i32; GROUP],
    pub(crate) high: [i32; GROUP], // of the first digit
    pub(crate) low: [i32; GROUP],  // of the second
}

impl Sums {
    pub(crate) const NONE: Self = Self { outliers: [0; GROUP], high: [0; GROUP], low: [0; GROUP] };
}

/// What the copy of the head tells of some rows, `[rows]` each.
#[derive(Clone, Copy)]
pub(crate) struct BoundedRows<'a> {
    pub(crate) scales: &'a [f32],         // s
    pub(crate) outlier_scales: &'a [f32], // t
    pub(crate) residuals: &'a [f32],      // at least ‖e‖, or ‖g‖ where both planes were read
    pub(crate) norms: &'a [f32],          // at least ‖w‖ and ‖v‖
    /// U'e; where both planes were read it is no part of the estimate.
    pub(crate) along: Option<[&'a [f32]; DIRECTIONS]>,
}

/// What the sums of a hidden vector count for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    pub(crate) constant: f64,            // x·w̄
    pub(crate) outliers: f64,            // a
    pub(crate) high: f64,                // b
    pub(crate) low: f64,                 // b/r
    pub(crate) parts: [f64; DIRECTIONS], // c
}

impl Factors {
    /// What the sums of the digits' products amount to.
    #[inline(always)]
    pub(crate) fn of_digits(&self, high: i32, low: i32) -> f64 {
        self.high * f64::from(high) + self.low * f64::from(low)
    }
}

/// The factors of an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    pub(crate) of_residual: f32,      // B
    pub(crate) of_scale: f32,         // A
    pub(crate) of_outlier_scale: f32, // O
    pub(crate) of_norm: f32,          // C
    pub(crate) constant: f32,         // M
}

/// What every error is enlarged by, against underflow: 2^-100.
const FLOOR: f32 = f32::from_bits((127 - 100) << 23);
/// Of an estimate, that every error is enlarged by, against its rounding: 2^-20.
const OF_ESTIMATE: f32 = 1.0 / (1 << 20) as f32;

impl Shares {
    /// What the logit of a row may differ by from its estimate.
    #[inline(always)]
    pub(crate) fn error(&self, residual: f32, scale: f32, outlier_scale: f32, norm: f32, estimate: f32) -> f32 {
        self.of_residual * residual
            + self.of_scale * scale
            + self.of_outlier_scale * outlier_scale
            + self.of_norm * norm
            + self.constant
            + FLOOR
            + estimate.abs() * OF_ESTIMATE
    }
}

/// Estimates and upper bounds of some rows' logits, `[rows]` each.
pub(crate) struct RowBounds<'a> {
    pub(crate) estimates: &'a mut [f32],
    pub(crate) uppers: &'a mut [f32],
}

/// [`crate::cpu::kernels::Kernels::bound`].
#[inline(always)]
pub(crate) fn bound(out: RowBounds<'_>, sums: &Sums, rows: &BoundedRows<'_>, factors: &Factors, shares: &Shares) {
    let RowBounds { estimates, uppers } = out;
    let mut values = [0.0f64; GROUP];
    let values = &mut values[..estimates.len()];
    let of_digits = sums.high.iter().zip(&sums.low).zip(rows.scales);
    let of_outliers = sums.outliers.iter().zip(rows.outlier_scales);
    for (value, (((&high, &low), &scale), (&outliers, &outlier_scale))) in
        values.iter_mut().zip(of_digits.zip(of_outliers))
    {
        *value = factors.constant
            + f64::from(outlier_scale) * (factors.outliers * f64::from(outliers))
            + f64::from(scale) * factors.of_digits(high, low);
    }
    for (along, part) in rows.along.iter().flatten().zip(factors.parts) {
        values.iter_mut().zip(*along).for_each(|(value, &along)| *value += f64::from(along) * part);
    }
    let constants = rows.residuals.iter().zip(rows.scales).zip(rows.outlier_scales.iter().zip(rows.norms));
    let outputs = estimates.iter_mut().zip(uppers).zip(&*values);
    for (((estimate, upper), value), ((&residual, &scale), (&outlier_scale, &norm))) in outputs.zip(constants) {
        *estimate = *value as f32;
        *upper = *estimate + shares.error(residual, scale, outlier_scale, norm, *estimate);
    }
}
