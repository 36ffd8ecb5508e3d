#include "outbox.h"

#include "live.h"
#include "pick.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <err.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(sizeof(struct pick_frame) % 8 == 0, "the map's values are where an array's are");

static size_t mapped_size(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);

	return (PICK_FRAMES * sizeof(struct pick_frame) + page - 1) / page * page;
}

void outbox_open(struct outbox *o, struct pick_bpf *program, uint32_t ifindex, const char *name)
{
	const uint32_t first = 0;

	*o = (struct outbox){.program = program, .name = name};
	o->frames = mmap(NULL, mapped_size(), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(program->maps.frames), 0);
	if (o->frames == MAP_FAILED)
		err(1, "%s: memory for live frames", name);
	if (bpf_map_update_elem(bpf_map__fd(program->maps.way_out), &first, &ifindex, BPF_ANY) < 0)
		err(1, "%s: live frames cannot leave by this interface", name);
}

void outbox_close(struct outbox *o)
{
	if (o->frames)
		munmap(o->frames, mapped_size());
	o->frames = NULL;
}

void outbox_send(struct outbox *o, uint32_t count)
{
	static uint8_t nothing[PICK_FRAME_MAX];
	struct live live = {
		.program = bpf_program__fd(o->program->progs.turnpike_pick), .frame = nothing};

	for (uint32_t i = 0; i < count; i++) {
		if (o->frames[i].len > live.len)
			live.len = o->frames[i].len;
	}
	o->program->bss->turn = 0;
	errno = -live_run(&live, count, NULL);
	if (errno)
		err(1, "%s: live frames", o->name);
}
