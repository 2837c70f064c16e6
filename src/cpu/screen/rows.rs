//! The rows of the copy.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::probe::dot;
use super::{LARGEST_NORM, SLACK, STRIP_BYTES, Screen, Size};
use crate::allocation::{area, filled, reserved};
use crate::cpu::HugePages;
use crate::cpu::disjoint::Disjoint;
use crate::cpu::floats::LEVELS;
use crate::cpu::kernels::Kernels;
use crate::cpu::kernels::bounds::DIRECTIONS;
use crate::cpu::pages::zeros;
use crate::cpu::workers::Workers;
use crate::error::Result;
use crate::format::Dense;

/// Most rows that are looked at for what all have in common.
const SAMPLES: usize = 2048;
/// The smallest of a row's largest values that has codes: how many of its 127th parts a value is could not be told of smaller ones.
const SMALLEST_OF_A_ROW: f32 = 1e-30;
/// A value whose square may be lost in f32, and more.
const LOST_SQUARES: f64 = 1e-18;

impl Screen {
    /// Makes the copy, with all threads; none if they were told to stop. `seen: [_, cols]` are hidden vectors as the head gets them.
    ///
    /// # Errors
    /// [`crate::Error::Device`] if there is no memory for it.
    pub(super) fn new(
        head: &Dense,
        seen: &[f32],
        kernels: &dyn Kernels,
        workers: &Workers,
        huge_pages: HugePages,
    ) -> Result<Option<Self>> {
        let size = Size::of(head);
        let Size { rows, cols, .. } = size;
        let (mean, deviations) = statistics(head)?;
        let mut screen = Self {
            size,
            places: outliers(&size, &deviations, seen)?,
            coarse: zeros(area(rows, size.coarse_row())?, huge_pages)?,
            fine: zeros(area(rows, size.fine_row())?, huge_pages)?,
            mean,
            directions: directions(seen, cols)?,
            along: filled(area(rows, DIRECTIONS)?, 0.0)?,
            scales: filled(rows, 0.0)?,
            outlier_scales: filled(rows, 0.0)?,
            residuals: filled(rows, f32::INFINITY)?, // bounds of infinity
            fine_residuals: filled(rows, f32::INFINITY)?,
            norms: filled(rows, 0.0)?,
        };
        let (strip_rows, made) = ((STRIP_BYTES / size.others).max(1), AtomicUsize::new(0));
        let strips = rows.div_ceil(strip_rows);
        let (coarse, fine) = (Disjoint::new(&mut screen.coarse), Disjoint::new(&mut screen.fine));
        let (scales, outlier_scales) = (Disjoint::new(&mut screen.scales), Disjoint::new(&mut screen.outlier_scales));
        let (residuals, fine_residuals) =
            (Disjoint::new(&mut screen.residuals), Disjoint::new(&mut screen.fine_residuals));
        let (norms, along) = (Disjoint::new(&mut screen.norms), Disjoint::new(&mut screen.along));
        let (places, mean, directions) = (&screen.places[..], &screen.mean[..], &screen.directions[..]);
        workers.run(strips, &|strip, _| {
            let mut row_maker = RowMaker {
                head,
                kernels,
                places,
                mean,
                directions,
                v: vec![0.0; size.others],
                of_outliers: vec![0.0; places.len()],
            };
            for row in strip * strip_rows..rows.min((strip + 1) * strip_rows) {
                // SAFETY: each row belongs to one strip, and each strip is one task.
                unsafe {
                    row_maker.make(
                        row,
                        RowParts {
                            coarse: coarse.cut(row * size.coarse_row()..(row + 1) * size.coarse_row()),
                            fine: fine.cut(row * size.fine_row()..(row + 1) * size.fine_row()),
                            along: std::array::from_fn(|part| {
                                &mut along.cut(part * rows + row..part * rows + row + 1)[0]
                            }),
                            scale: &mut scales.cut(row..row + 1)[0],
                            outlier_scale: &mut outlier_scales.cut(row..row + 1)[0],
                            residual: &mut residuals.cut(row..row + 1)[0],
                            fine_residual: &mut fine_residuals.cut(row..row + 1)[0],
                            norm: &mut norms.cut(row..row + 1)[0],
                        },
                    );
                }
            }
            made.fetch_add(1, Ordering::Relaxed);
        });
        Ok((made.into_inner() == strips).then_some(screen))
    }
}

/// What one row of the head becomes.
struct RowParts<'a> {
    coarse: &'a mut [u8],
    fine: &'a mut [u8],
    along: [&'a mut f32; DIRECTIONS],
    scale: &'a mut f32,
    outlier_scale: &'a mut f32,
    residual: &'a mut f32,
    fine_residual: &'a mut f32,
    norm: &'a mut f32,
}

/// What makes rows, one after the other.
struct RowMaker<'a> {
    head: &'a Dense,
    kernels: &'a dyn Kernels,
    places: &'a [u32],
    mean: &'a [f32],
    directions: &'a [f32],
    v: Vec<f32>,           // [size.others], the outliers and the padding zeros
    of_outliers: Vec<f32>, // [places.len()]
}

