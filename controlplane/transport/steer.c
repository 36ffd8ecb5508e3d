/* libbpf around the steering program; its map of ports is memory of ours as well. */
#include "steer.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "bpf/relays.h"
#include "dataplane/engine/xdp/attach.h"
#include "relays.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#define VERIFIER_LOG_SIZE (1 << 20)

_Static_assert(RELAYS_ADDRESSES_MAX == TP_LOCALS_MAX, "as many addresses as there can be");

struct steer {
	struct relays_bpf *program;
	struct bpf_link *link;
	struct relays_ports *ports; /* by address */
	size_t addresses_count;
};

static void set_addresses(struct relays_bpf *program, const struct turn_settings *turn)
{
	for (size_t i = 0; i < turn->relays_count; i++)
		memcpy((void *)program->rodata->addresses[i].ip, turn->relays[i].address.ip,
			sizeof(turn->relays[i].address.ip));
	program->rodata->addresses_count = (uint32_t)turn->relays_count;
	program->rodata->port_min = turn->port_min;
	program->rodata->port_max = turn->port_max;
}

static int load(struct relays_bpf *program, char reason[TP_REASON_SIZE])
{
	TP_AUTO_FREE char *log = calloc(1, VERIFIER_LOG_SIZE);
	int err;

	if (!log)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	bpf_program__set_log_buf(program->progs.turnpike_relays, log, VERIFIER_LOG_SIZE);
	err = relays_bpf__load(program);
	bpf_program__set_log_buf(program->progs.turnpike_relays, NULL, 0);
	if (err == -EPERM)
		return xdp_refuse(reason, err,
			"loading the steering program needs root, or CAP_BPF and CAP_NET_ADMIN");
	if (!err)
		return 0;
	tp_debug("verifier: %s", log);
	return xdp_refuse(reason, err, "the kernel refuses the steering program: %s (%s)",
		strerror(-err), xdp_last_words(log));
}

static size_t ports_size(const struct steer *steer)
{
	return steer->addresses_count * sizeof(*steer->ports);
}

static int map_ports(struct steer *steer)
{
	void *ports = mmap(NULL, ports_size(steer), PROT_READ | PROT_WRITE, MAP_SHARED,
		bpf_map__fd(steer->program->maps.ports), 0);

	if (ports == MAP_FAILED)
		return -errno;
	steer->ports = ports;
	return 0;
}

static int open_program(
	struct steer *steer, const struct turn_settings *turn, char reason[TP_REASON_SIZE])
{
	struct relays_bpf *program;
	uint32_t count = (uint32_t)turn->relays_count;
	int err;

	if (count > RELAYS_ADDRESSES_MAX) {
		xdp_refuse(reason, -E2BIG, "there are %u relay addresses", count);
		return -E2BIG;
	}
	program = steer->program = relays_bpf__open();
	if (!program) {
		xdp_refuse(reason, -errno, "the steering program cannot be opened: %s",
			strerror(errno));
		return -EINVAL;
	}
	set_addresses(program, turn);
	err = bpf_map__set_max_entries(program->maps.ports, count);
	if (!err)
		err = bpf_map__set_max_entries(program->maps.sockets, count * RELAYS_SHARDS);
	if (err)
		return xdp_refuse(reason, err, "the steering program: %s", strerror(-err));
	return load(program, reason);
}

int steer_open(const struct turn_settings *turn, struct steer **out, char reason[TP_REASON_SIZE])
{
	struct steer *steer = calloc(1, sizeof(*steer));
	int err;

	if (!steer)
		return xdp_refuse(reason, -ENOMEM, "out of memory");
	steer->addresses_count = turn->relays_count;
	xdp_set_up_libbpf();
	err = open_program(steer, turn, reason);
	if (!err) {
		err = map_ports(steer);
		if (err)
			xdp_refuse(reason, err, "the ports cannot be mapped: %s", strerror(-err));
	}
	if (err)
		steer_close(steer);
	else
		*out = steer;
	return err;
}

void steer_close(struct steer *steer)
{
	if (!steer)
		return;
	bpf_link__destroy(steer->link);
	if (steer->ports)
		munmap(steer->ports, ports_size(steer));
	relays_bpf__destroy(steer->program);
	free(steer);
}

int steer_to(struct steer *steer, size_t address, unsigned shard, int fd)
{
	uint32_t place = (uint32_t)RELAYS_SOCKET(address, shard);
	uint64_t socket = (uint64_t)fd;

	return bpf_map_update_elem(
		       bpf_map__fd(steer->program->maps.sockets), &place, &socket, BPF_ANY) == 0
		       ? 0
		       : -errno;
}

int steer_filter(struct steer *steer, int fd, bool ipv6)
{
	int filter = bpf_program__fd(ipv6 ? steer->program->progs.turnpike_errors_v6
					  : steer->program->progs.turnpike_errors_v4);

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_BPF, &filter, sizeof(filter)) < 0 ? -errno : 0;
}

int steer_attach(struct steer *steer, char reason[TP_REASON_SIZE])
{
	TP_AUTO_CLOSE int netns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	if (netns >= 0)
		steer->link =
			bpf_program__attach_netns(steer->program->progs.turnpike_relays, netns);
	if (netns >= 0 && steer->link)
		return 0;
	return xdp_refuse(
		reason, -errno, "the steering program cannot be attached: %s", strerror(errno));
}

void steer_own(struct steer *steer, size_t address, uint16_t port, bool ours)
{
	uint64_t *word = &steer->ports[address].words[port / 64];
	uint64_t bit = UINT64_C(1) << (port % 64);

	/* The only writer; readers take the word as it is. */
	__atomic_store_n(word, ours ? *word | bit : *word & ~bit, __ATOMIC_RELEASE);
}
