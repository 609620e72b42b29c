//! The fuel of running guests. The innermost call into a guest has a budget. Everything inside that call
//! draws on it, whatever its store or engine.

use crate::engine::UNLIMITED_FUEL;

/// A call's remaining fuel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fuel {
    pub left: u64,
    /// Whether a caller set a budget. Otherwise the number only serves to count.
    pub is_limited: bool,
}

impl Fuel {
    /// The fuel that a call with the budget `own` begins with, inside a call that has `around`. The
    /// inner budget can only be tighter.
    pub fn of_call(own: Option<u64>, around: Option<Self>) -> Self {
        match (own, around) {
            (Some(own), Some(around)) => Self { left: own.min(around.left), is_limited: true },
            (Some(own), None) => Self { left: own.min(UNLIMITED_FUEL), is_limited: true },
            (None, Some(around)) => around,
            (None, None) => Self { left: UNLIMITED_FUEL, is_limited: false },
        }
    }

    /// The fuel that remains after an inner call that began with `begun` and ended with `left`.
    #[must_use]
    pub fn after(self, begun: u64, left: u64) -> Self {
        Self { left: self.left.saturating_sub(begun.saturating_sub(left)), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn limited(left: u64) -> Fuel {
        Fuel { left, is_limited: true }
    }

    #[test]
    fn a_call_has_what_it_was_given_but_no_more_than_is_left_around_it() {
        assert_eq!(Fuel::of_call(Some(5), None), limited(5));
        assert_eq!(Fuel::of_call(Some(5), Some(limited(3))), limited(3));
        assert_eq!(Fuel::of_call(Some(5), Some(limited(9))), limited(5));
        assert_eq!(Fuel::of_call(None, Some(limited(9))), limited(9));
        assert!(!Fuel::of_call(None, None).is_limited);
        assert_eq!(Fuel::of_call(Some(u64::MAX), None).left, UNLIMITED_FUEL);
    }

    #[test]
    fn what_a_call_inside_has_used_is_gone() {
        assert_eq!(limited(9).after(5, 3), limited(7));
        assert_eq!(limited(9).after(20, 0), limited(0));
    }
}
