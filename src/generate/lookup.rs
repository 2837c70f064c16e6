//! Drafts from what a sequence holds already: where its last three tokens stood before, what followed there is likely to follow
//! again, as when a text is written anew with small changes (prompt lookup; Yang et al., arXiv 2304.04487; Saxena 2023). A step
//! computes the drafted tokens beside the last one. Each is drawn as without a draft, and as long as what is drawn is what was
//! drafted, the next draw is at hand: tokens are the same ones, in fewer steps.

use crate::allocation::filled;
use crate::error::Result;

/// Tokens that have to stand before.
const RUN: usize = 3;
/// Rows of a step beyond which nothing is drafted: there the step is bound by arithmetic, and a row costs what it makes. Up to there
/// every device multiplies a row in one way, so that its bits do not depend on the rows beside it.
pub(super) const MOST_DRAFTING: usize = 16;
/// Places of one hash that are looked at: of three other tokens, there are few.
const MOST_LOOKED_AT: usize = 16;
/// The longest draft.
pub(super) const LONGEST_DRAFT: usize = 7;
/// How likely a drafted token is taken, before any was tried: too little for a draft, so that the first ones are only watched.
const FIRST_GUESS: f64 = 0.3;
/// How much the latest outcome counts for that.
const PACE: f64 = 0.15;
/// What a draft has to win, on average: below this it is not made.
const WORTHWHILE: f64 = 1.03;

/// What a sequence is likely to go on with.
#[derive(Debug)]
pub(super) struct Lookup {
    /// By a hash of three tokens, the place behind the last three of that hash; 0 for none. A power of two, and at least twice the most tokens.
    latest: Vec<u32>,
    /// By such a place, the one before of the same hash. As many as there may be tokens.
    earlier: Vec<u32>,
    indexed: usize, // tokens whose places are known
    likely: [u32; LONGEST_DRAFT],
    count: usize,
    /// How likely a drafted token is to be taken, by what became of the ones before.
    chance: f64,
}

impl Lookup {
    /// For a sequence of at most so many tokens.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no memory for it.
    pub(super) fn new(most: usize) -> Result<Self> {
        let latest = filled(most.max(1).saturating_mul(2).next_power_of_two(), 0)?;
        Ok(Self {
            latest,
            earlier: filled(most.max(1), 0)?,
            indexed: RUN,
            likely: [0; LONGEST_DRAFT],
            count: 0,
            chance: FIRST_GUESS,
        })
    }

    /// Finds what is likely to follow these tokens, which begin with those of the call before.
    pub(super) fn look(&mut self, ids: &[u32]) {
        self.count = 0;
        let Some(last) = ids.last_chunk::<RUN>() else { return };
        while self.indexed < ids.len() {
            let run = ids[..self.indexed].last_chunk::<RUN>().expect("RUN tokens were skipped");
            let bucket = self.bucket(run);
            self.earlier[self.indexed] = self.latest[bucket];
            self.latest[bucket] = self.indexed as u32;
            self.indexed += 1;
        }
        let earlier = |&place: &usize| Some(self.earlier[place] as usize);
        let places = std::iter::successors(Some(self.latest[self.bucket(last)] as usize), earlier);
        let mut alike = places.take_while(|&place| place > 0).take(MOST_LOOKED_AT);
        if let Some(place) = alike.find(|&place| ids[place - RUN..place] == *last) {
            self.count = (ids.len() - place).min(LONGEST_DRAFT);
            self.likely[..self.count].copy_from_slice(&ids[place..place + self.count]);
        }
    }

    /// What was found.
    pub(super) fn likely(&self) -> &[u32] {
        &self.likely[..self.count]
    }

    /// How many of those, at most `most`, are worth computing in a step that computes `rows` rows and makes `tokens` tokens without
    /// them, where a step of so many rows costs what `cost` says. Also what they add to the tokens, on average.
    pub(super) fn worth(&self, most: usize, rows: usize, tokens: f64, cost: impl Fn(usize) -> f64) -> (usize, f64) {
        let (mut best, mut best_gain, mut more, mut taken) = ((0, 0.0), WORTHWHILE, 0.0, 1.0);
        let before = tokens / cost(rows);
        for draft in 1..=most.min(self.count) {
            taken *= self.chance;
            more += taken;
            let gain = (tokens + more) / cost(rows + draft) / before;
            if gain > best_gain {
                (best, best_gain) = ((draft, more), gain);
            }
        }
        best
    }

