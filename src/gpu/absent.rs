//! What stands for the GPU where the feature `gpu` is off: there is none, and whoever asks is told the feature. No value of
//! these types exists, so that nothing else needs to know.

mod kind;

pub use crate::backend::{GpuCounters, ShaderTime};
use crate::error::{Error, Result};
pub use kind::GpuKind;

/// Of which there are none.
#[derive(Clone, Debug)]
pub enum Adapter {}

/// Of which there are none.
#[derive(Clone, Debug)]
pub enum GpuDevice {}

/// Nothing to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GpuOptions {}

const ABSENT: &str = "this build has no GPU code; build it with the feature \"gpu\", or use the CPU";

impl Adapter {
    /// None.
    pub fn all() -> Vec<Self> {
        Vec::new()
    }

    /// # Errors
    /// [`Error::Device`], always.
    pub fn first() -> Result<Self> {
        Err(Error::absent(ABSENT))
    }

    /// # Errors
    /// [`Error::Device`], always.
    pub fn named(name: &str) -> Result<Self> {
        Err(Error::absent(format!("no device is called \"{name}\": {ABSENT}")))
    }

    /// What people call it.
    pub fn name(&self) -> String {
        match *self {}
    }

    /// What kind of machine it is.
    pub fn kind(&self) -> GpuKind {
        match *self {}
    }

    /// Whether it is a program that computes on the CPU.
    pub fn is_software(&self) -> bool {
        match *self {}
    }

    /// Its driver.
    pub fn driver(&self) -> String {
        match *self {}
    }

    pub(crate) fn list(_adapters: &[Self]) -> String {
        String::new()
    }

    pub(crate) fn why_none() -> String {
        ABSENT.into()
    }
}

impl GpuDevice {
    /// # Errors
    /// None, as there is no adapter to ask with.
    pub fn open(adapter: &Adapter, _options: &GpuOptions) -> Result<Self> {
        match *adapter {}
    }

    /// The adapter that was opened.
    pub fn adapter(&self) -> &Adapter {
        match *self {}
    }
}

/// Bytes a second that a copy within the device's memory reads and writes.
///
/// # Errors
/// None, as there is no device to ask with.
pub fn copy_bandwidth(device: &GpuDevice) -> Result<f64> {
    match *device {}
}
