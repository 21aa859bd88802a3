//! Both ends of the virtqueue, split and packed
