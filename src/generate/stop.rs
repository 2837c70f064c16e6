//! Turns token bytes into text that is safe to show: whole characters only, and nothing that may be the beginning of a
//! stop string.

use crate::tokenizer::TextStream;

/// The text of one sequence, on its way out.
pub(super) struct StopText {
    stream: TextStream,
    stops: Vec<String>,
    held: String, // decoded, but it may be the beginning of a stop string
}

impl StopText {
    pub(super) fn new(stops: &[String]) -> Self {
        let stops = stops.iter().filter(|stop| !stop.is_empty()).cloned().collect();
        Self { stream: TextStream::new(), stops, held: String::new() }
    }

    /// Takes a token's bytes. Returns the text that can be shown, and whether a stop string was met: then the text
    /// before it is the last.
    pub(super) fn push(&mut self, bytes: &[u8]) -> (String, bool) {
        let text = self.stream.push(bytes);
        self.hold(&text)
    }

    /// Everything still held back; no stop string came.
    pub(super) fn finish(&mut self) -> (String, bool) {
        let tail = self.stream.finish();
        let (mut text, stopped) = self.hold(&tail);
        if !stopped {
            text.push_str(&std::mem::take(&mut self.held));
        }
        (text, stopped)
    }

    fn hold(&mut self, text: &str) -> (String, bool) {
        self.held.push_str(text);
        if let Some(place) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.held.truncate(place);
            return (std::mem::take(&mut self.held), true);
        }
        let shown = self.held.len() - self.longest_beginning();
        let rest = self.held.split_off(shown);
        (std::mem::replace(&mut self.held, rest), false)
    }

    /// Bytes at the end of the held text that some stop string begins with.
    fn longest_beginning(&self) -> usize {
        let begins = |stop: &String| {
            let cuts = stop.char_indices().map(|(place, _)| place).rev();
            cuts.into_iter().find(|&cut| self.held.ends_with(&stop[..cut])).unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut text = StopText::new(&stops.iter().map(|s| s.to_string()).collect::<Vec<_>>());
        let mut shown = Vec::new();
        for piece in pieces {
            let (out, stopped) = text.push(piece.as_bytes());
            shown.push(out);
            if stopped {
                return (shown, true);
            }
        }
        let (out, stopped) = text.finish();
        shown.push(out);
        (shown, stopped)
    }

    #[test]
    fn without_stops_text_passes_at_once() {
        assert_eq!(run(&[], &["ab", "c"]), (vec!["ab".into(), "c".into(), "".into()], false));
    }

    #[test]
    fn a_beginning_of_a_stop_is_held_back_until_it_is_none() {
        assert_eq!(run(&["END"], &["aE", "N", "x"]), (vec!["a".into(), "".into(), "ENx".into(), "".into()], false));
        assert_eq!(run(&["END"], &["aEN"]), (vec!["a".into(), "EN".into()], false));
    }

    #[test]
    fn a_stop_split_over_tokens_is_found_and_not_shown() {
        assert_eq!(run(&["END"], &["aE", "N", "Dxyz"]), (vec!["a".into(), "".into(), "".into()], true));
    }

    #[test]
    fn the_earliest_stop_wins() {
        assert_eq!(run(&["cd", "b"], &["abcd"]), (vec!["a".into()], true));
    }

    #[test]
    fn stops_of_several_byte_characters_are_held_whole() {
        assert_eq!(run(&["é!"], &["aé", "?"]), (vec!["a".into(), "é?".into(), "".into()], false));
    }
}
