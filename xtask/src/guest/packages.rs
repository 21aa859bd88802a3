//! What is installed in the tree: the newest kernel's source and headers, and the compilers that its Rust needs.
//!
//! Sid moves: names and versions are found when the kit is made, kept with it, and printed.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::job::Log;
use super::place::Place;
use super::plan::Step;
use super::tree::Tree;

/// The kernel that clouds run: small, and with virtio built in.
const META_PACKAGE: &str = "linux-image-cloud-amd64";
/// Where the stock kernel is unpacked in the tree.
pub(super) const IMAGE: &str = "/build/image";
/// What builds kernels and their modules, in C and in Rust.
const TOOLCHAIN: [&str; 18] = [
    "rustc",
    "rust-src",
    "bindgen",
    "clang",
    "lld",
    "llvm",
    "gcc",
    "libc6-dev",
    "make",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "libssl-dev",
    "pahole",
    "xz-utils",
    "kmod",
    "python3",
];
/// Packages whose versions tell kits apart.
const TELLING: [&str; 7] = ["rustc", "bindgen", "clang", "lld", "gcc", "pahole", "libc6-dev"];

/// A package and the version that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    pub(super) package: String,
    pub(super) version: String,
}

/// What was found in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) kernel: Kernel,
    pub(super) versions: Vec<Version>,
}

/// Debian's names for one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kernel {
    /// What `uname -r` says in the stock kernel: `7.2.13+deb14-cloud-amd64`.
    pub(super) release: String,
    /// Upstream's version: `7.2.13`.
    pub(super) upstream: String,
}

impl Kernel {
    /// Reads the name of a stock kernel's package.
    fn of_package(package: &str) -> Result<Self> {
        let release = package.strip_prefix("linux-image-").unwrap_or(package);
        let end = release.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(release.len());
        let upstream = &release[..end];
        let numbers: Vec<&str> = upstream.split('.').collect();
        if numbers.len() < 2 || numbers.iter().any(|number| number.is_empty()) || end == release.len() {
            bail!("`{package}` does not name a kernel like linux-image-7.2.13+deb14-cloud-amd64");
        }
        Ok(Self { release: release.to_string(), upstream: upstream.to_string() })
    }

    /// The first two numbers, which Debian's source packages are named by: `7.2`.
    pub(super) fn series(&self) -> String {
        self.upstream.splitn(3, '.').take(2).collect::<Vec<_>>().join(".")
    }

    /// What Debian appends to upstream's version: `+deb14-cloud-amd64`.
    pub(super) fn local_version(&self) -> &str {
        self.release.strip_prefix(self.upstream.as_str()).unwrap_or_default()
    }
}

impl Found {
    /// Names the folder of the products.
    pub(super) fn key(&self) -> String {
        let rustc = self.versions.iter().find(|version| version.package == "rustc");
        format!("{}-rustc-{}", self.kernel.release, rustc.map_or("unknown", |rustc| &rustc.version))
    }
}

/// Installs everything and reads what it is.
pub(super) fn provision(place: &Place, tree: &Tree, before: Step) -> Result<(Found, Step)> {
    let mut inputs = before.inputs.with(META_PACKAGE);
    for package in TOOLCHAIN.iter().chain(&TELLING) {
        inputs = inputs.with(package);
    }
    let step = Step { name: "packages", title: "kernel source and toolchain from sid", inputs };
    let record = place.root().join("found.json");
    step.run(place, |log| {
        let found = install(tree, log)?;
        std::fs::write(&record, serde_json::to_string_pretty(&found)?)
            .with_context(|| format!("cannot write {}", record.display()))
    })?;
    let text =
        std::fs::read_to_string(&record).with_context(|| format!("cannot read {}", record.display()))?;
    let found: Found =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged: remove it", record.display()))?;
    let inputs = step.inputs.with(&text);
    Ok((found, Step { inputs, ..step }))
}

fn install(tree: &Tree, log: &Log) -> Result<Found> {
    log.run(tree.command("apt-get").arg("update"))?;
    let depends = tree.capture(&["apt-cache", "depends", META_PACKAGE])?;
    let kernel = Kernel::of_package(image_package(&depends)?)?;
    let source = format!("linux-source-{}", kernel.series());
    let headers = format!("linux-headers-{}", kernel.release);
    let mut command = tree.command("apt-get");
    command.args(["install", "-y"]).args(TOOLCHAIN).args([&source, &headers]);
    log.run(&mut command)?;
    download_image(tree, &kernel, log)?;
    log.run(tree.command("apt-get").arg("clean"))?;
    let telling: Vec<&str> = TELLING.into_iter().chain([source.as_str(), headers.as_str()]).collect();
    let mut query = vec!["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n"];
    query.extend(telling);
    let versions = versions(&tree.capture(&query)?);
    for Version { package, version } in &versions {
        eprintln!("guest: packages: {package} {version}");
    }
    Ok(Found { kernel, versions })
}

