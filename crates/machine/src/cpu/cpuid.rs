//! CPUID: what KVM can offer, made that of one processor of several (Intel SDM vol. 2A, "CPUID"; AMD APM vol. 3, appendix E).
//!
//! Processors are cores of one package, without threads, and share the last level of cache. Their APIC IDs are 0, 1, 2 and so on.

use kvm_bindings::{KVM_CPUID_FLAG_SIGNIFCANT_INDEX, kvm_cpuid_entry2};

/// Whether the local APIC's timer can be set to a value of the time-stamp counter. KVM tells by `KVM_CAP_TSC_DEADLINE_TIMER`, not among the
/// supported CPUID entries (Linux, Documentation/virt/kvm/api.rst, 4.46), as it needs the in-kernel interrupt controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TscDeadline {
    /// KVM has the capability, and the interrupt controller is the kernel's.
    Offered,
    /// It is not to be had.
    Absent,
}

const BASIC: u32 = 0;
const FEATURES: u32 = 1;
const INTEL_CACHES: u32 = 4;
const TOPOLOGY: u32 = 0xb;
const TOPOLOGY_2: u32 = 0x1f;
const AMD_FEATURES: u32 = 0x8000_0001;
const AMD_SIZES: u32 = 0x8000_0008;
const AMD_CACHES: u32 = 0x8000_001d;
const AMD_TOPOLOGY: u32 = 0x8000_001e;
/// Topology again, with kinds of cores: what KVM passes on describes the host.
const AMD_TOPOLOGY_2: u32 = 0x8000_0026;

/// Leaf 1, ECX.
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: there is more than one logical processor in the package.
const HTT: u32 = 1 << 28;
/// Leaf 8000_0001, ECX, of AMD: those are cores.
const CMP_LEGACY: u32 = 1 << 1;

/// Which processor of how many.
#[derive(Clone, Copy)]
struct Place {
    /// Its APIC ID.
    index: u32,
    count: u32,
    /// Bits of an APIC ID that tell the cores apart.
    bits: u32,
    vendor: Vendor,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Vendor {
    Intel,
    /// And Hygon, which has AMD's leaves.
    Amd,
}

/// The entries for processor `cpu` of `cpus`, made from those that KVM supports (`KVM_GET_SUPPORTED_CPUID`).
///
/// KVM's own leaves from 4000_0000 on pass as they are: they carry the clock, and what else is paravirtual.
/// There can be 64 processors at most: the leaves for caches have no more room.
#[must_use]
pub fn cpuid(
    supported: &[kvm_cpuid_entry2],
    cpu: u8,
    cpus: u8,
    deadline: TscDeadline,
) -> Vec<kvm_cpuid_entry2> {
    let basic = supported.iter().find(|entry| entry.function == BASIC);
    let place = Place {
        index: u32::from(cpu),
        count: u32::from(cpus.max(1)),
        bits: u32::from(cpus.max(1)).next_power_of_two().ilog2(),
        vendor: basic.map_or(Vendor::Intel, vendor),
    };
    let replaced = [TOPOLOGY, TOPOLOGY_2, AMD_TOPOLOGY_2];
    let kept = supported.iter().filter(|entry| !replaced.contains(&entry.function));
    let mut entries: Vec<_> = kept.map(|entry| place.adapt(*entry, deadline)).collect();
    let last = basic.map_or(0, |entry| entry.eax);
    let leaves = match place.vendor {
        Vendor::Intel => &[TOPOLOGY, TOPOLOGY_2][..],
        Vendor::Amd => &[TOPOLOGY],
    };
    for leaf in leaves.iter().filter(|leaf| **leaf <= last) {
        entries.extend(place.topology(*leaf));
    }
    entries
}

/// By the words of leaf 0: EBX, EDX and ECX spell a name.
fn vendor(basic: &kvm_cpuid_entry2) -> Vendor {
    let name = [basic.ebx, basic.edx, basic.ecx].map(u32::to_le_bytes);
    match name.as_flattened() {
        b"AuthenticAMD" | b"HygonGenuine" => Vendor::Amd,
        _ => Vendor::Intel,
    }
}

impl Place {
    fn adapt(self, mut entry: kvm_cpuid_entry2, deadline: TscDeadline) -> kvm_cpuid_entry2 {
        match entry.function {
            FEATURES => self.features(&mut entry, deadline),
            INTEL_CACHES | AMD_CACHES => self.cache(&mut entry),
            AMD_FEATURES if self.vendor == Vendor::Amd => {
                entry.ecx = with(entry.ecx, CMP_LEGACY, self.count > 1);
            }
            AMD_SIZES if self.vendor == Vendor::Amd => self.amd_sizes(&mut entry),
            AMD_TOPOLOGY => self.amd_topology(&mut entry),
            _ => {}
        }
        entry
    }

    /// SDM, leaf 01H; APM, function 1: EBX has the APIC ID in bits 31:24, and in 23:16 the IDs that the package has room for.
    fn features(self, entry: &mut kvm_cpuid_entry2, deadline: TscDeadline) {
        entry.ebx = entry.ebx & 0xffff | (1 << self.bits) << 16 | self.index << 24;
        entry.ecx = with(entry.ecx | HYPERVISOR | X2APIC, TSC_DEADLINE, deadline == TscDeadline::Offered);
        entry.edx = with(entry.edx, HTT, self.count > 1);
    }

    /// SDM, leaf 04H; APM, function 8000_001D: EAX has in bits 25:14 how many IDs share the cache, in 31:26 (Intel) how many cores the
    /// package has, each less one. The first two levels are a core's own.
    fn cache(self, entry: &mut kvm_cpuid_entry2) {
        const NO_CACHE: u32 = 0;
        let (kind, level) = (entry.eax & 0x1f, entry.eax >> 5 & 7);
        if kind == NO_CACHE {
            return;
        }
        let most = (1 << self.bits) - 1;
        let sharing = if level < 3 { 0 } else { most };
        let cores = if entry.function == INTEL_CACHES { most } else { 0 };
        entry.eax = entry.eax & 0x3fff | sharing << 14 | cores << 26;
    }

    /// APM, function 8000_0008: ECX has the cores less one in bits 7:0, and in 15:12 the bits of an ID that tell them apart.
    fn amd_sizes(self, entry: &mut kvm_cpuid_entry2) {
        entry.ecx = entry.ecx & !0xf0ff | (self.count - 1) | self.bits << 12;
    }

    /// APM, function 8000_001E: EAX is the APIC ID, EBX the core with its threads less one, ECX the node with the nodes less one.
    fn amd_topology(self, entry: &mut kvm_cpuid_entry2) {
        (entry.eax, entry.ebx, entry.ecx, entry.edx) = (self.index, self.index, 0, 0);
    }

    /// SDM, leaves 0BH and 1FH; APM, function B: a level for the threads of a core, one for the cores of the package, and the end.
    fn topology(self, leaf: u32) -> [kvm_cpuid_entry2; 3] {
        const THREADS: u32 = 1;
        const CORES: u32 = 2;
        const END: u32 = 0;
        let level = |index, kind: u32, bits, count| kvm_cpuid_entry2 {
            function: leaf,
            index,
            flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
            eax: bits,
            ebx: count,
            ecx: index | kind << 8,
            edx: self.index,
            ..Default::default()
        };
        [level(0, THREADS, 0, 1), level(1, CORES, self.bits, self.count), level(2, END, 0, 0)]
    }
}

/// `bits` with `bit` set or cleared.
fn with(bits: u32, bit: u32, set: bool) -> u32 {
    if set { bits | bit } else { bits & !bit }
}
