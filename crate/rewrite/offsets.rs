//! Where the bytes of a rewritten binary come from.

/// Maps offsets in a rewritten binary to offsets in the one it was made from.
#[derive(Debug, Clone, Default)]
pub struct Offsets {
    /// Where each copied piece begins, in the new binary and in the old one, in ascending order. Pieces
    /// that are adjacent in both are merged.
    pieces: Vec<(usize, usize)>,
}

impl Offsets {
    /// Records that a piece of the old binary is copied. Pieces are added in ascending order.
    pub(super) fn add(&mut self, new: usize, old: usize) {
        if self.before(new) != old || self.pieces.is_empty() {
            self.pieces.push((new, old));
        }
    }

    /// The old offset of the instruction at this offset.
    pub fn before(&self, offset: usize) -> usize {
        let next = self.pieces.partition_point(|(new, _)| *new <= offset);
        let Some((new, old)) = next.checked_sub(1).and_then(|at| self.pieces.get(at)) else { return offset };
        offset - new + old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_found_in_the_piece_that_it_lies_in() {
        let mut offsets = Offsets::default();
        for (new, old) in [(0, 0), (10, 10), (25, 20), (40, 50)] {
            offsets.add(new, old);
        }
        assert_eq!([0, 10, 24, 25, 39, 40, 41].map(|new| offsets.before(new)), [0, 10, 24, 20, 34, 50, 51]);
        assert_eq!(Offsets::default().before(7), 7);
    }
}
