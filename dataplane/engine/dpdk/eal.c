/*
 * DPDK's environment, set up once by the main thread: the operator's arguments, and after them what
 * this program insists on: no files that other processes could map, no sockets (threat D22), no
 * threads of EAL's own that poll. May block while memory is reserved.
 */
#include "dpdk.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/capability.h>
#include <pthread.h>
#include <rte_alarm.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define ARGUMENTS_MAX 128
#define ARGUMENT_SIZE 256
#define HUGE_PAGES    "/sys/kernel/mm/hugepages"

struct arguments {
	char *list[ARGUMENTS_MAX + 1];
	int count;
};

static int add(struct arguments *arguments, const char *text)
{
	char *copy = arguments->count < ARGUMENTS_MAX ? strdup(text) : NULL;

	if (!copy)
		return -E2BIG;
	arguments->list[arguments->count++] = copy;
	return 0;
}

static void discard(char *const list[], int count)
{
	for (int i = 0; i < count; i++)
		free(list[i]);
}

/* Is the option among the operator's arguments, alone or with =value? */
static bool given(const struct tp_engine_options *options, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < options->eal_count; i++) {
		const char *argument = options->eal[i];

		if (strncmp(argument, name, len) == 0 &&
			(argument[len] == '\0' || argument[len] == '='))
			return true;
	}
	return false;
}

static unsigned long free_pages(const char *size)
{
	char path[300];
	unsigned long pages = 0;
	FILE *file;

	snprintf(path, sizeof(path), HUGE_PAGES "/%s/free_hugepages", size);
	file = fopen(path, "re");
	if (!file)
		return 0;
	if (fscanf(file, "%lu", &pages) != 1)
		pages = 0;
	fclose(file);
	return pages;
}

static bool has_huge_pages(void)
{
	DIR *sizes = opendir(HUGE_PAGES);
	unsigned long pages = 0;
	struct dirent *entry;

	if (!sizes)
		return false;
	while ((entry = readdir(sizes)) != NULL) {
		if (strncmp(entry->d_name, "hugepages-", 10) == 0)
			pages += free_pages(entry->d_name);
	}
	closedir(sizes);
	return pages > 0;
}

static bool wants_huge_pages(const struct tp_engine_options *options)
{
	if (given(options, "--no-huge")) {
		tp_info("engine dpdk: buffers are on plain pages, as --no-huge says");
		return false;
	}
	if (has_huge_pages()) {
		tp_info("engine dpdk: buffers are on huge pages");
		return true;
	}
	tp_warning("engine dpdk: no huge page is free: buffers are on plain pages; set "
		   "vm.nr_hugepages for full speed");
	return false;
}

/*
 * Nothing that another process could open or map: no configuration file, no socket, no file behind
 * the pages. EAL has one option for that with huge pages and refuses it without them.
 */
static int add_memory(struct arguments *arguments, const struct tp_engine_options *options)
{
	char size[32];
	int err;

	if (wants_huge_pages(options))
		return add(arguments, "--in-memory");
	err = add(arguments, "--no-shconf");
	if (err == 0)
		err = add(arguments, "--no-huge");
	if (err || given(options, "-m"))
		return err;
	/* MiB; touched only as far as they are used. */
	snprintf(size, sizeof(size), "%zu", 256 + 16 * options->ports_count * options->workers);
	err = add(arguments, "-m");
	return err ? err : add(arguments, size);
}

/* One lcore, for this thread, on any core it may run on: workers are threads of our own. */
static int add_lcore(struct arguments *arguments, const cpu_set_t *cores)
{
	char text[ARGUMENT_SIZE] = "--lcores=0@(";
	size_t len = strlen(text);

	for (int cpu = 0; cpu < CPU_SETSIZE && len + 8 < sizeof(text); cpu++) {
		if (CPU_ISSET(cpu, cores))
			len += (size_t)snprintf(text + len, sizeof(text) - len, "%d,", cpu);
	}
	text[len - 1] = ')';
	return add(arguments, text);
}

/* Options that add_memory() gives as they fit together. */
static bool is_decided_here(const char *argument)
{
	return strcmp(argument, "--in-memory") == 0 || strcmp(argument, "--no-huge") == 0 ||
	       strcmp(argument, "--no-shconf") == 0 || strncmp(argument, "--huge-unlink", 13) == 0;
}