/// Unpacks the stock kernel without installing it: nothing in the tree boots, so nothing need prepare for it.
fn download_image(tree: &Tree, kernel: &Kernel, log: &Log) -> Result<()> {
    tree.clear(IMAGE)?;
    let image = format!("linux-image-{}", kernel.release);
    let depends = tree.capture(&["apt-cache", "depends", &image])?;
    let packages = [vec![image.as_str()], parts_of_image(&depends, kernel)].concat().join(" ");
    let unpack = "for package in *.deb; do dpkg-deb -x $package . || exit; done; rm *.deb";
    let script = format!("cd {IMAGE} && apt-get download {packages} && {unpack}");
    log.run(tree.command("sh").args(["-c", &script]))
}

/// The packages of the same release that a kernel's package stands for: Debian has split it into several.
fn parts_of_image<'a>(depends: &'a str, kernel: &Kernel) -> Vec<&'a str> {
    let suffix = format!("-{}", kernel.release);
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .filter(|package| package.ends_with(&suffix))
        .collect()
}

/// The package that the meta package stands for, in what `apt-cache depends` prints.
fn image_package(depends: &str) -> Result<&str> {
    depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|package| package.starts_with("linux-image-"))
        .with_context(|| format!("{META_PACKAGE} depends on no kernel:\n{depends}"))
}

/// Lines of a package's name and its version.
fn versions(list: &str) -> Vec<Version> {
    let pairs = list.lines().filter_map(|line| line.split_once(' '));
    pairs.map(|(package, version)| Version { package: package.into(), version: version.into() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPENDS: &str =
        "linux-image-cloud-amd64\n  Depends: linux-image-7.2.13+deb14-cloud-amd64\n  Breaks: x\n";

    #[test]
    fn the_kernel_is_read_from_the_meta_package() {
        let kernel = Kernel::of_package(image_package(DEPENDS).unwrap()).unwrap();
        assert_eq!(kernel.release, "7.2.13+deb14-cloud-amd64");
        assert_eq!(kernel.upstream, "7.2.13");
        assert_eq!(kernel.series(), "7.2");
        assert_eq!(kernel.local_version(), "+deb14-cloud-amd64");
    }

    #[test]
    fn a_release_candidate_and_a_first_release_are_read_too() {
        let kernel = Kernel::of_package("linux-image-8.0-cloud-amd64").unwrap();
        assert_eq!((kernel.series().as_str(), kernel.local_version()), ("8.0", "-cloud-amd64"));
        let kernel = Kernel::of_package("linux-image-8.1~rc2-cloud-amd64").unwrap();
        assert_eq!((kernel.upstream.as_str(), kernel.local_version()), ("8.1", "~rc2-cloud-amd64"));
    }

    #[test]
    fn a_kernels_package_may_stand_for_several() {
        let kernel = Kernel::of_package("linux-image-7.2.13+deb14-cloud-amd64").unwrap();
        let depends = "linux-image-x\n |Depends: dracut\n  Depends: linux-binary-7.2.13+deb14-cloud-amd64\n  \
             Depends: linux-base\n  Depends: linux-modules-7.2.13+deb14-cloud-amd64\n";
        assert_eq!(
            parts_of_image(depends, &kernel),
            ["linux-binary-7.2.13+deb14-cloud-amd64", "linux-modules-7.2.13+deb14-cloud-amd64"]
        );
    }

    #[test]
    fn what_is_no_kernel_is_refused_by_name() {
        for name in ["linux-image-cloud-amd64", "linux-image-7", "linux-image-7..2-x", ""] {
            let error = Kernel::of_package(name).unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
        assert!(image_package("linux-image-cloud-amd64\n  Depends: x\n").is_err());
    }

    #[test]
    fn versions_are_pairs_and_the_products_folder_is_named_by_two_of_them() {
        let versions = versions("rustc 1.97.1+dfsg1-1\ngcc 4:16.1\n");
        assert_eq!(versions[1], Version { package: "gcc".into(), version: "4:16.1".into() });
        let kernel = Kernel::of_package("linux-image-7.2.13+deb14-cloud-amd64").unwrap();
        let found = Found { kernel, versions };
        assert_eq!(found.key(), "7.2.13+deb14-cloud-amd64-rustc-1.97.1+dfsg1-1");
    }
}
