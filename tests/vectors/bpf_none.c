/* The BPF runner of a build without XDP: it never opens. */
#include "runner.h"

#include <stdlib.h>

struct bpf_runner *bpf_open(const char **reason)
{
	*reason = "built without XDP";
	return NULL;
}

uint32_t bpf_redirect_ifindex(const struct bpf_runner *runner)
{
	return 0;
}

void bpf_load(struct bpf_runner *runner, const struct world *world)
{
}

void bpf_copy_world(struct bpf_runner *runner, const struct world *world)
{
}

bool bpf_run(struct bpf_runner *runner, const struct world *world, const struct frame *in,
	struct outcome *out)
{
	return false;
}

bool bpf_counters_equal(const struct bpf_runner *runner, const struct world *world)
{
	return true;
}

void bpf_close(struct bpf_runner *runner)
{
}
