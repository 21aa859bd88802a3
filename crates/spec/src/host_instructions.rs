//! Asking an emulated host how many instructions it has executed, its guests' not among them: what the programs of this project and
//! their plugin of QEMU's (`counter/`) agree on.
//!
//! The question is an instruction that does nothing on any x86-64 processor: `nop dword ptr [rax + DISPLACEMENT]`. The plugin answers in
//! `rax`; where there is none, `rax` stays as it was.

/// What tells this instruction from those of compilers, whose displacements are small.
pub const DISPLACEMENT: u32 = 0x7664_7563;
/// The instruction's bytes: `0F 1F /0`, with `rax` and a displacement of 32 bits.
pub const QUESTION: [u8; 7] = {
    let [a, b, c, d] = DISPLACEMENT.to_le_bytes();
    [0x0f, 0x1f, 0x80, a, b, c, d]
};