    /// Learns from a token that was drawn where another, or the same one, was likely.
    pub(super) fn learn(&mut self, was_taken: bool) {
        self.chance += PACE * (f64::from(u8::from(was_taken)) - self.chance);
    }

    fn bucket(&self, run: &[u32; RUN]) -> usize {
        let mixed = run.iter().fold(0u64, |hash, &id| (hash ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (mixed >> 32) as usize & (self.latest.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a step of so many rows costs where each costs half of the first.
    fn cost(rows: usize) -> f64 {
        1.0 + 0.5 * (rows as f64 - 1.0)
    }

    #[test]
    fn what_followed_the_last_three_tokens_the_last_time_is_likely() {
        let mut lookup = Lookup::new(64).unwrap();
        let likely = |lookup: &mut Lookup, ids: &[u32]| {
            lookup.look(ids);
            lookup.likely().to_vec()
        };
        assert_eq!(likely(&mut lookup, &[1]), [0; 0]);
        assert_eq!(likely(&mut lookup, &[1, 2, 3]), [0; 0], "they stand there for the first time");
        assert_eq!(likely(&mut lookup, &[1, 2, 3, 4, 5, 1, 2, 3]), [4, 5, 1, 2, 3]);
        assert_eq!(likely(&mut lookup, &[1, 2, 3, 4, 5, 1, 2, 3, 9]), [0; 0]);
        let again = [1, 2, 3, 4, 5, 1, 2, 3, 9, 8, 7, 6, 5, 4, 3, 2, 1, 2, 3];
        assert_eq!(likely(&mut lookup, &again), [9, 8, 7, 6, 5, 4, 3], "the latest of two, and no more than a draft");
        let mut repeated = Lookup::new(8).unwrap();
        assert_eq!(likely(&mut repeated, &[5, 5, 5, 5]), [5]);
    }

    #[test]
    fn all_runs_are_found_again_and_none_is_taken_for_another() {
        let mut lookup = Lookup::new(404).unwrap();
        let mut ids: Vec<u32> = (0..200).collect();
        for end in 1..=ids.len() {
            lookup.look(&ids[..end]);
            assert!(lookup.likely().is_empty());
        }
        ids.push(1000);
        for id in 0..200 {
            ids.push(id);
            lookup.look(&ids);
            let wanted: Vec<u32> = (id + 1..200).chain([1000]).chain(0..).take(LONGEST_DRAFT).collect();
            assert_eq!(lookup.likely(), if id < 2 { &[] } else { &wanted[..] }, "after {id}");
        }
    }

    #[test]
    fn drafts_are_made_as_far_as_they_pay() {
        let mut lookup = Lookup::new(64).unwrap();
        lookup.look(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 1, 2, 3]);
        let draft = |lookup: &Lookup| lookup.worth(LONGEST_DRAFT, 1, 1.0, cost).0;
        assert_eq!(draft(&lookup), 0, "nothing is known yet");
        (0..40).for_each(|_| lookup.learn(true));
        assert_eq!(draft(&lookup), LONGEST_DRAFT, "rows at half price that are always taken");
        assert_eq!(lookup.worth(2, 1, 1.0, cost).0, 2);
        assert_eq!(lookup.worth(LONGEST_DRAFT, 1, 1.0, |rows| rows as f64).0, 0, "a row at full price wins nothing");
        (0..40).for_each(|taken| lookup.learn(taken % 2 == 0));
        assert!((1..=2).contains(&lookup.worth(LONGEST_DRAFT, 1, 1.0, |rows| 1.0 + 0.2 * (rows as f64 - 1.0)).0));
        (0..40).for_each(|_| lookup.learn(false));
        assert_eq!(draft(&lookup), 0);
    }
}
