/* SPDX-License-Identifier: GPL-2.0 */
/* What vhost keeps in inline functions and macros, as functions that Rust can call. */
#ifndef VIODUCT_VHOST_INLINES_H
#define VIODUCT_VHOST_INLINES_H

/* The kernel's own, of drivers/vhost: it is not among the headers that are installed. */
#include "vhost.h"

void vioduct_vhost_lock(struct mutex *mutex);
void vioduct_vhost_unlock(struct mutex *mutex);
u64 vioduct_vhost_features(const struct vhost_virtqueue *vq);
void vioduct_vhost_set_features(struct vhost_virtqueue *vq, u64 features);
void vioduct_vhost_report_error(struct vhost_virtqueue *vq);

/* What macros hide from bindgen. */
enum {
	vioduct_vhost_get_features = VHOST_GET_FEATURES,
	vioduct_vhost_set_features_of = VHOST_SET_FEATURES,
	vioduct_vhost_reset_owner = VHOST_RESET_OWNER,
	vioduct_vhost_new_worker = VHOST_NEW_WORKER,
	vioduct_vhost_free_worker = VHOST_FREE_WORKER,
	vioduct_vhost_attach_vring_worker = VHOST_ATTACH_VRING_WORKER,
	vioduct_vhost_get_vring_worker = VHOST_GET_VRING_WORKER,
};

/* What bindgen's compiler makes of the layouts, for a comparison with Rust's. */
enum {
	vioduct_sizeof_vhost_dev = sizeof(struct vhost_dev),
	vioduct_sizeof_vhost_virtqueue = sizeof(struct vhost_virtqueue),
	vioduct_offsetof_log = offsetof(struct vhost_virtqueue, log),
};

#endif
