//! The commands of docs/attach.md, as they stand there.

use super::rig::{Running, assert_says, blocks};

/// How many of the page's commands have their output beside them: more may come, none may go unnoticed.
const AT_LEAST: usize = 10;

#[test]
fn every_command_with_its_output_beside_it_does_what_the_page_says() {
    let blocks = blocks();
    let mut run = 0;
    for window in blocks.windows(3) {
        let [("sh", serve), ("sh", guest), ("text", expected)] = window else { continue };
        let folder = tempfile::tempdir().unwrap();
        let server = Running::serve(folder.path(), serve);
        let transcript = Running::start(folder.path(), guest).finish();
        println!("{serve}{guest}");
        assert_says(&transcript, expected);
        drop(server);
        run += 1;
    }
    assert!(run >= AT_LEAST, "only {run} commands were run");
    let outputs = blocks.iter().filter(|(language, _)| *language == "text").count();
    assert_eq!(run, outputs, "an output stands beside no pair of commands");
}
