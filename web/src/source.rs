//! Pieces of a model file, which JavaScript reads without waiting: from the browser's own storage, from a file that the user gave,
//! or from bytes. A worker may do that; the page itself may not.

use std::io::Error;

use sterna::format::Ranges;
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsCast, JsValue};

#[wasm_bindgen]
extern "C" {
    /// Fills `bytes` with those of the source of that number. The worker defines it (`js/worker.js`).
    #[wasm_bindgen(js_namespace = globalThis, js_name = sternaRead, catch)]
    fn read(source: u32, offset: f64, bytes: &mut [u8]) -> Result<(), JsValue>;
}

/// A source that JavaScript knows by a number.
pub struct JsSource {
    pub number: u32,
    pub size: u64,
}

impl Ranges for JsSource {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Error> {
        // A number of JavaScript counts bytes exactly up to 2^53.
        read(self.number, offset as f64, bytes).map_err(|thrown| Error::other(words(&thrown)))
    }
}

/// What was thrown, in words.
fn words(thrown: &JsValue) -> String {
    let error = thrown.dyn_ref::<js_sys::Error>().map(|error| String::from(error.message()));
    error.or_else(|| thrown.as_string()).unwrap_or_else(|| "the file cannot be read".into())
}
