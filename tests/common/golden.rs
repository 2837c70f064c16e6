//! Reference values, and how close to them is close.

use sterna::backend::{Backend, CachePrecision};
use sterna::generate::{Session, SessionOptions};
use sterna::model::Model;

use crate::common::data;

/// A session on a backend, with the cache in f32 as the float references have it.
pub fn exact_session(model: &Model, backend: impl Backend + 'static) -> Session {
    let options = SessionOptions { cache: CachePrecision::F32, ..SessionOptions::default() };
    Session::with_backend(model, backend, &options).unwrap()
}

/// The largest difference, relative to the largest absolute value wanted. NaN anywhere gives NaN.
pub fn relative_error(found: &[f32], wanted: &[f32]) -> f32 {
    assert_eq!(found.len(), wanted.len());
    assert!(found.iter().all(|v| v.is_finite()), "a value was never written, or is not finite");
    let largest = wanted.iter().fold(0f32, |m, v| m.max(v.abs()));
    found.iter().zip(wanted).fold(0f32, |m, (f, w)| m.max((f - w).abs())) / largest
}

/// Reference values that an independent implementation wrote.
pub struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    /// Reads a safetensors file of `tests/data`.
    pub fn read(path: &str) -> Self {
        Self { bytes: std::fs::read(data(path)).unwrap() }
    }

    fn raw(&self, name: &str) -> Vec<u8> {
        let file = safetensors::SafeTensors::deserialize(&self.bytes).unwrap();
        file.tensor(name).unwrap_or_else(|_| panic!("no reference value \"{name}\"")).data().to_vec()
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        self.raw(name).as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    pub fn f64(&self, name: &str) -> Vec<f64> {
        self.raw(name).as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }

    pub fn i32(&self, name: &str) -> Vec<i32> {
        self.raw(name).as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
    }

    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.i32(name).into_iter().map(|id| id as u32).collect()
    }

    pub fn i8(&self, name: &str) -> Vec<i8> {
        self.raw(name).into_iter().map(|b| b as i8).collect()
    }
}
