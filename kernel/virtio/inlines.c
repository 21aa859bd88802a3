// SPDX-License-Identifier: GPL-2.0
/* Included by one file of each module: an object cannot belong to two modules. */
#include "inlines.h"

void vioduct_device_ready(struct virtio_device *vdev)
{
	virtio_device_ready(vdev);
}

u64 vioduct_features(const struct virtio_device *vdev)
{
	return vdev->features;
}

int vioduct_find_vqs(struct virtio_device *vdev, unsigned int count, struct virtqueue **vqs,
		     struct virtqueue_info *info)
{
	return virtio_find_vqs(vdev, count, vqs, info, NULL);
}

void vioduct_del_vqs(struct virtio_device *vdev)
{
	vdev->config->del_vqs(vdev);
}

u32 vioduct_config_read32(struct virtio_device *vdev, unsigned int offset)
{
	/* A transport that cannot reach the configuration leaves the value as it is. */
	__virtio32 value = 0;

	vdev->config->get(vdev, offset, &value, sizeof(value));
	return virtio32_to_cpu(vdev, value);
}

void vioduct_config_write32(struct virtio_device *vdev, unsigned int offset, u32 value)
{
	__virtio32 raw = cpu_to_virtio32(vdev, value);

	if (vdev->config->set)
		vdev->config->set(vdev, offset, &raw, sizeof(raw));
}

unsigned long vioduct_lock_irqsave(spinlock_t *lock)
{
	unsigned long flags;

	spin_lock_irqsave(lock, flags);
	return flags;
}

bool vioduct_trylock_irqsave(spinlock_t *lock, unsigned long *flags)
{
	unsigned long saved;

	if (!spin_trylock_irqsave(lock, saved))
		return false;
	*flags = saved;
	return true;
}

void vioduct_unlock_irqrestore(spinlock_t *lock, unsigned long flags)
{
	spin_unlock_irqrestore(lock, flags);
}
