/*
 * The pin directory on bpffs: one per instance, mode 0700, files 0600 (threat D02). Its lock tells
 * the living from the dead; what a dead predecessor left there is used only if every piece of it is
 * ours (threat D03). Called from start() with privileges and from stop() without.
 *
 * In it: one pin for each table, "interfaces", "program", and "link-<ifindex>" (bpffs takes no
 * dots, which names of interfaces have). While one takes another's place there are both: what is
 * new has "-<id of the new program>" behind its name until it is renamed. Links are known by the
 * programs that are pinned, so a new one is pinned before the first link gets it and the old one
 * stays until the last link has lost it: whoever is killed in between leaves what his successor
 * knows as ours.
 */
#include "xdp.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "turnpike.skel.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define BPFFS          "/sys/fs/bpf"
#define PROGRAM_PIN    "program"
#define INTERFACES_PIN "interfaces"
#define LINK_PREFIX    "link-"
#define SECTION        ".data."
#define PATH_SIZE      (4096 + 64)
#define OUR_NAME       "turnpike"
#define LOCK_ATTEMPTS  10

static void cleanup_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

static bool is_bpffs(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && fs.f_type == BPF_FS_MAGIC;
}

static int need_bpffs(const char *pin_dir, char reason[TP_REASON_SIZE])
{
	TP_AUTO_FREE char *copy = strdup(pin_dir);
	const char *parent = copy ? dirname(copy) : "";

	if (is_bpffs(parent))
		return 0;
	if (strcmp(parent, BPFFS) != 0)
		return xdp_refuse(reason, -EINVAL, "%s is not on a mounted bpffs", pin_dir);
	if (mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		return xdp_refuse(reason, -errno, "bpffs cannot be mounted on " BPFFS ": %s",
			strerror(errno));
	return 0;
}

static bool same_file(int fd, const char *path)
{
	struct stat a, b;

	return fstat(fd, &a) == 0 && lstat(path, &b) == 0 && a.st_ino == b.st_ino &&
	       a.st_dev == b.st_dev;
}

/* A predecessor has given the directory to the user it became: root without CAP_DAC_OVERRIDE (as
 * the service file has it) may open it as that user only. */
static int open_dir(const char *path, uint32_t owner_uid)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = open(path, flags), err;

	if (fd >= 0 || errno != EACCES || geteuid() != 0)
		return fd;
	setfsuid(owner_uid);
	fd = open(path, flags);
	err = errno;
	setfsuid(0);
	errno = err;
	return fd;
}

/* -EAGAIN: the directory was removed between our looking and our locking. */
static int make_and_lock(struct xdp_pins *pins, uint32_t owner_uid)
{
	TP_AUTO_CLOSE int fd = -1;

	if (mkdir(pins->path, 0700) != 0 && errno != EEXIST)
		return -errno;
	fd = open_dir(pins->path, owner_uid);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return -errno;
	if (!same_file(fd, pins->path))
		return -EAGAIN;
	pins->dir_fd = TP_TAKE_FD(fd);
	return 0;
}

/* An unprivileged user may have been here first: bpffs is often world-writable. */
static int refuse_foreign_directory(
	struct xdp_pins *pins, uint32_t owner_uid, char reason[TP_REASON_SIZE])
{
	struct stat st = {0};

	/* It is ours again until xdp_pins_settle() gives it away. */
	if (fstat(pins->dir_fd, &st) == 0 && (st.st_uid == geteuid() || st.st_uid == owner_uid) &&
		fchown(pins->dir_fd, geteuid(), (gid_t)-1) == 0 &&
		fchmod(pins->dir_fd, 0700) == 0) {
		pins->found_uid = st.st_uid;
		return 0;
	}
	close(TP_TAKE_FD(pins->dir_fd));
	return xdp_refuse(
		reason, -EPERM, "%s belongs to uid %u: it is left alone", pins->path, st.st_uid);
}

int xdp_pins_lock(
	struct xdp_pins *pins, const char *path, uint32_t owner_uid, char reason[TP_REASON_SIZE])
{
	int err = need_bpffs(path, reason);

	if (err)
		return err;
	if (snprintf(pins->path, sizeof(pins->path), "%s", path) >= (int)sizeof(pins->path))
		return xdp_refuse(reason, -ENAMETOOLONG, "the pin directory's name is too long");
	err = -EAGAIN;
	for (int i = 0; err == -EAGAIN && i < LOCK_ATTEMPTS; i++)
		err = make_and_lock(pins, owner_uid);
	if (err == -EWOULDBLOCK)
		return xdp_refuse(reason, -EBUSY, "another turnpiked is running with %s", path);
	if (err)
		return xdp_refuse(reason, err, "%s cannot be used: %s", path, strerror(-err));
	return refuse_foreign_directory(pins, owner_uid, reason);
}

