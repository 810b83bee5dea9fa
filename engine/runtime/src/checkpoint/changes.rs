//! Which keys have changed since when, so that a checkpoint need not tell all of them again.

use std::collections::{BTreeSet, VecDeque};

use super::keyed::KeyBytes;
use super::snapshot::Barrier;

/// A set of slots. A bit each: what is asked for every row shall lie in the processor's cache.
#[derive(Debug, Default, Clone)]
pub(crate) struct Slots(Vec<u64>);

impl Slots {
    #[inline]
    pub(crate) fn insert(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if word >= self.0.len() {
            self.0.resize((word + 1).next_power_of_two(), 0);
        }
        self.0[word] |= 1 << (slot % 64);
    }

    /// Was it there?
    pub(crate) fn remove(&mut self, slot: u32) -> bool {
        let there = self.contains(slot);
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
        there
    }

    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    fn extend(&mut self, other: &Slots) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    /// Ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(index as u32 * 64 + bit)
            })
        })
    }
}

/// Changes of one operator's state, by the checkpoint that will have them first.
///
/// A change before the barrier of checkpoint n belongs to n. A later checkpoint tells it again until some checkpoint from n on is
/// confirmed: one that failed has told nobody.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Since the last barrier.
    now: Slots,
    /// Before each barrier, by its checkpoint.
    before: VecDeque<(u64, Slots)>,
    /// Slots whose key may have been told.
    known: Slots,
    /// Keys that went since the last barrier.
    gone_now: KeyBytes,
    gone: VecDeque<(u64, KeyBytes)>,
    /// The first barrier that came. Before it is confirmed nothing can be built on.
    first: Option<u64>,
    /// Keys told by checkpoints since the last full one, and how many such checkpoints there were.
    told: usize,
    additions: usize,
}

/// Additions to a full checkpoint, at most: each is a file that is opened when the job goes on.
const ADDITIONS_MAX: usize = 64;

/// What a barrier asks for.
pub(crate) struct Asked {
    /// `None`: every key. Some may be free by now.
    pub slots: Option<Slots>,
    /// May be there again.
    pub gone: KeyBytes,
}

impl Changes {
    /// The value of `slot` has changed.
    #[inline]
    pub(crate) fn touch(&mut self, slot: u32) {
        self.now.insert(slot);
        self.known.insert(slot);
    }

    /// The slot is free: what it is used for next has not been told.
    pub(crate) fn forget(&mut self, slot: u32) {
        self.known.remove(slot);
    }

    /// The key in `slot` may have been told before it came there.
    pub(crate) fn know(&mut self, slot: u32) {
        self.known.insert(slot);
    }

    /// The key in `slot` leaves memory. Has somebody to remember that it has changed, for a checkpoint that does not tell all?
    pub(crate) fn leave(&mut self, slot: u32) -> bool {
        self.forget(slot);
        let before = self.before.iter_mut().map(|(_, slots)| slots);
        let changed = before.chain([&mut self.now]).fold(false, |changed, slots| slots.remove(slot) | changed);
        changed && self.first.is_some()
    }

    /// `key`, in `slot`, has no value any more.
    pub(crate) fn gone(&mut self, slot: u32, key: &[u8]) {
        // What was never told need not be taken back.
        if self.first.is_some() && self.known.contains(slot) {
            self.gone_now.push(key);
        }
        self.forget(slot);
    }

