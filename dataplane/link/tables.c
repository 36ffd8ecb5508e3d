/*
 * Memory for the shared tables that two processes can map: BPF maps, which programs read too, or a
 * file in memory. Whoever made it may die; it lives as long as anybody has it mapped.
 */
#include "message.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define HUGE_PAGE (UINT64_C(2) << 20)

static uint64_t round_up(uint64_t size)
{
	return (size + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
}

static uint64_t region_size(const struct tp_tables *tables, int region)
{
	const struct tp_region_shape *shape = &tables->memory.shape.regions[region];

	return (uint64_t)shape->element_size * shape->count;
}

/* Maps end with their last element's page; files have whole huge pages for each region. */
static uint64_t mapped_size(const struct tp_tables *tables, int region)
{
	uint64_t size = region_size(tables, region);

	return tables->kind == TP_TABLES_MAPS ? size : round_up(size);
}

struct tp_tables tp_tables_none(void)
{
	struct tp_tables tables = {0};

	for (int i = 0; i < TP_REGIONS; i++)
		tables.fds[i] = -1;
	return tables;
}

static bool is_first_use(const struct tp_tables *tables, int region)
{
	for (int i = 0; i < region; i++) {
		if (tables->fds[i] == tables->fds[region])
			return false;
	}
	return tables->fds[region] >= 0;
}

void tp_tables_close(struct tp_tables *tables)
{
	for (int i = 0; i < TP_REGIONS; i++) {
		if (tables->memory.regions[i])
			munmap(tables->memory.regions[i], mapped_size(tables, i));
	}
	for (int i = 0; i < TP_REGIONS; i++) {
		if (is_first_use(tables, i))
			close(tables->fds[i]);
	}
	*tables = tp_tables_none();
}

static long bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	return syscall(__NR_bpf, command, attr, sizeof(*attr));
}

static int ask_map(int fd, struct bpf_map_info *info)
{
	union bpf_attr attr = {.info = {
				       .bpf_fd = (uint32_t)fd,
				       .info_len = sizeof(*info),
				       .info = (uint64_t)(uintptr_t)info,
			       }};

	*info = (struct bpf_map_info){0};
	return bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) < 0 ? -EBADF : 0;
}

/* The kernel itself refuses to map more than a map has; only its elements' size is to be asked. */
static int check_map(int fd, const struct tp_region_shape *shape)
{
	struct bpf_map_info info;

	if (ask_map(fd, &info) < 0)
		return -EBADF;
	return info.type == BPF_MAP_TYPE_ARRAY && info.value_size == shape->element_size &&
			       info.max_entries == shape->count && info.map_flags == BPF_F_MMAPABLE
		       ? 0
		       : -EBADF;
}

static bool is_same_map(int a, int b)
{
	struct bpf_map_info info_a, info_b;

	return ask_map(a, &info_a) == 0 && ask_map(b, &info_b) == 0 && info_a.id == info_b.id;
}

static bool is_same_file(int a, int b)
{
	struct stat st_a, st_b;

	return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
	       st_a.st_ino == st_b.st_ino;
}

bool tp_tables_are_same(const struct tp_tables *a, const struct tp_tables *b)
{
	bool maps = a->kind == TP_TABLES_MAPS;

	if (a->kind != b->kind)
		return false;
	for (int i = 0; i < TP_REGIONS; i++) {
		if (a->offsets[i] != b->offsets[i] || !(maps ? is_same_map(a->fds[i], b->fds[i])
							     : is_same_file(a->fds[i], b->fds[i])))
			return false;
	}
	return true;
}

/* A file that shrinks under its mapping kills whoever touches it: it must be sealed against that.
 */
static int check_file(const struct tp_tables *tables, int region)
{
	int seals = fcntl(tables->fds[region], F_GET_SEALS);
	uint64_t offset = tables->offsets[region], size = mapped_size(tables, region), end;
	struct stat st;

	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(tables->fds[region], &st) < 0)
		return -EBADF;
	if (offset % HUGE_PAGE != 0 || __builtin_add_overflow(offset, size, &end) ||
		end > (uint64_t)st.st_size)
		return -EBADF;
	return 0;
}

