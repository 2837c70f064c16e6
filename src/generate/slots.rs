//! The slots of the caches: which sequence has which, and what is cached there for whoever comes next.
//!
//! A slot has room for the whole context, so that nothing that was admitted runs out of room half way. What a sequence leaves
//! there is found again by those that begin alike: with few slots, comparing the beginnings of all is exact and takes
//! microseconds.
//!
//! Where layers are recurrent, a state cannot be cut back. A slot holds the one after the last of its ids, for those that begin with all
//! of them, and a *snapshot*: the state shortly before the end of the latest long prompt that it read. A conversation whose template leaves
//! out earlier thoughts goes on from there. A snapshot is as large as a state (157 MB of a network of 27B), takes as long to copy as that many
//! bytes do, and the ids behind it are a step of their own.

use crate::allocation::reserved;
use crate::error::Result;
use crate::generate::Reuse;
use crate::transformer::KeptState;

/// Positions that are worth keeping a slot for; those that share fewer take the slot that was not used for the longest time.
const WORTH_KEEPING: usize = 16;
/// Positions that are worth copying from another slot.
const WORTH_COPYING: usize = 128;
/// Prompts that are worth a snapshot.
const WORTH_A_SNAPSHOT: usize = 128;
/// Ids behind a snapshot: more than templates put behind a message for the answer to begin with.
const BEHIND_SNAPSHOT: usize = 16;

/// What one slot holds.
#[derive(Debug)]
struct Slot {
    cached: Vec<u32>, // the ids whose keys and values are there
    snapshot: usize,  // how many of them that of recurrent layers covers; 0 if there is none
    reuse: Reuse,     // who may have them
    is_taken: bool,
    last_used: u64,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    clock: u64,
    /// Whether a slot serves those alone that begin with all that it holds, or with all that its snapshot covers.
    is_recurrent: bool,
}

/// A slot that a sequence was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub(super) slot: usize,
    /// What has to be copied there first.
    pub(super) copy: Option<Copy>,
}

/// What a slot is given of another, or of its own snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) from: usize,
    pub(super) positions: usize,
    pub(super) state: KeptState,
}

impl Slots {
    /// Empty ones. They have room for all ids, so that no token allocates.
    ///
    /// # Errors
    /// [`Error::Device`](crate::Error::Device) if there is no memory for those.
    pub(super) fn new(count: usize, positions: usize, is_recurrent: bool) -> Result<Self> {
        let slot = || {
            let cached = reserved(positions)?;
            Ok(Slot { cached, snapshot: 0, reuse: Reuse::Never, is_taken: false, last_used: 0 })
        };
        Ok(Self { slots: (0..count).map(|_| slot()).collect::<Result<_>>()?, clock: 0, is_recurrent })
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Slots that no sequence has.
    pub(super) fn free(&self) -> usize {
        self.slots.iter().filter(|slot| !slot.is_taken).count()
    }

    /// Gives a free slot to a sequence that begins with `ids`; none if all are taken. What the slot keeps of them, of sequences that
    /// share with this one, is then [`Slots::cached`].
    ///
    /// It is the one with the longest common beginning, unless that is short, or most of what the slot holds would be lost
    /// while another is free: then it is the one that was not used for the longest time.
    pub(super) fn admit(&mut self, ids: &[u32], reuse: Reuse) -> Option<Admission> {
        let shared = |slot: &Slot| slot.shared(ids, reuse, self.is_recurrent);
        let free = || self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_taken);
        // Of equals the one that was not used for the longest time.
        let longest = free().max_by_key(|(_, slot)| (shared(slot), u64::MAX - slot.last_used))?.0;
        let oldest = free().min_by_key(|(_, slot)| (slot.last_used, slot.cached.len()))?.0;
        let kept = shared(&self.slots[longest]);
        let keeps = kept >= WORTH_KEEPING && 2 * kept >= self.slots[longest].cached.len();
        let slot = if keeps { longest } else { oldest };
        let has = shared(&self.slots[slot]);
        let others = self.slots.iter().enumerate().map(|(other, slot)| (shared(slot), other));
        let (most, other) = others.max_by_key(|&(shared, other)| (shared, usize::MAX - other))?;
        let (from, positions) = if most >= has + WORTH_COPYING { (other, most) } else { (slot, has) };
        let is_cut = self.is_recurrent && positions > 0 && positions < self.slots[from].cached.len();
        let state = if is_cut { KeptState::Snapshot } else { KeptState::Latest };
        let is_needed = from != slot || is_cut;
        self.clock += 1;
        let Slot { cached, snapshot, reuse: of_slot, is_taken, last_used } = &mut self.slots[slot];
        (*of_slot, *is_taken, *last_used) = (reuse, true, self.clock);
        cached.truncate(has);
        if from != slot {
            cached.clear();
            cached.extend_from_slice(&ids[..positions]);
            *snapshot = 0;
        }
        if *snapshot > cached.len() {
            *snapshot = 0;
        }
        Some(Admission { slot, copy: is_needed.then_some(Copy { from, positions, state }) })
    }

