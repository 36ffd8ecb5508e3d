/*
 * One interface gets the program: by taking over a predecessor's link, else native, else generic.
 * Links, not netlink attachments: nobody can replace or remove them by accident, and they end with
 * their last descriptor and pin. Called from start() only; needs privileges.
 */
#include "xdp.h"

#include "base/cleanup.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/if_link.h>
#include <stdarg.h>
#include <stdio.h>

static char kernel_words[XDP_WORDS_SIZE];

/* libbpf prints what the kernel's extended acknowledgement says, and nothing returns it. */
static int catch_words(enum libbpf_print_level level, const char *format, va_list args)
{
	static const char mark[] = "Kernel error message: ";
	char line[256], *words;

	vsnprintf(line, sizeof(line), format, args);
	words = strstr(line, mark);
	if (!words)
		return 0;
	words += sizeof(mark) - 1;
	words[strcspn(words, "\n")] = '\0';
	snprintf(kernel_words, sizeof(kernel_words), "%.*s", XDP_WORDS_SIZE - 1, words);
	return 0;
}

/*
 * Why did the kernel refuse? Creating a link tells an errno only, so the same is asked over
 * netlink; should that succeed, it is undone at once.
 */
static void ask_why(struct tp_engine *engine, uint32_t ifindex, uint32_t flags, int err,
	char out[XDP_WORDS_SIZE])
{
	int fd = xdp_program_fd(engine);
	libbpf_print_fn_t before = libbpf_set_print(catch_words);
	struct bpf_xdp_attach_opts ours = {.sz = sizeof(ours), .old_prog_fd = fd};

	kernel_words[0] = '\0';
	if (bpf_xdp_attach((int)ifindex, fd, flags | XDP_FLAGS_UPDATE_IF_NOEXIST, NULL) == 0)
		bpf_xdp_detach((int)ifindex, flags | XDP_FLAGS_REPLACE, &ours);
	libbpf_set_print(before);
	snprintf(out, XDP_WORDS_SIZE, "%s", kernel_words[0] ? kernel_words : strerror(-err));
}

void xdp_link_end(int *fd)
{
	/* Closing alone detaches later, when the kernel gets round to it. */
	bpf_link_detach(*fd);
	close(TP_TAKE_FD(*fd));
}

static int create_link(struct tp_engine *engine, struct xdp_interface *interface, uint32_t flags)
{
	struct bpf_link_create_opts options = {.sz = sizeof(options), .flags = flags};
	int fd = bpf_link_create(
		xdp_program_fd(engine), (int)interface->is.ifindex, BPF_XDP, &options);

	if (fd < 0)
		return fd;
	interface->link_fd = fd;
	return 0;
}

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

static int attach_new(struct tp_engine *engine, struct xdp_interface *interface,
	enum tp_xdp_mode mode, char reason[TP_REASON_SIZE])
{
	const char *name = interface->is.name;
	char words[XDP_WORDS_SIZE];
	int err;

	if (mode != TP_XDP_GENERIC) {
		interface->is.mode = "native";
		err = create_link(engine, interface, XDP_FLAGS_DRV_MODE);
		if (!err)
			return 0;
		ask_why(engine, interface->is.ifindex, XDP_FLAGS_DRV_MODE, err, interface->refused);
		if (mode == TP_XDP_NATIVE)
			return xdp_refuse(reason, err, "%s: native XDP refused (%s)", name,
				interface->refused);
	}
	interface->is.mode = "generic";
	err = create_link(engine, interface, XDP_FLAGS_SKB_MODE);
	if (!err)
		return 0;
	ask_why(engine, interface->is.ifindex, XDP_FLAGS_SKB_MODE, err, words);
	if (interface->refused[0])
		return xdp_refuse(reason, err, "%s: native XDP refused (%s), generic too (%s)",
			name, interface->refused, words);
	return xdp_refuse(reason, err, "%s: generic XDP refused (%s)", name, words);
}

int xdp_inspect_interface(
	struct tp_engine *engine, struct xdp_interface *interface, char reason[TP_REASON_SIZE])
{
	struct xdp_attached *before = &interface->before;
	struct xdp_program_name other;
	int err = xdp_query(engine, interface->is.ifindex, before);

	if (err)
		return xdp_refuse(reason, err, "%s: the kernel does not tell what is attached: %s",
			interface->is.name, strerror(-err));
	if (before->id == 0 || find_leftover(engine, interface))
		return 0;
	other = xdp_program_name(before->id);
	return xdp_refuse(reason, -EBUSY,
		"%s: another XDP program is attached there (id %u, name %s); it is left alone",
		interface->is.name, other.id, other.text);
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
		err = attach_new(engine, interface, mode, reason);
	}
	interface->is.attached = !err;
	return err;
}
