/* SPDX-License-Identifier: GPL-2.0 */
/* What the virtio core and the locks keep in inline functions and macros, as functions that Rust can call. */
#ifndef VIODUCT_VIRTIO_INLINES_H
#define VIODUCT_VIRTIO_INLINES_H

#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>

void vioduct_device_ready(struct virtio_device *vdev);
u64 vioduct_features(const struct virtio_device *vdev);
int vioduct_find_vqs(struct virtio_device *vdev, unsigned int count, struct virtqueue **vqs,
		     struct virtqueue_info *info);
void vioduct_del_vqs(struct virtio_device *vdev);
u32 vioduct_config_read32(struct virtio_device *vdev, unsigned int offset);
void vioduct_config_write32(struct virtio_device *vdev, unsigned int offset, u32 value);

unsigned long vioduct_lock_irqsave(spinlock_t *lock);
bool vioduct_trylock_irqsave(spinlock_t *lock, unsigned long *flags);
void vioduct_unlock_irqrestore(spinlock_t *lock, unsigned long flags);

/* What bindgen's compiler makes of the layouts, for a comparison with Rust's. */
enum {
	vioduct_sizeof_virtio_device = sizeof(struct virtio_device),
	vioduct_sizeof_virtio_driver = sizeof(struct virtio_driver),
	vioduct_sizeof_virtqueue = sizeof(struct virtqueue),
	vioduct_offsetof_priv = offsetof(struct virtio_device, priv),
};

#endif
