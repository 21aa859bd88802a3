//! Debian's packages on this machine.

use std::process::Command;

use anyhow::Result;

/// Installs packages, by commands that `run` runs.
pub(crate) fn install(packages: &[&str], run: impl Fn(&mut Command) -> Result<()>) -> Result<()> {
    let apt = |words: &[&str]| {
        // No package asks questions.
        run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(words))
    };
    let words: Vec<&str> = ["install", "-y"].iter().chain(packages).copied().collect();
    // Where the lists are out of date or absent, a package is not found at first.
    apt(&words).or_else(|_| {
        apt(&["update"])?;
        apt(&words)
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use anyhow::bail;

    use super::install;

    /// What is run when the first commands fail, so many of them.
    fn commands(mut failures: usize) -> (bool, Vec<String>) {
        let said = RefCell::new(Vec::new());
        let left = RefCell::new(&mut failures);
        let outcome = install(&["a", "b"], |command| {
            let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            said.borrow_mut().push(words.join(" "));
            if **left.borrow() > 0 {
                **left.borrow_mut() -= 1;
                bail!("not found");
            }
            Ok(())
        });
        (outcome.is_ok(), said.into_inner())
    }

    #[test]
    fn the_lists_are_brought_up_to_date_when_a_package_is_not_found() {
        assert_eq!(commands(0), (true, vec!["install -y a b".to_string()]));
        let tried = ["install -y a b", "update", "install -y a b"].map(String::from).to_vec();
        assert_eq!(commands(1), (true, tried));
        assert!(!commands(2).0);
    }
}
