/*
 * Loading the steering program (bpf/steer.bpf.c) over the control plane's maps. One instance per
 * interface: each has a socket map of its own, by queue. Main thread, with privileges.
 */
#include "afxdp.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "steer.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define VERIFIER_LOG_SIZE (1 << 20)

int afxdp_steer_nothing(char reason[TP_REASON_SIZE])
{
	static const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = XDP_PASS},
		{.code = BPF_JMP | BPF_EXIT},
	};
	/* As libbpf sets it: a link's programs have to agree in that. */
	struct bpf_prog_load_opts options = {
		.sz = sizeof(options), .expected_attach_type = BPF_XDP};
	int fd = bpf_prog_load(BPF_PROG_TYPE_XDP, "turnpike_wait", "Dual BSD/GPL", insns,
		sizeof(insns) / sizeof(insns[0]), &options);

	if (fd == -EPERM)
		return xdp_refuse(reason, fd,
			"loading needs root, or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON");
	if (fd < 0)
		return xdp_refuse(reason, fd, "no XDP program can be loaded: %s", strerror(-fd));
	return fd;
}

static int use_maps(struct steer_bpf *program, const int fds[TP_REGIONS])
{
	const struct {
		struct bpf_map *map;
		int fd;
	} shared[] = {
		{bpf_object__find_map_by_name(program->obj, ".data.config"), fds[TP_REGION_CONFIG]},
		{bpf_object__find_map_by_name(program->obj, ".data.locals"), fds[TP_REGION_LOCALS]},
		{program->maps.ports, fds[TP_REGION_PORTS]},
	};

	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
		int err = shared[i].map ? bpf_map__reuse_fd(shared[i].map, shared[i].fd) : -ENOENT;

		if (err)
			return err;
	}
	return 0;
}

static int load(struct steer_bpf *program, char *log, char reason[TP_REASON_SIZE])
{
	int err = steer_bpf__load(program);

	if (!err)
		return 0;
	tp_debug("verifier: %s", log);
	return xdp_refuse(reason, err, "the kernel refuses the steering program: %s (%s)",
		strerror(-err), xdp_last_words(log));
}

int afxdp_steer_load(const int fds[TP_REGIONS], uint32_t frame_max, uint32_t queues,
	struct steer_bpf **out, char reason[TP_REASON_SIZE])
{
	TP_AUTO_FREE char *log = calloc(1, VERIFIER_LOG_SIZE);
	struct bpf_object_open_opts options = {
		.sz = sizeof(options), .kernel_log_buf = log, .kernel_log_size = VERIFIER_LOG_SIZE};
	struct steer_bpf *program;
	int err;

	if (!log)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	program = steer_bpf__open_opts(&options);
	if (!program)
		return xdp_refuse(reason, -errno, "the steering program cannot be opened: %s",
			strerror(errno));
	program->rodata->layout = tp_layout_hash();
	program->rodata->frame_max = frame_max;
	err = use_maps(program, fds);
	if (!err)
		err = bpf_map__set_max_entries(program->maps.sockets, queues);
	if (err)
		xdp_refuse(reason, err, "the shared tables do not fit the steering program: %s",
			strerror(-err));
	else
		err = load(program, log, reason);
	if (err)
		steer_bpf__destroy(program);
	else
		*out = program;
	return err;
}

int afxdp_steer_to(struct steer_bpf *program, uint32_t queue, int socket)
{
	int fd = bpf_map__fd(program->maps.sockets);

	return bpf_map_update_elem(fd, &queue, &socket, BPF_ANY) == 0 ? 0 : -errno;
}

int afxdp_steer_fd(const struct steer_bpf *program)
{
	return bpf_program__fd(program->progs.turnpike_steer);
}

void afxdp_steer_close(struct steer_bpf *program)
{
	steer_bpf__destroy(program);
}
