//! Steps and their stamps: a step whose inputs are what they were is done already.
//!
//! A stamp is written after its step and taken away before it, so that a step that failed or was killed is done
//! again. A step's fingerprint holds those of the steps it builds on: redoing one redoes all that follow from it.

use std::time::Instant;

use anyhow::{Context, Result};

use super::fingerprint::Fingerprint;
use super::job::Log;
use super::place::Place;

/// The name of a step and what it was made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Names the stamp and the log.
    pub(super) name: &'static str,
    /// What the step does, for the progress lines.
    pub(super) title: &'static str,
    /// Everything that the result depends on.
    pub(super) inputs: Fingerprint,
}

/// How a step came to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Completion {
    Before,
    Now,
}

impl Step {
    /// Does the step by `work` unless its stamp says that it is done.
    pub(super) fn run(self, place: &Place, work: impl FnOnce(&Log) -> Result<()>) -> Result<Completion> {
        let stamp = place.stamp(self.name);
        let wanted = format!("{}\n", self.inputs);
        if std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
            return Ok(Completion::Before);
        }
        match std::fs::remove_file(&stamp) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", stamp.display()));
            }
            _ => {}
        }
        let start = Instant::now();
        eprintln!("guest: {}: {}", self.name, self.title);
        let log = Log::create(self.name, place.log(self.name))?;
        work(&log).with_context(|| format!("{} ({})", self.name, self.title))?;
        std::fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        eprintln!("guest: {}: done in {:.1} s", self.name, start.elapsed().as_secs_f64());
        Ok(Completion::Now)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn step(input: &str) -> Step {
        Step { name: "step", title: "a test", inputs: Fingerprint::EMPTY.with(input) }
    }

    fn place() -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::at(folder.path().join("guest")).unwrap();
        (folder, place)
    }

    #[test]
    fn a_step_is_done_once_for_the_same_inputs() {
        let (_folder, place) = place();
        assert_eq!(step("a").run(&place, |_| Ok(())).unwrap(), Completion::Now);
        let again = step("a").run(&place, |_| bail!("must not run"));
        assert_eq!(again.unwrap(), Completion::Before);
        assert_eq!(step("b").run(&place, |_| Ok(())).unwrap(), Completion::Now);
    }

    #[test]
    fn a_failed_step_is_done_again_even_with_the_inputs_of_the_last_success() {
        let (_folder, place) = place();
        step("a").run(&place, |_| Ok(())).unwrap();
        let error = step("b").run(&place, |_| bail!("broken")).unwrap_err();
        assert!(format!("{error:#}").contains("step (a test): broken"), "{error:#}");
        assert_eq!(step("a").run(&place, |_| Ok(())).unwrap(), Completion::Now);
    }

    #[test]
    fn a_step_killed_halfway_leaves_no_stamp() {
        let (_folder, place) = place();
        step("a").run(&place, |_| Ok(())).unwrap();
        step("b")
            .run(&place, |_| {
                assert!(!place.stamp("step").exists());
                Ok(())
            })
            .unwrap();
    }
}
