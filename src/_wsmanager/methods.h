/* The methods of a manager, for the table in face.c. */
#ifndef WSM_METHODS_H
#define WSM_METHODS_H

#include "manager.h"
#include "state.h"

#define WSM_METHOD(name)                                        \
    PyObject *wsm_##name(PyObject *op, PyObject *const *args,   \
                         Py_ssize_t nargs, PyObject *kwnames)

/* connect.c: who is there */
WSM_METHOD(add_connection);
WSM_METHOD(connect_user);
WSM_METHOD(remove_connection);
WSM_METHOD(remove_connection_by_user);
WSM_METHOD(disconnect_user);
WSM_METHOD(close_all_connections);

/* lookup.c: questions */
WSM_METHOD(get_connection);
WSM_METHOD(get_user_connections);
WSM_METHOD(get_connection_id_by_websocket);
WSM_METHOD(update_connection_thread);
WSM_METHOD(is_connection_active);
WSM_METHOD(get_connection_health);
WSM_METHOD(wait_for_connection);
WSM_METHOD(get_stats);

/* The function of the module that tells us the code that a socket is about
 * to be closed with; one that is nobody's is none of our business. */
PyObject *wsm_note_code(PyObject *module, PyObject *args);

/* And _flush(websocket, whole), which writes what a socket has waiting; of
 * nobody's, nothing. */
PyObject *wsm_flush_socket(PyObject *module, PyObject *args);

/* emit.c: events */
WSM_METHOD(emit_event);
WSM_METHOD(emit_critical_event);
WSM_METHOD(acknowledge);

/* message.c: messages */
WSM_METHOD(send_to_user);
WSM_METHOD(send_to_thread);
WSM_METHOD(send_message);
WSM_METHOD(send_error);
WSM_METHOD(broadcast_to_user);

/* The manager of a method's self, as one of this process: a manager held
 * since before a fork is given its new life here. Borrowed. */
WsmManager *wsm_manager_here(PyObject *op);

/* Whom a call names: id NULL or None is the manager itself; another user's
 * is UserIsolationError, but the manager of None routes to it (made if make
 * is true, else NULL without an exception where there is none). A new
 * reference. */
WsmManager *wsm_manager_route(WsmManager *self, PyObject *id, bool make);

/* The connection of an id: the manager's own, or one that was added through
 * the manager of None. A new reference; NULL without an exception. */
WsmConnection *wsm_manager_lookup(WsmManager *self, PyObject *id);

/* A message to every connection of a manager: the delivery. */
PyObject *wsm_emit_message(WsmManager *target, PyObject *message, bool traced);

/* The message as a new dict, and its type, owned; NULL with the error that
 * sending it would raise. */
PyObject *wsm_message_root(WsmState *state, PyObject *message,
                           PyObject **type);

/* {id: connection} of a manager, a new dict. */
PyObject *wsm_manager_connections(WsmManager *self);

#endif
