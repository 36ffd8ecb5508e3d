/*
 * The BPF program and its maps: sized, loaded, mapped into the control plane's memory. Called from
 * start() and stop(); loading blocks on the kernel's verifier.
 */
#include "xdp.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "turnpike.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#define VERIFIER_LOG_SIZE (1 << 20)

struct bpf_map *xdp_program_map(const struct turnpike_bpf *program, const char *name)
{
	struct bpf_map *map = bpf_object__find_map_by_name(program->obj, name);
	char section[64];

	if (map)
		return map;
	snprintf(section, sizeof(section), ".data.%s", name);
	return bpf_object__find_map_by_name(program->obj, section);
}

static int set_sizes(struct turnpike_bpf *program, const struct tp_shape *shape)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &shape->regions[i];
		struct bpf_map *map = xdp_program_map(program, region->name);

		if (!map || bpf_map__value_size(map) != region->element_size)
			return -EPROTO;
		if (bpf_map__set_max_entries(map, region->count) != 0)
			return -EINVAL;
	}
	program->rodata->layout = tp_layout_hash();
	return 0;
}

static size_t region_size(const struct tp_region_shape *region)
{
	return (size_t)region->element_size * region->count;
}

/* Pages are touched when they are used: a table for many flows costs nothing before. */
static int map_regions(struct tp_engine *engine)
{
	engine->memory.kind = "maps";
	for (int i = 0; i < TP_REGIONS; i++) {
		const struct tp_region_shape *region = &engine->memory.shape.regions[i];
		int fd = bpf_map__fd(xdp_program_map(engine->program, region->name));
		void *p =
			mmap(NULL, region_size(region), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (p == MAP_FAILED)
			return -errno;
		engine->memory.regions[i] = p;
	}
	return 0;
}

int xdp_program_open(
	struct tp_engine *engine, const struct tp_shape *shape, char reason[TP_REASON_SIZE])
{
	struct bpf_object_open_opts options = {.sz = sizeof(options)};
	int err;

	engine->memory.shape = *shape;
	engine->program = turnpike_bpf__open_opts(&options);
	if (!engine->program)
		return xdp_refuse(
			reason, -errno, "the BPF program cannot be opened: %s", strerror(errno));
	err = set_sizes(engine->program, shape);
	return err ? xdp_refuse(reason, err, "the BPF program was built for other tables") : 0;
}

int xdp_program_load(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	TP_AUTO_FREE char *log = calloc(1, VERIFIER_LOG_SIZE);
	int err;

	if (!log)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	bpf_program__set_log_buf(engine->program->progs.turnpike, log, VERIFIER_LOG_SIZE);
	err = turnpike_bpf__load(engine->program);
	bpf_program__set_log_buf(engine->program->progs.turnpike, NULL, 0);
	if (err == -EPERM)
		return xdp_refuse(reason, err,
			"loading needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
	if (err) {
		tp_debug("verifier: %s", log);
		return xdp_refuse(reason, err, "the kernel refuses the BPF program: %s (%s)",
			strerror(-err), xdp_last_words(log));
	}
	err = map_regions(engine);
	if (err)
		return xdp_refuse(reason, err, "the tables cannot be mapped: %s", strerror(-err));
	engine->program_id = xdp_program_id(xdp_program_fd(engine));
	return 0;
}

int xdp_program_fd(const struct tp_engine *engine)
{
	return bpf_program__fd(engine->program->progs.turnpike);
}

int xdp_program_set_interfaces(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	int fd = bpf_map__fd(engine->program->maps.interfaces);

	for (uint32_t i = 0; i < engine->interfaces_count; i++) {
		uint32_t ifindex = engine->interfaces[i].is.ifindex;

		if (bpf_map_update_elem(fd, &i, &ifindex, BPF_ANY) != 0)
			return xdp_refuse(reason, -errno,
				"%s cannot be a target of redirection: %s",
				engine->interfaces[i].is.name, strerror(errno));
	}
	return 0;
}

void xdp_program_close(struct tp_engine *engine)
{
	turnpike_bpf__destroy(engine->program);
	engine->program = NULL;
}

void xdp_program_unmap(struct tp_engine *engine)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		if (engine->memory.regions[i])
			munmap(engine->memory.regions[i],
				region_size(&engine->memory.shape.regions[i]));
		engine->memory.regions[i] = NULL;
	}
}
