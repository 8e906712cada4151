#include "columns.h"

/* Of the calls between Python and C (loader.py): raised with every change of one. */
PUBLIC int32_t ms_version(void) { return 3; }
