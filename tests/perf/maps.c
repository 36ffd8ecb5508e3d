/* Sizes and fills the maps of the shared tables; they are named after the regions. */
#include "maps.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static struct bpf_map *map_of(struct bpf_object *object, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(object, name);
	char section[64];

	snprintf(section, sizeof(section), ".data.%s", name);
	return map ? map : bpf_object__find_map_by_name(object, section);
}

int maps_size(struct bpf_object *object, const struct tp_memory *memory)
{
	int err = 0;

	for (int i = 0; i < TP_REGIONS && !err; i++) {
		const struct tp_region_shape *region = &memory->shape.regions[i];

		err = bpf_map__set_max_entries(map_of(object, region->name), region->count);
	}
	return err;
}

static int fill(const struct bpf_map *map, const void *from, size_t size)
{
	size_t pages = (size + 4095) & ~(size_t)4095;
	void *to = mmap(NULL, pages, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);

	if (to == MAP_FAILED)
		return -errno;
	memcpy(to, from, size);
	munmap(to, pages);
	return 0;
}

int maps_fill(struct bpf_object *object, const struct tp_memory *memory)
{
	int err = 0;

	for (int i = 0; i < TP_REGIONS && !err; i++) {
		const struct tp_region_shape *region = &memory->shape.regions[i];

		err = fill(map_of(object, region->name), memory->regions[i],
			(size_t)region->element_size * region->count);
	}
	return err;
}
