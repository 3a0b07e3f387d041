//! Bit rot: what was durable is not what it was.

use lictor_core::rng::Rng;

use super::Disk;

impl Disk {
    /// Turns one bit of one of the files that `concerns` names, and says of which; `None` if there is nothing to turn.
    /// Nothing may be under way on the disk.
    pub(crate) fn rot(&mut self, concerns: impl Fn(&str) -> bool, dice: &mut Rng) -> Option<String> {
        let names: Vec<_> = self.list().into_iter().filter(|name| concerns(name)).collect();
        if names.is_empty() {
            return None;
        }
        let name = &names[dice.below(names.len() as u64) as usize];
        let file = self.files.get_mut(name)?;
        file.rot(dice).map(|at| format!("byte {at} of {name}"))
    }
}