    /// Where a slot that reads a prompt should stop for a snapshot: how many ids it holds then.
    pub(super) fn snapshot_due(&self, slot: usize, prompt: usize) -> Option<usize> {
        let (due, slot) = (prompt.saturating_sub(BEHIND_SNAPSHOT), &self.slots[slot]);
        (self.is_recurrent && prompt >= WORTH_A_SNAPSHOT && slot.cached.len() < due).then_some(due)
    }

    /// Takes note of a snapshot of what a slot holds.
    pub(super) fn note_snapshot(&mut self, slot: usize) {
        self.slots[slot].snapshot = self.slots[slot].cached.len();
    }

    /// Gives back a slot; what is cached stays for those who may have it.
    pub(super) fn release(&mut self, slot: usize) {
        self.clock += 1;
        (self.slots[slot].is_taken, self.slots[slot].last_used) = (false, self.clock);
    }

    /// How many ids a slot holds.
    pub(super) fn cached(&self, slot: usize) -> usize {
        self.slots[slot].cached.len()
    }

    /// Takes note of an id that was computed for a slot.
    pub(super) fn push(&mut self, slot: usize, id: u32) {
        self.slots[slot].cached.push(id);
    }

    /// Forgets what a slot holds.
    pub(super) fn forget(&mut self, slot: usize) {
        self.slots[slot].forget();
    }

    /// Forgets what free slots hold.
    pub(super) fn forget_free(&mut self) {
        self.slots.iter_mut().filter(|slot| !slot.is_taken).for_each(Slot::forget);
    }
}

impl Slot {
    /// How many ids at the beginning are the same, if who left them shares them; where layers are recurrent, of which a state is kept.
    fn shared(&self, ids: &[u32], reuse: Reuse, is_recurrent: bool) -> usize {
        if reuse == Reuse::Never || reuse != self.reuse {
            return 0;
        }
        let same = self.cached.iter().zip(ids).take_while(|(a, b)| a == b).count();
        match is_recurrent && same < self.cached.len() {
            true if same < self.snapshot => 0,
            true => self.snapshot,
            false => same,
        }
    }

