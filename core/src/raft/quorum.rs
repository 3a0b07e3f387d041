//! Majority arithmetic.

/// How many of `voters` make a majority.
#[must_use]
pub const fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// The greatest value that a majority has reached, given what each voter has: with (3, 5, 9) it is 5. The
/// default (zero) if there is no voter at all, so that nothing is ever agreed by nobody.
pub fn reached<T: Ord + Copy + Default>(values: impl IntoIterator<Item = T>) -> T {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_unstable();
    match values.len() {
        0 => T::default(),
        voters => values[voters - majority(voters)],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_majorities_always_share_a_voter() {
        for voters in 1..100 {
            assert!(2 * majority(voters) > voters, "{voters}");
            assert!(majority(voters) <= voters, "{voters}");
        }
    }

    proptest! {
        /// Against the definition: at least a majority has it, and nothing greater is had by one.
        #[test]
        fn reached_is_the_greatest_value_of_a_majority(values in prop::collection::vec(0u64..20, 1..9)) {
            let have = |n: u64| values.iter().filter(|v| **v >= n).count();
            let agreed = reached(values.iter().copied());
            prop_assert!(have(agreed) >= majority(values.len()));
            prop_assert!(have(agreed + 1) < majority(values.len()));
        }
    }
}
