/* Of the programs that run without a worker. */
#include "wire.h"

const struct wire *const the_wire = NULL;
