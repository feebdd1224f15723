//! When a write is acknowledged.

/// When a write is acknowledged: a save, a destroy, or a load that touches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Durability {
    /// When it is on the disk. It outlives the process and the machine's power. The default.
    #[default]
    Immediate,
    /// When the engine has it in memory. The engine writes that to the disk by itself, every half a second
    /// unless its configuration says otherwise; what was acknowledged since is lost when the process is
    /// killed or the machine stops. A program that ends by itself, and drops the store, loses nothing.
    Eventual,
}