/* What a descriptor is, in the words of /proc: "bpf-map", "bpf-prog", "bpf-link". */
static bool is_kind(int fd, const char *kind)
{
	char path[64], target[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof(target) - 1) > 0 && strstr(target, kind);
}

static int open_pin(const struct xdp_pins *pins, const char *name)
{
	char path[PATH_SIZE];

	snprintf(path, sizeof(path), "%s/%s", pins->path, name);
	return bpf_obj_get(path);
}

static bool read_map_info(int fd, struct bpf_map_info *out)
{
	uint32_t size = sizeof(*out);

	*out = (struct bpf_map_info){0};
	return is_kind(fd, "bpf-map") && bpf_obj_get_info_by_fd(fd, out, &size) == 0;
}

static bool map_is_ours(const struct tp_engine *engine, const char *name, const char *map)
{
	TP_AUTO_CLOSE int fd = open_pin(&engine->pins, name);
	struct bpf_map_info left, ours;

	return fd >= 0 && read_map_info(fd, &left) &&
	       read_map_info(bpf_map__fd(xdp_program_map(engine->program, map)), &ours) &&
	       left.type == ours.type && left.key_size == ours.key_size &&
	       left.value_size == ours.value_size && left.map_flags == ours.map_flags &&
	       strcmp(left.name, ours.name) == 0;
}

/* Magic 0: the predecessor died before it used its tables. */
static bool config_is_ours(const struct tp_engine *engine, const char *name)
{
	TP_AUTO_CLOSE int fd = open_pin(&engine->pins, name);
	struct tp_config config;
	uint32_t key = 0;

	if (fd < 0 || bpf_map_lookup_elem(fd, &key, &config) != 0)
		return false;
	if (config.magic == 0)
		return true;
	return config.magic == TP_MAGIC && config.abi == TP_ABI_VERSION &&
	       config.layout == tp_layout_hash();
}

/* As inspect() will ask of it, and of the size that we want. */
static int open_table(const struct tp_engine *engine, int region, const struct bpf_map *ours)
{
	const struct tp_region_shape *shape = &engine->memory.shape.regions[region];
	TP_AUTO_CLOSE int fd = open_pin(&engine->pins, shape->name);
	struct bpf_map_info left;

	if (fd < 0 || !read_map_info(fd, &left) || left.type != bpf_map__type(ours) ||
		left.key_size != sizeof(uint32_t) || left.value_size != shape->element_size ||
		left.max_entries != shape->count || left.map_flags != bpf_map__map_flags(ours) ||
		strncmp(left.name, bpf_map__name(ours), sizeof(left.name) - 1) != 0)
		return -ENOENT;
	return TP_TAKE_FD(fd);
}

static bool config_is_in_use(const struct tp_engine *engine)
{
	TP_AUTO_CLOSE int fd = open_pin(&engine->pins, "config");
	struct tp_config config = {0};
	uint32_t key = 0;

	return fd >= 0 && bpf_map_lookup_elem(fd, &key, &config) == 0 && config.magic != 0 &&
	       config_is_ours(engine, "config");
}

bool xdp_pins_reuse_tables(struct tp_engine *engine)
{
	int fds[TP_REGIONS], count = 0;
	bool fit = config_is_in_use(engine);

	for (; fit && count < TP_REGIONS; count++) {
		const char *name = engine->memory.shape.regions[count].name;

		fds[count] = open_table(engine, count, xdp_program_map(engine->program, name));
		if (fds[count] < 0)
			fit = false;
	}
	for (int i = 0; i < count; i++) {
		const char *name = engine->memory.shape.regions[i].name;

		if (fit && bpf_map__reuse_fd(xdp_program_map(engine->program, name), fds[i]) != 0)
			fit = false;
		tp_cleanup_close(&fds[i]);
	}
	return fit;
}

bool xdp_pins_same_interfaces(const struct tp_engine *engine)
{
	TP_AUTO_CLOSE int fd = open_pin(&engine->pins, INTERFACES_PIN);

	for (uint32_t i = 0; i < TP_INTERFACES_MAX; i++) {
		uint32_t is = 0;
		uint32_t should =
			i < engine->interfaces_count ? engine->interfaces[i].is.ifindex : 0;

		if (bpf_map_lookup_elem(fd, &i, &is) != 0)
			is = 0;
		if (is != should)
			return false;
	}
	return true;
}

