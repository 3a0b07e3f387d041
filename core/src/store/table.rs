//! What tables keyed by bytes have in common.

use std::ops::Bound;

use imbl::OrdMap;

use crate::api::kv::Key;

/// The rows whose keys begin with `prefix`, in byte order. Finds the first in O(log n) and visits no other.
pub(super) fn under<'a, V: Clone>(
    rows: &'a OrdMap<Key, V>,
    prefix: &'a [u8],
) -> impl Iterator<Item = (&'a Key, &'a V)> + use<'a, V> {
    rows.range::<_, [u8]>((Bound::Included(prefix), Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix))
}

/// The rows that follow `key`, in order; all of them without one. Finds the first in O(log n).
pub(super) fn after<'a, K: Ord + Clone, V: Clone>(
    rows: &'a OrdMap<K, V>,
    key: Option<&K>,
) -> impl Iterator<Item = (&'a K, &'a V)> + use<'a, K, V> {
    rows.range::<_, K>((key.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_string_and_ends_where_it_ends() {
        let keys: [&[u8]; 7] = [b"", b"a", b"a/", b"a\xff", b"a\xff\xff", b"b", b"\xff\xff"];
        let rows: OrdMap<Key, ()> = keys.iter().map(|key| (Key::from_static(key), ())).collect();
        let found = |prefix: &'static [u8]| under(&rows, prefix).map(|(key, ())| &key[..]).collect::<Vec<_>>();
        assert_eq!(found(b""), keys);
        assert_eq!(found(b"a"), keys[1..5]);
        assert_eq!(found(b"a\xff"), keys[3..5]);
        assert_eq!(found(b"\xff"), keys[6..]);
        assert!(found(b"a/x").is_empty());
        assert!(found(b"\xff\xff\xff").is_empty());
    }
}
