//! Writes to states with access `call`, until their bundle becomes real.

use crate::bundle::StateCall;

/// The last write of each (state, key). Keys are dense and few per bundle, so the look-up is an array read.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    /// By state, by key: index into `entries`, plus one; 0 = not written. Sized when a state is first written in a bundle.
    index: Vec<Vec<u32>>,
    entries: Vec<StateCall>,
    /// Bytes of all values, and of what it took to keep them.
    pub(crate) bytes: usize,
}

impl Overlay {
    /// What the bundle has written: `None` = nothing; `Some(None)` = cleared.
    #[inline]
    pub(crate) fn get(&self, state: usize, key: u32) -> Option<Option<&[u8]>> {
        let at = *self.index.get(state)?.get(key as usize)?;
        let entry = self.entries.get((at as usize).checked_sub(1)?)?;
        Some(entry.value.as_deref())
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
            self.bytes += size_of::<u32>() * (keys - index.len());
            index.resize(keys, 0);
        }
        let added = value.map_or(0, <[u8]>::len);
        let at = index[key as usize] as usize;
        if at == 0 {
            index[key as usize] = self.entries.len() as u32 + 1;
            self.entries.push(StateCall { state: state as u32, key, value: value.map(<[u8]>::to_vec) });
            self.bytes += added + size_of::<StateCall>();
            return;
        }
        let entry = &mut self.entries[at - 1];
        self.bytes -= entry.value.as_ref().map_or(0, Vec::len);
        self.bytes += added;
        match (&mut entry.value, value) {
            (Some(old), Some(new)) => {
                old.clear();
                old.extend_from_slice(new);
            }
            (old, new) => *old = new.map(<[u8]>::to_vec),
        }
    }

    /// Takes all writes, in ascending order of state and key, and is empty again.
    pub(crate) fn take(&mut self) -> Vec<StateCall> {
        for entry in &self.entries {
            self.index[entry.state as usize][entry.key as usize] = 0;
        }
        self.bytes = 0;
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_unstable_by_key(|entry| (entry.state, entry.key));
        entries
    }
}
