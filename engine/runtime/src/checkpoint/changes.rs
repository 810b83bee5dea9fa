//! Which keys have changed since when, so that a checkpoint need not tell all of them again.

use std::collections::VecDeque;

use super::keyed::KeyBytes;
use super::snapshot::Barrier;

/// Changes of one operator's state, by the checkpoint that will have them first.
///
/// A change before the barrier of checkpoint n belongs to n. A later checkpoint tells it again until some checkpoint from n on is
/// confirmed: one that failed has told nobody.
#[derive(Debug)]
pub(crate) struct Changes {
    /// The checkpoint to which changes belong now.
    next: u64,
    /// Slot → where it is mentioned last: the checkpoint, and the place among its slots.
    last: Vec<(u64, u32)>,
    /// The slots of each checkpoint. All but the last mention of one are stale.
    slots: VecDeque<(u64, Vec<u32>)>,
    /// Keys that went, under the checkpoint in which they did.
    gone: VecDeque<(u64, KeyBytes)>,
    /// The first barrier that came. Before it is confirmed nothing can be built on.
    first: Option<u64>,
    /// Keys told by checkpoints since the last full one.
    told: usize,
}

/// A slot that has not changed; no checkpoint has the number 0.
const NEVER: (u64, u32) = (0, 0);

/// What a barrier asks for.
pub(crate) struct Asked {
    /// `None`: every key.
    pub slots: Option<Vec<u32>>,
    /// May be there again.
    pub gone: KeyBytes,
}

impl Changes {
    pub(crate) fn new() -> Changes {
        Changes { next: 1, last: Vec::new(), slots: VecDeque::new(), gone: VecDeque::new(), first: None, told: 0 }
    }

    /// The values of `slots` have changed.
    pub(crate) fn touch(&mut self, slots: &[u32]) {
        let next = self.next;
        for &slot in slots {
            let slot_index = slot as usize;
            if self.last.len() <= slot_index {
                self.last.resize(slot_index + 1, NEVER);
            }
            if self.last[slot_index].0 == next {
                continue;
            }
            match self.slots.back_mut() {
                Some((of, slots)) if *of == next => {
                    self.last[slot_index] = (next, slots.len() as u32);
                    slots.push(slot);
                }
                _ => {
                    self.last[slot_index] = (next, 0);
                    self.slots.push_back((next, vec![slot]));
                }
            }
        }
    }

    /// The slot is free: what it is used for next has not changed before.
    pub(crate) fn forget(&mut self, slot: u32) {
        if let Some(last) = self.last.get_mut(slot as usize) {
            *last = NEVER;
        }
    }

    /// `key`, in `slot`, has no value any more.
    pub(crate) fn gone(&mut self, slot: u32, key: &[u8]) {
        let known = self.last.get(slot as usize).is_some_and(|last| *last != NEVER);
        self.forget(slot);
        // What was never told need not be taken back.
        if self.first.is_none() || !known {
            return;
        }
        match self.gone.back_mut() {
            Some((of, keys)) if *of == self.next => keys.push(key),
            _ => {
                let mut keys = KeyBytes::default();
                keys.push(key);
                self.gone.push_back((self.next, keys));
            }
        }
    }

    /// What the checkpoint of `barrier` has to tell of `live` keys. Changes from here on belong to the next one.
    pub(crate) fn take(&mut self, barrier: &Barrier, live: usize) -> Asked {
        let confirmed = barrier.confirmed;
        self.slots.retain(|(of, _)| *of > confirmed);
        self.gone.retain(|(of, _)| *of > confirmed);
        let first = *self.first.get_or_insert(barrier.checkpoint);
        self.next = barrier.checkpoint + 1;
        let changed = || {
            let mentions = self.slots.iter().flat_map(|(of, slots)| {
                slots.iter().enumerate().map(move |(place, slot)| ((*of, place as u32), *slot))
            });
            mentions.filter(|(mention, slot)| self.last[*slot as usize] == *mention).map(|(_, slot)| slot)
        };
        let mut told = 0;
        let full = barrier.full || confirmed < first || {
            told = changed().count();
            self.told + told >= live
        };
        if full {
            if !barrier.full {
                self.told = 0;
            }
            return Asked { slots: None, gone: KeyBytes::default() };
        }
        self.told += told;
        let slots = changed().collect();
        let mut gone = KeyBytes::default();
        self.gone.iter().flat_map(|(_, keys)| keys.iter()).for_each(|key| gone.push(key));
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
            let mut changes = Changes::new();
            let mut state: HashMap<u8, u32> = HashMap::new();
            let mut complete: HashMap<u64, HashMap<u8, u32>> = HashMap::new();
            let (mut checkpoint, mut confirmed, mut value) = (0, 0, 0);
            for act in acts {
                value += 1;
                match act {
                    Act::Set(key) => {
                        state.insert(key, value);
                        changes.touch(&[u32::from(key)]);
                    }
                    Act::Remove(key) => {
                        if state.remove(&key).is_some() {
                            changes.gone(u32::from(key), &[key]);
                        }
                    }
                    Act::Checkpoint(completes) => {
                        checkpoint += 1;
                        let asked = changes.take(&barrier(checkpoint, confirmed), state.len());
                        let mut told = match &asked.slots {
                            None => state.clone(),
                            Some(slots) => {
                                let distinct: std::collections::HashSet<_> = slots.iter().collect();
                                prop_assert_eq!(distinct.len(), slots.len(), "a key is told once");
                                let mut told = complete[&confirmed].clone();
                                told.extend(slots.iter().filter_map(|slot| state.get_key_value(&(*slot as u8))));
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
        let mut changes = Changes::new();
        changes.touch(&(0..100).collect::<Vec<_>>());
        assert!(changes.take(&barrier(1, 0), 100).slots.is_none());
        changes.touch(&[5, 7, 5]);
        assert_eq!(changes.take(&barrier(2, 1), 100).slots, Some(vec![5, 7]));
        // 2 failed: what it told is told again.
        changes.touch(&[7, 9]);
        assert_eq!(changes.take(&barrier(3, 1), 100).slots, Some(vec![5, 7, 9]));
        assert_eq!(changes.take(&barrier(4, 3), 100).slots, Some(vec![]));
    }
}