static int map_region(struct tp_tables *tables, int region)
{
	bool map = tables->kind == TP_TABLES_MAPS;
	int err = map ? check_map(tables->fds[region], &tables->memory.shape.regions[region])
		      : check_file(tables, region);
	void *p;

	if (err < 0)
		return err;
	if (map && tables->offsets[region] != 0)
		return -EBADF;
	p = mmap(NULL, mapped_size(tables, region), PROT_READ | PROT_WRITE, MAP_SHARED,
		tables->fds[region], (off_t)tables->offsets[region]);
	if (p == MAP_FAILED)
		return -errno;
	tables->memory.regions[region] = p;
	return 0;
}

int tp_tables_map(struct tp_tables *tables)
{
	static const char *const kinds[] = {
		[TP_TABLES_MAPS] = "maps",
		[TP_TABLES_PAGES] = "pages",
		[TP_TABLES_HUGE_PAGES] = "huge pages",
	};

	tables->memory.kind = kinds[tables->kind];
	for (int i = 0; i < TP_REGIONS; i++) {
		int err = tables->memory.regions[i] ? 0 : map_region(tables, i);

		if (err < 0)
			return err;
	}
	return 0;
}

static int create_map(const struct tp_region_shape *shape)
{
	union bpf_attr attr = {
		.map_type = BPF_MAP_TYPE_ARRAY,
		.key_size = sizeof(uint32_t),
		.value_size = shape->element_size,
		.max_entries = shape->count,
		.map_flags = BPF_F_MMAPABLE,
	};
	long fd;

	snprintf(attr.map_name, sizeof(attr.map_name), "%s", shape->name);
	fd = bpf(BPF_MAP_CREATE, &attr);
	return fd < 0 ? -errno : (int)fd;
}

int tp_tables_create_maps(const struct tp_shape *shape, struct tp_tables *out)
{
	TP_CLEANUP(tp_tables_close) struct tp_tables tables = tp_tables_none();
	int err;

	tables.memory.shape = *shape;
	tables.kind = TP_TABLES_MAPS;
	for (int i = 0; i < TP_REGIONS; i++) {
		tables.fds[i] = create_map(&shape->regions[i]);
		if (tables.fds[i] < 0)
			return tables.fds[i];
	}
	err = tp_tables_map(&tables);
	if (err < 0)
		return err;
	*out = tables;
	tables = tp_tables_none();
	return 0;
}

/* Huge pages are taken now: later there might be none, and a write would be fatal. */
static int create_file(unsigned int flags, uint64_t size)
{
	TP_AUTO_CLOSE int fd = memfd_create("turnpike", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
		return -errno;
	if ((flags & MFD_HUGETLB) && fallocate(fd, 0, 0, (off_t)size) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	return TP_TAKE_FD(fd);
}

static uint64_t lay_out(struct tp_tables *tables)
{
	uint64_t at = 0;

	for (int i = 0; i < TP_REGIONS; i++) {
		tables->offsets[i] = at;
		at += round_up(region_size(tables, i));
	}
	return at;
}

static int open_file(struct tp_tables *tables, enum tp_tables_kind kind)
{
	uint64_t size = lay_out(tables);
	int fd = create_file(kind == TP_TABLES_HUGE_PAGES ? MFD_HUGETLB | MFD_HUGE_2MB : 0, size);

	if (fd < 0)
		return fd;
	tables->kind = kind;
	for (int i = 0; i < TP_REGIONS; i++)
		tables->fds[i] = fd;
	return 0;
}

int tp_tables_create_pages(const struct tp_shape *shape, struct tp_tables *out)
{
	TP_CLEANUP(tp_tables_close) struct tp_tables tables = tp_tables_none();
	int err;

	tables.memory.shape = *shape;
	err = open_file(&tables, TP_TABLES_HUGE_PAGES);
	if (err < 0)
		err = open_file(&tables, TP_TABLES_PAGES);
	if (!err)
		err = tp_tables_map(&tables);
	if (err < 0)
		return err;
	/* Where the kernel gives huge pages to those who ask; it may refuse. */
	for (int i = 0; tables.kind == TP_TABLES_PAGES && i < TP_REGIONS; i++)
		madvise(tables.memory.regions[i], mapped_size(&tables, i), MADV_HUGEPAGE);
	*out = tables;
	tables = tp_tables_none();
	return 0;
}
