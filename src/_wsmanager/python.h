/* The only file that includes <Python.h>. */
#ifndef WSM_PYTHON_H
#define WSM_PYTHON_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030A0000
#error "wsmanager needs CPython 3.10 or later"
#endif

/* Not put into its caller, so that the caller stays short where it counts. */
#define WSM_OUTLINE __attribute__((noinline))

/* Put into its caller, whatever its size. */
#define WSM_INLINE __attribute__((always_inline))

#endif
