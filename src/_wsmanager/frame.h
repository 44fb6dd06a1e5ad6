/* RFC 6455 section 5.2: the header of a server's (unmasked, final) frame. */
#ifndef WSM_FRAME_H
#define WSM_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define WSM_FRAME_HEADER_MAX 10

#define WSM_OPCODE_TEXT 0x1

/* Bytes of the header of a payload of that length: 2, 4 or 10. */
size_t wsm_frame_header_size(uint64_t length);

/* Write it to out; returns wsm_frame_header_size(length). */
size_t wsm_frame_header(unsigned char *out, unsigned opcode, uint64_t length);

#endif