impl RowMaker<'_> {
    fn make(&mut self, row: usize, out: RowParts<'_>) {
        let Self { head, kernels, places, mean, directions, v, of_outliers } = self;
        let cols = head.cols();
        head.row_to_f32(row, &mut v[..cols]);
        let norm = kernels.sum_squares(&v[..cols]).sqrt();
        if norm > LARGEST_NORM || norm.is_nan() {
            return;
        }
        v.iter_mut().zip(*mean).for_each(|(v, mean)| *v -= mean);
        let norm = norm.max(kernels.sum_squares(&v[..cols]).sqrt());
        for (outlier, &column) in of_outliers.iter_mut().zip(*places) {
            *outlier = std::mem::take(&mut v[column as usize]);
        }
        let absmax = [kernels.absmax(of_outliers), kernels.absmax(v)];
        if absmax.iter().any(|absmax| (f32::MIN_POSITIVE..SMALLEST_OF_A_ROW).contains(absmax)) {
            return;
        }
        let (outlier_codes, coarse) = out.coarse.split_at_mut(out.coarse.len() - out.fine.len());
        let [absmax, others_absmax] = absmax;
        *out.outlier_scale = absmax / 127.0;
        let outlier_codes: &mut [i8] = bytemuck::cast_slice_mut(outlier_codes);
        kernels.round(&mut outlier_codes[..places.len()], of_outliers, 127.0 / absmax);
        let absmax = others_absmax;
        *out.scale = absmax / LEVELS;
        let lost = LOST_SQUARES * (cols as f64).sqrt();
        *out.fine_residual = up(kernels.halve(coarse, out.fine, v, absmax).sqrt() + lost);
        *out.residual = up(kernels.sum_squares(v).sqrt());
        *out.norm = up(norm);
        for ((&column, outlier), &code) in places.iter().zip(of_outliers).zip(&*outlier_codes) {
            v[column as usize] = *outlier - *out.outlier_scale * f32::from(code);
        }
        for (along, direction) in out.along.into_iter().zip(directions.chunks_exact(cols)) {
            *along = kernels.inner(direction, &v[..cols]);
        }
    }
}

fn up(value: f64) -> f32 {
    (value * SLACK) as f32 + f32::MIN_POSITIVE
}

/// The mean of the rows and the mean square of what sets them apart, by column, of some of them.
fn statistics(head: &Dense) -> Result<(Vec<f32>, Vec<f64>)> {
    let cols = head.cols();
    let (mut sums, mut squares, mut w) = (filled(cols, 0.0f64)?, filled(cols, 0.0f64)?, filled(cols, 0.0f32)?);
    let mut count = 0.0;
    for row in (0..head.rows()).step_by(head.rows().div_ceil(SAMPLES).max(1)) {
        head.row_to_f32(row, &mut w);
        let norm = dot(&w, &w).sqrt();
        if norm <= LARGEST_NORM {
            count += 1.0;
            for ((sum, square), &w) in sums.iter_mut().zip(&mut squares).zip(&w) {
                *sum += f64::from(w);
                *square += f64::from(w) * f64::from(w);
            }
        }
    }
    let count = f64::max(count, 1.0);
    let deviations = squares.iter().zip(&sums).map(|(square, sum)| square / count - (sum / count).powi(2)).collect();
    Ok((sums.iter().map(|sum| (sum / count) as f32).collect(), deviations))
}

/// The columns where hidden vectors times what sets rows apart are largest, in their order.
fn outliers(size: &Size, deviations: &[f64], seen: &[f32]) -> Result<Vec<u32>> {
    let mut columns = reserved(size.cols)?;
    columns.extend(0..size.cols as u32);
    let energies: Vec<f64> = (0..size.cols)
        .map(|column| {
            let hidden: f64 = seen.chunks_exact(size.cols).map(|x| f64::from(x[column]).powi(2)).sum();
            deviations[column].max(0.0) * hidden
        })
        .collect();
    let count = size.outliers.min(size.cols);
    if count < columns.len() {
        columns.select_nth_unstable_by(count, |&a, &b| energies[b as usize].total_cmp(&energies[a as usize]));
        columns.truncate(count);
    }
    columns.sort_unstable();
    Ok(columns)
}

/// Orthonormal directions: of the mean of hidden vectors, and of some of them.
fn directions(seen: &[f32], cols: usize) -> Result<Vec<f32>> {
    let mut directions = filled(area(DIRECTIONS, cols)?, 0.0f32)?;
    let mut mean = filled(cols, 0.0f32)?;
    for x in seen.chunks_exact(cols) {
        mean.iter_mut().zip(x).for_each(|(mean, x)| *mean += x);
    }
    let mut found = 0;
    for x in std::iter::once(&mean[..]).chain(seen.chunks_exact(cols)) {
        let mut left: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
        let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let whole = norm(&left);
        // Twice, as once leaves what rounding leaves.
        for direction in directions.chunks_exact(cols).take(found).chain(directions.chunks_exact(cols).take(found)) {
            let part: f64 = left.iter().zip(direction).map(|(left, &u)| left * f64::from(u)).sum();
            left.iter_mut().zip(direction).for_each(|(left, &u)| *left -= part * f64::from(u));
        }
        let size = norm(&left);
        if found < DIRECTIONS && size > whole * 1e-3 && (1e-30..=1e30).contains(&size) {
            let direction = &mut directions[found * cols..][..cols];
            direction.iter_mut().zip(&left).for_each(|(u, left)| *u = (left / size) as f32);
            found += 1;
        }
    }
    Ok(directions)
}
