//! Tensor encodings: one file each, with the bit layout drawn at its head, a decoder and an encoder.
