#include "live.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/bpf.h>

int live_run(const struct live *live, uint32_t count, uint32_t *took_ns)
{
	struct xdp_md context = {.ingress_ifindex = live->ingress, .data_end = live->len};
	LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = live->frame, .data_size_in = live->len,
		.ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = (int)count,
		.flags = BPF_F_TEST_XDP_LIVE_FRAMES, .batch_size = LIVE_BATCH);

	if (bpf_prog_test_run_opts(live->program, &options) < 0)
		return -errno;
	if (took_ns)
		*took_ns = options.duration;
	return 0;
}
