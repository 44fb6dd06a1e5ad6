/* The whole process at a glance, for whoever runs it. */
#ifndef WSM_SURVEY_H
#define WSM_SURVEY_H

#include "python.h"

/* _counters(): every counter, and what there is just now. */
PyObject *wsm_survey_counters(PyObject *module, PyObject *ignored);

/* _slowest(limit): of at most so many connections with something queued or a
 * send under way, most bytes first: id, channel, events, bytes, seconds. */
PyObject *wsm_survey_slowest(PyObject *module, PyObject *limit);

/* _loops(): pairs of an event loop and how many connections it owns. */
PyObject *wsm_survey_loops(PyObject *module, PyObject *ignored);

#endif
