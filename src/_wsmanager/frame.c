/* Invariant: what is written has the shortest legal length form. */
#include "frame.h"

size_t
wsm_frame_header_size(uint64_t length)
{
#ifdef WSM_PLANT_LENGTH_FORM
    return length < 127 ? 2 : length < 65536 ? 4 : 10;
#endif
    return length < 126 ? 2 : length < 65536 ? 4 : 10;
}

size_t
wsm_frame_header(unsigned char *out, unsigned opcode, uint64_t length)
{
    size_t size = wsm_frame_header_size(length);
    int bytes = size == 2 ? 0 : size == 4 ? 2 : 8;

    out[0] = (unsigned char)(0x80 | opcode);
    out[1] = (unsigned char)(size == 2 ? length : size == 4 ? 126 : 127);
    for (int i = 0; i < bytes; i++) {
        out[2 + i] = (unsigned char)(length >> (8 * (bytes - 1 - i)));
    }
    return size;
}
