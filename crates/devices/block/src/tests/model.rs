//! Requests at random, many in flight, against a disk in memory.