/* The directory by its descriptor: a path could have been exchanged meanwhile. */
static DIR *list(const struct xdp_pins *pins)
{
	int fd = openat(pins->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? NULL : fdopendir(fd);
}

static const char *next_name(DIR *dir)
{
	struct dirent *entry;

	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return entry->d_name;
	}
	return NULL;
}

/* Is it the pin's name, or that with a number behind it? */
static bool is_named(const char *name, const char *pin)
{
	size_t len = strlen(pin);

	if (strncmp(name, pin, len) != 0)
		return false;
	return name[len] == '\0' ||
	       (name[len] == '-' && name[len + 1] &&
		       name[len + 1 + strspn(name + len + 1, "0123456789")] == '\0');
}

static bool is_link(const char *name)
{
	return strncmp(name, LINK_PREFIX, strlen(LINK_PREFIX)) == 0;
}

/* Its id; 0: it is none of ours. */
static uint32_t our_program(int fd)
{
	struct bpf_prog_info info = {0};
	uint32_t size = sizeof(info);

	if (fd >= 0 && is_kind(fd, "bpf-prog") && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
		info.type == BPF_PROG_TYPE_XDP && strcmp(info.name, OUR_NAME) == 0)
		return info.id;
	return 0;
}

/* Opening a program by its id takes CAP_SYS_ADMIN; those that are pinned are found without. */
static int open_program(const struct xdp_pins *pins, uint32_t id)
{
	TP_CLEANUP(cleanup_dir) DIR *dir = list(pins);
	TP_AUTO_CLOSE int by_id = -1;
	const char *name;

	if (id == 0)
		return -ENOENT;
	while (dir && (name = next_name(dir))) {
		TP_AUTO_CLOSE int fd = is_named(name, PROGRAM_PIN) ? open_pin(pins, name) : -1;

		if (fd >= 0 && our_program(fd) == id)
			return TP_TAKE_FD(fd);
	}
	by_id = bpf_prog_get_fd_by_id(id);
	return by_id >= 0 && our_program(by_id) == id ? TP_TAKE_FD(by_id) : -ENOENT;
}

static bool take_leftover(struct xdp_pins *pins, const char *name)
{
	TP_AUTO_CLOSE int fd = open_pin(pins, name), program = -1;
	struct xdp_leftover *left = &pins->leftovers[pins->leftovers_count];
	struct bpf_link_info info = {0};
	uint32_t size = sizeof(info);

	if (fd < 0 || !is_kind(fd, "bpf-link") || bpf_obj_get_info_by_fd(fd, &info, &size) != 0 ||
		info.type != BPF_LINK_TYPE_XDP)
		return false;
	program = open_program(pins, info.prog_id);
	if (program < 0 || pins->leftovers_count == XDP_LEFTOVERS_MAX ||
		strlen(name) >= sizeof(left->name))
		return false;
	*left = (struct xdp_leftover){
		.fd = TP_TAKE_FD(fd),
		.program_fd = TP_TAKE_FD(program),
		.ifindex = info.xdp.ifindex,
		.program_id = info.prog_id,
	};
	snprintf(left->name, sizeof(left->name), "%s", name);
	pins->leftovers_count++;
	return true;
}

/* The name of the map that is pinned so; NULL: of none of ours. */
static const char *map_pinned_as(const struct tp_engine *engine, const char *name)
{
	if (is_named(name, INTERFACES_PIN))
		return INTERFACES_PIN;
	for (int i = 0; i < TP_REGIONS; i++) {
		if (is_named(name, engine->memory.shape.regions[i].name))
			return engine->memory.shape.regions[i].name;
	}
	return NULL;
}

static bool pin_is_ours(struct tp_engine *engine, const char *name)
{
	const char *map = map_pinned_as(engine, name);

	if (is_named(name, PROGRAM_PIN)) {
		TP_AUTO_CLOSE int fd = open_pin(&engine->pins, name);

		return our_program(fd) != 0;
	}
	if (is_link(name))
		return take_leftover(&engine->pins, name);
	return map && map_is_ours(engine, name, map) &&
	       (strcmp(map, "config") != 0 || config_is_ours(engine, name));
}

int xdp_pins_inspect(struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	TP_CLEANUP(cleanup_dir) DIR *dir = list(&engine->pins);
	const char *name;

	if (!dir)
		return xdp_refuse(reason, -errno, "%s cannot be read: %s", engine->pins.path,
			strerror(errno));
	while ((name = next_name(dir))) {
		if (!pin_is_ours(engine, name))
			return xdp_refuse(reason, -EEXIST,
				"%s/%s is not ours or of another version; it is left alone: remove it, "
				"or use another pin directory",
				engine->pins.path, name);
	}
	return 0;
}

