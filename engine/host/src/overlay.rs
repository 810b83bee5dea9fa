//! Writes to states with access `call`, until their bundle becomes real.

use crate::bundle::{StateCalls, StateEntry};

/// The last write of each (state, key). Keys are dense and few per bundle, so the look-up is an array read.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// By state, by key: index into the entries, plus one; 0 = not written. Sized when a state is first written in a bundle.
    index: Vec<Vec<u32>>,
    calls: StateCalls,
    /// What it took to keep `index`.
    index_bytes: usize,
}

impl Overlay {
    /// Bytes of all values that were written, and of what it took to keep them.
    pub(crate) fn bytes(&self) -> usize {
        self.index_bytes + self.calls.bytes.len() + size_of::<StateEntry>() * self.calls.entries.len()
    }

    /// What the bundle has written: `None` = nothing; `Some(None)` = cleared.
    #[inline]
    pub(crate) fn get(&self, state: usize, key: u32) -> Option<Option<&[u8]>> {
        let at = *self.index.get(state)?.get(key as usize)?;
        let entry = self.calls.entries.get((at as usize).checked_sub(1)?)?;
        Some(entry.value.map(|(start, end)| &self.calls.bytes[start..end]))
    }

    /// Remembers a write; `key` is below `keys`.
    #[inline]
    pub(crate) fn put(&mut self, state: usize, key: u32, keys: usize, value: Option<&[u8]>) {
        if self.index.len() <= state {
            self.index.resize_with(state + 1, Vec::new);
        }
        let index = &mut self.index[state];
        if index.len() < keys {
            // It counts as output: a guest with many states could otherwise take 4 bytes per state and key for nothing.
            self.index_bytes += size_of::<u32>() * (keys - index.len());
            index.resize(keys, 0);
        }
        let StateCalls { entries, bytes } = &mut self.calls;
        let at = index[key as usize] as usize;
        if at == 0 {
            index[key as usize] = entries.len() as u32 + 1;
            entries.push(StateEntry { state: state as u32, key, value: None });
        }
        let entry = if at == 0 { entries.last_mut() } else { entries.get_mut(at - 1) };
        let entry = entry.expect("the index holds places of entries");
        entry.value = match (entry.value, value) {
            (_, None) => None,
            // In the place of the value before, if there is room: most values of a state are of one length.
            (Some((start, end)), Some(value)) if value.len() <= end - start => {
                bytes[start..start + value.len()].copy_from_slice(value);
                Some((start, start + value.len()))
            }
            (_, Some(value)) => {
                let start = bytes.len();
                bytes.extend_from_slice(value);
                Some((start, bytes.len()))
            }
        };
    }

    /// Takes all writes, in ascending order of state and key, and is empty again.
    pub(crate) fn take(&mut self) -> StateCalls {
        for entry in &self.calls.entries {
            self.index[entry.state as usize][entry.key as usize] = 0;
        }
        self.index_bytes = 0;
        let mut calls = std::mem::take(&mut self.calls);
        let place = |entry: &StateEntry| (entry.state, entry.key);
        if !calls.entries.is_sorted_by_key(place) {
            calls.entries.sort_unstable_by_key(place);
        }
        calls
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const KEYS: u32 = 5;

    proptest! {
        /// Against a map: the last write of each (state, key) counts, and comes out in order.
        #[test]
        fn the_last_write_counts(
            writes in prop::collection::vec(
                (0usize..3, 0..KEYS, prop::option::of(prop::collection::vec(any::<u8>(), 0..6))),
                0..40,
            ),
        ) {
            let mut overlay = Overlay::default();
            // Twice: what was taken has left nothing behind.
            for _ in 0..2 {
                let mut model = BTreeMap::new();
                for (state, key, value) in &writes {
                    overlay.put(*state, *key, KEYS as usize, value.as_deref());
                    model.insert((*state as u32, *key), value.clone());
                    prop_assert_eq!(overlay.get(*state, *key), Some(value.as_deref()));
                }
                let longest: usize = model.values().flatten().map(Vec::len).sum();
                prop_assert!(overlay.bytes() >= longest, "what is held counts");
                let calls = overlay.take();
                let taken: Vec<_> = calls.iter().map(|call| ((call.state, call.key), call.value.map(<[u8]>::to_vec))).collect();
                prop_assert_eq!(taken, model.into_iter().collect::<Vec<_>>());
                prop_assert_eq!(overlay.bytes(), 0);
                prop_assert_eq!(overlay.get(0, 0), None);
            }
        }
    }
}
