/*
 * Taking over the link that a killed predecessor pinned, without a gap; else attaching anew.
 * Called from start() only; needs privileges.
 */
#include "xdp.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>

static struct xdp_leftover *find_leftover(
	struct tp_engine *engine, const struct xdp_interface *interface)
{
	for (size_t i = 0; i < engine->pins.leftovers_count; i++) {
		struct xdp_leftover *left = &engine->pins.leftovers[i];

		/* The id tells a link here from one on the same number of another namespace. */
		if (left->fd >= 0 && left->ifindex == interface->is.ifindex &&
			left->program_id == interface->before.id)
			return left;
	}
	return NULL;
}

static bool mode_fits(enum tp_xdp_mode mode, const struct xdp_attached *attached)
{
	return mode == TP_XDP_AUTO || (mode == TP_XDP_GENERIC) == attached->generic;
}

static int take_over(struct tp_engine *engine, struct xdp_interface *interface,
	struct xdp_leftover *left, char reason[TP_REASON_SIZE])
{
	int err = bpf_link_update(left->fd, xdp_program_fd(engine), NULL);

	if (err)
		return xdp_refuse(reason, err,
			"%s: the predecessor's program cannot be replaced: %s", interface->is.name,
			strerror(-err));
	interface->link_fd = left->fd;
	left->fd = -1;
	interface->taken_over = true;
	interface->is.mode = interface->before.generic ? "generic" : "native";
	return 0;
}

int xdp_inspect_interface(
	struct tp_engine *engine, struct xdp_interface *interface, char reason[TP_REASON_SIZE])
{
	struct xdp_attached *before = &interface->before;
	int err = xdp_query(&engine->query, interface->is.ifindex, before);

	if (err)
		return xdp_refuse(reason, err, "%s: the kernel does not tell what is attached: %s",
			interface->is.name, strerror(-err));
	if (before->id == 0 || find_leftover(engine, interface))
		return 0;
	return xdp_refuse_foreign(interface, reason);
}

int xdp_attach(struct tp_engine *engine, struct xdp_interface *interface, enum tp_xdp_mode mode,
	char reason[TP_REASON_SIZE])
{
	struct xdp_leftover *left = find_leftover(engine, interface);
	int err;

	if (left && mode_fits(mode, &interface->before)) {
		err = take_over(engine, interface, left, reason);
	} else {
		/* In another mode than is wanted: it has to go before ours can come. */
		if (left)
			xdp_link_end(&left->fd);
		err = xdp_attach_new(xdp_program_fd(engine), interface, mode, reason);
	}
	interface->is.attached = !err;
	return err;
}