    /// What the checkpoint of `barrier` has to tell of `live` keys, beside `elsewhere` that others remember. Changes from here on belong
    /// to the next one.
    pub(crate) fn take(&mut self, barrier: &Barrier, live: usize, elsewhere: usize) -> Asked {
        let confirmed = barrier.confirmed;
        self.before.push_back((barrier.checkpoint, std::mem::take(&mut self.now)));
        self.gone.push_back((barrier.checkpoint, std::mem::take(&mut self.gone_now)));
        self.before.retain(|(of, _)| *of > confirmed);
        self.gone.retain(|(of, _)| *of > confirmed);
        let first = *self.first.get_or_insert(barrier.checkpoint);
        let mut slots = Slots::default();
        self.before.iter().for_each(|(_, changed)| slots.extend(changed));
        let changed = slots.len() + elsewhere;
        let enough = self.told + changed >= live || self.additions >= ADDITIONS_MAX;
        if barrier.full || confirmed < first || enough {
            if !barrier.full {
                self.told = 0;
                self.additions = 0;
            }
            return Asked { slots: None, gone: KeyBytes::default() };
        }
        self.told += changed;
        self.additions += 1;
        // One may have come back and gone again.
        let unique: BTreeSet<&[u8]> = self.gone.iter().flat_map(|(_, keys)| keys.iter()).collect();
        let mut gone = KeyBytes::default();
        unique.into_iter().for_each(|key| gone.push(key));
        Asked { slots: Some(slots), gone }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::snapshot::Alignment;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn barrier(checkpoint: u64, confirmed: u64) -> Barrier {
        Barrier { checkpoint, confirmed, full: false, alignment: Alignment::Aligned, stop: None }
    }

    #[derive(Debug, Clone)]
    enum Act {
        Set(u8),
        Remove(u8),
        /// Takes a checkpoint; it completes or fails.
        Checkpoint(bool),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            4 => (0u8..40).prop_map(Act::Set),
            2 => (0u8..40).prop_map(Act::Remove),
            1 => any::<bool>().prop_map(Act::Checkpoint),
        ]
    }

    proptest! {
        /// A confirmed checkpoint and what the next ones tell on top of it give the state that was there.
        #[test]
        fn what_is_told_adds_up(acts in prop::collection::vec(act(), 0..300)) {
            let mut changes = Changes::default();
            let mut state: HashMap<u8, u32> = HashMap::new();
            let mut complete: HashMap<u64, HashMap<u8, u32>> = HashMap::new();
            let (mut checkpoint, mut confirmed, mut value) = (0, 0, 0);
            for act in acts {
                value += 1;
                match act {
                    Act::Set(key) => {
                        state.insert(key, value);
                        changes.touch(u32::from(key));
                    }
                    Act::Remove(key) => {
                        if state.remove(&key).is_some() {
                            changes.gone(u32::from(key), &[key]);
                        }
                    }
                    Act::Checkpoint(completes) => {
                        checkpoint += 1;
                        let asked = changes.take(&barrier(checkpoint, confirmed), state.len(), 0);
                        let mut told = match &asked.slots {
                            None => state.clone(),
                            Some(slots) => {
                                let mut told = complete[&confirmed].clone();
                                told.extend(slots.iter().filter_map(|slot| state.get_key_value(&(slot as u8))));
                                told
                            }
                        };
                        for key in asked.gone.iter().filter(|key| !state.contains_key(&key[0])) {
                            told.remove(&key[0]);
                        }
                        prop_assert_eq!(&told, &state);
                        if completes {
                            complete.insert(checkpoint, told);
                            confirmed = checkpoint;
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn few_changes_are_told_alone() {
        let mut changes = Changes::default();
        let told = |changes: &mut Changes, checkpoint, confirmed| {
            changes.take(&barrier(checkpoint, confirmed), 100, 0).slots.map(|slots| slots.iter().collect::<Vec<_>>())
        };
        (0..100).for_each(|slot| changes.touch(slot));
        assert_eq!(told(&mut changes, 1, 0), None);
        [5, 70, 5].into_iter().for_each(|slot| changes.touch(slot));
        assert_eq!(told(&mut changes, 2, 1), Some(vec![5, 70]));
        // 2 failed: what it told is told again.
        [70, 9].into_iter().for_each(|slot| changes.touch(slot));
        assert_eq!(told(&mut changes, 3, 1), Some(vec![5, 9, 70]));
        assert_eq!(told(&mut changes, 4, 3), Some(vec![]));
        // Files do not become more and more.
        let full = (5..200).filter(|checkpoint| told(&mut changes, *checkpoint, checkpoint - 1).is_none()).count();
        assert_eq!(full, 195 / ADDITIONS_MAX);
    }
}
