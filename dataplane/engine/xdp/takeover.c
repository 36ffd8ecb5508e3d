/*
 * Taking over the link that a killed predecessor pinned, without a gap; else attaching anew; and
 * back again. Called from start() only; needs privileges.
 */
#include "xdp.h"

#include "base/cleanup.h"
#include "base/log.h"

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
	interface->link_fd = TP_TAKE_FD(left->fd);
	left->fate = XDP_LEFT_TAKEN;
	left->interface = interface;
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

static void end(struct xdp_leftover *left, struct xdp_interface *interface)
{
	left->fate = XDP_LEFT_ENDED;
	left->interface = interface;
	xdp_link_end(&left->fd);
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
			end(left, interface);
		err = xdp_attach_new(xdp_program_fd(engine), interface, mode, reason);
	}
	interface->is.attached = !err;
	return err;
}

static int attach_again(struct tp_engine *engine, struct xdp_leftover *left)
{
	const struct xdp_interface *old = left->interface;
	struct xdp_interface again = {.is = old->is};
	char reason[TP_REASON_SIZE];
	int err = xdp_attach_new(left->program_fd, &again,
		old->before.generic ? TP_XDP_GENERIC : TP_XDP_NATIVE, reason);

	if (err)
		return err;
	left->fd = again.link_fd;
	xdp_pins_restore_link(engine, left);
	return 0;
}

static int give_back(struct tp_engine *engine, struct xdp_leftover *left)
{
	int err;

	if (left->fate == XDP_LEFT_ENDED)
		return attach_again(engine, left);
	err = bpf_link_update(left->interface->link_fd, left->program_fd, NULL);
	/* With whichever program: the pin keeps it. */
	left->fd = TP_TAKE_FD(left->interface->link_fd);
	return err;
}

void xdp_give_back(struct tp_engine *engine)
{
	for (size_t i = 0; i < engine->interfaces_count; i++) {
		struct xdp_interface *interface = &engine->interfaces[i];

		if (interface->link_fd >= 0 && !interface->taken_over)
			xdp_link_end(&interface->link_fd);
	}
	for (size_t i = 0; i < engine->pins.leftovers_count; i++) {
		struct xdp_leftover *left = &engine->pins.leftovers[i];
		int err = left->fate == XDP_LEFT_ALONE ? 0 : give_back(engine, left);

		if (err)
			tp_error("%s: the predecessor's program cannot be put back: %s",
				left->interface->is.name, strerror(-err));
	}
}
