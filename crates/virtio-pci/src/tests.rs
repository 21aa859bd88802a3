//! Tests of the function, driven as a guest does: by configuration space and BAR.

mod bus_master;
mod capabilities;
mod hostile;
mod interrupts;
mod notify;
mod registers;
mod rig;
mod saved;
mod window;