/* What is pinned until it is known that all of it can be. */
struct new_name {
	char text[64];
};

static struct new_name new_name(const struct tp_engine *engine, const char *name)
{
	struct new_name out;

	snprintf(out.text, sizeof(out.text), "%s-%u", name, engine->program_id);
	return out;
}

static int pin_new(const struct tp_engine *engine, int fd, const char *name)
{
	char path[PATH_SIZE + sizeof(struct new_name)];

	snprintf(path, sizeof(path), "%s/%s", engine->pins.path, new_name(engine, name).text);
	return bpf_obj_pin(fd, path);
}

static int pin_new_map(const struct tp_engine *engine, const char *name)
{
	return pin_new(engine, bpf_map__fd(xdp_program_map(engine->program, name)), name);
}

/* In place of what has that name, at once. */
static void rename_pin(const struct xdp_pins *pins, const char *from, const char *to)
{
	if (strcmp(from, to) != 0 && renameat(pins->dir_fd, from, pins->dir_fd, to) != 0)
		tp_error("%s/%s cannot be renamed: %s", pins->path, from, strerror(errno));
}

static void settle(const struct tp_engine *engine, const char *name)
{
	rename_pin(&engine->pins, new_name(engine, name).text, name);
}

static struct new_name link_name(const struct xdp_interface *interface)
{
	struct new_name out;

	snprintf(out.text, sizeof(out.text), LINK_PREFIX "%u", interface->is.ifindex);
	return out;
}

/* May it be given away? Asked while nothing is lost yet. */
static int try_owner(const struct xdp_pins *pins, uint32_t owner_uid)
{
	if (fchown(pins->dir_fd, owner_uid, (gid_t)-1) != 0 ||
		fchown(pins->dir_fd, geteuid(), (gid_t)-1) != 0)
		return -errno;
	return 0;
}

int xdp_pins_prepare(struct tp_engine *engine, uint32_t owner_uid, char reason[TP_REASON_SIZE])
{
	int err = try_owner(&engine->pins, owner_uid);

	if (!err)
		err = pin_new(engine, xdp_program_fd(engine), PROGRAM_PIN);
	if (!err)
		err = pin_new_map(engine, INTERFACES_PIN);
	for (int i = 0; !err && !engine->reuses_tables && i < TP_REGIONS; i++)
		err = pin_new_map(engine, engine->memory.shape.regions[i].name);
	if (err)
		return xdp_refuse(reason, err, "pins cannot be made in %s: %s", engine->pins.path,
			strerror(-err));
	return 0;
}

int xdp_pins_add_links(const struct tp_engine *engine, char reason[TP_REASON_SIZE])
{
	int err = 0;

	for (size_t i = 0; !err && i < engine->interfaces_count; i++) {
		const struct xdp_interface *interface = &engine->interfaces[i];

		if (!interface->taken_over)
			err = pin_new(engine, interface->link_fd, link_name(interface).text);
	}
	if (err)
		return xdp_refuse(reason, err, "links cannot be pinned in %s: %s",
			engine->pins.path, strerror(-err));
	return 0;
}

/* Ends those of interfaces that are no longer configured. */
static void settle_leftovers(struct xdp_pins *pins)
{
	for (size_t i = 0; i < pins->leftovers_count; i++) {
		struct xdp_leftover *left = &pins->leftovers[i];

		if (left->fate == XDP_LEFT_TAKEN)
			continue;
		if (left->fd >= 0)
			xdp_link_end(&left->fd);
		unlinkat(pins->dir_fd, left->name, 0);
	}
	/* Those taken over get their usual names, which are free now. */
	for (size_t i = 0; i < pins->leftovers_count; i++) {
		struct xdp_leftover *left = &pins->leftovers[i];

		if (left->fate == XDP_LEFT_TAKEN)
			rename_pin(pins, left->name, link_name(left->interface).text);
	}
}

static void close_leftovers(struct xdp_pins *pins)
{
	for (size_t i = 0; i < pins->leftovers_count; i++) {
		tp_cleanup_close(&pins->leftovers[i].fd);
		tp_cleanup_close(&pins->leftovers[i].program_fd);
	}
	pins->leftovers_count = 0;
}

