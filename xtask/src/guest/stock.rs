//! Modules of the stock kernel's own, with those that they need.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::modules::{modules_in, replace, unpack_stock};
use super::packages::{Found, IMAGE};
use super::place::Place;
use super::plan::Step;
use super::tree::{BUILD, Tree};

/// The order in which the first process loads them: a file in a line.
pub(super) const ORDER: &str = "order";

/// What is wanted.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    /// Names the folder and the step.
    pub(super) name: &'static str,
    pub(super) modules: &'a [&'a str],
    /// A folder with more, which need the others.
    pub(super) ours: Option<&'a Path>,
    /// What all of that is made from.
    pub(super) before: Step,
}

/// Has the modules in a folder, with those that they need and the order of loading.
pub(super) fn provision(
    place: &Place,
    tree: &Tree,
    found: &Found,
    selection: &Selection<'_>,
) -> Result<(PathBuf, Step)> {
    let Selection { name, modules, ours, before } = *selection;
    let folder = place.products(&found.key())?.join(name);
    let inputs = modules.iter().fold(before.inputs, |sum, name| sum.with(name));
    let step = Step { name, title: "modules of the stock kernel", inputs };
    step.run(place, |log| {
        let (build, release) = (format!("{BUILD}/{name}"), &found.kernel.release);
        let outside = tree.clear(&build)?;
        log.run(tree.command("depmod").args(["-b", &format!("{IMAGE}/usr"), "-o", &build, release]))?;
        let dependencies =
            std::fs::read_to_string(outside.join("lib/modules").join(release).join("modules.dep"))
                .context("depmod wrote no modules.dep")?;
        let ordered = in_order(&dependencies, modules)?;
        let mut files = Vec::new();
        for path in &ordered {
            unpack_stock(tree, release, path, &build, log)?;
            files.push(format!("{}.ko", stem(path)));
        }
        log.run(
            tree.command("strip")
                .arg("--strip-debug")
                .args(files.iter().map(|file| Path::new(&build).join(file))),
        )?;
        let mut from: Vec<PathBuf> = files.iter().map(|file| outside.join(file)).collect();
        if let Some(ours) = ours {
            from.extend(modules_in(ours)?);
        }
        std::fs::write(outside.join(ORDER), order_of(&from))?;
        from.push(outside.join(ORDER));
        replace(&folder, &from)
    })?;
    Ok((folder, step))
}

/// The wanted modules after those that they need, as paths without an ending, from the text of `modules.dep`.
///
/// Each line there is a module and all that it needs, the first needed last.
fn in_order<'a>(dependencies: &'a str, wanted: &[&str]) -> Result<Vec<&'a str>> {
    let (mut ordered, mut seen) = (Vec::new(), BTreeSet::new());
    for name in wanted {
        let line = dependencies
            .lines()
            .find_map(|line| line.split_once(':').filter(|(path, _)| stem(without_ending(path)) == *name));
        let Some((path, needed)) = line else { bail!("the stock kernel has no module {name}") };
        let modules = needed.split_whitespace().rev().chain([path]).map(without_ending);
        ordered.extend(modules.filter(|module| seen.insert(*module)));
    }
    Ok(ordered)
}

/// A file in a line.
fn order_of(files: &[PathBuf]) -> String {
    let names = files.iter().filter_map(|file| file.file_name());
    names.map(|name| name.to_string_lossy().into_owned() + "\n").collect()
}

/// `kernel/drivers/net/tun` of `kernel/drivers/net/tun.ko.xz`.
fn without_ending(path: &str) -> &str {
    path.split_once(".ko").map_or(path, |(path, _)| path)
}

fn stem(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDENCIES: &str = "\
kernel/drivers/net/tap.ko.xz: kernel/drivers/net/tun.ko.xz
kernel/drivers/net/tun.ko.xz:
kernel/drivers/vhost/vhost_net.ko.xz: kernel/drivers/vhost/vhost.ko.xz kernel/drivers/vhost/vhost_iotlb.ko.xz \
         kernel/drivers/net/tap.ko.xz kernel/drivers/net/tun.ko.xz
";

    #[test]
    fn what_a_module_needs_comes_before_it_and_once() {
        let ordered = in_order(DEPENDENCIES, &["tun", "vhost_net"]).unwrap();
        let names: Vec<&str> = ordered.into_iter().map(stem).collect();
        assert_eq!(names, ["tun", "tap", "vhost_iotlb", "vhost", "vhost_net"]);
    }

    #[test]
    fn the_order_is_of_names() {
        assert_eq!(order_of(&["/a/vhost.ko".into(), "/b/ours.ko".into()]), "vhost.ko\nours.ko\n");
    }

    #[test]
    fn a_module_that_the_kernel_lacks_is_named() {
        let error = in_order(DEPENDENCIES, &["kvm-amd"]).unwrap_err();
        assert!(error.to_string().contains("kvm-amd"), "{error}");
    }
}
