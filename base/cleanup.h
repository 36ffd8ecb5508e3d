/* Locals that own: released when the scope ends, unless TP_TAKE hands them on. */
#pragma once

#include <stdlib.h>
#include <unistd.h>

#define TP_CLEANUP(function) __attribute__((cleanup(function)))

/* The value of an owning pointer, which is NULL afterwards. */
#define TP_TAKE(pointer)                                                                           \
	__extension__({                                                                            \
		__typeof__(pointer) taken_ = (pointer);                                            \
		(pointer) = NULL;                                                                  \
		taken_;                                                                            \
	})

/* The same for file descriptors, where -1 is "none". */
#define TP_TAKE_FD(fd)                                                                             \
	__extension__({                                                                            \
		int taken_ = (fd);                                                                 \
		(fd) = -1;                                                                         \
		taken_;                                                                            \
	})

static inline void tp_cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

static inline void tp_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#define TP_AUTO_FREE  TP_CLEANUP(tp_cleanup_free)
#define TP_AUTO_CLOSE TP_CLEANUP(tp_cleanup_close)
