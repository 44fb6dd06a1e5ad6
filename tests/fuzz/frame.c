/* The header of a server frame, written by the core, read by a decoder of
 * this file's own: RFC 6455 section 5.2, the shortest form of the length. */
#include "frame.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t
decode(const unsigned char *head, size_t *size)
{
    unsigned short_ = head[1] & 127u;
    uint64_t length = 0;

    *size = short_ < 126 ? 2 : short_ == 126 ? 4 : 10;
    if (short_ < 126) {
        return short_;
    }
    for (size_t i = 2; i < *size; i++) {
        length = length << 8 | head[i];
    }
    return length;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t length = 0;
    size_t read;

    if (size < 2) {
        return 0;
    }
    /* Random lengths are long ones: the first byte says how many bits count. */
    memcpy(&length, data + 2, size - 2 < 8 ? size - 2 : 8);
    length >>= data[1] % 64;
    /* On the heap, so that a byte too far is seen. */
    unsigned char *out = malloc(WSM_FRAME_HEADER_MAX);
    size_t written = wsm_frame_header(out, data[0] & 15u, length);
    if (written != wsm_frame_header_size(length) ||
        out[0] != (0x80 | (data[0] & 15)) || (out[1] & 0x80) != 0 ||
        decode(out, &read) != length || read != written ||
        (read == 4 && length < 126) || (read == 10 && length < 65536)) {
        abort();
    }
    free(out);
    return 0;
}
