//! Finds every count, length, type and offset of a sound GGUF file, so that tests can replace each by a lie. A second,
//! naive reader on purpose: it shares nothing with the library's.

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Measures something that must lie in the file: a count, a length, an axis, an offset.
    Measure,
    Version,
    ValueType,
    Axes,
    /// The container does not know tensor types, so each parses.
    TensorType,
}

/// Where a number stands in the file, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub at: usize,
    pub width: usize,
    pub kind: Kind,
    pub name: &'static str,
}

impl Field {
    pub fn end(&self) -> usize {
        self.at + self.width
    }
}

/// Walks a sound file and notes its fields.
struct Walker<'a> {
    file: &'a [u8],
    at: usize,
    fields: Vec<Field>,
}

impl Walker<'_> {
    fn field(&mut self, width: usize, kind: Kind, name: &'static str) -> usize {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(&self.file[self.at..][..width]);
        self.fields.push(Field { at: self.at, width, kind, name });
        self.at += width;
        u64::from_le_bytes(wide) as usize
    }

    fn string(&mut self, name: &'static str) {
        self.at += self.field(8, Kind::Measure, name);
    }

    fn value(&mut self) {
        const WIDTHS: [usize; 13] = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
        match self.field(4, Kind::ValueType, "value type") {
            8 => self.string("string length"),
            9 => {
                let element_type = self.field(4, Kind::ValueType, "element type");
                let count = self.field(8, Kind::Measure, "array count");
                match element_type {
                    8 => (0..count).for_each(|_| self.string("element length")),
                    _ => self.at += count * WIDTHS[element_type],
                }
            }
            scalar => self.at += WIDTHS[scalar],
        }
    }

    fn tensor(&mut self) {
        self.string("tensor name length");
        let axes = self.field(4, Kind::Axes, "number of axes");
        for _ in 0..axes {
            self.field(8, Kind::Measure, "axis");
        }
        self.field(4, Kind::TensorType, "tensor type");
        self.field(8, Kind::Measure, "offset");
    }
}

/// All fields in the file's order; the last one ends where the directory ends.
pub fn fields(file: &[u8]) -> Vec<Field> {
    let mut walker = Walker { file, at: 4, fields: Vec::new() };
    walker.field(4, Kind::Version, "version");
    let tensors = walker.field(8, Kind::Measure, "number of tensors");
    let pairs = walker.field(8, Kind::Measure, "number of keys");
    for _ in 0..pairs {
        walker.string("key length");
        walker.value();
    }
    (0..tensors).for_each(|_| walker.tensor());
    walker.fields
}