static int collect(
	const struct tp_engine_options *options, const cpu_set_t *cores, struct arguments *out)
{
	int err = add(out, "turnpike-dataplane");

	for (size_t i = 0; err == 0 && i < options->eal_count; i++) {
		if (!is_decided_here(options->eal[i]))
			err = add(out, options->eal[i]);
	}
	if (err == 0 && !given(options, "--lcores") && !given(options, "-l") &&
		!given(options, "-c"))
		err = add_lcore(out, cores);
	if (err == 0)
		err = add(out, "--no-telemetry");
	/* Devices of software alone need no physical addresses. */
	if (err == 0 && given(options, "--no-pci") && !given(options, "--iova-mode"))
		err = add(out, "--iova-mode=va");
	/* A name of our own for the folder that EAL makes whether or not it needs one. */
	if (err == 0 && !given(options, "--file-prefix"))
		err = add(out, "--file-prefix=turnpike");
	return err ? err : add_memory(out, options);
}

static enum tp_log_level level_of(int dpdk)
{
	if (dpdk <= (int)RTE_LOG_ERR)
		return TP_LOG_ERROR;
	if (dpdk == (int)RTE_LOG_WARNING)
		return TP_LOG_WARNING;
	return dpdk == (int)RTE_LOG_NOTICE ? TP_LOG_INFO : TP_LOG_DEBUG;
}

static _Thread_local bool is_quiet;

void dpdk_quiet(bool on)
{
	is_quiet = on;
}

/* Drivers write what packets make them write: no more than our log allows. */
static ssize_t write_log(void *cookie, const char *text, size_t size)
{
	static struct tp_log_limit limit;
	char line[512];
	size_t len = size < sizeof(line) ? size : sizeof(line) - 1;

	memcpy(line, text, len);
	line[len] = '\0';
	line[strcspn(line, "\n")] = '\0';
	if (line[0] != '\0' && !is_quiet && tp_log_allowed(&limit))
		tp_log(level_of(rte_log_cur_msg_loglevel()), "dpdk: %s", line);
	return (ssize_t)size;
}

/* stdio locks the stream: one line at a time, from whichever thread. */
static int take_log(void)
{
	cookie_io_functions_t functions = {.write = write_log};
	FILE *stream = fopencookie(NULL, "w", functions);

	if (!stream)
		return -ENOMEM;
	setvbuf(stream, NULL, _IOLBF, BUFSIZ);
	return rte_openlog_stream(stream);
}

/* Made by EAL even when it has nothing to keep there. */
static void remove_runtime_folder(void)
{
	char path[PATH_MAX];
	char *end;

	snprintf(path, sizeof(path), "%s", rte_eal_get_runtime_dir());
	end = strrchr(path, '/');
	/* Other programs' folders are not empty, and stay. */
	if (end && rmdir(path) == 0) {
		*end = '\0';
		rmdir(path);
	}
}

static int init(struct arguments *arguments, const cpu_set_t *cores)
{
	sigset_t all, before;
	int taken;

	/* EAL's threads inherit what is blocked: signals are for this thread alone. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	taken = rte_eal_init(arguments->count, arguments->list);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	/* EAL pins this thread to its lcore; our workers would inherit that. */
	pthread_setaffinity_np(pthread_self(), sizeof(*cores), cores);
	return taken;
}

int dpdk_eal_open(const struct tp_engine_options *options, char reason[TP_REASON_SIZE])
{
	struct arguments arguments = {0};
	char *ours[ARGUMENTS_MAX]; /* EAL permutes its list */
	cpu_set_t cores;
	int err, taken;

	pthread_getaffinity_np(pthread_self(), sizeof(cores), &cores);
	err = collect(options, &cores, &arguments);
	if (err == 0)
		err = take_log();
	if (err) {
		discard(arguments.list, arguments.count);
		return dpdk_refuse(reason, err, "cannot set up EAL's %d arguments: %s",
			arguments.count, strerror(-err));
	}
	memcpy(ours, arguments.list, sizeof(ours));
	taken = init(&arguments, &cores);
	discard(ours, arguments.count);
	remove_runtime_folder();
	if (taken < 0)
		return dpdk_refuse(reason, rte_errno ? -rte_errno : -EIO,
			"EAL refuses to start: %s (its own words are in the log)",
			rte_strerror(rte_errno));
	return 0;
}

void dpdk_confine_thread(void)
{
	for (unsigned long capability = 0; capability <= CAP_LAST_CAP; capability++)
		prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		tp_warning("no_new_privs: %s", strerror(errno));
}

static void confine(void *arg)
{
	dpdk_confine_thread();
	sem_post(arg);
}

void dpdk_eal_confine(void)
{
	sem_t done;

	/* Alarms run in the thread that handles interrupts. */
	sem_init(&done, 0, 0);
	if (rte_eal_alarm_set(1, confine, &done) != 0)
		tp_debug("EAL's thread keeps its bounding set");
	else
		while (sem_wait(&done) != 0)
			;
	sem_destroy(&done);
}
