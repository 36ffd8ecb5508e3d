/*
 * One interface gets a program: native, else generic. Links, not netlink attachments: nobody can
 * replace or remove them by accident, and they end with their last descriptor and pin.
 */
#include "attach.h"

#include "base/cleanup.h"
#include "base/log.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>

int xdp_refuse(char reason[TP_REASON_SIZE], int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, TP_REASON_SIZE, format, args);
	va_end(args);
	return err;
}

/* What libbpf has to say matters to developers; operators get our sentence. */
static int log_libbpf(enum libbpf_print_level level, const char *format, va_list args)
{
	char line[512];

	if (level == LIBBPF_DEBUG || tp_log_get_level() < TP_LOG_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), format, args);
	line[strcspn(line, "\n")] = '\0';
	tp_debug("libbpf: %s", line);
	return 0;
}

/* Threat D01; once, whoever asks. */
static void warn_of_unprivileged_bpf(void)
{
	static bool looked;
	TP_AUTO_CLOSE int fd =
		open("/proc/sys/kernel/unprivileged_bpf_disabled", O_RDONLY | O_CLOEXEC);
	char value = 0;

	if (!looked && fd >= 0 && read(fd, &value, 1) == 1 && value == '0')
		tp_warning("kernel.unprivileged_bpf_disabled is 0: every local user may load BPF "
			   "programs; set it to 2");
	looked = true;
}

void xdp_set_up_libbpf(void)
{
	libbpf_set_print(log_libbpf);
	warn_of_unprivileged_bpf();
}

int xdp_take_interfaces(const struct tp_engine_options *options, const char *engine,
	struct xdp_interface out[TP_INTERFACES_MAX], size_t *count, char reason[TP_REASON_SIZE])
{
	if (options->interfaces_count == 0 || options->interfaces_count > TP_INTERFACES_MAX)
		return xdp_refuse(reason, -EINVAL, "engine %s needs 1 to %d interfaces", engine,
			TP_INTERFACES_MAX);
	for (size_t i = 0; i < options->interfaces_count; i++) {
		const char *name = options->interfaces[i];
		struct tp_engine_interface *is = &out[i].is;

		out[i].link_fd = -1;
		is->ifindex = if_nametoindex(name);
		if (is->ifindex == 0)
			return xdp_refuse(reason, -ENODEV, "there is no interface %s", name);
		snprintf(is->name, sizeof(is->name), "%s", name);
		for (size_t k = 0; k < i; k++) {
			if (out[k].is.ifindex == is->ifindex)
				return xdp_refuse(
					reason, -EINVAL, "interface %s is named twice", name);
		}
		*count = i + 1;
	}
	return 0;
}

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
static void ask_why(int fd, uint32_t ifindex, uint32_t flags, int err, char out[XDP_WORDS_SIZE])
{
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

static int create_link(int program_fd, struct xdp_interface *interface, uint32_t flags)
{
	struct bpf_link_create_opts options = {.sz = sizeof(options), .flags = flags};
	int fd = bpf_link_create(program_fd, (int)interface->is.ifindex, BPF_XDP, &options);

	if (fd < 0)
		return fd;
	interface->link_fd = fd;
	return 0;
}

int xdp_attach_new(int program_fd, struct xdp_interface *interface, enum tp_xdp_mode mode,
	char reason[TP_REASON_SIZE])
{
	const char *name = interface->is.name;
	char words[XDP_WORDS_SIZE];
	int err;

	if (mode != TP_XDP_GENERIC) {
		interface->is.mode = "native";
		err = create_link(program_fd, interface, XDP_FLAGS_DRV_MODE);
		if (!err)
			return 0;
		ask_why(program_fd, interface->is.ifindex, XDP_FLAGS_DRV_MODE, err,
			interface->refused);
		if (mode == TP_XDP_NATIVE)
			return xdp_refuse(reason, err, "%s: native XDP refused (%s)", name,
				interface->refused);
	}
	interface->is.mode = "generic";
	err = create_link(program_fd, interface, XDP_FLAGS_SKB_MODE);
	if (!err)
		return 0;
	ask_why(program_fd, interface->is.ifindex, XDP_FLAGS_SKB_MODE, err, words);
	if (interface->refused[0])
		return xdp_refuse(reason, err, "%s: native XDP refused (%s), generic too (%s)",
			name, interface->refused, words);
	return xdp_refuse(reason, err, "%s: generic XDP refused (%s)", name, words);
}

int xdp_refuse_foreign(const struct xdp_interface *interface, char reason[TP_REASON_SIZE])
{
	struct xdp_program_name other = xdp_program_name(interface->before.id);

	return xdp_refuse(reason, -EBUSY,
		"%s: another XDP program is attached there (id %u, name %s); it is left alone",
		interface->is.name, other.id, other.text);
}

struct xdp_program_name xdp_program_name(uint32_t id)
{
	struct xdp_program_name out = {.id = id, .text = "?"};
	TP_AUTO_CLOSE int fd = bpf_prog_get_fd_by_id(id);
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0)
		snprintf(out.text, sizeof(out.text), "%s", info.name);
	return out;
}

uint32_t xdp_program_id(int program_fd)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	return bpf_obj_get_info_by_fd(program_fd, &info, &size) == 0 ? info.id : 0;
}

const char *xdp_last_words(char *log)
{
	char *end = strstr(log, "\nprocessed "), *line;

	if (!end)
		return "no reason given";
	*end = '\0';
	line = strrchr(log, '\n');
	return line ? line + 1 : log;
}
