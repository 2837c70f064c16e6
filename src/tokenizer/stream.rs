//! Text from bytes that arrive a token at a time. A token may end in the middle of a character, so the unfinished tail
//! waits for the next one: whatever comes out is whole characters.

/// Turns pieces of UTF-8 into whole characters. What [`push`](Self::push) and [`finish`](Self::finish) return, strung
/// together, is `String::from_utf8_lossy` of all bytes, however they were cut.
#[derive(Clone, Debug, Default)]
pub struct TextStream {
    tail: Vec<u8>, // the beginning of one character: at most 3 bytes
}

impl TextStream {
    /// A stream that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more bytes; returns the characters that they complete. Sequences that no further byte could make valid
    /// come out as U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.tail.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.tail.as_slice();
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, after) = rest.split_at(error.valid_up_to());
            text.push_str(std::str::from_utf8(valid).expect("from_utf8 just said that these are valid"));
            rest = after;
            match error.error_len() {
                Some(length) => {
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &rest[length..];
                }
                // `rest` is the beginning of a character, and nothing follows it yet.
                None => {
                    self.tail = rest.to_vec();
                    return text;
                }
            }
        }
        text.push_str(std::str::from_utf8(rest).expect("the loop ends when the rest is valid"));
        self.tail.clear();
        text
    }

    /// The end of the bytes: a character still unfinished comes out as U+FFFD. The stream is then as new.
    pub fn finish(&mut self) -> String {
        // `push` keeps only a proper beginning of one character, and the lossy conversion replaces it as a whole.
        let unfinished = !std::mem::take(&mut self.tail).is_empty();
        if unfinished { char::REPLACEMENT_CHARACTER.to_string() } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_strung_together_are_the_lossy_text_of_all_bytes(chunks in chunks()) {
            let mut stream = TextStream::new();
            let mut text: String = chunks.iter().map(|chunk| stream.push(chunk)).collect();
            text += &stream.finish();
            let all = chunks.concat();
            prop_assert_eq!(text, String::from_utf8_lossy(&all));
            prop_assert_eq!(stream.finish(), "");
        }

        #[test]
        fn valid_text_never_shows_a_replacement_however_it_is_cut(text in "\\PC{0,40}", width in 1_usize..5) {
            let mut stream = TextStream::new();
            let out: String = text.as_bytes().chunks(width).map(|chunk| stream.push(chunk)).collect();
            prop_assert_eq!(out, text);
            prop_assert_eq!(stream.finish(), "");
        }
    }

    /// Pieces of valid text, of single bytes that begin, continue or break characters, and of anything.
    fn chunks() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let edge = prop::sample::select(vec![
            0x00, 0x7F, 0x80, 0xBF, 0xC0, 0xC2, 0xE0, 0xED, 0xA0, 0xEF, 0xF0, 0x90, 0xF4, 0xFF,
        ]);
        let chunk = prop_oneof![
            prop::collection::vec(edge, 0..4),
            prop::collection::vec(any::<u8>(), 0..4),
            any::<char>().prop_map(|c| c.to_string().into_bytes()),
        ];
        prop::collection::vec(chunk, 0..12)
    }

    #[test]
    fn a_character_comes_out_with_its_last_byte() {
        let mut stream = TextStream::new();
        assert_eq!(stream.push(b"a\xF0\x9F"), "a");
        assert_eq!(stream.push(b"\x99"), "");
        assert_eq!(stream.push(b"\x82b"), "🙂b");
        assert_eq!(stream.push(b"\xE6"), "");
        assert_eq!(stream.finish(), "\u{FFFD}");
    }
}