    fn forget(&mut self) {
        self.cached.clear();
        self.snapshot = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sequence that was computed to its end, and left.
    fn leave_behind(slots: &mut Slots, ids: &[u32]) -> usize {
        let slot = slots.admit(ids, Reuse::Shared).unwrap().slot;
        ids[slots.cached(slot)..].iter().for_each(|&id| slots.push(slot, id));
        slots.release(slot);
        slot
    }

    /// A copy of a whole slot, or where no layer is recurrent of its beginning.
    fn latest(from: usize, positions: usize) -> Option<Copy> {
        Some(Copy { from, positions, state: KeptState::Latest })
    }

    fn counting(from: u32, len: u32) -> Vec<u32> {
        (from..from + len).collect()
    }

    #[test]
    fn the_longest_common_beginning_is_found_whatever_came_between() {
        let mut slots = Slots::new(3, 1000, false).unwrap();
        let (a, b) = (counting(0, 40), counting(500, 40));
        let places = [leave_behind(&mut slots, &a), leave_behind(&mut slots, &b), leave_behind(&mut slots, &[9; 30])];
        assert_eq!(places, [0, 1, 2], "empty slots come first");
        assert_eq!(slots.admit(&counting(500, 60), Reuse::Shared), Some(Admission { slot: 1, copy: None }));
        assert_eq!(slots.cached(1), 40);
        assert_eq!(slots.admit(&counting(0, 39), Reuse::Shared), Some(Admission { slot: 0, copy: None }));
        assert_eq!(slots.cached(0), 39, "no more is kept than is shared");
    }

    #[test]
    fn a_recurrent_slot_serves_those_alone_who_begin_with_all_that_it_holds() {
        let mut slots = Slots::new(2, 1000, true).unwrap();
        leave_behind(&mut slots, &counting(0, 200));
        assert_eq!(slots.admit(&counting(0, 199), Reuse::Shared), Some(Admission { slot: 1, copy: None }));
        assert_eq!(slots.cached(1), 0, "its state cannot be cut back");
        slots.release(1);
        assert_eq!(slots.admit(&counting(0, 220), Reuse::Shared), Some(Admission { slot: 0, copy: None }));
        assert_eq!(slots.cached(0), 200);
        let copied = slots.admit(&counting(0, 230), Reuse::Shared);
        assert_eq!(copied, Some(Admission { slot: 1, copy: latest(0, 200) }), "of a slot that is taken, as it stands");
    }

    #[test]
    fn a_snapshot_serves_those_who_begin_with_what_it_covers() {
        let mut slots = Slots::new(2, 1000, true).unwrap();
        let slot = slots.admit(&counting(0, 199), Reuse::Shared).unwrap().slot;
        assert_eq!(slots.snapshot_due(slot, 200), Some(184));
        assert_eq!(slots.snapshot_due(slot, 127), None, "a short prompt");
        (0..184).for_each(|id| slots.push(slot, id));
        slots.note_snapshot(slot);
        assert_eq!(slots.snapshot_due(slot, 200), None);
        (184..230).for_each(|id| slots.push(slot, id));
        slots.release(slot);
        let other_end = [&counting(0, 190)[..], &[7; 20]].concat();
        let copy = Some(Copy { from: 0, positions: 184, state: KeptState::Snapshot });
        assert_eq!(slots.admit(&other_end, Reuse::Shared), Some(Admission { slot: 0, copy }));
        assert_eq!(slots.cached(0), 184);
        // While the first slot is taken, another gets what it has: now its latest state is that of the snapshot, too.
        assert_eq!(slots.admit(&other_end, Reuse::Shared), Some(Admission { slot: 1, copy: latest(0, 184) }));
        slots.push(0, 9);
        slots.release(0);
        slots.release(1);
        assert_eq!(slots.admit(&counting(0, 180), Reuse::Shared).map(|admission| admission.copy), Some(None));
        assert_eq!(slots.cached(0), 0, "it ends before the snapshot");
    }

    #[test]
    fn short_beginnings_take_the_slot_that_was_not_used_for_the_longest_time() {
        let mut slots = Slots::new(2, 1000, false).unwrap();
        leave_behind(&mut slots, &counting(0, 40));
        leave_behind(&mut slots, &counting(100, 40));
        let ids = [&counting(100, 15)[..], &[7; 20]].concat();
        assert_eq!(slots.admit(&ids, Reuse::Shared).unwrap().slot, 0);
        assert_eq!(slots.cached(0), 0);
    }

    #[test]
    fn a_long_conversation_is_not_lost_to_one_that_shares_its_first_words() {
        let mut slots = Slots::new(2, 1000, false).unwrap();
        leave_behind(&mut slots, &counting(0, 400));
        let other = [&counting(0, 150)[..], &[7; 20]].concat();
        assert_eq!(slots.admit(&other, Reuse::Shared), Some(Admission { slot: 1, copy: latest(0, 150) }));
        assert_eq!(slots.cached(1), 150);
        assert_eq!(slots.admit(&counting(0, 420), Reuse::Shared).map(|admission| admission.slot), Some(0));
        assert_eq!(slots.cached(0), 400);
    }

    #[test]
    fn taken_slots_are_copied_from_and_not_given_twice() {
        let mut slots = Slots::new(2, 1000, false).unwrap();
        let ids = counting(0, 200);
        let first = slots.admit(&ids, Reuse::Shared).unwrap();
        ids.iter().for_each(|&id| slots.push(first.slot, id));
        let second = slots.admit(&[&ids[..], &[7]].concat(), Reuse::Shared).unwrap();
        assert_eq!((second.slot, second.copy), (1, latest(0, 200)));
        assert_eq!((slots.admit(&ids, Reuse::Shared), slots.free()), (None, 0));
        slots.forget_free();
        assert_eq!(slots.cached(0), 200, "what a sequence works with stays");
    }

    #[test]
    fn those_who_keep_apart_find_nothing_of_each_other_and_copy_nothing() {
        let mut slots = Slots::new(6, 1000, false).unwrap();
        let ids = counting(0, 300);
        let groups = [Reuse::Shared, Reuse::Within(1), Reuse::Within(2), Reuse::Never, Reuse::Within(0)];
        for reuse in groups {
            let admission = slots.admit(&ids, reuse).unwrap();
            assert_eq!((slots.cached(admission.slot), admission.copy), (0, None), "{reuse:?}");
            ids.iter().for_each(|&id| slots.push(admission.slot, id));
            slots.release(admission.slot);
        }
        for reuse in groups {
            let found = slots.admit(&ids, reuse).unwrap().slot;
            assert_eq!(slots.cached(found), if reuse == Reuse::Never { 0 } else { 300 }, "{reuse:?}");
            slots.release(found);
        }
    }
}
