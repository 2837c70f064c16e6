//! Rotated bases: rows are turned, behind their norm, into scratch memory of their own, and quantised from there.

use crate::backend::{MOST_BLOCK, Norm, Rotation};
use crate::error::{Error, Result};
use crate::gpu::buffers::Buffer;
use crate::gpu::limits::MOST_GROUPS;
use crate::gpu::shader::Shader;
use crate::gpu::{Gpu, Quantized, Tensor};

/// Signs on the device, and the length of blocks.
#[derive(Clone, Debug)]
pub struct Basis {
    block: usize,
    cols: usize,
    signs: Buffer, // [cols]
}

/// What an input of linear layers is turned by, and into.
#[derive(Debug)]
pub(crate) struct Rotated {
    pub(crate) basis: Basis,
    pub(crate) turned: Tensor, // [max_rows, cols]
}

impl Gpu {
    /// `out = H(signs ⊙ x)`, of `x` behind a norm, or `signs ⊙ H(x)`. `stride`: the columns of `out`.
    pub(super) fn rotate(
        &mut self,
        (out, stride): (&Buffer, usize),
        x: &Tensor,
        norm: Option<Norm<'_, Self>>,
        basis: &Basis,
        (rows, inverse): (usize, bool),
    ) {
        assert!(x.cols == basis.cols && rows <= x.max_rows && stride >= x.cols);
        let (gain, epsilon) = norm.map_or((x, 0.0), |norm| (norm.gain, norm.epsilon));
        assert!(gain.max_rows * gain.cols >= x.cols);
        let shader = Shader::Rotate { block: basis.block as u32, norm: norm.is_some(), inverse };
        let scale = 1.0 / (basis.block as f32).sqrt();
        let params = [x.cols as u32, stride as u32, epsilon.to_bits(), scale.to_bits()];
        let buffers = [&x.buffer, &gain.buffer, &basis.signs, out];
        self.run(shader, &params, &buffers, [x.cols / basis.block, rows, 1], 0);
    }

    /// Turns the step's rows for an input of linear layers that asks for it; then `verb` is given what takes the place of `x` and its norm.
    pub(super) fn with_turned<T>(
        &mut self,
        q: &mut Quantized,
        x: &Tensor,
        norm: Option<Norm<'_, Self>>,
        rows: usize,
        verb: impl FnOnce(&mut Self, &mut Quantized, &Tensor, Option<Norm<'_, Self>>) -> T,
    ) -> T {
        let Some(Rotated { basis, turned }) = q.rotated.take() else { return verb(self, q, x, norm) };
        assert!(rows <= turned.max_rows);
        self.rotate((&turned.buffer, turned.cols), x, norm, &basis, (rows, false));
        let result = verb(self, q, &turned, None);
        q.rotated = Some(Rotated { basis, turned });
        result
    }
}

impl Rotation for Gpu {
    type Basis = Basis;

    fn basis(&mut self, block: usize, signs: &[f32]) -> Result<Basis> {
        assert!(block.is_power_of_two() && block <= MOST_BLOCK && signs.len().is_multiple_of(block));
        if signs.len() / block > MOST_GROUPS as usize {
            let (blocks, cols) = (signs.len() / block, signs.len());
            return Err(Error::Unsupported(format!(
                "{blocks} blocks of {block} among {cols} columns on a GPU, which turns at most {MOST_GROUPS}"
            )));
        }
        let buffer = self.floats("signs", 1, signs.len())?;
        self.recorder.write(&buffer, bytemuck::cast_slice(signs));
        Ok(Basis { block, cols: signs.len(), signs: buffer })
    }

    fn rotate_inputs(&mut self, q: &mut Quantized, basis: &Basis) -> Result<()> {
        assert_eq!(q.cols, basis.cols);
        let buffer = self.floats("turned activations", q.max_rows, q.cols)?;
        let turned = Tensor { max_rows: q.max_rows, cols: q.cols, buffer };
        q.rotated = Some(Rotated { basis: basis.clone(), turned });
        Ok(())
    }

    fn rotate_selected(&mut self, out: &mut Tensor, x: &Tensor, basis: &Basis) {
        assert!(out.cols == x.cols && self.selected.len() <= out.max_rows);
        self.rotate((&out.buffer, out.cols), x, None, basis, (self.selected.len(), false));
    }

    fn restore(&mut self, out: &mut Tensor, x: &Tensor, basis: &Basis) {
        assert!(out.cols == x.cols && self.rows.len() <= out.max_rows);
        self.rotate((&out.buffer, out.cols), x, None, basis, (self.rows.len(), true));
    }
}