/* Of those who were killed while they did this. */
static void remove_unsettled(const struct tp_engine *engine)
{
	TP_CLEANUP(cleanup_dir) DIR *dir = list(&engine->pins);
	const char *name;

	while (dir && (name = next_name(dir))) {
		const char *map = map_pinned_as(engine, name);

		if ((map && strcmp(name, map) != 0) ||
			(is_named(name, PROGRAM_PIN) && strcmp(name, PROGRAM_PIN) != 0))
			unlinkat(engine->pins.dir_fd, name, 0);
	}
}

_Static_assert(TP_REGION_CONFIG == 0, "xdp_pins_settle()");

void xdp_pins_settle(struct tp_engine *engine, uint32_t owner_uid)
{
	settle_leftovers(&engine->pins);
	close_leftovers(&engine->pins);
	for (size_t i = 0; i < engine->interfaces_count; i++) {
		if (!engine->interfaces[i].taken_over)
			settle(engine, link_name(&engine->interfaces[i]).text);
	}
	/* The configuration comes first: until it is in use none of the tables are. */
	for (int i = 0; !engine->reuses_tables && i < TP_REGIONS; i++)
		settle(engine, engine->memory.shape.regions[i].name);
	settle(engine, INTERFACES_PIN);
	settle(engine, PROGRAM_PIN);
	remove_unsettled(engine);
	if (fchown(engine->pins.dir_fd, owner_uid, (gid_t)-1) != 0)
		tp_error("%s cannot be given to uid %u: %s", engine->pins.path, owner_uid,
			strerror(errno));
}

void xdp_pins_restore_link(struct tp_engine *engine, const struct xdp_leftover *left)
{
	if (pin_new(engine, left->fd, LINK_PREFIX) == 0)
		rename_pin(&engine->pins, new_name(engine, LINK_PREFIX).text, left->name);
}

void xdp_pins_withdraw(struct tp_engine *engine)
{
	TP_CLEANUP(cleanup_dir) DIR *dir = list(&engine->pins);
	struct new_name ours = new_name(engine, "");
	const char *name, *end;

	while (dir && (name = next_name(dir))) {
		end = strrchr(name, '-');
		if (end && strcmp(end, ours.text) == 0)
			unlinkat(engine->pins.dir_fd, name, 0);
	}
	if (fchown(engine->pins.dir_fd, engine->pins.found_uid, (gid_t)-1) != 0)
		tp_debug("%s: %s", engine->pins.path, strerror(errno));
	rmdir(engine->pins.path);
}

/* Of whatever version: a link or program of our name, or a map pinned under its own. */
static bool is_predecessors(struct xdp_pins *pins, const char *name)
{
	TP_AUTO_CLOSE int fd = -1;
	struct bpf_map_info map;
	size_t skip;

	if (is_link(name))
		return take_leftover(pins, name);
	fd = open_pin(pins, name);
	if (is_named(name, PROGRAM_PIN))
		return our_program(fd) != 0;
	if (fd < 0 || !read_map_info(fd, &map))
		return false;
	/* The kernel keeps 15 characters, of which a section's name takes six. */
	skip = strncmp(map.name, SECTION, strlen(SECTION)) == 0 ? strlen(SECTION) : 0;
	return map.name[skip] && strncmp(name, map.name + skip, strlen(map.name + skip)) == 0;
}

static void remove_all(const struct xdp_pins *pins)
{
	TP_CLEANUP(cleanup_dir) DIR *dir = list(pins);
	const char *name;

	while (dir && (name = next_name(dir)))
		unlinkat(pins->dir_fd, name, 0);
}

int xdp_pins_clear(struct xdp_pins *pins, char reason[TP_REASON_SIZE])
{
	TP_CLEANUP(cleanup_dir) DIR *dir = list(pins);
	const char *name;
	int err = 0;

	while (dir && (name = next_name(dir))) {
		if (!is_predecessors(pins, name))
			err = xdp_refuse(reason, -EEXIST,
				"%s/%s is not ours; it is left alone: remove it", pins->path, name);
		else if (!is_named(name, PROGRAM_PIN))
			unlinkat(pins->dir_fd, name, 0);
	}
	for (size_t i = 0; i < pins->leftovers_count; i++)
		xdp_link_end(&pins->leftovers[i].fd);
	/* Last: they tell which links are ours. */
	if (!err)
		remove_all(pins);
	return err;
}

void xdp_pins_remove(struct xdp_pins *pins)
{
	remove_all(pins);
	rmdir(pins->path);
}

void xdp_pins_close(struct xdp_pins *pins)
{
	close_leftovers(pins);
	tp_cleanup_close(&pins->dir_fd);
	pins->dir_fd = -1;
}
