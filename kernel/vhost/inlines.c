// SPDX-License-Identifier: GPL-2.0
/* Included by one file of each module: an object cannot belong to two modules. */
#include "inlines.h"

void vioduct_vhost_lock(struct mutex *mutex)
{
	mutex_lock(mutex);
}

void vioduct_vhost_unlock(struct mutex *mutex)
{
	mutex_unlock(mutex);
}

u64 vioduct_vhost_features(const struct vhost_virtqueue *vq)
{
	return vq->acked_features;
}

void vioduct_vhost_set_features(struct vhost_virtqueue *vq, u64 features)
{
	virtio_features_from_u64(vq->acked_features_array, features);
}

void vioduct_vhost_report_error(struct vhost_virtqueue *vq)
{
	if (vq->error_ctx)
		eventfd_signal(vq->error_ctx);
}
