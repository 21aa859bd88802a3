// SPDX-License-Identifier: GPL-2.0
#include "virtio/inlines.c"
