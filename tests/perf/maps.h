/* The shared tables as the maps of a BPF object that was opened, for what measures programs. */
#pragma once

#include <bpf/libbpf.h>

#include "dataplane/table/table.h"

/* Before the object is loaded: as many entries as `memory` has. 0 or -errno. */
int maps_size(struct bpf_object *object, const struct tp_memory *memory);

/* After it: what lies in `memory` is copied. */
int maps_fill(struct bpf_object *object, const struct tp_memory *memory);
